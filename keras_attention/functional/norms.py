"""Layer normalization with its gradient by hand."""

from typing import Any

import tensorflow as tf

from keras_attention.backend.keras import in_xla
from keras_attention.functional.shapes import sizes


def layer_norm(x: tf.Tensor, scale: Any, shift: Any, epsilon: float = 1e-6) -> tf.Tensor:
    """Normalize vectors to mean 0 and variance 1, then scale and shift them (Ba et al., 2016).

        n = (x - mean(x)) / sqrt(variance(x) + epsilon)        y = scale * n + shift

    x [..., D], scale [D], shift [D] -> [..., D], all of one dtype. The gradient keeps n and the
    root only, and outside of XLA, which fuses reductions, sums by matrix products:

        dx = (scale * dy - mean(scale * dy) - n * mean(scale * dy * n)) / root

    >>> layer_norm(tf.constant([[1.0, 3.0]]), tf.ones([2]), tf.zeros([2])).numpy().round(3).tolist()
    [[-1.0, 1.0]]
    """
    width = sizes(x)[-1]

    @tf.custom_gradient
    def normalized(x, scale, shift):
        centred = x - tf.reduce_mean(x, -1, keepdims=True)
        variance = tf.reduce_mean(tf.square(centred), -1, keepdims=True)
        inverse = tf.math.rsqrt(variance + tf.constant(epsilon, x.dtype))
        n = centred * inverse

        def gradient(dy):
            product = dy * n
            share = (scale / tf.cast(width, scale.dtype))[:, None]
            sums, over_rows = (_reduced, _reduced_rows) if in_xla() else (_times, _summed)
            mean, slope = sums(dy, share), sums(product, share)
            dx = (dy * scale - (n * slope + mean)) * inverse
            return dx, over_rows(product, width), over_rows(dy, width)

        return n * scale + shift, gradient

    return normalized(x, tf.convert_to_tensor(scale), tf.convert_to_tensor(shift))


def _times(x, column):
    """[..., D], [D, 1] -> [..., 1]."""
    flat = tf.matmul(tf.reshape(x, [-1, tf.shape(column)[0]]), column)
    return tf.reshape(flat, tf.concat([tf.shape(x)[:-1], [1]], 0))


def _summed(x, width):
    """[..., D] -> [D]."""
    rows = tf.reshape(x, [-1, width])
    return tf.matmul(tf.ones([1, tf.shape(rows)[0]], x.dtype), rows)[0]


def _reduced(x, column):
    """[..., D], [D, 1] -> [..., 1]."""
    return tf.reduce_sum(x * column[:, 0], -1, keepdims=True)


def _reduced_rows(x, width):
    """[..., D] -> [D]."""
    return tf.reduce_sum(tf.reshape(x, [-1, width]), 0)
