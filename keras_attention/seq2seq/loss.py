"""Cross-entropy over steps with a choice of denominators: a function, and a loss for `compile`."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from keras_attention.backend.keras import as_converted, deserialize, register, serialize
from keras_attention.functional.dtypes import widen
from keras_attention.functional.likelihood import as_ids, cross_entropy
from keras_attention.functional.replicas import mean_over_replicas
from keras_attention.functional.shapes import check_same_sizes

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

    With both averages: sum(w * ce) / sum(w), the mean over real tokens. An average over one axis
    divides by the sum of the weights over it; a sum divides by the number of non-zero weights. An
    empty denominator gives 0. Positions with a weight of 0 have no effect on the loss or its
    gradient, even with targets of -1 or -100, or logits of -inf.

    Args:
        logits: [B, T, V].
        targets: [B, T] ids from 0 to V - 1, or [B, T, V] one-hot.
        weights: [B, T], 0 for padding; [B, 1] weights whole rows, [1, T] steps.
        average_across_timesteps, sum_over_timesteps: how to reduce T (not both).
        average_across_batch, sum_over_batch: how to reduce B (not both).
        softmax_loss_function: `(labels=, logits=) -> [B*T]` instead of the softmax loss.

    Returns a scalar, [T] or [B] if one axis is not reduced, [B, T] if neither is.

    Raises ValueError for shapes that do not fit, for an id out of range at a weight other than 0,
    and for an axis that is both averaged and summed; InvalidArgumentError with the same message if
    only the graph knows the values.

    >>> logits, targets = tf.zeros([1, 2, 4]), tf.constant([[1, 2]])
    >>> round(float(sequence_loss(logits, targets, weights=tf.constant([[1.0, 0.0]]))), 4)
    1.3863
    """
    settings = {
        "average_across_timesteps": average_across_timesteps,
        "average_across_batch": average_across_batch,
        "sum_over_timesteps": sum_over_timesteps,
        "sum_over_batch": sum_over_batch,
    }
    with tf.name_scope(name or "sequence_loss"):
        total, count = _total_and_count(logits, targets, weights, settings, softmax_loss_function)
        return total if count is None else tf.math.divide_no_nan(total, count)


def _total_and_count(logits, targets, weights, settings, softmax_loss_function, mask=None):
    """The sum of the losses along the chosen axes, and the denominator, or None."""
    _check_settings(settings)
    logits, targets, weights = map(tf.convert_to_tensor, (logits, targets, weights))
    checks = _check_shapes(logits, targets, weights, mask)
    if checks:
        with tf.control_dependencies(checks):
            logits, targets, weights = map(tf.identity, (logits, targets, weights))
    logits = widen(logits)
    weights = tf.broadcast_to(tf.cast(weights, logits.dtype), tf.shape(logits)[:2])
    if mask is not None:
        weights = tf.where(mask, weights, tf.zeros_like(weights))
    losses = _cross_entropy(logits, targets, tf.not_equal(weights, 0), softmax_loss_function)
    weights = tf.cast(weights, losses.dtype)
    losses *= weights  # [B, T]
    averages = _axes(settings, "average_across")
    if averages:
        return tf.reduce_sum(losses, averages), tf.reduce_sum(weights, averages)
    sums = _axes(settings, "sum_over")
    if sums:
        count = tf.math.count_nonzero(weights, sums, dtype=losses.dtype)
        return tf.reduce_sum(losses, sums), count
    return losses, None


def _axes(settings, kind):
    return [axis for axis, name in enumerate(("batch", "timesteps")) if settings[f"{kind}_{name}"]]


@register
class SequenceLoss(keras.losses.Loss):
    """`sequence_loss` as a Keras loss: for `compile(loss=SequenceLoss())`, or to call directly.

    The arguments are those of `sequence_loss`, but by default both axes are summed and the sum is
    divided by the number of real tokens:

        sum(w * ce) / |{w != 0}|

    Call: `loss(y_true, y_pred, sample_weight=None)`, with y_true [B, T] ids or [B, T, V] one-hot,
    y_pred [B, T, V] logits, sample_weight [B, T], by default all ones. As in Keras' own losses,
    steps hidden by the Keras mask of y_pred have weight 0. Under `tf.distribute` a reduction over
    the batch counts the tokens of all replicas and divides by the number of replicas, because
    gradients are summed over replicas: training equals that on one device.

    Raises ValueError, when called, for settings and shapes that `sequence_loss` rejects.

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
        settings = self._settings()
        with tf.name_scope(self.name or "sequence_loss"):
            total, count = _total_and_count(
                y_pred,
                y_true,
                [[1.0]] if sample_weight is None else sample_weight,
                settings,
                self.softmax_loss_function,
                mask=getattr(y_pred, "_keras_mask", None),
            )
            if count is None:
                return total
            over_batch = settings["average_across_batch"] or settings["sum_over_batch"]
            divide = mean_over_replicas if over_batch else tf.math.divide_no_nan
            return divide(total, count)

    def _settings(self):
        return {
            "average_across_timesteps": self.average_across_timesteps,
            "average_across_batch": self.average_across_batch,
            "sum_over_timesteps": self.sum_over_timesteps,
            "sum_over_batch": self.sum_over_batch,
        }

    def get_config(self) -> dict:
        return {
            **self._settings(),
            "softmax_loss_function": serialize(self.softmax_loss_function),
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict):
        function = deserialize(config["softmax_loss_function"])
        return cls(**{**config, "softmax_loss_function": function})


def _check_shapes(logits, targets, weights, mask) -> list:
    """ValueError for static shapes, or assertions for those known at run time."""
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
    checks = [
        *check_same_sizes(targets, logits, 2, "Targets must be [B, T], like the logits [B, T, V]."),
        *check_same_sizes(
            weights, logits, 2, "Weights must be [B, T], like the logits [B, T, V].", True
        ),
    ]
    if mask is not None:
        words = "The Keras mask must be [B, T], like the logits [B, T, V]."
        checks += check_same_sizes(tf.convert_to_tensor(mask), logits, 2, words, True)
    return checks


def _check_settings(given) -> None:
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


def _cross_entropy(logits, targets, counted, softmax_loss_function):
    """-log p of every target, 0 where it is not counted.  -> [B, T]."""
    shape = tf.shape(logits)
    flat = tf.reshape(logits, [-1, logits.shape[2] or shape[2]])
    counted = tf.reshape(counted, [-1])
    if targets.shape.rank == 2 and softmax_loss_function is None:
        losses = cross_entropy(tf.reshape(targets, [-1]), flat, counted=counted)
        return tf.reshape(losses, shape[:2])
    # Positions that are not counted are passed as zeros: their loss and gradient are finite.
    flat = tf.where(counted[:, None], flat, tf.zeros_like(flat))
    if targets.shape.rank == 3:
        labels = tf.reshape(targets, [-1, shape[2]])
        labels = tf.where(counted[:, None], labels, tf.zeros_like(labels))
    else:
        labels = as_ids(tf.reshape(targets, [-1]), logits.shape[2], counted)
        labels = tf.where(counted, labels, tf.zeros_like(labels))
    if softmax_loss_function is None:
        labels = tf.cast(labels, flat.dtype)  # one-hot labels
        softmax_loss_function = tf.nn.softmax_cross_entropy_with_logits
    losses = as_converted(softmax_loss_function)(labels=labels, logits=flat)
    losses = tf.where(counted, losses, tf.zeros_like(losses))
    return tf.reshape(losses, shape[:2])
