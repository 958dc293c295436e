"""What the cells that hold a cell share."""

from typing import Any

import tensorflow as tf


def without_dropout(cell: Any, name: str = "cell") -> Any:
    """The cell, if its step is the same at every step.

    Keras draws a cell's dropout mask at its first step, which here lies inside of a loop.
    """
    cells = getattr(cell, "cells", None) or [cell]
    if any(getattr(c, "dropout", 0) or getattr(c, "recurrent_dropout", 0) for c in cells):
        raise ValueError(
            f"{name} must be a Keras RNN cell without dropout: put a keras.layers.Dropout before "
            f"or after the RNN instead. Received: {name}={cell!r} with dropout"
        )
    if not hasattr(cell, "state_size") or not hasattr(cell, "output_size"):
        raise ValueError(
            f"{name} must be a Keras RNN cell, with a state_size and an output_size. Received: "
            f"{name}={cell!r}"
        )
    return cell


def begin(cell: Any, batch_size: Any, dtype: Any) -> Any:
    """The state of a cell before its first step, N rows of one type."""
    state = cell.get_initial_state(batch_size=batch_size)
    return tf.nest.map_structure(lambda leaf: tf.cast(leaf, dtype), state)


def push(tape: tf.Tensor, newest: tf.Tensor) -> tf.Tensor:
    """The tape one step on: its oldest slot goes, the newest comes last.  [N, M, ...], [N, ...]."""
    return tf.concat([tape[:, 1:], tf.cast(tf.expand_dims(newest, 1), tape.dtype)], 1)
