"""Workers meet before TensorFlow starts: all are there, and all run the same."""

import hashlib
import json
import pathlib
import socket
import sys
import time
from collections.abc import Mapping

import keras
import tensorflow as tf

from keras_attention.training.cluster import Cluster

_RETRY = 0.2  # seconds between attempts to connect
_HELLO = 5.0  # seconds that a connection has to say who it is


def meet(cluster: Cluster, about: Mapping[str, str], timeout: float = 600.0) -> None:
    """Return when every worker has called it with the same `about`.

    The chief listens at its own address, the others connect, say who they are, and hear whether
    all agree. TensorFlow, which starts at the same address afterwards, would wait for an absent
    worker forever and ignore SIGTERM meanwhile.

    Args:
        cluster: this worker among the others.
        about: name -> value of what must be the same everywhere.
        timeout: seconds to wait for the others.

    Raises:
        ValueError: something in `about` differs, or two processes are the same worker; every
            worker raises it, with the names and values.
        TimeoutError: a worker, which the message names, has not come.

    >>> meet(Cluster(), {"data": "1a2b"})
    """
    if len(cluster.addresses) == 1:
        return
    deadline = time.monotonic() + timeout
    verdict = (_judge if cluster.is_chief else _ask)(cluster, dict(about), timeout, deadline)
    if verdict.startswith("absent:"):
        raise TimeoutError(verdict.removeprefix("absent:").strip())
    if verdict:
        raise ValueError(verdict)


def code_about() -> dict[str, str]:
    """What decides how a worker computes: this package, the main script, the libraries.

    >>> sorted(code_about())
    ['keras', 'keras_attention', 'main script', 'numbers', 'python', 'tensorflow']
    """
    package = pathlib.Path(__file__).parents[1]
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    return {
        "python": ".".join(map(str, sys.version_info[:3])),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "keras_attention": _sha256(sorted(package.rglob("*.py"))),
        "main script": _sha256(
            [pathlib.Path(main)] if main and pathlib.Path(main).exists() else []
        ),
        "numbers": f"{keras.config.floatx()}, {keras.config.dtype_policy().name}",
    }


def _sha256(paths):
    found = hashlib.sha256()
    for path in paths:
        found.update(path.name.encode() + path.read_bytes())
    return found.hexdigest()[:16]


def _judge(cluster, about, timeout, deadline) -> str:
    """The chief: hear all workers, and tell each the verdict, which is empty if all is well."""
    heard = {0: {**about, "number of workers": str(len(cluster.addresses))}}
    connections = []
    port = int(cluster.addresses[0].rpartition(":")[2])
    verdict = ""
    # Strangers wait in the same queue as workers: a full one would drop a worker's connection.
    with socket.create_server(("", port), backlog=128 + len(cluster.addresses)) as server:
        while len(heard) < len(cluster.addresses) and not verdict:
            server.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                connection, _ = server.accept()
            except TimeoutError:
                missing = sorted(set(range(len(cluster.addresses))) - set(heard))
                names = ", ".join(f"worker {i} ({cluster.addresses[i]})" for i in missing)
                verdict = (
                    f"absent: Not all workers came within {timeout:g} s. Missing: {names}. Start "
                    "every worker with the same TF_CONFIG but for its index, and see that "
                    f"{cluster.addresses[0]} can be reached from each."
                )
                continue
            try:
                index, other = _hello(connection, len(cluster.addresses))
            except (OSError, ValueError):
                connection.close()  # no worker of ours: something that looked at the port
                continue
            connections.append(connection)
            if index in heard:
                verdict = f"Two processes are worker {index}. Give each its own index in TF_CONFIG."
            heard[index] = other
        verdict = verdict or _differences(heard)
        for connection in connections:
            with connection:
                try:
                    connection.sendall((json.dumps(verdict) + "\n").encode())
                    connection.settimeout(5.0)
                    connection.recv(1)  # closed by the worker first: the port is free at once
                except OSError:
                    pass
    return verdict


def _hello(connection, count):
    """Index and `about` of the worker that has connected."""
    connection.settimeout(_HELLO)
    with connection.makefile() as lines:
        content = json.loads(lines.readline(1 << 20))
    try:
        index, workers, about = content["index"], content["workers"], dict(content["about"])
    except (KeyError, TypeError) as error:
        raise ValueError("not a worker") from error
    if not isinstance(index, int) or workers == count and not 0 < index < count:
        raise ValueError("not a worker")
    return index, {**about, "number of workers": str(workers)}


def _ask(cluster, about, timeout, deadline) -> str:
    """Another worker: say who it is, and hear the verdict."""
    host, _, port = cluster.addresses[0].rpartition(":")
    hello = {"index": cluster.index, "workers": len(cluster.addresses), "about": about}
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            return (
                f"absent: The chief at {cluster.addresses[0]} did not answer within {timeout:g} s. "
                "Start every worker with the same TF_CONFIG but for its index, and see that the "
                "address can be reached from here."
            )
        try:
            with socket.create_connection((host.strip("[]"), int(port)), min(5.0, left)) as chief:
                chief.sendall((json.dumps(hello) + "\n").encode())
                # The chief answers when the last worker has come, or says that it has not.
                chief.settimeout(left + 5.0)
                with chief.makefile() as lines:
                    return json.loads(lines.readline())
        except (OSError, ValueError):
            time.sleep(min(_RETRY, max(left, 0.0)))


def _differences(heard) -> str:
    """What differs between the workers, in words."""
    names = dict.fromkeys(name for about in heard.values() for name in about)
    different = []
    for name in names:
        values = {index: about.get(name, "nothing") for index, about in sorted(heard.items())}
        if len(set(values.values())) > 1:
            listed = ", ".join(f"{value} (worker {index})" for index, value in values.items())
            different.append(f"{name}: {listed}")
    if not different:
        return ""
    return (
        "All workers must run the same code on the same data. Received: "
        f"{'; '.join(different)}. Install the same versions and files everywhere, and pass the "
        "same arguments."
    )
