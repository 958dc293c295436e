"""Arrays that a cell grows by one entry a step, also where arrays cannot grow."""

import contextlib
import contextvars
from typing import Any

import tensorflow as tf

from keras_attention.backend.keras import in_xla

_step: contextvars.ContextVar[Any] = contextvars.ContextVar("step", default=None)


def new(dtype: Any, shape: Any) -> tf.TensorArray:
    """An empty array of entries of this shape."""
    return tf.TensorArray(
        dtype, size=0, dynamic_size=True, clear_after_read=False, element_shape=shape
    )


def append(array: tf.TensorArray, entry: tf.Tensor) -> tf.TensorArray:
    """Write behind the last entry. XLA's arrays have no last entry: there the loop says where."""
    if not in_xla():
        return array.write(array.size(), entry)
    if _step.get() is None:
        raise ValueError(
            "alignment_history=True grows an array at every step, which XLA cannot do outside of "
            "dynamic_decode. Decode with a decoder and maximum_iterations, read the alignments of "
            "every state, or do without jit_compile. Received: a call of the cell in XLA."
        )
    return array.write(_step.get(), entry)


@contextlib.contextmanager
def at_step(time: tf.Tensor):
    """Within: what is appended belongs to this step of a loop."""
    token = _step.set(time)
    try:
        yield
    finally:
        _step.reset(token)


def stacked(state: Any) -> Any:
    """The state with its arrays as tensors [T, ...]: what Keras can hand on."""
    is_array = lambda leaf: isinstance(leaf, tf.TensorArray)  # noqa: E731
    return tf.nest.map_structure(lambda leaf: leaf.stack() if is_array(leaf) else leaf, state)


def with_room(state: Any, steps: tf.Tensor) -> Any:
    """The state with its (empty) arrays as large as they will get."""

    def enlarge(leaf):
        if not isinstance(leaf, tf.TensorArray):
            return leaf
        return tf.TensorArray(leaf.dtype, size=steps, element_shape=leaf.element_shape)

    return tf.nest.map_structure(enlarge, state)
