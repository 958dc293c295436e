"""Scores: how well a query matches each memory slot. Without weights, mask and softmax.

B batch, T queries, S memory slots, D width. Scores are float32 or wider. Shapes that do not fit
raise a ValueError that names the axis.
"""

import keras
import tensorflow as tf

from keras_attention.functional.dtypes import widen
from keras_attention.functional.shapes import check_shapes, extend

_SHORTEST = 1e-6  # a shorter vector has no direction, because of rounding errors


@keras.saving.register_keras_serializable("keras_attention")
def dot(query: tf.Tensor, keys: tf.Tensor) -> tf.Tensor:
    """q·k (Luong et al., 2015, eq. 8).  [B, T, D], [B, S, D] -> [B, T, S].

    >>> dot(tf.constant([[[1.0, 2.0]]]), tf.constant([[[1.0, 0.0], [0.0, 1.0]]])).numpy().tolist()
    [[[1.0, 2.0]]]
    """
    query, keys = widen(query), widen(keys)
    if query.shape.rank == keys.shape.rank == 3:  # others may be broadcast
        check_shapes(query=("B T D", query), keys=("B S D", keys))
    return tf.matmul(query, keys, transpose_b=True)


@keras.saving.register_keras_serializable("keras_attention")
def scaled_dot(query: tf.Tensor, keys: tf.Tensor) -> tf.Tensor:
    """q·k / sqrt(D) (Vaswani et al., 2017, eq. 1).  [B, T, D], [B, S, D] -> [B, T, S].

    >>> scaled_dot(tf.fill([1, 1, 4], 3.0), tf.ones([1, 2, 4])).numpy().tolist()
    [[[6.0, 6.0]]]
    """
    query = widen(query)
    return dot(query * tf.math.rsqrt(tf.cast(tf.shape(query)[-1], query.dtype)), keys)


