"""Check structure, shapes and dtypes of a state against those that a cell expects."""

from collections.abc import Iterator, Mapping
from typing import Any

import keras
import tensorflow as tf

from keras_attention.backend.cells import takes, zero_state


def check_state(
    cell: Any, state: Any, name: str = "initial_state", rows: Any = None, beam_width: Any = None
) -> None:
    """ValueError if a state differs from a cell's `state_size` in structure or static shape.

    rows: N, if it is a number; beam_width: K of a beam search, which N includes.
    """
    sizes = getattr(cell, "state_size", None)
    if sizes is not None:
        name = f"{name} of {type(cell).__name__}"
        check_structure(sizes, state, name, cell)
        check_shapes(sizes, state, name, rows, beam_width)


def check_shapes(
    sizes: Any, state: Any, name: str, rows: Any = None, beam_width: Any = None
) -> None:
    """ValueError if a tensor of a state is not [rows, *size]; unknown sizes fit any."""
    rows = rows if isinstance(rows, int) else None
    for size, leaf in _leaves(sizes, state):
        shape = _shape(leaf)
        if shape.rank is None or not _is_size(size):
            continue
        size = tf.TensorShape([None] if size is None else size)
        counter = shape.rank == size.rank == 0  # one number for all rows, such as a time
        if counter or (shape.rank > 0 and shape.is_compatible_with([rows, *size])):
            continue
        expected = [rows or "N", *(size if size.rank is not None else ["..."])]
        advice = "Is it the state of another cell? get_initial_state(batch_size=N) creates one."
        if shape.rank > 0 and shape[1:].is_compatible_with(size):
            advice = "A state has one row for each sequence of the batch."
            if beam_width is not None:
                advice = (
                    f"A beam search has beam_width={beam_width} rows for each source: apply "
                    "tile_batch(state, beam_width)."
                )
        raise ValueError(
            f"{name} must have the shape [{', '.join(str(n or '?') for n in expected)}]"
            f"{_within(sizes)}. Received: {describe(leaf)}{_within(state)}. {advice}"
        )


def check_dtypes(cell: Any, state: Any, name: str = "initial_state") -> None:
    """ValueError if a state is integer and the cell's is floating, or the reverse.

    Floats of another width are cast by the layers, as everywhere in Keras.
    """
    expected = _initial_dtypes(cell)
    leaves = [leaf for leaf in tf.nest.flatten(state) if hasattr(leaf, "dtype")]
    if expected is None or len(expected) != len(leaves):
        return
    for dtype, leaf in zip(expected, leaves):
        if not isinstance(leaf, tf.TensorArray):
            check_dtype(dtype, leaf, f"{name} of {type(cell).__name__}", _within(state))


def check_dtype(expected: Any, leaf: Any, name: str, within: str = "") -> None:
    """ValueError if a tensor is neither of the dtype nor, for a floating dtype, floating."""
    expected, given = tf.as_dtype(expected), tf.as_dtype(leaf.dtype)
    if given != expected and not (given.is_floating and expected.is_floating):
        raise ValueError(
            f"{name} must be of type {expected.name}. Received: {given.name}, "
            f"{describe(leaf)}{within}. Cast it with tf.cast."
        )


def is_floating(state: Any) -> bool:
    """Whether all tensors of a state are floating."""
    leaves = tf.nest.flatten(state)
    return all(tf.as_dtype(leaf.dtype).is_floating for leaf in leaves if hasattr(leaf, "dtype"))


def count_rows(state: Any, rows: Any, name: str, beam_width: Any = None) -> Any:
    """The same state; in a graph with an unknown number of rows, assert it once."""
    message = f"{name} must have one row for each sequence of the batch."
    if beam_width is not None:
        message = (
            f"{name} must have beam_width rows for each source: apply tile_batch(state, "
            "beam_width)."
        )

    def counted(leaf):
        shape = _shape(leaf)
        if not shape.rank or (shape[0] is not None and isinstance(rows, int)):
            return leaf  # see `check_shapes`
        if not tf.is_tensor(leaf):
            return leaf  # in a functional model under construction
        same = tf.debugging.assert_equal(tf.shape(leaf)[0], rows, message=message)
        with tf.control_dependencies([] if same is None else [same]):
            return tf.identity(leaf)

    return tf.nest.map_structure(counted, state)


