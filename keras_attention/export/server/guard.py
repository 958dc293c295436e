"""What holds for every request, whatever route it asks: its host, its origin, its size."""

import asyncio
import contextlib
import ipaddress
import socket
import urllib.parse
from collections.abc import Callable, Sequence
from typing import Any

from keras_attention.export.server.bodies import read
from keras_attention.export.server.replies import error_reply, optional, reply

__all__ = ["Guard", "hosts_of", "within"]


class Guard:
    """An ASGI application before another one.

    Args:
        app: what is guarded.
        limits: see `Limits`; of a body, and of the time that it may take.
        is_host: name -> whether it is one of this server's; None: any is. A page of another name
            could be led here by the DNS, and would read what is answered.
        own: the beginning of paths whose application reads bodies within the limits itself.
    """

    def __init__(
        self, app: Any, limits: Any, is_host: Callable[[str], bool] | None = None, own: str = "/v1/"
    ):
        self._app, self._limits, self._is_host, self._own = app, limits, is_host, own

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = optional("fastapi").Request(scope, receive)
        if refused := self._refusal(request.headers):
            await reply({"error": refused}, 403)(scope, receive, send)
            return
        if not scope["path"].startswith(self._own) and _has_body(request.headers):
            try:
                async with within(self._limits.time_limit):
                    body = await read(request, self._limits.max_body)
            except Exception as error:  # nobody answers what is raised before the routes
                await error_reply(error)(scope, receive, send)
                return
            receive = _again(body, receive)
        await self._app(scope, receive, send)

    def _refusal(self, headers) -> str | None:
        """What is wrong with the names in a request; None if nothing is."""
        if self._is_host is None:
            return None
        for header, name_of in (("host", _name), ("origin", _origin)):
            value = headers.get(header)
            if value is not None and not self._is_host(name_of(value)):
                return (
                    f"Expected {header.title()} to be a name of this server. Received: {value!r}. "
                    "Allow it with --allowed_hosts (allowed_hosts= of serve)."
                )
        return None


def hosts_of(address: str, others: Sequence[str] = ()) -> Callable[[str], bool]:
    """name -> whether a request for this host is meant for a server that listens at `address`.

    Of a loopback address these are loopback names only; else also addresses, which no DNS gives
    out, and the name of this machine. `others` are allowed as well; "*" is every name.

    >>> is_host = hosts_of("127.0.0.1", ["model.example"])
    >>> [is_host(name) for name in ("localhost", "127.0.0.1", "model.example", "192.0.2.1", "evil")]
    [True, True, True, False, False]
    """
    if "*" in others:
        return lambda name: True
    is_local = _is_loopback(address)
    names = {_name(other) for other in others} | {"localhost"}
    if not is_local:
        names.add(socket.gethostname().lower())

    def is_host(name: str) -> bool:
        if name in names or _is_loopback(name):
            return True
        return not is_local and _address(name) is not None

    return is_host


@contextlib.asynccontextmanager
async def within(seconds: float):
    """TimeoutError, in words for a client, after so many seconds."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise TimeoutError(f"Expected an answer within {seconds:g} seconds.") from None


def _name(host: str) -> str:
    """ "Example.org:80" -> "example.org", "[::1]:80" -> "::1"."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    if host.count(":") == 1:
        host = host.partition(":")[0]
    return host.removesuffix(".")


def _origin(origin: str) -> str:
    """ "https://example.org:80" -> "example.org", "null" -> ""."""
    with contextlib.suppress(ValueError):
        return _name(urllib.parse.urlsplit(origin).netloc)
    return ""


def _address(name: str):
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(name)


def _is_loopback(name: str) -> bool:
    address = _address(name)
    return name == "localhost" or address is not None and address.is_loopback


def _has_body(headers) -> bool:
    return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"


def _again(body: bytes, receive):
    """A `receive` that gives a body which has been read, and then what comes after it."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def from_here():
        return messages.pop() if messages else await receive()

    return from_here
