"""Replies and errors as TF Serving's JSON."""

import importlib
import json
from typing import Any

from keras_attention.export.server.batching import Overloaded
from keras_attention.export.server.bodies import TooLarge
from keras_attention.export.server.versions import NotServed

__all__ = ["HUNG_UP", "answer_errors", "optional", "reply"]

HUNG_UP = 499  # nobody reads it


def reply(content: dict | str, code: int = 200, **headers: str) -> Any:
    """A response of JSON; a str is some already."""
    body = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    fastapi = optional("fastapi")
    return fastapi.Response(body.encode(), code, headers or None, media_type="application/json")


def answer_errors(app: Any) -> None:
    """Have an application reply `{"error": "..."}` with its status code, whatever happens."""
    requests, exceptions = optional("starlette.requests"), optional("starlette.exceptions")

    def on(kind, code, message=str, **headers):
        async def answer(_, error):
            code_of = code if isinstance(code, int) else code(error)
            return reply({"error": message(error)}, code_of, **headers)

        app.add_exception_handler(kind, answer)

    on(ValueError, 400)
    on(NotServed, 404)
    on(TooLarge, 413)
    on(requests.ClientDisconnect, HUNG_UP)
    on(Overloaded, 503, **{"Retry-After": "1"})
    on(TimeoutError, 504)
    on(exceptions.HTTPException, lambda error: error.status_code, lambda error: error.detail)
    on(Exception, 500, lambda error: f"{type(error).__name__}: {error}")


def optional(module: str) -> Any:
    """A module of the extra [serving]."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"A model server needs {module}: pip install 'keras-attention-seq2seq[serving]'"
        ) from error
