"""Scores and normalisers of non-local networks (Wang et al., 2018, section 3.2)."""

import keras
import tensorflow as tf

from keras_attention.functional.dtypes import widen


def concatenation(query: tf.Tensor, keys: tf.Tensor, w: tf.Tensor) -> tf.Tensor:
    """relu(w·[q; k]) (Wang et al., 2018, eq. 5).  [B, T, D], [B, S, D'], [D+D'] -> [B, T, S].

    >>> w = tf.constant([1.0, 2.0])
    >>> concatenation(tf.constant([[[1.0]]]), tf.constant([[[3.0], [-3.0]]]), w).numpy().tolist()
    [[[7.0, 0.0]]]
    """
    query, keys, w = widen(query), widen(keys), widen(w)
    split = query.shape[-1]
    of_query = tf.matmul(query, w[:split, None])  # [B, T, 1]
    of_keys = tf.matmul(keys, w[split:, None])  # [B, S, 1]
    return tf.nn.relu(of_query + tf.linalg.matrix_transpose(of_keys))


@keras.saving.register_keras_serializable("keras_attention")
def average(scores: tf.Tensor, mask: tf.Tensor | None = None) -> tf.Tensor:
    """score / number of visible slots, C(x) = N of eq. 4 and 5.  [..., S] -> [..., S].

    Unlike softmax weights they may be negative, and sum to the mean score.

    >>> average(tf.constant([[2.0, 4.0, 9.0]]), tf.constant([[True, True, False]])).numpy().tolist()
    [[1.0, 2.0, 0.0]]
    """
    scores = widen(scores)
    seen = tf.ones_like(scores, tf.bool)
    if mask is not None:
        seen = tf.broadcast_to(mask, tf.shape(scores))
    count = tf.reduce_sum(tf.cast(seen, scores.dtype), -1, keepdims=True)
    return tf.where(seen, scores / tf.maximum(count, 1.0), 0.0)
