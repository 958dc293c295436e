"""A projected memory, and the weighted sum of values that ends every attention."""

from typing import Any, NamedTuple

import tensorflow as tf

from keras_attention.backend.keras import as_converted
from keras_attention.functional.masks import visible_slots, zero_masked
from keras_attention.functional.normalizers import softmax
from keras_attention.functional.shapes import check_shapes


class Memory(NamedTuple):
    """A projected memory, computed once per source and passed to every call.

    >>> memory = Memory(keys=tf.ones([1, 3, 4]), values=tf.ones([1, 3, 2]), mask=None)
    >>> memory.values.shape
    TensorShape([1, 3, 2])
    """

    keys: Any  # [B, S, D]
    values: Any  # [B, S, D']
    mask: Any  # [B, S] bool, True = visible


def attend(scores, values, mask=None, normalize=softmax) -> tuple[tf.Tensor, tf.Tensor]:
    """Normalise the scores and sum the values by them.

    scores [B, T, S], values [B, S, D], mask broadcastable to [B, T, S]
    -> context [B, T, D], weights [B, T, S]. Values that no query attends to add nothing, even if
    they are NaN. Raises ValueError for shapes that do not fit.

    >>> context, weights = attend(tf.zeros([1, 1, 2]), tf.constant([[[1.0], [3.0]]]))
    >>> float(context[0, 0, 0])
    2.0
    """
    values = tf.convert_to_tensor(values)
    if values.shape.rank == 3:  # others may be broadcast
        check_shapes(scores=("B T S", scores), values=("B S D'", values), mask=("B? T? S?", mask))
    weights = tf.cast(as_converted(normalize)(scores, mask), values.dtype)
    return tf.matmul(weights, zero_masked(values, visible_slots(mask))), weights
