"""Monotonic attention: a pointer that moves along the memory from left to right.

At every slot it stops with probability p, or moves on. [..., S] in and out.
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_attention.functional.dtypes import widen


def safe_cumprod(x: Any, *args, **kwargs) -> tf.Tensor:
    """exp(cumsum(log x)) for x in [0, 1], clipped to the smallest number: a stable `cumprod`.

    Further arguments are those of `tf.math.cumsum`.

    >>> [round(float(product), 3) for product in safe_cumprod([1.0, 0.5, 0.5])]
    [1.0, 0.5, 0.25]
    """
    x = tf.convert_to_tensor(x)
    # NumPy has no bfloat16, whose exponents are those of float32.
    known = tf.float32 if x.dtype == tf.bfloat16 else x.dtype
    tiny = tf.cast(np.finfo(known.as_numpy_dtype).tiny, x.dtype)
    return tf.exp(tf.cumsum(tf.math.log(tf.clip_by_value(x, tiny, 1)), *args, **kwargs))


def monotonic_attention(p_choose_i: Any, previous_attention: Any, mode: str) -> tf.Tensor:
    """The distribution of the pointer, from its last one and the probabilities to stop.

    p, previous [..., S] -> attention [..., S]; its rows sum to at most 1: the rest has moved past
    the end. With q_0 = 0 (Raffel et al., 2017, eq. 8 to 14),

        q_i = (1 - p_{i-1}) q_{i-1} + previous_i        attention_i = p_i q_i

    Modes: "recursive" computes this step by step. "parallel" computes the closed form
    `p cumprod(1 - p) cumsum(previous / cumprod(1 - p))`, fast and inexact for products below
    1e-10. "hard" requires every p to be 0 or 1.

    Raises ValueError for another mode.

    >>> p, previous = [[0.5, 0.5, 0.5]], [[1.0, 0.0, 0.0]]
    >>> monotonic_attention(p, previous, "recursive").numpy().tolist()
    [[0.5, 0.25, 0.125]]
    """
    if mode not in _MODES:
        raise ValueError(f"mode must be 'recursive', 'parallel', or 'hard'. Received: mode={mode}")
    p = tf.convert_to_tensor(p_choose_i)
    previous = widen(tf.cast(previous_attention, p.dtype))
    return tf.cast(_MODES[mode](widen(p), previous), p.dtype)


def _recursive(p, previous):
    continues = tf.concat([tf.ones_like(p[..., :1]), 1 - p[..., :-1]], -1)
    steps = [_last_axis_first(x) for x in (continues, previous)]
    reached = tf.scan(lambda q, step: step[0] * q + step[1], steps, tf.zeros_like(steps[1][0]))
    return p * _first_axis_last(reached)


def _parallel(p, previous):
    unstopped = safe_cumprod(1 - p, axis=-1, exclusive=True)
    return p * unstopped * tf.cumsum(previous / tf.clip_by_value(unstopped, 1e-10, 1.0), axis=-1)


def _hard(p, previous):
    p *= tf.cumsum(previous, axis=-1)  # slots before the pointer cannot be reached
    return p * tf.math.cumprod(1 - p, axis=-1, exclusive=True)


_MODES = {"recursive": _recursive, "parallel": _parallel, "hard": _hard}


@keras.saving.register_keras_serializable("keras_attention")
def monotonic_recursive(scores: Any, mask: Any = None, state: Any = None) -> tuple:
    """A normaliser with a state: T queries in a row move the pointer, each from the last position.

    (Raffel et al., 2017, eq. 8 to 11.)

    scores [..., T, S], mask broadcastable to them, state [..., S] -> weights [..., T, S], state
    [..., S]: the distribution of the pointer at the last query; None is the first slot. A query
    stops at a visible slot with p = sigmoid(score).

    >>> weights, state = monotonic_recursive(tf.zeros([1, 2, 2]))
    >>> weights.numpy().tolist(), state.numpy().tolist()
    ([[[0.5, 0.25], [0.25, 0.25]]], [[0.25, 0.25]])
    """
    return _walk(tf.sigmoid(widen(scores)), mask, state, "recursive")


@keras.saving.register_keras_serializable("keras_attention")
def monotonic_parallel(scores: Any, mask: Any = None, state: Any = None) -> tuple:
    """`monotonic_recursive` in closed form: fast, inexact for products below 1e-10.

    (Raffel et al., 2017, eq. 12 to 14.)

    >>> monotonic_parallel(tf.zeros([1, 1, 2]))[0].numpy().round(6).tolist()
    [[[0.5, 0.25]]]
    """
    return _walk(tf.sigmoid(widen(scores)), mask, state, "parallel")


@keras.saving.register_keras_serializable("keras_attention")
def monotonic_hard(scores: Any, mask: Any = None, state: Any = None) -> tuple:
    """`monotonic_recursive` that stops at the first slot with a score above 0.

    (Raffel et al., 2017, algorithm 1.)

    >>> monotonic_hard(tf.constant([[[-1.0, 1.0, 1.0], [1.0, -1.0, 1.0]]]))[0].numpy().tolist()
    [[[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]]
    """
    scores = widen(scores)
    return _walk(tf.cast(scores > 0, scores.dtype), mask, state, "hard")


def _walk(stops, mask, state, mode):
    if mask is not None:
        stops = tf.where(mask, stops, 0.0)
    if state is None:
        first = tf.one_hot(0, tf.shape(stops)[-1], dtype=stops.dtype)
        state = tf.zeros_like(tf.reduce_sum(stops, -2)) + first
    rank = stops.shape.rank
    by_query = tf.transpose(stops, [rank - 2, *range(rank - 2), rank - 1])  # [T, ..., S]
    state = tf.cast(state, stops.dtype)
    weights = tf.scan(lambda last, p: monotonic_attention(p, last, mode), by_query, state)
    state = tf.concat([state[None], weights], 0)[-1]  # unchanged without queries
    return tf.transpose(weights, [*range(1, rank - 1), 0, rank - 1]), state


def _last_axis_first(x):
    return tf.transpose(x, [x.shape.rank - 1, *range(x.shape.rank - 1)])


def _first_axis_last(x):
    return tf.transpose(x, [*range(1, x.shape.rank), 0])
