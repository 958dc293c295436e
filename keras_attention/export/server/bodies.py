"""The body of a request, within a limit."""

import zlib
from typing import Any

__all__ = ["TooLarge", "read"]

_DROPPED = 16  # times the limit: how much of a too large body is read


class TooLarge(Exception):
    """A body above the limit."""


async def read(request: Any, limit: int) -> bytes:
    """The body, inflated if it was sent with `Content-Encoding: gzip`.

    A body above the limit is read to its end and dropped, up to 16 times the limit. Otherwise a
    client that is still sending would not receive the error.

    Raises TooLarge, and ValueError for invalid gzip.
    """
    declared, size, body = request.headers.get("content-length"), 0, bytearray()
    async for chunk in request.stream():
        size += len(chunk)
        if size <= limit:
            body += chunk
        elif size > _DROPPED * limit:
            break
    if size > limit:
        raise TooLarge(f"Expected a body of at most {limit} bytes. Received: {declared or 'more'}")
    if request.headers.get("content-encoding", "").strip().lower() == "gzip":
        return _inflated(body, limit)
    return bytes(body)


def _inflated(body, limit) -> bytes:
    inflate = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)  # expect a gzip header
    try:
        plain = inflate.decompress(body, limit + 1)
    except zlib.error as error:
        raise ValueError(f"Expected a body in gzip. Received: {error}") from None
    if len(plain) > limit:
        raise TooLarge(f"Expected a body of at most {limit} bytes, inflated. Received: more")
    if not inflate.eof:
        raise ValueError("Expected a body in gzip. Received: an incomplete one")
    return plain
