"""Replies and errors in TF Serving's JSON format."""

import importlib
import json
from typing import Any

from keras_attention.export.server.batching import Overloaded
from keras_attention.export.server.bodies import TooLarge
from keras_attention.export.server.versions import NotServed

__all__ = ["HUNG_UP", "answer_errors", "error_reply", "optional", "reply"]

HUNG_UP = 499  # the client has closed the connection


def reply(content: dict | str, code: int = 200, **headers: str) -> Any:
    """A JSON response; a str is JSON already."""
    body = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    fastapi = optional("fastapi")
    return fastapi.Response(body.encode(), code, headers or None, media_type="application/json")


def answer_errors(app: Any) -> None:
    """Make an application reply to all exceptions with `{"error": "..."}` and a status code."""
    exceptions = optional("starlette.exceptions")

    async def answer(_, error):
        return error_reply(error)

    for kind in (*_codes(), exceptions.HTTPException, Exception):
        app.add_exception_handler(kind, answer)


def error_reply(error: Exception) -> Any:
    """`{"error": "..."}` with the status code of an exception."""
    exceptions = optional("starlette.exceptions")
    if isinstance(error, exceptions.HTTPException):
        return reply({"error": error.detail}, error.status_code)
    for kind, code in _codes().items():
        if isinstance(error, kind):
            headers = {"Retry-After": "1"} if kind is Overloaded else {}
            return reply({"error": str(error)}, code, **headers)
    return reply({"error": f"{type(error).__name__}: {error}"}, 500)


def _codes() -> dict[type[Exception], int]:
    return {
        ValueError: 400,
        NotServed: 404,
        TooLarge: 413,
        optional("starlette.requests").ClientDisconnect: HUNG_UP,
        Overloaded: 503,
        TimeoutError: 504,
    }


def optional(module: str) -> Any:
    """Import a module of the extra [serving]."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"A model server needs {module}: pip install 'keras-attention-seq2seq[serving]'"
        ) from error
