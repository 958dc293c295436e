"""`sequence_loss`: cross-entropy over steps, with every denominator said."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_attention.functional import cross_entropy, widen

__all__ = ["sequence_loss"]


def sequence_loss(
    logits: Any,
    targets: Any,
    weights: Any,
    average_across_timesteps: bool = True,
    average_across_batch: bool = True,
    sum_over_timesteps: bool = False,
    sum_over_batch: bool = False,
    softmax_loss_function: Callable | None = None,
    name: str | None = None,
) -> tf.Tensor:
    """Weighted cross-entropy of a batch of sequences.

    With both averages: sum(w * ce) / sum(w), the mean over real tokens. Averaging over one axis
    divides by the weights summed over it; summing divides by the number of non-zero weights. An
    empty denominator gives 0.

    Args:
        logits: [B, T, V].
        targets: [B, T] ids, or [B, T, V] one-hot.
        weights: [B, T], 0 on padding.
        average_across_timesteps, sum_over_timesteps: what becomes of T (not both).
        average_across_batch, sum_over_batch: what becomes of B (not both).
        softmax_loss_function: `(labels=, logits=) -> [B*T]` instead of the softmax loss.

    Returns a scalar, [T] or [B] if one axis is left alone, [B, T] if both are.

    Raises ValueError for shapes that do not fit and for axes that are both averaged and summed.

    >>> logits, targets = tf.zeros([1, 2, 4]), tf.constant([[1, 2]])
    >>> round(float(sequence_loss(logits, targets, weights=tf.constant([[1.0, 0.0]]))), 4)
    1.3863
    """
    logits, targets, weights = map(tf.convert_to_tensor, (logits, targets, weights))
    _check_ranks(logits, targets, weights)
    for axis, average, total in (
        ("timesteps", average_across_timesteps, sum_over_timesteps),
        ("batch", average_across_batch, sum_over_batch),
    ):
        if average and total:
            raise ValueError(
                f"average_across_{axis} and sum_over_{axis} cannot be set to True at same time. "
                "Choose one."
            )
    if (average_across_batch and sum_over_timesteps) or (
        sum_over_batch and average_across_timesteps
    ):
        raise ValueError(
            "average over one axis and sum over the other is ambiguous, for the order would "
            "matter. Received: "
            f"average_across_timesteps={average_across_timesteps}, "
            f"average_across_batch={average_across_batch}, "
            f"sum_over_timesteps={sum_over_timesteps}, sum_over_batch={sum_over_batch}"
        )
    with tf.name_scope(name or "sequence_loss"):
        crossent = _cross_entropy(logits, targets, softmax_loss_function)  # [B, T]
        weights = tf.cast(weights, crossent.dtype)
        crossent *= weights
        averages = [
            axis
            for axis, wanted in ((0, average_across_batch), (1, average_across_timesteps))
            if wanted
        ]
        sums = [axis for axis, wanted in ((0, sum_over_batch), (1, sum_over_timesteps)) if wanted]
        if averages:
            return tf.math.divide_no_nan(
                tf.reduce_sum(crossent, averages), tf.reduce_sum(weights, averages)
            )
        if sums:
            count = tf.math.count_nonzero(weights, sums, dtype=crossent.dtype)
            return tf.math.divide_no_nan(tf.reduce_sum(crossent, sums), count)
        return crossent


def _check_ranks(logits, targets, weights) -> None:
    if logits.shape.rank != 3:
        raise ValueError(
            "Logits must be a [batch_size x sequence_length x logits] tensor. Received: shape "
            f"{logits.shape}"
        )
    one_hot = targets.shape.rank == 3 and targets.shape[2:].is_compatible_with(logits.shape[2:])
    if targets.shape.rank != 2 and not one_hot:
        raise ValueError(
            "Targets must be a [batch_size x sequence_length] tensor of ids, or one-hot like the "
            f"logits. Received: shape {targets.shape}"
        )
    if weights.shape.rank != 2:
        raise ValueError(
            "Weights must be a [batch_size x sequence_length] tensor. Received: shape "
            f"{weights.shape}"
        )


def _cross_entropy(logits, targets, softmax_loss_function):
    """-log p of every target.  -> [B, T]."""
    shape = tf.shape(logits)
    flat = tf.reshape(widen(logits), [-1, shape[2]])
    if targets.shape.rank == 3:
        labels = tf.reshape(targets, [-1, shape[2]])
        function = softmax_loss_function or tf.nn.softmax_cross_entropy_with_logits
    else:
        ids = targets if targets.dtype.is_integer else tf.cast(targets, tf.int32)  # Keras' floats
        labels = tf.reshape(ids, [-1])
        function = softmax_loss_function or cross_entropy
    return tf.reshape(function(labels=labels, logits=flat), shape[:2])
