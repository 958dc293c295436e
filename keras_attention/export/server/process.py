"""Run a model server as a process, with a graceful shutdown."""

import asyncio
import contextlib
import importlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any

from keras_attention.export.server import connections
from keras_attention.export.server.guard import hosts_of
from keras_attention.export.server.replies import optional
from keras_attention.export.server.rest import DEFAULT, Limits, application
from keras_attention.export.server.versions import Versions

__all__ = ["listen", "serve", "server_of"]


def serve(
    directory: str,
    *,
    host: str = "127.0.0.1",
    port: int = 8501,
    name: str = "model",
    limits: Limits = DEFAULT,
    announce: Callable[[str], None] = print,
    add: Callable[[Any, Versions], None] | None = None,
    allowed_hosts: Sequence[str] = (),
) -> None:
    """Serve a SavedModel, or the highest of a folder of numbered ones, until a signal ends it.

    SIGTERM and Ctrl-C stop it: new connections are refused, and running requests get their answers,
    for at most `limits.time_limit` plus one second. SIGTERM then ends the process with code 0, even
    if it still computes; Ctrl-C raises KeyboardInterrupt, and Python waits for the threads of the
    running batches.

    Args:
        directory: see `Versions`.
        host, port: the address to listen at; port 0 selects a free one. "0.0.0.0" is every
            interface.
        name: of the model, in the paths of the requests.
        limits: see `Limits`.
        announce: called with the URL when requests are accepted.
        add: called with the FastAPI application and the versions, to add routes.
        allowed_hosts: allowed names in the headers Host and Origin, besides those of `hosts_of`;
            "*" is every name.

    Call it in the main thread, which receives signals. Raises the errors of `Versions`, ValueError
    for an empty host, OSError if it cannot listen there, and ImportError without the extra
    [serving].
    """
    optional("uvicorn")
    with listen(host, port) as listener:
        versions = Versions(directory)
        is_host = hosts_of(listener.getsockname()[0], [host, *allowed_hosts])
        app = application(versions, name, limits, is_host)
        if add is not None:
            add(app, versions)
        server = server_of(app, limits)
        signal.signal(signal.SIGTERM, _exit)  # uvicorn raises it again when it is done
        listener.listen(connections.backlog())
        shown = f"[{host}]" if ":" in host else host
        announce(f"http://{shown}:{listener.getsockname()[1]}")
        with connections.Seldom().on("uvicorn.error", "asyncio"):
            server.run(sockets=[listener])


def listen(host: str, port: int) -> socket.socket:
    """A bound socket that does not listen yet. Raises OSError, naming host and port.

    Raises ValueError for an empty host, which the system takes for every interface.
    """
    if not host.strip():
        raise ValueError(
            f"Expected a host to listen at. Received: {host!r}. 127.0.0.1 is this machine only, "
            "0.0.0.0 every interface."
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise OSError(
            f"Cannot listen on {host}:{port}: {error.strerror or error}. Choose another host or "
            "port."
        ) from error
    return bound


def server_of(app: Any, limits: Limits = DEFAULT) -> Any:
    """The uvicorn server of an application."""
    uvicorn = optional("uvicorn")
    # Not httptools, which uvicorn prefers if it is installed: it reads headers of any size.
    base = importlib.import_module("uvicorn.protocols.http.h11_impl").H11Protocol
    most = connections.most_connections(limits.max_connections)
    config = uvicorn.Config(
        app,
        http=connections.bounded(base, limits.head_limit, limits.time_limit, most),
        backlog=connections.backlog(),
        access_log=False,
        log_level="warning",
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=int(limits.time_limit) + 1,
    )

    class Server(uvicorn.Server):
        async def startup(self, sockets=None):
            connections.report_in_one_line(asyncio.get_running_loop())
            await super().startup(sockets)

    return Server(config)


def _exit(*_) -> None:
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    os._exit(0)  # sys.exit would wait for searches that no client waits for
