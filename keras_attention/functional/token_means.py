"""Means over tokens: one rule for weights, Keras masks and replicas."""

from typing import Any

import tensorflow as tf

from keras_attention.functional.replicas import mean_over_replicas
from keras_attention.functional.shapes import check_same_sizes


def token_weights(tokens: tf.Tensor, sample_weight: Any, mask: Any) -> tuple[tf.Tensor, tf.Tensor]:
    """The weight of each token.

    Args:
        tokens: [B, ..., T], any dtype; only its shape is used.
        sample_weight: None (every token counts 1), a scalar, or a tensor of the rank of `tokens`
            whose axes have the same sizes or 1: [B, T] weights tokens, [B, 1] sentences.
        mask: None, or the Keras mask of the predictions, likewise; where it is False the weight
            is 0.

    Returns:
        weights, float32, and shown, bool (the mask), both in the shape of `tokens`.

    Raises:
        ValueError: another rank or size. One number per sentence as [B] is rejected: with T = B
            tokens it could also mean steps, and Keras creates such weights from `class_weight` by
            reading the ids of a sentence as one-hot.

    >>> token_weights(tf.zeros([2, 3]), [[1.0], [2.0]], None)[0].numpy().tolist()
    [[1.0, 1.0, 1.0], [2.0, 2.0, 2.0]]
    """
    shown = tf.ones_like(tokens, tf.bool)
    if mask is not None:
        shown = _spread("The Keras mask", tf.cast(mask, tf.bool), tokens)
    weights = tf.ones_like(tokens, tf.float32)
    if sample_weight is not None:
        weights = _spread("sample_weight", tf.cast(sample_weight, tf.float32), tokens)
    if mask is not None:
        weights = tf.where(shown, weights, tf.zeros_like(weights))
    return weights, shown


def token_mean(
    losses: tf.Tensor, weights: tf.Tensor, shown: tf.Tensor, reduction: str | None
) -> tf.Tensor:
    """The weighted losses, reduced like those of a `keras.losses.Loss`, by its `reduction`.

    Over several replicas the means are those over the tokens of all (see `mean_over_replicas`).

    >>> losses, shown = tf.constant([1.0, 4.0]), tf.constant([True, True])
    >>> weights = tf.constant([1.0, 0.5])
    >>> [float(token_mean(losses, weights, shown, how)) for how in ("mean", "sum")]
    [1.5, 3.0]
    """
    losses *= tf.cast(weights, losses.dtype)
    if reduction in (None, "none"):
        return losses
    return mean_of_total(tf.reduce_sum(losses), weights, shown, reduction)


def mean_of_total(
    total: tf.Tensor, weights: tf.Tensor, shown: tf.Tensor, reduction: str
) -> tf.Tensor:
    """`token_mean`, from the sum of the weighted losses.

    >>> float(mean_of_total(tf.constant(6.0), tf.constant([1.0, 2.0]), None,
    ...                     "mean_with_sample_weight"))
    2.0
    """
    if reduction == "sum":
        return total
    by_weight = reduction == "mean_with_sample_weight"
    return mean_over_replicas(
        total, tf.reduce_sum(tf.cast(weights if by_weight else shown, total.dtype))
    )


def _spread(name, values, tokens):
    """Broadcast to one value for each token."""
    rank = tokens.shape.rank
    if values.shape.rank is None:
        values = tf.ensure_shape(values, [None] * rank)
    if values.shape.rank == rank + 1 and values.shape[-1] == 1:
        values = tf.squeeze(values, -1)
    words = (
        f"{name} must have the shape of the targets: [B, T] for one number per token, [B, 1] for "
        "one per sentence. Pass a vector [B] as [B, 1]; class_weight cannot weight tokens."
    )
    if values.shape.rank == 0:
        checks = []
    elif values.shape.rank != rank:
        raise ValueError(f"{words} Received: shapes {values.shape} and {tokens.shape}")
    else:
        checks = check_same_sizes(values, tokens, rank, words, broadcast=True)
    with tf.control_dependencies(checks):
        return tf.broadcast_to(values, tf.shape(tokens))
