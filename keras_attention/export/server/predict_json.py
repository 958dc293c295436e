"""Requests and replies of `:predict`, in rows or in columns, in the format of TF Serving.

Rows are `{"instances": [...]}`, answered by `{"predictions": [...]}`; columns are
`{"inputs": ...}`, answered by `{"outputs": ...}`.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from keras_attention.export.server.tensor_json import from_json, is_bytes, shown, to_json

__all__ = ["decode", "encode", "parse"]


def parse(body: bytes) -> dict[str, Any]:
    """The JSON object of a body, which may have NaN and Infinity. Raises ValueError."""
    try:
        request = json.loads(body)
    except RecursionError:
        raise ValueError("Expected JSON. Received: lists that are nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"Expected JSON. Received: {shown(body)}, {error}") from None
    if not isinstance(request, dict):
        raise ValueError(f"Expected a JSON object. Received: {shown(request)}")
    return request


def decode(
    request: Mapping[str, Any], inputs: Mapping[str, tf.TensorSpec]
) -> tuple[dict[str, np.ndarray], bool]:
    """A request -> its arrays by name, and whether it has rows.

    A single input needs no name. A scalar can be sent in columns only.
    Raises ValueError for missing, unknown and invalid inputs.

    >>> text = {"text": tf.TensorSpec([None], tf.string)}
    >>> decode({"instances": ["hello", {"text": "you"}][:1]}, text)
    ({'text': array([b'hello'], dtype=object)}, True)
    """
    in_rows = "instances" in request
    if in_rows == ("inputs" in request):
        raise ValueError(
            "Expected either `instances` (rows) or `inputs` (columns). Received: an object of "
            f"{sorted(request)}"
        )
    if in_rows:
        scalars = sorted(name for name, spec in inputs.items() if spec.shape.rank == 0)
        if scalars:
            raise ValueError(
                f"Expected `inputs` (columns), because {scalars} are scalars. Received: `instances`"
            )
        columns = _columns(request["instances"], inputs)
    else:
        columns = _named(request["inputs"], inputs)
    return {name: from_json(name, columns[name], spec) for name, spec in inputs.items()}, in_rows


def encode(outputs: Mapping[str, np.ndarray], in_rows: bool) -> Iterator[str]:
    """Arrays by name -> the JSON of the reply, row by row; a single output has no name.

    Raises ValueError if outputs have different numbers of rows.

    >>> "".join(encode({"length": np.array([5, 1]), "ok": np.array([True, False])}, in_rows=True))
    '{"predictions": [{"length": 5, "ok": true}, {"length": 1, "ok": false}]}'
    >>> "".join(encode({"length": np.array([5, 1])}, in_rows=False))
    '{"outputs": [5, 1]}'
    """
    counts = {array.shape[:1] for array in outputs.values()}
    if in_rows and (len(counts) > 1 or () in counts):
        shapes = {name: list(array.shape) for name, array in outputs.items()}
        raise ValueError(f"The outputs have no common rows: {shapes}. Use `inputs` (columns).")
    one = len(outputs) == 1
    if in_rows:
        rows = zip(*(_cells(name, array) for name, array in outputs.items()))
        yield '{"predictions": '
        yield from _list(row[0] if one else _object(outputs, row) for row in rows)
        yield "}"
        return
    yield '{"outputs": ' if one else '{"outputs": {'
    for place, (name, array) in enumerate(outputs.items()):
        if not one:
            yield f"{', ' if place else ''}{json.dumps(name)}: "
        yield from _list(_cells(name, array)) if array.ndim else [_json(to_json(name, array))]
    yield "}" if one else "}}"


def _cells(name, array) -> Iterator[str]:
    return (_json(to_json(name, array[i : i + 1])[0]) for i in range(len(array)))


def _list(items) -> Iterator[str]:
    yield "["
    for place, item in enumerate(items):
        yield f", {item}" if place else item
    yield "]"


def _object(names, values) -> str:
    return f"{{{', '.join(f'{json.dumps(name)}: {value}' for name, value in zip(names, values))}}}"


def _json(value) -> str:
    # NaN and infinities are written as in Python, TF Serving and JavaScript.
    return json.dumps(value, ensure_ascii=False)


def _columns(rows, inputs) -> dict[str, list]:
    if not isinstance(rows, list) or not rows:
        raise ValueError(f"Expected `instances` to be a list of rows. Received: {shown(rows)}")
    have_names = {_has_names(row) for row in rows}
    if len(have_names) == 2:
        raise ValueError(f"Expected all rows with names, or none. Received: {shown(rows)}")
    if not have_names.pop():
        return _named(rows, inputs)
    named = [_named(row, inputs) for row in rows]
    return {name: [row[name] for row in named] for name in inputs}


def _named(value, inputs) -> dict[str, Any]:
    """A dict of inputs, also for a single one without a name."""
    if not _has_names(value):
        if len(inputs) != 1:
            raise ValueError(f"Expected the inputs {sorted(inputs)}. Received: {shown(value)}")
        return {next(iter(inputs)): value}
    if value.keys() != inputs.keys():
        raise ValueError(f"Expected the inputs {sorted(inputs)}. Received: {sorted(value)}")
    return value


def _has_names(value) -> bool:
    return isinstance(value, dict) and not is_bytes(value)
