"""A model server as a process: a socket, a loop, and an end that drops nobody."""

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

    SIGTERM and Ctrl-C end it: new connections are refused, and requests in flight get their
    answers, for `limits.time_limit` and a second at most. SIGTERM then ends the process with 0,
    whatever still runs in it; Ctrl-C raises KeyboardInterrupt, and as ever with Python the process
    waits for its threads, here for the batches that run.

    Args:
        directory: see `Versions`.
        host, port: where to listen; port 0 takes a free one. "0.0.0.0" is every interface.
        name: of the model, in the paths of the requests.
        limits: see `Limits`.
        announce: told the URL as soon as requests are taken.
        add: given the FastAPI application and what it serves, to add its own routes.
        allowed_hosts: names for which it may be asked, in the headers Host and Origin, beside those
            of `hosts_of`; "*" is every name.

    To be called in the main thread, which is the one that hears signals. Raises what `Versions`
    raises, ValueError for an empty host, OSError if it cannot listen there, and ImportError without
    the extra [serving].
    """
    optional("uvicorn")
    with listen(host, port) as listener:
        versions = Versions(directory)
        is_host = hosts_of(listener.getsockname()[0], [host, *allowed_hosts])
        app = application(versions, name, limits, is_host)
        if add is not None:
            add(app, versions)
        server = server_of(app, limits)
        signal.signal(signal.SIGTERM, _exit)  # uvicorn raises it anew when all is done
        listener.listen(connections.backlog())
        shown = f"[{host}]" if ":" in host else host
        announce(f"http://{shown}:{listener.getsockname()[1]}")
        with connections.Seldom().on("uvicorn.error", "asyncio"):
            server.run(sockets=[listener])


def listen(host: str, port: int) -> socket.socket:
    """A socket that is bound, and not yet listening. Raises OSError, naming host and port.

    Raises ValueError for an empty host, which the system would take for every interface.
    """
    if not host.strip():
        raise ValueError(
            f"Expected a host to listen at. Received: {host!r}. 127.0.0.1 is this machine alone, "
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
    # Not httptools, which uvicorn takes where it is installed: that reads heads of any size.
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
    os._exit(0)  # sys.exit would wait for searches that nobody waits for any more
