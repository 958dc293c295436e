"""Temporal attention (Paulus et al., 2017): slots attended to before get lower weights."""

from typing import Any

import keras
import tensorflow as tf

from keras_attention.functional.dtypes import widen
from keras_attention.functional.normalizers import softmax, with_initial_state
from keras_attention.functional.shapes import check_shapes


def first_log_sums(batch_size: Any, steps: Any, dtype: Any) -> tf.Tensor:
    """The state of `temporal_softmax` before the first query: log 0.  -> [N, S]."""
    return tf.fill(tf.stack([batch_size, steps]), tf.constant(-float("inf"), dtype))


@with_initial_state(first_log_sums)
@keras.saving.register_keras_serializable("keras_attention")
def temporal_softmax(scores: Any, mask: Any = None, state: Any = None) -> tuple:
    """exp(score) of each slot over the sum of its earlier ones, normalised over S (eq. 3, 4).

    A normaliser with a state: scores [..., T, S] of T queries in a row, mask broadcastable to them,
    state [..., S] -> weights [..., T, S], state [..., S], float32 or wider. The state is log sum of
    exp(score) over the queries so far, of raw scores; None before the first query, which gets a
    plain softmax. Paulus' attention over the source is
    `layers.Attention(layers.GeneralScore(), normalize=temporal_softmax)`.

    >>> scores = tf.math.log([[[1.0, 3.0], [1.0, 3.0], [1.0, 1.0]]])
    >>> weights, state = temporal_softmax(scores)
    >>> weights.numpy().round(3).tolist(), tf.exp(state).numpy().round(3).tolist()
    ([[[0.25, 0.75], [0.5, 0.5], [0.75, 0.25]]], [[3.0, 7.0]])
    """
    scores = widen(scores)
    if state is not None and scores.shape.rank == 3:
        check_shapes(scores=("B T S", scores), state=("B S", state))
    log_0 = tf.constant(scores.dtype.min / 2, scores.dtype)  # finite, to have gradients
    if state is None:
        shape = tf.shape(scores)
        state = tf.fill(tf.concat([shape[:-2], shape[-1:]], 0), log_0)
    state = tf.maximum(widen(state), log_0)[..., None, :]  # it is -inf in a narrow dtype
    sums = tf.math.cumulative_logsumexp(tf.concat([state, scores], -2), axis=-2)  # [..., T + 1, S]
    history = sums[..., :-1, :]
    history = tf.where(history > log_0 / 2, history, 0.0)
    return softmax(scores - history, mask), sums[..., -1, :]
