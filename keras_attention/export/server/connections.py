"""Limit the time and number of open connections: a mixin for uvicorn's HTTP protocol."""

import asyncio
import contextlib
import errno
import json
import logging
import time
from typing import Any

__all__ = ["Seldom", "backlog", "bounded", "most_connections", "report_in_one_line"]

_LOG = logging.getLogger(__name__)
_OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)


def bounded(base: type, head_limit: float, time_limit: float, most: int) -> type:
    """uvicorn's protocol with timeouts and a maximum number of connections.

    - If the headers are not complete `head_limit` seconds after the connection was opened, or after
      the previous reply, the reply is 408. A connection without any data is closed.
    - A client that does not read its reply for `time_limit` seconds is disconnected.
    - Above `most` connections, the one that has been idle for longest is closed for a new one. If
      none is idle, the new one gets 503.
    """

    class Bounded(base):
        _head_timer = _write_timer = None
        _has_begun = False  # some of the headers have arrived
        _since = 0.0

        @property
        def _is_idle(self) -> bool:
            answered = self.cycle is None or self.cycle.response_complete
            return answered and not self.transport.is_closing()

        def connection_made(self, transport):
            super().connection_made(transport)
            self._expect_head()
            if len(self.connections) > most:
                self._make_room()

        def _make_room(self):
            others = [one for one in self.connections if one is not self]
            if sum(not one.transport.is_closing() for one in others) < most:
                return
            idle = [one for one in others if one._is_idle]
            if idle:
                min(idle, key=lambda one: one._since).transport.abort()
            else:
                self._refuse("503 Service Unavailable", "All connections are busy. Try again later")

        def data_received(self, data):
            super().data_received(data)
            if self._is_idle:
                self._has_begun = True
            else:
                self._head_timer = _cancelled(self._head_timer)

        def on_response_complete(self):
            super().on_response_complete()
            if self._is_idle or self.transport.is_closing():
                self._expect_head()

        def _expect_head(self):
            _cancelled(self._head_timer)
            self._has_begun, self._since = False, time.monotonic()
            self._head_timer = self.loop.call_later(head_limit, self._without_head)

        def _without_head(self):
            if self.transport.is_closing():  # the rest of a reply that nobody reads
                if self._write_timer is None:
                    self.transport.abort()
            elif self._has_begun:
                message = f"Expected the head of a request within {head_limit:g} seconds."
                self._refuse("408 Request Timeout", message)
            else:
                self.transport.close()

        def _refuse(self, status, message):
            body = json.dumps({"error": message})
            head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\n"
            self.transport.write(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
            self.transport.close()

        def pause_writing(self):
            super().pause_writing()
            self._watch_reader(None)

        def _watch_reader(self, left):
            now = self.transport.get_write_buffer_size()
            if left is not None and now >= left:
                self.transport.abort()
                return
            self._write_timer = self.loop.call_later(time_limit, self._watch_reader, now)

        def resume_writing(self):
            super().resume_writing()
            self._write_timer = _cancelled(self._write_timer)

        def connection_lost(self, exc):
            super().connection_lost(exc)
            self._head_timer = _cancelled(self._head_timer)
            self._write_timer = _cancelled(self._write_timer)

    return Bounded


def _cancelled(timer) -> None:
    if timer is not None:
        timer.cancel()


def _descriptors() -> int | None:
    """The maximum number of open files of this process; None if unknown."""
    try:
        import resource
    except ImportError:  # on Windows
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def most_connections(wanted: int) -> int:
    """`wanted`, or less to leave descriptors for the model and for accepted connections."""
    limit = _descriptors()
    return wanted if limit is None else max(1, min(wanted, limit * 5 // 8))


def backlog() -> int:
    """The number of connections that are accepted at a time, and of those that wait."""
    limit = _descriptors()
    return 128 if limit is None else min(128, max(8, limit // 8))


def report_in_one_line(loop: asyncio.AbstractEventLoop, pause: float = 60.0) -> None:
    """Log once in `pause` seconds, in one line, that the loop cannot accept connections."""
    last_report = -float("inf")

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        nonlocal last_report
        error = context.get("exception")
        if not isinstance(error, OSError) or error.errno not in _OUT_OF_DESCRIPTORS:
            loop.default_exception_handler(context)
        elif time.monotonic() - last_report >= pause:
            last_report = time.monotonic()
            _LOG.warning(
                "No connection can be accepted: %s. They wait until others end. Raise `ulimit -n`.",
                error.strerror,
            )

    loop.set_exception_handler(handle)


class Seldom(logging.Filter):
    """Passes the same message once in `pause` seconds, with the number of those it dropped.

    >>> seldom = Seldom(pause=60)
    >>> record = logging.LogRecord("name", logging.WARNING, "", 0, "again", None, None)
    >>> seldom.filter(record), seldom.filter(record)
    (True, False)
    """

    def __init__(self, pause: float = 60.0):
        super().__init__()
        self._pause, self._last, self._left_out = pause, {}, {}

    def filter(self, record: logging.LogRecord) -> bool:
        now, message = time.monotonic(), record.msg
        if now - self._last.get(message, -float("inf")) < self._pause:
            self._left_out[message] = self._left_out.get(message, 0) + 1
            return False
        if len(self._last) > 1000:  # messages that differ for each request
            self._last.clear()
            self._left_out.clear()
        self._last[message] = now
        if count := self._left_out.pop(message, 0):
            record.msg = f"{message} ({count} more since it was last logged)"
        return True

    @contextlib.contextmanager
    def on(self, *names: str):
        """Add the filter to these loggers."""
        loggers = [logging.getLogger(name) for name in names]
        for logger in loggers:
            logger.addFilter(self)
        try:
            yield
        finally:
            for logger in loggers:
                logger.removeFilter(self)
