"""TF Serving's REST API over the versions of a model."""

import asyncio
import contextlib
import logging
from typing import Any, NamedTuple

from keras_attention.export.server.batching import Batcher
from keras_attention.export.server.predict_json import decode, encode, parse
from keras_attention.export.server.replies import HUNG_UP, TooLarge, answer_errors, optional, reply
from keras_attention.export.server.versions import NotServed, Versions

__all__ = ["DEFAULT", "Limits", "application"]

_LOG = logging.getLogger(__name__)
_MODEL = "/v1/models/{name}"


class Limits(NamedTuple):
    """What a server does at most, for one request and for all."""

    max_batch_size: int = 32  # rows; 1 runs every request alone
    max_wait: float = 0.002  # seconds that a request waits for others to share its batch
    max_pending: int = 256  # requests without an answer; above: 503
    max_body: int = 4 << 20  # bytes; above: 413
    time_limit: float = 30.0  # seconds for a request's body and its answer; above: 504
    poll: float = 1.0  # seconds between two looks for another version


DEFAULT = Limits()


def application(versions: Versions, name: str = "model", limits: Limits = DEFAULT) -> Any:
    """The REST API of one model, as a FastAPI application.

    | request                          | reply                                               |
    |----------------------------------|-----------------------------------------------------|
    | `GET /v1/models/NAME`            | `model_version_status`                              |
    | `GET /v1/models/NAME/metadata`   | the signatures                                      |
    | `POST /v1/models/NAME:predict`   | `predictions` of `instances`, `outputs` of `inputs` |
    | `GET /healthz`                   | 200 while it lives                                  |
    | `GET /readyz`                    | 200 while it would take a request, else 503         |

    `NAME/versions/N` asks for a version. An error is `{"error": "..."}`: 400 for a request that is
    wrong, 404 for what there is not, 413, 503 and 504 at the `limits`, 500 for all else.

    Raises ImportError without the extra [serving].
    """
    fastapi = optional("fastapi")
    batcher = Batcher(limits.max_batch_size, limits.max_wait, limits.max_pending)

    @contextlib.asynccontextmanager
    async def lifespan(_):
        async with batcher:
            polling = asyncio.create_task(_poll(versions, limits.poll))
            yield
            polling.cancel()

    def version_of(request):
        """That in the path, or None; the name beside it must be ours."""
        asked = request.path_params["name"]
        if asked != name:
            raise NotServed(f"Expected the model {name!r}. Received: {asked!r}")
        return request.path_params.get("version")

    async def status(request: fastapi.Request):
        version, statuses = version_of(request), versions.status()
        if version not in (None, *statuses):
            versions.get(version)
        told = [_status(*one) for one in statuses.items() if version in (None, one[0])]
        return reply({"model_version_status": told})

    async def metadata(request: fastapi.Request):
        model = versions.get(version_of(request))
        spec = {"name": name, "signature_name": "", "version": str(model.version)}
        signatures = {"signature_def": {"signature_def": model.signature_def}}
        return reply({"model_spec": spec, "metadata": signatures})

    async def predict(request: fastapi.Request):
        model = versions.get(version_of(request))
        async with asyncio.timeout(limits.time_limit):
            asked = parse(await _body(request, limits.max_body))
            signature = _signature(model, asked)
            inputs, in_rows = decode(asked, signature.inputs)
            answer = await _unless_hung_up(request, batcher(signature, inputs))
        if answer is None:
            return fastapi.Response(status_code=HUNG_UP)
        return reply(encode(answer, in_rows))

    async def health():
        return reply({"status": "alive"})

    async def ready():
        return reply({"status": "full"}, 503) if batcher.is_full else reply({"status": "ready"})

    # No pages that describe it: they would fetch their scripts from elsewhere.
    app = fastapi.FastAPI(lifespan=lifespan, openapi_url=None)
    for path in (_MODEL, _MODEL + "/versions/{version:int}"):
        app.add_api_route(path, status, methods=["GET"])
        app.add_api_route(path + "/metadata", metadata, methods=["GET"])
        app.add_api_route(path + ":predict", predict, methods=["POST"])
    app.add_api_route("/healthz", health, methods=["GET"])
    app.add_api_route("/readyz", ready, methods=["GET"])
    answer_errors(app, limits.time_limit)
    return app


async def _poll(versions, seconds) -> None:
    while True:
        await asyncio.sleep(seconds)
        try:
            await asyncio.to_thread(versions.refresh)
        except OSError as error:  # the folder cannot be read now; what is loaded is served
            _LOG.warning("No look for new versions: %s", error)


async def _body(request, limit) -> bytes:
    size, body = int(request.headers.get("content-length", 0)), bytearray()
    if size <= limit:
        async for chunk in request.stream():
            body += chunk
            if len(body) > limit:
                break
    if max(size, len(body)) > limit:
        raise TooLarge(f"Expected a body of at most {limit} bytes. Received: {size or 'more'}")
    return bytes(body)


async def _unless_hung_up(request, answer) -> Any:
    """What is awaited; None, and it is cancelled, when the client is gone before."""
    answer = asyncio.ensure_future(answer)
    gone = asyncio.ensure_future(request.receive())  # nothing comes after the body but the end
    try:
        await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
        return answer.result() if answer.done() else None
    finally:
        answer.cancel()
        gone.cancel()


def _signature(model, asked) -> Any:
    name = asked.get("signature_name") or "serving_default"
    if not isinstance(name, str) or name not in model.signatures:
        raise ValueError(
            f"Expected one of the signatures {sorted(model.signatures)}. Received: {name!r}"
        )
    return model.signatures[name]


def _status(version: int, problem: str | None) -> dict[str, Any]:
    return {
        "version": str(version),
        "state": "END" if problem else "AVAILABLE",
        "status": {"error_code": "UNKNOWN" if problem else "OK", "error_message": problem or ""},
    }
