"""Scores: how well a query fits each memory slot. No weights of their own, no mask, no softmax.

B batch, T queries, S memory slots, D width. Scores are float32 or wider.
"""

import tensorflow as tf

from keras_attention.functional.dtypes import widen


def dot(query: tf.Tensor, keys: tf.Tensor) -> tf.Tensor:
    """q·k (Luong et al., 2015, eq. 8).  [B, T, D], [B, S, D] -> [B, T, S].

    >>> dot(tf.constant([[[1.0, 2.0]]]), tf.constant([[[1.0, 0.0], [0.0, 1.0]]])).numpy().tolist()
    [[[1.0, 2.0]]]
    """
    return tf.matmul(widen(query), widen(keys), transpose_b=True)


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
    if bias is not None:
        query += widen(bias)
    # The gradient of expand_dims is a reshape, that of indexing with None fills a new tensor.
    hidden = tf.tanh(tf.expand_dims(query, 2) + tf.expand_dims(keys, 1))  # [B, T, S, D]
    # What tensordot does; its gradient for unknown shapes is beyond XLA.
    flat = tf.matmul(tf.reshape(hidden, [-1, v.shape[0]]), tf.expand_dims(v, 1))
    scores = tf.reshape(flat, tf.shape(hidden)[:3])
    scores.set_shape(hidden.shape[:3])
    return scores
