"""Checks for every request, whatever its route: host, origin, size."""

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
    """An ASGI middleware.

    Args:
        app: the protected application.
        limits: see `Limits`; of the body and its time.
        is_host: name -> whether it is a name of this server; None: any name. This protects against
            DNS rebinding, by which a page of another name could read the replies.
        own: path prefix of routes that check the limits of their bodies themselves.
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
            except Exception as error:  # raised before the routes, whose handlers do not see it
                await error_reply(error)(scope, receive, send)
                return
            receive = _again(body, receive)
        await self._app(scope, receive, send)

    def _refusal(self, headers) -> str | None:
        """The problem with the names in a request; None if they are allowed."""
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
    """name -> whether a request for this host is allowed at a server that listens at `address`.

    For a loopback address these are loopback names; else also addresses, which DNS rebinding cannot
    use, and the name of this machine. `others` are allowed, too; "*" is every name.
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
    """A `receive` that returns a body that was already read, and then the next messages."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def from_here():
        return messages.pop() if messages else await receive()

    return from_here
