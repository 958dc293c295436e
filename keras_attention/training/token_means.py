"""Means over tokens: one rule for weights, Keras masks, batches and replicas."""

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from keras_attention.functional.projection import projection_of
from keras_attention.functional.shapes import check_same_sizes
from keras_attention.functional.token_means import mean_of_total as mean_of_total
from keras_attention.functional.token_means import token_mean as token_mean
from keras_attention.functional.token_means import token_weights as token_weights


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
        tokens = Tokens.of(y_true, y_pred, sample_weight)
        values = self.values(tokens.ids, tokens.logits, tokens.counted)
        total = tf.reduce_sum(values * tf.cast(tokens.weights, values.dtype))
        self.total.assign_add(tf.cast(total, tf.float64))
        self.count.assign_add(tf.cast(tf.reduce_sum(tokens.weights), tf.float64))

    def mean(self, of_nothing: float) -> tf.Tensor:
        """float64; `of_nothing` if no token has been counted."""
        total, count = tf.convert_to_tensor(self.total), tf.convert_to_tensor(self.count)
        return tf.where(count > 0, total / count, tf.constant(of_nothing, tf.float64))

    def as_result(self, value: tf.Tensor) -> tf.Tensor:
        """The value in the metric's dtype, float32 or wider."""
        return tf.cast(value, "float64" if self.dtype == "float64" else "float32")


class Tokens(NamedTuple):
    """What losses and metrics of tokens read: ids, weights, shown and counted [B, ..., T].

    logits: [B, ..., T, V]; counted: where the weight is not 0.
    """

    ids: tf.Tensor
    logits: tf.Tensor
    weights: tf.Tensor
    shown: tf.Tensor
    counted: tf.Tensor

    @classmethod
    def of(cls, y_true: Any, y_pred: Any, sample_weight: Any) -> "Tokens":
        """From the arguments of a loss or metric: see `ids_and_logits` and `token_weights`.

        Logits that remember their projection give all that ask with the same arguments the same
        tensors, so that these share one pass over the tokens.
        """

        def compute():
            mask = getattr(y_pred, "_keras_mask", None)
            ids, logits = ids_and_logits(y_true, y_pred)
            weights, shown = token_weights(ids, sample_weight, mask)
            return cls(ids, logits, weights, shown, tf.not_equal(weights, 0))

        projection = projection_of(y_pred)
        if projection is None:
            return compute()
        return projection.once(("tokens", y_true, sample_weight), compute)


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
    projection = projection_of(logits)
    shape = None if projection is None else projection.shape()
    with tf.control_dependencies(check_same_sizes(ids, logits, rank - 1, words, shape=shape)):
        return tf.identity(ids), logits