def general(query: tf.Tensor, keys: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """q·(W k) (Luong et al., 2015, eq. 8).  [B, T, D], [B, S, D'], W [D, D'] -> [B, T, S].

    >>> swap = tf.constant([[0.0, 1.0], [1.0, 0.0]])
    >>> general(tf.constant([[[1.0, 2.0]]]), tf.constant([[[3.0, 0.0]]]), swap).numpy().tolist()
    [[[6.0]]]
    """
    return dot(tf.matmul(widen(query), widen(kernel)), keys)


@keras.saving.register_keras_serializable("keras_attention")
def cosine(query: tf.Tensor, keys: tf.Tensor) -> tf.Tensor:
    """q·k / (|q| |k|) (Graves et al., 2014, eq. 6).  [B, T, D], [B, S, D] -> [B, T, S] in [-1, 1].

    The cosine of a vector shorter than 1e-6 is 0, without a gradient. Content addressing multiplies
    by a sharpness before its softmax (eq. 5).

    >>> query, keys = tf.constant([[[0.0, 5.0]]]), tf.constant([[[0.0, 2.0], [0.0, 0.0]]])
    >>> cosine(query, keys).numpy().round(6).tolist()
    [[[1.0, 0.0]]]
    """
    return dot(_direction(widen(query)), _direction(widen(keys)))


def _direction(x):
    squares = tf.reduce_sum(tf.square(x), -1, keepdims=True)
    has_one = squares > _SHORTEST**2
    # The inner where avoids the infinite slope of rsqrt at 0 in the gradient.
    return tf.where(has_one, x * tf.math.rsqrt(tf.where(has_one, squares, 1.0)), 0.0)


def additive(
    query: tf.Tensor, keys: tf.Tensor, v: tf.Tensor, bias: tf.Tensor | None = None
) -> tf.Tensor:
    """v·tanh(q + k [+ bias]) (Bahdanau et al., 2015, A.1.2).

    [B, T, D], [B, S, D], [D], [D] -> [B, T, S].

    >>> query, keys = tf.zeros([1, 1, 2]), tf.constant([[[100.0, 100.0], [-100.0, 0.0]]])
    >>> additive(query, keys, v=tf.constant([0.5, -0.25])).numpy().tolist()
    [[[0.25, -0.5]]]
    """
    query, keys, v = widen(query), widen(keys), widen(v)
    check_shapes(query=("B T D", query), keys=("B S D", keys), v=("D", v), bias=("D", bias))
    if bias is not None:
        query += widen(bias)
    # The gradient of expand_dims is a reshape; that of indexing with None fills a new tensor.
    hidden = tf.tanh(tf.expand_dims(query, 2) + tf.expand_dims(keys, 1))  # [B, T, S, D]
    # Like tensordot, whose gradient for unknown shapes XLA does not support.
    flat = tf.matmul(tf.reshape(hidden, [-1, v.shape[0]]), tf.expand_dims(v, 1))
    scores = tf.reshape(flat, tf.shape(hidden)[:3])
    scores.set_shape(hidden.shape[:3])
    return scores


def concat(query: tf.Tensor, keys: tf.Tensor, kernel: tf.Tensor, v: tf.Tensor) -> tf.Tensor:
    """v·tanh(W [q; k]) (Luong et al., 2015, eq. 8): `additive` with the two halves of W.

    [B, T, D], [B, S, D'], W as a Dense layer keeps it [D + D', U], [U] -> [B, T, S].

    >>> kernel = tf.constant([[1.0], [100.0]])
    >>> query, keys = tf.zeros([1, 1, 1]), tf.constant([[[1.0], [-1.0]]])
    >>> concat(query, keys, kernel, v=tf.constant([3.0])).numpy().tolist()
    [[[3.0, -3.0]]]
    """
    check_shapes(
        query=("B T D", query), keys=("B S D'", keys), kernel=("D+D' U", kernel), v=("U", v)
    )
    if kernel.shape[0] != query.shape[-1] + keys.shape[-1]:
        raise ValueError(
            "kernel must be [D + D', U]. Received: kernel of shape "
            f"{kernel.shape}, query of D={query.shape[-1]}, keys of D'={keys.shape[-1]}"
        )
    of_query, of_keys = tf.split(widen(kernel), [query.shape[-1], keys.shape[-1]])
    return additive(tf.matmul(widen(query), of_query), tf.matmul(widen(keys), of_keys), v)


def location(query: tf.Tensor, kernel: tf.Tensor, steps: int | tf.Tensor) -> tf.Tensor:
    """W q: scores by position, independent of the memory (Luong et al., 2015, 3.1).

    [B, T, D], W [D, S_max], S -> [B, T, S]. A shorter source uses the first S scores. For a longer
    one, positions from S_max on get the lowest number, which is below the score of masked slots:
    they get no weight, and a row without other visible slots is all zeros.

    >>> scores = location(tf.ones([1, 1, 1]), tf.constant([[4.0, 5.0]]), steps=3)
    >>> tf.nn.softmax(scores).numpy().round(3).tolist()
    [[[0.26899999380111694, 0.7310000061988831, 0.0]]]
    """
    check_shapes(query=("B T D", query), kernel=("D S_max", kernel))
    scores = tf.matmul(widen(query), widen(kernel))  # [B, T, S_max]
    beyond = tf.maximum(steps - tf.shape(scores)[-1], 0)
    return extend(scores[..., :steps], 2, beyond, scores.dtype.min)


def biaffine(query: tf.Tensor, keys: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """[q; 1]·L [k; 1] (Verga et al., 2018): a bilinear form, two linear ones, a bias.

    [B, T, D], [B, S, D'], L [D + 1, D' + 1] -> [B, T, S]; or R relations at once,
    L [R, D + 1, D' + 1] -> [B, R, T, S], with R in place of heads.

    >>> kernel = tf.constant([[2.0, 10.0], [100.0, 1000.0]])
    >>> biaffine(tf.constant([[[3.0]]]), tf.constant([[[5.0]]]), kernel).numpy().tolist()
    [[[1560.0]]]
    """
    query, keys, kernel = _with_one(widen(query)), _with_one(widen(keys)), widen(kernel)
    check_shapes(
        query=("B T D+1", query),
        keys=("B S D'+1", keys),
        kernel=("D+1 D'+1" if kernel.shape.rank == 2 else "R D+1 D'+1", kernel),
    )
    if kernel.shape.rank == 3:
        query, keys = tf.expand_dims(query, 1), tf.expand_dims(keys, 1)
    return tf.matmul(tf.matmul(query, kernel), keys, transpose_b=True)


def _with_one(x):
    return tf.concat([x, tf.ones_like(x[..., :1])], -1)
