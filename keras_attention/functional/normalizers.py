"""Normalisers: scores over memory slots become weights over memory slots.

Each is `(scores, mask) -> weights`, [..., S] in and out, float32 or wider. The mask is boolean,
True = may look; a row that may see nothing is all zeros.
"""

import keras
import tensorflow as tf

from keras_attention.functional.dtypes import widen


def _masked(scores: tf.Tensor, mask: tf.Tensor | None) -> tf.Tensor:
    """Half of the lowest number stands for "never": finite, so that an empty row has a gradient."""
    return scores if mask is None else tf.where(mask, scores, scores.dtype.min / 2)


@keras.saving.register_keras_serializable("keras_attention")
def softmax(scores: tf.Tensor, mask: tf.Tensor | None = None) -> tf.Tensor:
    """exp(score) / sum of exp(score) over the slots that may be seen.  [..., S] -> [..., S].

    >>> softmax(tf.zeros([1, 4]), tf.constant([[True, True, False, False]])).numpy().tolist()
    [[0.5, 0.5, 0.0, 0.0]]
    >>> softmax(tf.zeros([1, 2]), tf.constant([[False, False]])).numpy().tolist()
    [[0.0, 0.0]]
    """
    weights = tf.nn.softmax(_masked(widen(scores), mask))
    return weights if mask is None else tf.where(mask, weights, 0.0)


@keras.saving.register_keras_serializable("keras_attention")
def hardmax(scores: tf.Tensor, mask: tf.Tensor | None = None) -> tf.Tensor:
    """One at the best slot that may be seen (the first of equals), zero elsewhere.  [..., S].

    >>> hardmax(tf.constant([[1.0, 3.0, 2.0]])).numpy().tolist()
    [[0.0, 1.0, 0.0]]
    """
    scores = widen(scores)
    best = tf.argmax(_masked(scores, mask), axis=-1, output_type=tf.int32)
    weights = tf.one_hot(best, tf.shape(scores)[-1], dtype=scores.dtype)
    return weights if mask is None else tf.where(mask, weights, 0.0)
