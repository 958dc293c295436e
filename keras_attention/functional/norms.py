"""Layer normalization with its gradient by hand."""

from typing import Any

import tensorflow as tf

from keras_attention.functional.shapes import sizes


def layer_norm(x: tf.Tensor, scale: Any, shift: Any, epsilon: float = 1e-6) -> tf.Tensor:
    """Normalize vectors to mean 0 and variance 1, then scale and shift them (Ba et al., 2016).

        n = (x - mean(x)) / sqrt(variance(x) + epsilon)        y = scale * n + shift

    x [..., D], scale [D], shift [D] -> [..., D], all of one dtype. The gradient keeps n and the
    root only, and sums by matrix products, which is faster on a CPU than reductions:

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
            mean, slope = _times(dy, share), _times(product, share)
            dx = (dy * scale - (n * slope + mean)) * inverse
            return dx, _summed(product, width), _summed(dy, width)

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
