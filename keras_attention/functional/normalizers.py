"""Normalisers: from scores over memory slots to weights over memory slots.

Each is `(scores, mask) -> weights`, [..., S] in and out, float32 or wider. The mask is boolean,
True = visible, and broadcasts to the scores (else ValueError); a row without visible slots is all
zeros.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_attention.functional.dtypes import widen
from keras_attention.functional.shapes import check_broadcast, extend


def _masked(scores: tf.Tensor, mask: tf.Tensor | None) -> tf.Tensor:
    """Masked scores are half of the lowest number: finite, so that an empty row has a gradient."""
    if mask is None:
        return scores
    check_broadcast("mask", mask, scores, "..., S")
    return tf.where(mask, scores, scores.dtype.min / 2)


def with_initial_state(initial_state: Callable) -> Callable:
    """Decorate a normaliser with an initial state for decoders.

    `initial_state(batch_size N, steps S, dtype) -> [N, S]` is the state before the first query of
    a normaliser `(scores [N, T, S], mask, state [N, S]) -> (weights [N, T, S], state [N, S])`.

    >>> @with_initial_state(lambda batch_size, steps, dtype: tf.zeros([batch_size, steps], dtype))
    ... def less_of_the_same(scores, mask, state):
    ...     weights = softmax(scores - state[:, None], mask)
    ...     return weights, state + tf.reduce_sum(weights, 1)
    >>> less_of_the_same.initial_state(2, 3, tf.float32).shape
    TensorShape([2, 3])
    """

    def decorate(normalize):
        vars(normalize)["initial_state"] = initial_state
        return normalize

    return decorate


@keras.saving.register_keras_serializable("keras_attention")
def softmax(scores: tf.Tensor, mask: tf.Tensor | None = None) -> tf.Tensor:
    """exp(score) / sum of exp(score) over the visible slots.  [..., S] -> [..., S].

    >>> softmax(tf.zeros([1, 4]), tf.constant([[True, True, False, False]])).numpy().tolist()
    [[0.5, 0.5, 0.0, 0.0]]
    >>> softmax(tf.zeros([1, 2]), tf.constant([[False, False]])).numpy().tolist()
    [[0.0, 0.0]]
    """
    return _visible(tf.nn.softmax(_masked(widen(scores), mask)), mask)


@keras.saving.register_keras_serializable("keras_attention")
def hardmax(scores: tf.Tensor, mask: tf.Tensor | None = None) -> tf.Tensor:
    """One at the best visible slot (the first if tied), zero elsewhere.  [..., S].

    >>> hardmax(tf.constant([[1.0, 3.0, 2.0]])).numpy().tolist()
    [[0.0, 1.0, 0.0]]
    """
    scores = widen(scores)
    candidates = _masked(scores, mask)
    if not scores.shape[-1]:  # argmax needs at least one: the lowest score, after all others
        candidates = extend(candidates, scores.shape.rank - 1, 1, scores.dtype.min)
    best = tf.argmax(candidates, axis=-1, output_type=tf.int32)
    return _visible(tf.one_hot(best, tf.shape(scores)[-1], dtype=scores.dtype), mask)


@keras.saving.register_keras_serializable("keras_attention")
def sampled(scores: tf.Tensor, mask: tf.Tensor | None = None, seed: Any = None) -> tf.Tensor:
    """One at a slot sampled by its softmax probability, zero elsewhere.  [..., S] -> [..., S].

    Hard attention (Xu et al., 2015, section 4.1). Two ints as `seed` [2] repeat a sample; None
    gives a new one, which `tf.random.set_seed` repeats outside of XLA. A sample has no gradient:
    see `reinforce`.

    >>> sampled(tf.zeros([1, 3]), tf.constant([[False, True, False]])).numpy().tolist()
    [[0.0, 1.0, 0.0]]
    """
    scores = widen(scores)
    if seed is None:
        bound = tf.int32.max
        seed = tf.random.uniform([2], minval=-bound, maxval=bound, dtype=tf.int32)
    tiny = np.finfo(scores.dtype.as_numpy_dtype).tiny
    uniform = tf.random.stateless_uniform(tf.shape(scores), seed, tiny, 1.0, scores.dtype)
    # The argmax of scores with Gumbel noise is a sample of their softmax, also under XLA.
    return hardmax(scores - tf.math.log(-tf.math.log(uniform)), mask)


@keras.saving.register_keras_serializable("keras_attention")
def sparsemax(scores: tf.Tensor, mask: tf.Tensor | None = None) -> tf.Tensor:
    """The projection of the scores onto the simplex: max(score - tau, 0).  [..., S] -> [..., S].

    Low scores get weights of exactly 0 (Martins and Astudillo, 2016, algorithm 1). With the scores
    sorted,
    k the last r with 1 + r z_r > z_1 + ... + z_r, tau = (z_1 + ... + z_k - 1) / k.

    >>> sparsemax(tf.constant([[1.0, 0.8, 0.1, -1.0]])).numpy().round(6).tolist()
    [[0.6000000238418579, 0.4000000059604645, 0.0, 0.0]]
    """
    z = _below_best(scores, mask)
    z_r, r = _sorted(z)
    support = _support(z, z_r, 1 + r * z_r > tf.cumsum(z_r, -1))
    tau = (tf.reduce_sum(support * z, -1, keepdims=True) - 1) / _size(support)
    return _visible(tf.nn.relu(z - tau), mask)


@keras.saving.register_keras_serializable("keras_attention")
def entmax15(scores: tf.Tensor, mask: tf.Tensor | None = None) -> tf.Tensor:
    """Between softmax and sparsemax: max(score / 2 - tau, 0)^2.  [..., S] -> [..., S].

    Exact and by sorting (Peters et al., 2019, algorithm 2). Over the k best of the halved scores,
    tau = mean - sqrt((1 - k variance) / k); k is the last for which tau stays below z_k.

    >>> entmax15(tf.constant([[0.0, 0.0, -2.0]])).numpy().round(6).tolist()
    [[0.5, 0.5, 0.0]]
    """
    z = _below_best(scores, mask) / 2
    z_r, r = _sorted(z)
    mean, square = tf.cumsum(z_r, -1) / r, tf.cumsum(tf.square(z_r), -1) / r
    support = _support(z, z_r, _entmax15_threshold(mean, square, r) < z_r)
    k = _size(support)
    mean = tf.reduce_sum(support * z, -1, keepdims=True) / k
    square = tf.reduce_sum(support * tf.square(z), -1, keepdims=True) / k
    return _visible(tf.square(tf.nn.relu(z - _entmax15_threshold(mean, square, k))), mask)


def _entmax15_threshold(mean, square, count):
    """The tau for which the squares above it sum to 1; if there is none, the mean of too many."""
    inside = (1 - count * (square - tf.square(mean))) / count
    # Where it is the solution it is at least 1 / count^2, and its root has a gradient.
    return mean - tf.sqrt(tf.maximum(inside, np.finfo(inside.dtype.as_numpy_dtype).tiny))


def _below_best(scores, mask):
    """Scores minus the best, [..., S]: those more than 2 below it are never in the support."""
    scores = _masked(widen(scores), mask)
    best = tf.stop_gradient(tf.reduce_max(scores, -1, keepdims=True))
    return tf.maximum(scores - best, -3.0)


def _sorted(z):
    """z in descending order, and the rank of each from 1."""
    z = tf.sort(tf.stop_gradient(z), -1, "DESCENDING")
    return z, tf.cast(tf.range(1, tf.shape(z)[-1] + 1), z.dtype)


def _support(z, z_r, holds):
    """One for the leading z for which a condition holds: the same formula applies to all of them.

    Changes of the support have no gradient, so the rest is differentiated with a fixed support.
    """
    lowest = tf.reduce_min(tf.where(holds, z_r, 0.0), -1, keepdims=True)
    return tf.cast(tf.stop_gradient(z) >= lowest, z.dtype)


def _size(support):
    return tf.maximum(tf.reduce_sum(support, -1, keepdims=True), 1)


def _visible(weights, mask):
    return weights if mask is None else tf.where(mask, weights, 0.0)
