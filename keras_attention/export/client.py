"""A client for TF Serving's REST API: for our server and for TF Serving itself.

It needs the standard library only, so the file also works when it is copied elsewhere.
"""

import base64
import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["Client", "ServerError"]


class ServerError(RuntimeError):
    """An error reply of the server; `status` is its HTTP status code."""

    def __init__(self, status: int, message: str):
        super().__init__(f"{message} (HTTP {status})")
        self.status = status


class Client:
    """A model on a server.

    Values are nested lists of str, bytes, numbers or bool, or arrays with a `tolist`. A reply is
    nested lists, with bytes for strings that the server sends as base64.

    Args:
        url: of the server, http or https.
        name: of the model.
        version: one of its versions; None is the newest.
        timeout: seconds without any data from the server before it counts as gone.

    Raises ValueError for another url. The methods raise `ServerError` for an error reply of the
    server, and OSError if there is no server, or something that is not a model server.

        client = Client("http://127.0.0.1:8501", "chatbot")
        client.predict({"text": ["Hello!"]})["replies"][0]
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8501",
        name: str = "model",
        version: int | None = None,
        timeout: float = 60.0,
    ):
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"Expected a url of http:// or https://. Received: {url!r}")
        self._timeout = timeout
        self._model = f"{url.rstrip('/')}/v1/models/{urllib.parse.quote(name, safe='')}"
        if version is not None:
            self._model += f"/versions/{version}"

    def predict(
        self, inputs: Mapping[str, Any] | Any, *, signature_name: str = "serving_default"
    ) -> Any:
        """Inputs by name, with batch axes -> outputs by name; a single output without a name."""
        return self._predict("inputs", "outputs", inputs, signature_name)

    def predict_rows(
        self, instances: Sequence, *, signature_name: str = "serving_default"
    ) -> list[Any]:
        """A list of rows, each a dict of inputs or the single input -> as many rows."""
        return self._predict("instances", "predictions", instances, signature_name)

    def status(self) -> list[dict[str, Any]]:
        """The versions of the model and their states."""
        return self._ask("")["model_version_status"]

    def metadata(self) -> dict[str, Any]:
        """The signatures, in the format of TF Serving."""
        return self._ask("/metadata")["metadata"]["signature_def"]["signature_def"]

    def _predict(self, given, wanted, value, signature_name) -> Any:
        body = {"signature_name": signature_name, given: value}
        return self._ask(":predict", json.dumps(body, default=_plain).encode())[wanted]

    def _ask(self, path, body=None) -> Any:
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self._model + path, body, headers)
        try:
            with urllib.request.urlopen(request, timeout=self._timeout) as response:
                return json.loads(response.read(), object_hook=_bytes)
        except urllib.error.HTTPError as error:
            with error:
                raise ServerError(error.code, _message(error.read())) from None
        except http.client.HTTPException as error:
            raise ConnectionError(f"The server closed the connection: {error!r}") from error
        except (ValueError, RecursionError) as error:
            raise ConnectionError(
                f"Expected JSON of a model server at {self._model}. Received: something else"
            ) from error


def _plain(value) -> Any:
    """Values that `json` cannot write."""
    if isinstance(value, bytes):
        return {"b64": base64.b64encode(value).decode()}
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"Expected lists, str, bytes, numbers or arrays. Received: {type(value)}")


def _bytes(value: dict) -> Any:
    return base64.b64decode(value["b64"]) if value.keys() == {"b64"} else value


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return body.decode("utf-8", "replace").strip()
