"""Which worker of how many this process is, as TF_CONFIG says, and whether it can be so."""

import json
import os
import re
import socket
from typing import NamedTuple, NoReturn

_EXAMPLE = (
    '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": {"type": "worker", "index": 0}}'
)


class Cluster(NamedTuple):
    """A worker among others.

    Attributes:
        addresses: "host:port" of each worker, the chief first.
        index: which of them this process is.

    >>> Cluster(("a:1", "b:1"), 1).is_chief
    False
    """

    addresses: tuple[str, ...] = ("localhost:0",)
    index: int = 0

    @property
    def is_chief(self) -> bool:
        """Whether this worker writes checkpoints, models and logs for all."""
        return self.index == 0


def read_cluster(config: str | None = None) -> Cluster:
    """The cluster that `config` describes.

    Args:
        config: JSON in the form of TF_CONFIG; default: the environment's. Without one (or with an
            empty one) the process is the only worker. The chief is the task of type "chief", else
            worker 0.

    Raises:
        ValueError: it is no such JSON, an address is not "host:port" or appears twice, or the task
            is not one of the cluster's. The message shows an example.

    >>> read_cluster('{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}')
    Cluster(addresses=('a:1', 'b:1'), index=1)
    """  # noqa: E501
    given = os.environ.get("TF_CONFIG") if config is None else config

    def refuse(reason) -> NoReturn:
        raise ValueError(f"TF_CONFIG must be like {_EXAMPLE}. {reason} Received: {given!r:.500}")

    if not given or not given.strip():
        return Cluster()
    try:
        content = json.loads(given)
    except ValueError as error:
        refuse(f"It is not JSON ({error}).")
    if not isinstance(content, dict):
        refuse("It must be an object.")
    jobs = content.get("cluster", {})
    task = content.get("task", {})
    if not isinstance(jobs, dict) or not isinstance(task, dict):
        refuse('"cluster" and "task" must be objects.')
    if not jobs and not task:
        return Cluster()
    if unknown := sorted(set(jobs) - {"chief", "worker", "evaluator"}):
        refuse(
            f"Jobs must be chief and worker: these train together, without parameter servers. It "
            f"has {', '.join(map(repr, unknown))}."
        )
    addresses = []
    for job in ("chief", "worker"):
        listed = jobs.get(job, [])
        if not isinstance(listed, list) or not all(isinstance(one, str) for one in listed):
            refuse(f'"cluster": {job!r} must be a list of "host:port".')
        addresses += listed
    if len(jobs.get("chief", [])) > 1:
        refuse("There must be one chief.")
    for address in addresses:
        host, _, port = address.rpartition(":")
        if not host or not re.fullmatch(r"\d{1,5}", port) or not 0 < int(port) < 1 << 16:
            refuse(f'Each address must be "host:port", a port of 1 to 65535. It has {address!r}.')
        if addresses.count(address) > 1:
            refuse(f"Each worker must have an address of its own. Two have {address!r}.")
    kind, index = task.get("type"), task.get("index")
    if kind not in ("chief", "worker"):
        refuse(f'"task": "type" must be "worker" or "chief". It is {kind!r}.')
    count = len(jobs.get(kind, []))
    if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < count:
        refuse(f'"task": "index" must be 0 to {count - 1}, of the {kind} list. It is {index!r}.')
    return Cluster(tuple(addresses), index + len(jobs.get("chief", [])) * (kind == "worker"))


def check_port(cluster: Cluster) -> None:
    """Raise ValueError if another process listens at the port of this worker.

    TensorFlow would say so in the middle of a long message, after other workers began to wait.
    """
    if len(cluster.addresses) == 1:
        return
    address = cluster.addresses[cluster.index]
    port = int(address.rpartition(":")[2])
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # not for one that listens
        try:
            probe.bind(("", port))
        except OSError as error:
            raise ValueError(
                f"Worker {cluster.index} must listen at {address}, but port {port} of this machine "
                f"cannot be used ({error.strerror}). Does a worker of an earlier run still hold "
                "it? Stop that process, or give this worker another port in the TF_CONFIG of all."
            ) from error
