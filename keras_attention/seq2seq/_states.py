"""The structure of a state: what it must be, and what to say where it is another."""

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf


def check_state(cell: Any, state: Any, name: str = "initial_state") -> None:
    """ValueError where a state has not the structure that a cell's `state_size` has."""
    sizes = getattr(cell, "state_size", None)
    if sizes is not None:
        check_structure(sizes, state, f"{name} of {type(cell).__name__}", cell)


def check_structure(expected: Any, given: Any, name: str, cell: Any = None) -> None:
    """ValueError where `given` has not the structure of `expected`, a nest of tensors or widths.

    Lists and tuples are the same, and so are one tensor and a list of it. A named tuple must be one
    of the same fields: libraries differ in their order.
    """
    if fits(expected, given):
        return
    advice = []
    if named := _named(expected):
        fields = ", ".join(f"{field}=..." for field in named._fields)
        advice.append(f"Give the parts by name, {type(named).__name__}({fields}).")
        if {"c", "h"} <= set(named._fields):
            advice.append("An LSTM of Keras returns them in the order h, c.")
    elif isinstance(cell, keras.layers.LSTMCell):
        advice.append("The state of an LSTM is [h, c].")
    advice.append("get_initial_state(batch_size=N) of the cell makes one.")
    raise ValueError(
        f"{name} must have the structure {describe(expected)}. Received: {describe(given)}. "
        + " ".join(advice)
    )


def fits(expected: Any, given: Any) -> bool:
    """Whether two nests have one structure; see `check_structure`."""
    if _is_named(expected) or _is_named(given):
        if not (_is_named(expected) and _is_named(given)) or expected._fields != given._fields:
            return False
    if isinstance(expected, Mapping) or isinstance(given, Mapping):
        return len(tf.nest.flatten(expected)) == len(tf.nest.flatten(given))
    if not _is_nested(expected) or not _is_nested(given):
        shape = isinstance(expected, tuple) and expected != () and _are_ints(expected)
        if shape and not _is_nested(given):  # a tuple of sizes may be the shape of one tensor
            return tf.TensorShape(given.shape).rank in (None, len(expected) + 1)
        return len(tf.nest.flatten(expected)) == len(tf.nest.flatten(given)) == 1
    return len(expected) == len(given) and all(map(fits, expected, given))


def describe(nest: Any) -> str:
    """A structure in words: `LSTMStateTuple(c=[2, 4], h=[2, 4])`, `[[N, 4], [N, 4]]`.

    >>> describe([4, tf.zeros([2, 3])])
    '[[N, 4], [2, 3]]'
    """
    if _is_named(nest):
        parts = (f"{field}={describe(part)}" for field, part in nest._asdict().items())
        return f"{type(nest).__name__}({', '.join(parts)})"
    if _is_nested(nest):
        return f"[{', '.join(map(describe, nest))}]"
    if nest is None or isinstance(nest, int):
        return f"[N, {nest or '?'}]"
    if isinstance(nest, tf.TensorShape):
        return f"[N, {', '.join(str(size or '?') for size in nest)}]"
    shape = getattr(nest, "shape", None)
    if shape is None or isinstance(nest, tf.TensorArray):
        return type(nest).__name__
    return f"[{', '.join(str(size or '?') for size in shape)}]"


def _are_ints(sizes) -> bool:
    return all(isinstance(size, int) for size in sizes)


def _is_nested(x) -> bool:
    return isinstance(x, (list, tuple)) and not isinstance(x, tf.TensorShape)


def _is_named(x) -> bool:
    return isinstance(x, tuple) and hasattr(x, "_fields")


def _named(nest):
    """The innermost named tuple that comes first, or None."""
    if not _is_nested(nest):
        return None
    inner = [found for found in map(_named, nest) if found is not None]
    return inner[0] if inner else nest if _is_named(nest) else None
