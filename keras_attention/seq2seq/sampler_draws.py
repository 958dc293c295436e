"""Random ids: the two distributions that samplers use.

With a seed, or after `tf.random.set_seed`, draws are repeated in eager mode and in a new
`tf.function`. Code compiled by XLA uses another random generator, which no seed repeats.
"""

from typing import Any

import tensorflow as tf

from keras_attention.functional.dtypes import widen


def categorical_sample(
    logits: Any,
    dtype: tf.DType = tf.int32,
    sample_shape: Any = (),
    seed: int | None = None,
) -> tf.Tensor:
    """Ids drawn with probability softmax(logits).  [..., V] -> [*sample_shape, ...].

    An id whose logit is -inf is never drawn. A row without any other is an InvalidArgumentError
    (under XLA, which cannot raise one, the id is undefined).

    >>> categorical_sample([[0.0, -1e9], [-1e9, 0.0]], sample_shape=3).numpy().tolist()
    [[0, 1], [0, 1], [0, 1]]
    """
    logits = widen(logits)
    sample_shape = _as_vector(sample_shape)
    shape = tf.concat([sample_shape, tf.shape(logits)[:-1]], 0)
    flat = tf.reshape(logits, [-1, tf.shape(logits)[-1]])
    possible = tf.reduce_all(tf.reduce_any(flat > -float("inf"), 1))
    check = tf.debugging.Assert(
        possible, ["Expected a logit above -inf in each row. Received:", flat]
    )
    with tf.control_dependencies([] if check is None else [check]):
        flat = tf.identity(flat)
    ids = tf.random.categorical(flat, tf.reduce_prod(sample_shape), dtype=tf.int32, seed=seed)
    return tf.cast(tf.reshape(tf.transpose(ids), shape), dtype)


def bernoulli_sample(
    probs: Any = None,
    logits: Any = None,
    dtype: tf.DType = tf.int32,
    sample_shape: Any = (),
    seed: int | None = None,
) -> tf.Tensor:
    """Ones drawn with probability `probs`, or else sigmoid(logits).  [...] -> [*sample_shape, ...].

    Raises ValueError if neither is given.

    >>> bernoulli_sample([0.0, 1.0], dtype=tf.bool, sample_shape=[2]).numpy().tolist()
    [[False, True], [False, True]]
    """
    if probs is None and logits is None:
        raise ValueError("bernoulli_sample needs probs or logits. Received: neither.")
    probs = tf.sigmoid(widen(logits)) if probs is None else tf.convert_to_tensor(probs)
    probs = widen(probs) if probs.dtype.is_floating else tf.cast(probs, tf.float32)
    shape = tf.concat([_as_vector(sample_shape), tf.shape(probs)], 0)
    return tf.cast(tf.random.uniform(shape, dtype=probs.dtype, seed=seed) < probs, dtype)


def _as_vector(sample_shape):
    """() -> [], 3 -> [3], [2, 3] -> [2, 3]."""
    sample_shape = tf.convert_to_tensor(sample_shape, tf.int32)
    return sample_shape[None] if sample_shape.shape.rank == 0 else sample_shape
