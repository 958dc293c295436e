"""TF Serving's REST API for the versions of a model."""

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from keras_attention.export.server.batching import Arrays, Batcher
from keras_attention.export.server.bodies import read
from keras_attention.export.server.guard import Guard, within
from keras_attention.export.server.predict_json import decode, encode, parse
from keras_attention.export.server.replies import HUNG_UP, answer_errors, optional, reply
from keras_attention.export.server.rows import count
from keras_attention.export.server.servable import Servable, Signature
from keras_attention.export.server.versions import NotServed, Versions

__all__ = ["DEFAULT", "Limits", "application"]

_LOG = logging.getLogger(__name__)
_TURN = 0.002  # seconds of writing before other tasks run
_MODEL = r"/v1/models/([^/:]+)(?:/versions/([0-9]+))?"
# TF Serving's own patterns, for the methods offered here.
_PATHS = {
    "GET": re.compile(_MODEL + "(/metadata)?"),
    "POST": re.compile(_MODEL + "(:predict)"),
}


class Limits(NamedTuple):
    """The limits of a server, for one request and for all."""

    max_batch_size: int = 32  # rows that run together; 1 runs every row alone
    max_wait: float = 0.002  # seconds that a request waits for others to share its batch
    max_pending: int = 256  # unanswered requests; above: 503
    max_body: int = 4 << 20  # bytes, also after decompression; above: 413
    max_rows: int = 256  # of one request; above: 400
    time_limit: float = 30.0  # seconds for a request's body and its answer; above: 504
    poll: float = 1.0  # seconds between two checks for another version
    head_limit: float = 10.0  # seconds for a request's headers; above: 408
    max_connections: int = 1024  # open at a time, and not more than file descriptors allow


DEFAULT = Limits()


