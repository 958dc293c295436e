"""Precision: scores, softmax and log-probabilities are computed in float32 or wider."""

import tensorflow as tf


def widen(x: tf.Tensor) -> tf.Tensor:
    """Cast `x` to float32 if its dtype is narrower.

    >>> widen(tf.constant([1.0], tf.float16)).dtype.name
    'float32'
    >>> widen(tf.constant([1.0], tf.float64)).dtype.name
    'float64'
    """
    x = tf.convert_to_tensor(x)
    return tf.cast(x, tf.float32) if x.dtype.size < 4 else x
