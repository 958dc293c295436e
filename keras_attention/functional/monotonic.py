"""Monotonic attention: a pointer that walks the memory from left to right and never back.

At every slot it stops with probability p, or walks on. [..., S] in and out.
"""

from typing import Any

import numpy as np
import tensorflow as tf

from keras_attention.functional.dtypes import widen


def safe_cumprod(x: Any, *args, **kwargs) -> tf.Tensor:
    """exp(cumsum(log x)) of x in [0, 1], held above the smallest number: a stable `cumprod`.

    Further arguments are those of `tf.math.cumsum`.

    >>> [round(float(product), 3) for product in safe_cumprod([1.0, 0.5, 0.5])]
    [1.0, 0.5, 0.25]
    """
    x = tf.convert_to_tensor(x)
    # bfloat16, of which NumPy knows nothing, has the exponents of float32.
    known = tf.float32 if x.dtype == tf.bfloat16 else x.dtype
    tiny = tf.cast(np.finfo(known.as_numpy_dtype).tiny, x.dtype)
    return tf.exp(tf.cumsum(tf.math.log(tf.clip_by_value(x, tiny, 1)), *args, **kwargs))


def monotonic_attention(p_choose_i: Any, previous_attention: Any, mode: str) -> tf.Tensor:
    """Where the pointer stops, given where it stood and how likely it stops at each slot.

    p, previous [..., S] -> attention [..., S]; its rows sum to at most 1: what is missing walked
    past the end. With q_0 = 0 (Raffel et al., 2017, eq. 8 to 14),

        q_i = (1 - p_{i-1}) q_{i-1} + previous_i        attention_i = p_i q_i

    Modes: "recursive" computes just that, step by step. "parallel" computes the closed form
    `p cumprod(1 - p) cumsum(previous / cumprod(1 - p))`, fast and inexact where the products get
    below 1e-10. "hard" wants every p to be 0 or 1.

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
    walks_on = tf.concat([tf.ones_like(p[..., :1]), 1 - p[..., :-1]], -1)
    steps = [_last_axis_first(x) for x in (walks_on, previous)]
    reached = tf.scan(lambda q, step: step[0] * q + step[1], steps, tf.zeros_like(steps[1][0]))
    return p * _first_axis_last(reached)


def _parallel(p, previous):
    unstopped = safe_cumprod(1 - p, axis=-1, exclusive=True)
    return p * unstopped * tf.cumsum(previous / tf.clip_by_value(unstopped, 1e-10, 1.0), axis=-1)


def _hard(p, previous):
    p *= tf.cumsum(previous, axis=-1)  # slots before the pointer are out of reach
    return p * tf.math.cumprod(1 - p, axis=-1, exclusive=True)


_MODES = {"recursive": _recursive, "parallel": _parallel, "hard": _hard}


def _last_axis_first(x):
    return tf.transpose(x, [x.shape.rank - 1, *range(x.shape.rank - 1)])


def _first_axis_last(x):
    return tf.transpose(x, [*range(1, x.shape.rank), 0])
