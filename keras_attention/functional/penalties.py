"""Penalties on attention weights."""

import tensorflow as tf

from keras_attention.functional.dtypes import widen
from keras_attention.functional.shapes import check_shapes


def redundancy(weights: tf.Tensor) -> tf.Tensor:
    """||A A^T - I||_F^2: 0 if H rows of weights attend to H different slots.

    [B, H, S] -> [B], float32 or wider (Lin et al., 2017, eq. 8). 0 only if every row is one-hot
    and no two are the same.
    and no two are the same.

    >>> float(redundancy(tf.constant([[[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]]))[0])
    0.0
    """
    weights = widen(weights)
    check_shapes(weights=("B H S", weights))
    overlaps = tf.matmul(weights, weights, transpose_b=True)  # [B, H, H]
    identity = tf.eye(tf.shape(weights)[1], dtype=weights.dtype)
    return tf.reduce_sum(tf.square(overlaps - identity), [1, 2])
