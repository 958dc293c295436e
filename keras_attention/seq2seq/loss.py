"""Cross-entropy over steps, with every denominator said: a function, and a loss for `compile`."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from keras_attention.functional import cross_entropy, widen
from keras_attention.seq2seq._keras import deserialize, register, serialize

__all__ = ["SequenceLoss", "sequence_loss"]


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
        weights: [B, T], 0 on padding; [B, 1] weighs whole rows, [1, T] steps.
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
    _check_reduction(
        average_across_timesteps, average_across_batch, sum_over_timesteps, sum_over_batch
    )
    with tf.name_scope(name or "sequence_loss"):
        crossent = _cross_entropy(logits, targets, softmax_loss_function)  # [B, T]
        weights = tf.broadcast_to(tf.cast(weights, crossent.dtype), tf.shape(crossent))
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


@register
class SequenceLoss(keras.losses.Loss):
    """`sequence_loss` as a Keras loss: `compile(loss=SequenceLoss())`, or called by hand.

    The arguments are those of `sequence_loss`, but by default both axes are summed and divided by
    the number of real tokens:

        sum(w * ce) / |{w != 0}|

    Call: `loss(y_true, y_pred, sample_weight=None)`, with y_true [B, T] ids or [B, T, V] one-hot,
    y_pred [B, T, V] logits, sample_weight [B, T], by default all ones. As in Keras' own losses,
    steps that the Keras mask of y_pred hides weigh nothing, and under `tf.distribute` what is
    reduced over the batch is divided by the number of replicas, whose gradients are summed.

    Raises ValueError, when called, for the settings and shapes that `sequence_loss` refuses.

    >>> loss = SequenceLoss()
    >>> round(float(loss([[1, 2]], tf.zeros([1, 2, 4]), [[1.0, 0.0]])), 4)
    1.3863
    """

    def __init__(
        self,
        average_across_timesteps: bool = False,
        average_across_batch: bool = False,
        sum_over_timesteps: bool = True,
        sum_over_batch: bool = True,
        softmax_loss_function: Callable | None = None,
        name: str | None = None,
    ):
        super().__init__(reduction="none", name=name)
        self.average_across_timesteps = average_across_timesteps
        self.average_across_batch = average_across_batch
        self.sum_over_timesteps = sum_over_timesteps
        self.sum_over_batch = sum_over_batch
        self.softmax_loss_function = softmax_loss_function

    def __call__(self, y_true, y_pred, sample_weight=None):
        loss = sequence_loss(
            y_pred,
            y_true,
            _visible(sample_weight, getattr(y_pred, "_keras_mask", None)),
            self.average_across_timesteps,
            self.average_across_batch,
            self.sum_over_timesteps,
            self.sum_over_batch,
            self.softmax_loss_function,
            self.name,
        )
        if not (self.average_across_batch or self.sum_over_batch):
            return loss
        return loss / tf.distribute.get_strategy().num_replicas_in_sync

    def get_config(self) -> dict:
        return {
            "average_across_timesteps": self.average_across_timesteps,
            "average_across_batch": self.average_across_batch,
            "sum_over_timesteps": self.sum_over_timesteps,
            "sum_over_batch": self.sum_over_batch,
            "softmax_loss_function": serialize(self.softmax_loss_function),
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict):
        function = deserialize(config["softmax_loss_function"])
        return cls(**{**config, "softmax_loss_function": function})


def _visible(weights, mask):
    """The weights, [B, T] or what broadcasts to it, with 0 where the mask is False."""
    weights = tf.convert_to_tensor([[1.0]] if weights is None else weights)
    if mask is None or weights.shape.rank != 2:  # weights of another rank will be refused
        return weights
    return tf.where(mask, weights, tf.zeros_like(weights))


def _check_ranks(logits, targets, weights) -> None:
    if logits.shape.rank != 3:
        raise ValueError(
            "Logits must be a [batch_size x sequence_length x logits] tensor. Received: shape "
            f"{logits.shape}"
        )
    one_hot = targets.shape.rank == 3 and targets.shape[2:].is_compatible_with(logits.shape[2:])
    if targets.shape.rank != 2 and not one_hot:
        raise ValueError(
            "Targets must be either a [batch_size x sequence_length] tensor of ids, or one-hot "
            f"like the logits. Received: shape {targets.shape}"
        )
    if weights.shape.rank != 2:
        raise ValueError(
            "Weights must be a [batch_size x sequence_length] tensor. Received: shape "
            f"{weights.shape}"
        )


def _check_reduction(average_steps, average_batch, sum_steps, sum_batch) -> None:
    given = {
        "average_across_timesteps": average_steps,
        "average_across_batch": average_batch,
        "sum_over_timesteps": sum_steps,
        "sum_over_batch": sum_batch,
    }
    for average, total, reason in (
        ("average_across_timesteps", "sum_over_timesteps", ""),
        ("average_across_batch", "sum_over_batch", ""),
        ("average_across_batch", "sum_over_timesteps", " because of ambiguous order"),
        ("sum_over_batch", "average_across_timesteps", " because of ambiguous order"),
    ):
        if given[average] and given[total]:
            raise ValueError(
                f"{average} and {total} cannot be set to True at same time{reason}. Set one of "
                f"them to False. Received: {given}"
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