def application(
    versions: Versions,
    name: str = "model",
    limits: Limits = DEFAULT,
    is_host: Callable[[str], bool] | None = None,
) -> Any:
    """The REST API of one model, as a FastAPI application.

    | request                          | reply                                               |
    |----------------------------------|-----------------------------------------------------|
    | `GET /v1/models/NAME`            | `model_version_status`                              |
    | `GET /v1/models/NAME/metadata`   | the signatures                                      |
    | `POST /v1/models/NAME:predict`   | `predictions` of `instances`, `outputs` of `inputs` |
    | `GET /healthz`                   | 200 while the process runs                          |
    | `GET /readyz`                    | 200 while it accepts requests, else 503             |

    HEAD is like GET. `NAME/versions/N` selects a version. An error is `{"error": "..."}`: 400 for
    an invalid request or path, 403 for a host or an origin that `is_host` refuses (see `hosts_of`;
    None: any is allowed), 404 for an unknown model or version, 400, 413, 503 and 504 at the
    `limits`, 500 for anything else. The limits of bodies hold for all routes.

    Its `state.answer(signature, inputs)` answers arrays like `:predict`, within the same limits,
    for routes added by the `add` of `serve`. Raises ValueError, Overloaded and TimeoutError.

    Raises ImportError without the extra [serving].
    """
    fastapi = optional("fastapi")
    batcher = Batcher(
        limits.max_batch_size, limits.max_wait, limits.max_pending, time_limit=limits.time_limit
    )
    writing = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def lifespan(_):
        async with batcher:
            polling = asyncio.create_task(_poll(versions, limits.poll))
            yield
            polling.cancel()

    async def answer(signature: Signature, inputs: Arrays) -> Arrays:
        if (rows := count(signature, inputs)) > limits.max_rows:
            raise ValueError(
                f"Expected at most {limits.max_rows} rows in a request. Received: {rows}. Send "
                "them in several."
            )
        async with within(limits.time_limit):
            return await batcher(signature, inputs)

    def model_of(requested: str, version: str | None) -> Servable:
        try:
            if requested != name:
                raise NotServed(f"Expected the model {name!r}. Received: {requested!r}")
            return versions.get(int(version) if version else None)
        except NotServed as error:
            wanted = f"Specific({requested}, {version})" if version else f"Latest({requested})"
            raise NotServed(f"Servable not found for request: {wanted}. {error}") from None

    def status(requested, version):
        known = versions.status()
        if requested != name or version and int(version) not in known:
            model_of(requested, version)
        chosen = [_status(*one) for one in known.items() if not version or one[0] == int(version)]
        return reply({"model_version_status": chosen})

    def metadata(model):
        spec = {"name": name, "signature_name": "", "version": str(model.version)}
        signatures = {"signature_def": {"signature_def": model.signature_def}}
        return reply({"model_spec": spec, "metadata": signatures})

    async def predict(request, model):
        async with within(limits.time_limit):
            body = await read(request, limits.max_body)
            # In a thread, because a large request would block the event loop.
            signature, inputs, in_rows = await asyncio.to_thread(_parsed, model, body)
            found = await _unless_hung_up(request, answer(signature, inputs))
            if found is None:
                return fastapi.Response(status_code=HUNG_UP)
            return reply(await _written(encode(found, in_rows), writing))

    async def dispatch(request):
        method, path = request.method, request.url.path
        pattern = _PATHS.get("GET" if method == "HEAD" else method)
        found = pattern.fullmatch(path) if pattern else None
        if found is None:
            raise ValueError(f"Malformed request: {method} {path}")
        requested, version, what = found.groups()
        if what is None:
            return status(requested, version)
        model = model_of(requested, version)
        return metadata(model) if what == "/metadata" else await predict(request, model)

    async def api(scope, receive, send):
        response = await dispatch(fastapi.Request(scope, receive, send))
        await response(scope, receive, send)

    async def health():
        return reply({"status": "alive"})

    async def ready():
        for status, holds in {"full": batcher.is_full, "stuck": batcher.is_stuck}.items():
            if holds:
                return reply({"status": status}, 503)
        return reply({"status": "ready"})

    # No documentation pages: they would load scripts from other servers.
    app = fastapi.FastAPI(lifespan=lifespan, openapi_url=None, redirect_slashes=False)
    app.mount("/v1", api)  # with every method and every path
    app.add_api_route("/healthz", health, methods=["GET", "HEAD"])
    app.add_api_route("/readyz", ready, methods=["GET", "HEAD"])
    app.add_middleware(Guard, limits=limits, is_host=is_host)
    app.state.answer = answer
    answer_errors(app)
    return app


async def _poll(versions, seconds) -> None:
    while True:
        await asyncio.sleep(seconds)
        try:
            await asyncio.to_thread(versions.refresh)
        except OSError as error:  # the folder cannot be read now; keep the loaded version
            _LOG.warning("Cannot check for new versions: %s", error)


def _parsed(model, body) -> tuple[Signature, Arrays, bool]:
    request = parse(body)
    signature = model.signature(request.get("signature_name"))
    return signature, *decode(request, signature.inputs)


async def _written(pieces: Iterator[str], turn: asyncio.Lock) -> str:
    """The whole reply. Many rows are long to write: each waits its turn among those of others."""
    text = []
    while not text or text[-1]:
        async with turn:
            end = time.monotonic() + _TURN
            text.append(next(pieces, ""))
            while text[-1] and time.monotonic() < end:
                text.append(next(pieces, ""))
            await asyncio.sleep(0)
    return "".join(text)


async def _unless_hung_up(request, answer) -> Any:
    """What is awaited; None, and it is cancelled, when the client is gone before."""
    answer = asyncio.ensure_future(answer)
    gone = asyncio.ensure_future(request.receive())  # after the body: only a disconnect
    try:
        await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
        return answer.result() if answer.done() else None
    finally:
        answer.cancel()
        gone.cancel()


def _status(version: int, problem: str | None) -> dict[str, Any]:
    return {
        "version": str(version),
        "state": "END" if problem else "AVAILABLE",
        "status": {"error_code": "UNKNOWN" if problem else "OK", "error_message": problem or ""},
    }
