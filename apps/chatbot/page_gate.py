"""Allow only those of Gradio's routes and calls that the page needs."""

import json
import logging
from collections.abc import Mapping
from typing import Any

from keras_attention.export.server.replies import reply

_LOG = logging.getLogger(__name__)
_PAGE = ("/", "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/robots.txt")
_FILES = ("/assets/", "/static/", "/svelte/")
_JOIN, _DATA = "/gradio_api/queue/join", "/gradio_api/queue/data"


class Gate:
    """An ASGI middleware before Gradio.

    Gradio offers more than the page needs: stored uploads, a proxy, calls that bypass the queue.
    All of these are refused, and malformed calls, which would log a traceback, too.

    Args:
        app: Gradio's.
        inputs: event -> its number of inputs.
    """

    def __init__(self, app: Any, inputs: Mapping[int, int]):
        self._app, self._inputs = app, inputs

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)

    async def _answer(self, scope, receive, send) -> None:
        path, method = scope["path"], scope["method"]
        if (method, path.rstrip("/")) == ("POST", _JOIN):
            message = await receive()  # complete: the server has read it
            if wrong := self._problem(message.get("body", b"")):
                await reply({"error": wrong}, 400)(scope, receive, send)
                return
            receive = _first(message, receive)
        elif method not in ("GET", "HEAD") or not _is_shown(path):
            await reply({"error": "Not Found"}, 404)(scope, receive, send)
            return
        last = {"type": "http.response.start"}  # what would have to come next

        async def sent(message):
            more = message["type"] == "http.response.start" or message.get("more_body", False)
            last["type"] = "http.response.body" if more else "none"
            await send(message)

        try:
            await self._app(scope, receive, sent)
        except Exception as error:  # for example of an unknown session
            _LOG.warning("%s %s: %s", method, path, (str(error).splitlines() or [error])[0])
            if last["type"] == "http.response.start":
                await reply({"error": "The page cannot answer this"}, 500)(scope, receive, send)
            elif last["type"] == "http.response.body":
                await send({"type": "http.response.body", "body": b""})

    def _problem(self, body: bytes) -> str | None:
        """The problem of a call; None if the page can make it."""
        try:
            asked = json.loads(body)
        except (ValueError, RecursionError):
            return "Expected JSON. Received: something else"
        if not isinstance(asked, dict):
            return "Expected a JSON object. Received: something else"
        event, data = asked.get("fn_index"), asked.get("data")
        if type(event) is not int or event not in self._inputs:
            return f"Expected `fn_index` in {sorted(self._inputs)}. Received: another one"
        if not isinstance(data, list) or len(data) != self._inputs[event]:
            return f"Expected `data` to be a list of {self._inputs[event]}. Received: another one"
        if not isinstance(asked.get("session_hash"), str):
            return "Expected a `session_hash`. Received: none"
        return None


def _is_shown(path: str) -> bool:
    return path in (*_PAGE, _DATA) or path.startswith(_FILES)


def _first(message, receive):
    messages = [message]

    async def from_here():
        return messages.pop() if messages else await receive()

    return from_here
