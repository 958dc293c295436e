"""Helpers for RNN cells: checks, widths, initial states, one step."""

import inspect
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf


def without_dropout(cell: Any, name: str = "cell") -> Any:
    """The cell, if it has no dropout.

    Keras draws a cell's dropout mask at its first step, which here is inside of a loop.
    """
    cells = getattr(cell, "cells", None) or [cell]
    if any(getattr(c, "dropout", 0) or getattr(c, "recurrent_dropout", 0) for c in cells):
        raise ValueError(
            f"{name} must be a Keras RNN cell without dropout: put a keras.layers.Dropout before "
            f"or after the RNN instead. Received: {name}={cell!r} with dropout"
        )
    if not hasattr(cell, "state_size"):
        raise ValueError(
            f"{name} must be a Keras RNN cell, with a state_size. Received: {name}={cell!r}"
        )
    return cell


def check_cell(cell: Any, needs_state_size: bool = False) -> None:
    """Raise TypeError for an object that cannot be a cell."""
    of_sequences = isinstance(cell, keras.layers.RNN)
    kind = type(cell)
    has_size = any(hasattr(kind, n) or hasattr(cell, n) for n in ("state_size", "output_size"))
    is_cell = callable(cell) and not of_sequences
    if isinstance(cell, keras.layers.Layer):
        is_cell &= has_size
    if not is_cell or (needs_state_size and not hasattr(cell, "state_size")):
        what = "a layer over sequences; give its cell" if of_sequences else "without state_size"
        raise TypeError(
            "cell must be an RNN cell, such as keras.layers.LSTMCell: (inputs, state) -> (output, "
            f"state), with state_size. Received: {kind.__name__}, "
            f"{what if callable(cell) else 'which cannot be called'}"
        )


def output_width(cell: Any) -> Any:
    """The width of a cell's output: its `output_size`, or else the width of its first state.

    `keras.layers.RNN` of Keras 2 does the same for a cell without `output_size`. None if the cell
    has no `state_size`, either.
    """
    size = getattr(cell, "output_size", None)
    if size is None:
        sizes = tf.nest.flatten(getattr(cell, "state_size", None))
        size = sizes[0] if sizes else None
        if isinstance(size, tf.TensorShape) and size.rank == 1:
            size = size[0]
    return size


def zero_state(cell: Any, batch_size: Any, dtype: Any) -> Any:
    """The initial state of a cell, for N rows.

    Floating states have one dtype; integers and booleans keep theirs. A cell without
    `get_initial_state` starts with zeros of its `state_size`, in a list if that is one number, as
    in `keras.layers.RNN`.
    """
    make_state = getattr(cell, "get_initial_state", None)
    if make_state is None:
        sizes = cell.state_size if tf.nest.is_nested(cell.state_size) else [cell.state_size]
        return tf.nest.map_structure(lambda size: _zeros(batch_size, size, dtype), sizes)
    options = {"dtype": dtype} if takes(make_state, "dtype") else {}
    state = make_state(batch_size=batch_size, **options)
    floating = tf.nest.map_structure(
        lambda leaf: not isinstance(leaf, tf.TensorArray) and tf.as_dtype(leaf.dtype).is_floating,
        state,
    )
    return tf.nest.map_structure(
        lambda leaf, cast: tf.cast(leaf, dtype) if cast else leaf, state, floating
    )


def _zeros(batch_size, size, dtype):
    shape = tf.TensorShape(size)
    zeros = tf.zeros(tf.concat([[batch_size], shape], 0), dtype)
    zeros.set_shape([tf.get_static_value(batch_size), *shape])
    return zeros


def step(cell: Any, inputs: Any, state: Any, training: Any = None, **arguments) -> Any:
    """One step of any cell: a layer, an object or a function, with or without `training`."""
    is_layer = isinstance(cell, keras.layers.Layer)
    keras_filters = is_layer and hasattr(keras, "Operation")  # Keras 3
    takes_training = keras_filters or takes(cell.call if is_layer else cell, "training")
    # A subclass may define its own `__call__`.
    if takes_training and (not is_layer or takes(type(cell).__call__, "training")):
        arguments["training"] = training
    return cell(inputs, state, **arguments)


def takes(function: Callable, name: str) -> bool:
    """Whether a function has an argument of this name, or **kwargs."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # a function that is not written in Python
        return False
    return name in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def push(tape: tf.Tensor, newest: tf.Tensor) -> tf.Tensor:
    """Remove the oldest slot of a tape and append the newest.  [N, M, ...], [N, ...]."""
    return tf.concat([tape[:, 1:], tf.cast(tf.expand_dims(newest, 1), tape.dtype)], 1)
