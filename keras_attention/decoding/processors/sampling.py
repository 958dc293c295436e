"""Logits processors for sampling: temperature and truncation.

`combine`, and so `generate`, applies them in the order of Hugging Face's `generate`: the repetition
penalty, then the temperature, then truncation, in the order of this file.

Truncation does not change the log p of the remaining tokens: a sampler renormalises, and a score is
the model's own log p. Settings are numbers, or scalar tensors that may be known at run time only.
In `combine` truncation acts on the tokens that the other processors leave.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from keras_attention.backend.keras import no_autograph
from keras_attention.decoding.processors._log_probs import keep_allowed
from keras_attention.decoding.processors._settings import check_number, describe_call
from keras_attention.decoding.processors.logits_processor import LogitsProcessor
from keras_attention.functional.likelihood import log_normalizer
from keras_attention.functional.top_k import top_k as best_k


@no_autograph
def temperature(t: Any) -> LogitsProcessor:
    """Return log softmax(logits / t): t < 1 sharpens the distribution, t > 1 flattens it.

    Unlike truncation it changes log p and normalises it: the mass of tokens that were forbidden
    before is distributed over the rest.

    Raises ValueError unless t is a finite number above 0.

    >>> log_p = tf.math.log([[0.25, 0.75]])
    >>> [f"{p:.2f}" for p in tf.exp(temperature(0.5).apply(log_p, ()))[0]]
    ['0.10', '0.90']
    """
    check_number(t, lambda t: t > 0, "temperature needs one number above 0, and finite.")

    def apply(log_probs):
        # Subtract the maximum before the division, so that even the smallest t does not overflow.
        best = tf.reduce_max(log_probs, 1, keepdims=True)
        below = log_probs - tf.where(best > -float("inf"), best, tf.zeros([], best.dtype))
        smallest = log_probs.dtype.as_numpy_dtype(np.finfo(np.float32).tiny)
        return _normalized(below / tf.maximum(tf.cast(t, log_probs.dtype), smallest))

    return _stateless(apply, describe_call("temperature", t), "all")


@no_autograph
def top_k(k: Any) -> LogitsProcessor:
    """Keep the k likeliest tokens (Fan et al., 2018), or all if V < k.

    Ties with the k-th are kept, too. Raises ValueError unless k is a whole number >= 1.

    >>> top_k(1).apply(tf.constant([[-1.0, -2.0]]), ()).numpy().tolist()
    [[-1.0, -inf]]
    """
    known = check_number(
        k, lambda k: (k >= 1) & (k == np.floor(k)), "top_k needs one whole number k >= 1."
    )

    def apply(log_probs):
        columns = log_probs.shape[-1]
        if known is not None and columns is not None:
            least = best_k(log_probs, min(int(known), columns))[0][:, -1:]
        else:
            falling = tf.sort(log_probs, direction="DESCENDING")
            last = tf.minimum(tf.cast(k, tf.int32), tf.shape(log_probs)[-1]) - 1
            least = tf.gather(falling, [last], axis=1)
        return keep_allowed(log_probs, log_probs >= least)

    return _stateless(apply, describe_call("top_k", k), order=0)


@no_autograph
def top_p(p: Any) -> LogitsProcessor:
    """Keep the smallest set of likeliest tokens with a mass of p (Holtzman et al., 2020).

    The mass is relative to the tokens that are still allowed. Ties with the last token are kept,
    too. Raises ValueError unless 0 < p <= 1.

    >>> log_p = tf.math.log([[0.5, 0.1, 0.4]])
    >>> [f"{p:.1f}" for p in tf.exp(top_p(0.8).apply(log_p, ()))[0]]
    ['0.5', '0.0', '0.4']
    """
    _check_share(p, "top_p")

    def apply(log_probs):
        mass = tf.cast(p, log_probs.dtype)
        normal = _normalized(log_probs)
        return keep_allowed(log_probs, normal >= _last_needed(normal, tf.exp(normal), mass))

    return _stateless(apply, describe_call("top_p", p), order=1)


@no_autograph
def min_p(p: Any) -> LogitsProcessor:
    """Keep tokens at least p times as likely as the likeliest one (Nguyen et al., 2024).

    Raises ValueError unless 0 < p <= 1.

    >>> log_p = tf.math.log([[0.6, 0.1, 0.3]])
    >>> [f"{p:.1f}" for p in tf.exp(min_p(0.4).apply(log_p, ()))[0]]
    ['0.6', '0.0', '0.3']
    """
    _check_share(p, "min_p")

    def apply(log_probs):
        best = tf.reduce_max(log_probs, 1, keepdims=True)
        return keep_allowed(log_probs, log_probs >= best + tf.math.log(tf.cast(p, log_probs.dtype)))

    return _stateless(apply, describe_call("min_p", p), order=2)


@no_autograph
def typical(p: Any) -> LogitsProcessor:
    """Keep the tokens whose -log p is nearest to the entropy, with a mass of p.

    Locally typical sampling (Meister et al., 2023): the smallest such set. The mass is relative to
    the tokens that are still allowed. Ties with the last token are kept, too. Raises ValueError
    unless 0 < p <= 1.

    >>> log_p = tf.math.log([[0.5, 0.1, 0.2, 0.2]])  # entropy 1.2; -log p: 0.7, 2.3, 1.6, 1.6
    >>> [f"{p:.1f}" for p in tf.exp(typical(0.3).apply(log_p, ()))[0]]
    ['0.0', '0.0', '0.2', '0.2']
    """
    _check_share(p, "typical")

    def apply(log_probs):
        mass = tf.cast(p, log_probs.dtype)
        normal = _normalized(log_probs)
        nearness = -tf.abs(normal + _entropy(normal))
        return keep_allowed(log_probs, nearness >= _last_needed(nearness, tf.exp(normal), mass))

    return _stateless(apply, describe_call("typical", p), order=3)


@no_autograph
def epsilon_cutoff(epsilon: Any) -> LogitsProcessor:
    """Keep tokens with p >= epsilon, and always the likeliest (Hewitt et al., 2022).

    p is renormalised over the tokens that are still allowed. Ties with the likeliest are kept.
    Raises ValueError unless 0 < epsilon < 1.

    >>> log_p = tf.math.log([[0.6, 0.1, 0.3]])
    >>> [f"{p:.1f}" for p in tf.exp(epsilon_cutoff(0.2).apply(log_p, ()))[0]]
    ['0.6', '0.0', '0.3']
    """
    _check_cutoff(epsilon, "epsilon_cutoff")

    def apply(log_probs):
        least = tf.math.log(tf.cast(epsilon, log_probs.dtype))
        return _cut_below(log_probs, _normalized(log_probs), least)

    return _stateless(apply, describe_call("epsilon_cutoff", epsilon), order=4)


@no_autograph
def eta_cutoff(epsilon: Any) -> LogitsProcessor:
    """Keep tokens with p >= eta, and always the likeliest (Hewitt et al., 2022, eq. 6).

        eta = min(epsilon, sqrt(epsilon) exp(-entropy of p))

    So more tokens are kept if the model is uncertain. p is renormalised over the tokens that are
    still allowed; ties with the likeliest are kept. Raises ValueError unless 0 < epsilon < 1.

    >>> log_p = tf.math.log([[0.6, 0.1, 0.3]])  # entropy 0.9, eta 0.18
    >>> [f"{p:.1f}" for p in tf.exp(eta_cutoff(0.2).apply(log_p, ()))[0]]
    ['0.6', '0.0', '0.3']
    """
    _check_cutoff(epsilon, "eta_cutoff")

    def apply(log_probs):
        normal = _normalized(log_probs)
        least = tf.math.log(tf.cast(epsilon, log_probs.dtype))
        return _cut_below(log_probs, normal, tf.minimum(least, 0.5 * least - _entropy(normal)))

    return _stateless(apply, describe_call("eta_cutoff", epsilon), order=5)


def _cut_below(log_probs: tf.Tensor, normal: tf.Tensor, least: tf.Tensor) -> tf.Tensor:
    """Keep tokens whose normalised log p is at least `least` [] or [N, 1], or the largest."""
    return keep_allowed(
        log_probs, normal >= tf.minimum(least, tf.reduce_max(normal, 1, keepdims=True))
    )


def _entropy(normal: tf.Tensor) -> tf.Tensor:
    """The entropy of normalised log p.  [N, V] -> [N, 1]."""
    return -tf.reduce_sum(tf.math.multiply_no_nan(normal, tf.exp(normal)), 1, keepdims=True)


_FEW = 64  # tokens which mostly have the mass; a whole vocabulary takes long to sort


def _last_needed(goodness: tf.Tensor, probs: tf.Tensor, mass: tf.Tensor) -> tf.Tensor:
    """The value of the last token needed to reach a mass.  [N, V], [N, V] -> [N, 1]."""

    def among(best):
        values, ids = best
        its = tf.gather(probs, ids, batch_dims=1)
        before = tf.cumsum(its, axis=1, exclusive=True)
        last = tf.reduce_min(tf.where(before < mass, values, float("inf")), 1, keepdims=True)
        return last, before[:, -1:] + its[:, -1:]

    columns = goodness.shape[-1]
    size = tf.shape(goodness)[-1] if columns is None else columns

    def among_all():
        return tf.where(mass < 1, among(tf.math.top_k(goodness, size))[0], -float("inf"))

    if columns is None or columns <= _FEW:
        return among_all()
    last, reached = among(best_k(goodness, _FEW))
    nothing_left = tf.reduce_max(probs, 1, keepdims=True) <= 0
    enough = tf.reduce_all((reached >= mass) | nothing_left) & (mass < 1)
    return tf.cond(enough, lambda: last, among_all)


def _stateless(change: Callable, name: str, scope: str = "tail", order: int = 0) -> LogitsProcessor:
    def apply(log_probs: tf.Tensor, state: tuple) -> tf.Tensor:
        return change(log_probs)

    return LogitsProcessor(
        lambda search: (), apply, lambda state, tokens: state, name, scope, order=order
    )


def _normalized(log_probs: tf.Tensor) -> tf.Tensor:
    """Normalised log p; rows in which all tokens are forbidden stay unchanged.  [N, V]."""
    alive = tf.reduce_max(log_probs, 1, keepdims=True) > -float("inf")
    return tf.where(alive, log_probs - log_normalizer(log_probs), log_probs)


def _check_share(p: Any, name: str) -> None:
    check_number(p, lambda p: (p > 0) & (p <= 1), f"{name} needs one number, 0 < p <= 1.")


def _check_cutoff(epsilon: Any, name: str) -> None:
    check_number(epsilon, lambda e: (e > 0) & (e < 1), f"{name} needs one number, 0 < epsilon < 1.")
