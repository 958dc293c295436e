"""JSON values of TF Serving's REST API to arrays and back: bytes are `{"b64": "..."}`."""

import base64
from typing import Any

import numpy as np
import tensorflow as tf

__all__ = ["from_json", "is_bytes", "shown", "to_json"]


def from_json(name: str, value: Any, spec: tf.TensorSpec) -> np.ndarray:
    """Nested lists -> an array of the type and shape of `spec`, strings as bytes.

    Raises ValueError, naming the input, for another type or shape, and for numbers out of range.

    >>> from_json("text", ["hello", {"b64": "/w=="}], tf.TensorSpec([None], tf.string))
    array([b'hello', b'\\xff'], dtype=object)
    """
    leaves = np.array(value, dtype=object)
    flat = leaves.ravel().tolist()
    if any(isinstance(leaf, list) for leaf in flat):
        raise ValueError(f"Expected {name!r} as lists of equal length. Received: {shown(value)}")
    try:
        if spec.dtype == tf.string:
            array = _shaped([_bytes(leaf) for leaf in flat], leaves.shape)
        else:
            array = _numbers(leaves, {type(leaf) for leaf in flat}, spec.dtype)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"Expected {name!r} as {spec.dtype.name}. Received: {shown(value)}, {error}"
        ) from None
    if not spec.shape.is_compatible_with(array.shape):
        shape = str(spec.shape.as_list()).replace("None", "?")
        raise ValueError(f"Expected {name!r} of shape {shape}. Received: {list(array.shape)}")
    return array


def to_json(name: str, array: np.ndarray) -> Any:
    """An array -> nested lists, to be written as JSON.

    Strings are `{"b64": "..."}` if `name` ends in `_bytes`; in other strings, bytes that are not
    UTF-8 become U+FFFD.

    >>> to_json("text", np.array([b"hello", b"\\xff"], object))
    ['hello', '\ufffd']
    """
    if array.dtype == object:
        spell = _base64 if name.endswith("_bytes") else _text
        return _shaped([spell(value) for value in array.ravel()], array.shape).tolist()
    if array.dtype.kind not in "biuf":  # bfloat16 and others are not dtypes of NumPy itself
        array = array.astype(np.float32)
    return array.tolist()


def is_bytes(value: Any) -> bool:
    """Whether this is `{"b64": "..."}`."""
    return isinstance(value, dict) and value.keys() == {"b64"} and isinstance(value["b64"], str)


def shown(value: Any) -> str:
    """The beginning of a value, for a message."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _numbers(leaves, types, dtype) -> np.ndarray:
    if not (dtype.is_bool or dtype.is_floating or dtype.is_integer):
        raise TypeError("which JSON cannot represent")
    allowed = {bool} if dtype.is_bool else {int, float} if dtype.is_floating else {int}
    if types - allowed:
        raise TypeError(f"with {', '.join(sorted(other.__name__ for other in types - allowed))}")
    if not dtype.is_floating:
        return leaves.astype(dtype.as_numpy_dtype)  # OverflowError out of its range
    wide = leaves.astype(np.float64)
    with np.errstate(over="ignore"):
        narrow = wide.astype(dtype.as_numpy_dtype)
    if np.any(np.isfinite(wide) & ~np.isfinite(narrow)):
        raise OverflowError("a number out of range")
    return narrow


def _bytes(leaf) -> bytes:
    if isinstance(leaf, str):
        return leaf.encode()  # ValueError for a lone surrogate
    if is_bytes(leaf):
        return base64.b64decode(leaf["b64"], validate=True)
    raise TypeError(f"with {type(leaf).__name__}")


def _shaped(flat: list, shape) -> np.ndarray:
    array = np.empty(len(flat), dtype=object)
    array[:] = flat
    return array.reshape(shape)


def _base64(value: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(value).decode()}


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")
