"""Arrays that grow by one entry at each step, with a fixed size where XLA needs one."""

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
    """Append an entry. In XLA an array does not know its length: the loop sets the index."""
    if not in_xla():
        return array.write(array.size(), entry)
    if _step.get() is None:
        raise ValueError(
            "alignment_history=True grows an array at every step, which XLA supports only in "
            "dynamic_decode. Use a decoder with maximum_iterations, read the alignments of every "
            "state, or leave out jit_compile. Received: a call of the cell in XLA."
        )
    return array.write(_step.get(), entry)


@contextlib.contextmanager
def at_step(time: tf.Tensor):
    """Within: entries are written at this step of a loop."""
    token = _step.set(time)
    try:
        yield
    finally:
        _step.reset(token)


def stacked(state: Any) -> Any:
    """The state with its arrays as tensors [T, ...], which Keras can return."""
    is_array = lambda leaf: isinstance(leaf, tf.TensorArray)  # noqa: E731
    return tf.nest.map_structure(lambda leaf: leaf.stack() if is_array(leaf) else leaf, state)


def preallocated(state: Any, steps: tf.Tensor) -> Any:
    """The state with its (empty) arrays allocated for all steps."""

    def enlarge(leaf):
        if not isinstance(leaf, tf.TensorArray):
            return leaf
        return tf.TensorArray(leaf.dtype, size=steps, element_shape=leaf.element_shape)

    return tf.nest.map_structure(enlarge, state)
