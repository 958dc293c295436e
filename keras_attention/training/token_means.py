"""Means over tokens: one rule for weights, Keras masks, batches and replicas."""

from typing import Any

import keras
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
    weights = tf.cast(weights, losses.dtype)
    losses *= weights
    if reduction in (None, "none"):
        return losses
    total = tf.reduce_sum(losses)
    if reduction == "sum":
        return total
    by_weight = reduction == "mean_with_sample_weight"
    return mean_over_replicas(
        total, tf.reduce_sum(weights if by_weight else tf.cast(shown, losses.dtype))
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


class TokenMean(keras.metrics.Metric):
    """The weighted mean of a value over every token since the last reset: sum(w x) / sum(w).

    It does not depend on batches, their lengths and replicas. Subclasses define
    `values(y_true, y_pred, counted) -> [B, ..., T]`. The sums are float64, so that the number of
    tokens is exact under any `floatx`.
    """

    def __init__(self, name: str, dtype=None):
        super().__init__(name=name, dtype=dtype)
        self.total = self.add_variable((), "zeros", dtype="float64", name="total")
        self.count = self.add_variable((), "zeros", dtype="float64", name="count")

    def values(self, y_true: tf.Tensor, y_pred: tf.Tensor, counted: tf.Tensor) -> tf.Tensor:
        """[B, ..., T]; 0 where `counted` is False."""
        raise NotImplementedError

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Add a batch; tokens hidden by the Keras mask of `y_pred` do not count."""
        mask = getattr(y_pred, "_keras_mask", None)
        ids, logits = ids_and_logits(y_true, y_pred)
        weights, _ = token_weights(ids, sample_weight, mask)
        values = self.values(ids, logits, tf.not_equal(weights, 0))
        total = tf.reduce_sum(values * tf.cast(weights, values.dtype))
        self.total.assign_add(tf.cast(total, tf.float64))
        self.count.assign_add(tf.cast(tf.reduce_sum(weights), tf.float64))

    def mean(self, of_nothing: float) -> tf.Tensor:
        """float64; `of_nothing` if no token has been counted."""
        total, count = tf.convert_to_tensor(self.total), tf.convert_to_tensor(self.count)
        return tf.where(count > 0, total / count, tf.constant(of_nothing, tf.float64))

    def as_result(self, value: tf.Tensor) -> tf.Tensor:
        """The value in the metric's dtype, float32 or wider."""
        return tf.cast(value, "float64" if self.dtype == "float64" else "float32")


def ids_and_logits(y_true: Any, y_pred: Any) -> tuple[tf.Tensor, tf.Tensor]:
    """ids [B, ..., T] in their own dtype, logits [B, ..., T, V]; also for ids [B, ..., T, 1].

    Raises ValueError for shapes that do not fit.

    >>> ids, logits = ids_and_logits([[1, 2]], tf.zeros([1, 2, 4]))
    >>> ids.shape.as_list(), logits.shape.as_list()
    ([1, 2], [1, 2, 4])
    """
    ids, logits = tf.convert_to_tensor(y_true), tf.convert_to_tensor(y_pred)
    rank = logits.shape.rank
    if ids.shape.rank is None:
        ids = tf.ensure_shape(ids, [None] * (rank - 1))
    if ids.shape.rank == rank and ids.shape[-1] == 1:
        ids = tf.squeeze(ids, -1)
    words = "Targets must be ids [B, T] for logits [B, T, V]."
    if ids.shape.rank != rank - 1:
        raise ValueError(f"{words} Received: shapes {ids.shape} and {logits.shape}")
    with tf.control_dependencies(check_same_sizes(ids, logits, rank - 1, words)):
        return tf.identity(ids), logits