def row_count(nest: Any) -> Any:
    """N of a nest of tensors [N, ...]: a number, or a tensor if it is not static.

    None for the symbolic tensors of a functional model under construction.
    """
    first = tf.nest.flatten(nest)[0]
    known = tf.TensorShape(first.shape)[0]
    return tf.shape(first)[0] if known is None and tf.is_tensor(first) else known


def _initial_dtypes(cell: Any) -> list[tf.DType] | None:
    """The dtypes of a cell's initial state, or None if it cannot be made without a memory.

    Traced, not run: an initial state may be random, and a draw advances a seed.
    """
    if not hasattr(cell, "state_size") or takes(getattr(cell, "get_initial_state", id), "memory"):
        return None
    dtype = tf.as_dtype(getattr(cell, "compute_dtype", None) or keras.backend.floatx())
    plain = (keras.layers.GRUCell, keras.layers.LSTMCell, keras.layers.SimpleRNNCell)
    if all(isinstance(part, plain) for part in getattr(cell, "cells", [cell])):
        return [dtype] * len(tf.nest.flatten(cell.state_size))
    with tf.__internal__.FuncGraph("initial_state").as_default():
        state = zero_state(cell, 1, dtype)
    return [leaf.dtype for leaf in tf.nest.flatten(state)]


def _leaves(sizes: Any, state: Any) -> Iterator[tuple[Any, Any]]:
    """Pairs of (size, tensor) of two nests of the same structure, see `fits`."""
    if _is_nested(sizes) and _is_nested(state):
        for size, part in zip(sizes, state):
            yield from _leaves(size, part)
    elif _is_nested(sizes) and _are_ints(sizes) and hasattr(state, "shape") and len(sizes) > 1:
        yield sizes, state
    else:
        yield from zip(tf.nest.flatten(sizes), tf.nest.flatten(state))


def _is_size(size: Any) -> bool:
    return (
        size is None
        or isinstance(size, (int, tf.TensorShape))
        or (_is_nested(size) and _are_ints(size))
    )


def _shape(leaf: Any) -> tf.TensorShape:
    """The static shape of a tensor; an unknown shape for anything else."""
    known = hasattr(leaf, "dtype") and not isinstance(leaf, tf.TensorArray)
    return tf.TensorShape(leaf.shape if known else None)


def _within(nest: Any) -> str:
    """`, a part of [[N, 4], [N, 4]]`; nothing for a single tensor."""
    return f", a part of {describe(nest)}" if len(tf.nest.flatten(nest)) > 1 else ""


def check_structure(expected: Any, given: Any, name: str, cell: Any = None) -> None:
    """ValueError if `given` has another structure than `expected`, a nest of tensors or widths.

    Lists and tuples are equivalent, and so are a tensor and a list of one. A named tuple must have
    the same fields, because libraries differ in their order.
    """
    if fits(expected, given):
        return
    advice = []
    if named := _named(expected):
        fields = ", ".join(f"{field}=..." for field in named._fields)
        advice.append(f"Pass the parts by name, {type(named).__name__}({fields}).")
        if {"c", "h"} <= set(named._fields):
            advice.append("An LSTM of Keras returns them in the order h, c.")
    elif isinstance(cell, keras.layers.LSTMCell):
        advice.append("The state of an LSTM is [h, c].")
    advice.append("get_initial_state(batch_size=N) of the cell creates one.")
    raise ValueError(
        f"{name} must have the structure {describe(expected)}. Received: {describe(given)}. "
        + " ".join(advice)
    )


def fits(expected: Any, given: Any) -> bool:
    """Whether two nests have the same structure; see `check_structure`."""
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
    """A structure as text: `LSTMStateTuple(c=[2, 4], h=[2, 4])`, `[[N, 4], [N, 4]]`.

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
    """The first innermost named tuple, or None."""
    if not _is_nested(nest):
        return None
    inner = [found for found in map(_named, nest) if found is not None]
    return inner[0] if inner else nest if _is_named(nest) else None
