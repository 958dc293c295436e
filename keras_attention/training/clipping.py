"""Clipping by the true global norm of all gradients (Pascanu et al., 2013)."""

import math
from collections.abc import Sequence

import tensorflow as tf

Gradient = tf.Tensor | tf.IndexedSlices | None


def global_norm(gradients: Sequence[Gradient]) -> tf.Tensor:
    """The norm of all gradients as one vector: sqrt(sum_i ||g_i||^2).

    Rows of a `tf.IndexedSlices` (the gradient of an embedding) that share an index are added
    first, so the norm is that of the dense gradient; `tf.linalg.global_norm` skips that step.

    Args:
        gradients: tensors of any float dtype and shape, `tf.IndexedSlices`, or None (ignored).

    Returns:
        A scalar, float32 (float64 if a gradient is); 0 when there is no gradient.

    >>> float(global_norm([tf.constant([3.0, 4.0]), None, tf.constant([12.0])]))
    13.0
    """
    return _norm([_summed(gradient) for gradient in gradients])


def clip_by_global_norm(
    gradients: Sequence[Gradient], norm: float
) -> tuple[list[Gradient], tf.Tensor]:
    """Scale all gradients together so that their global norm is at most `norm`.

    g_i <- g_i * norm / max(global_norm, norm)   (Pascanu et al., 2013, algorithm 1)

    Like `tf.clip_by_global_norm` for dense gradients; for sparse ones the norm is the true one.

    Args:
        gradients: tensors, `tf.IndexedSlices` (returned with distinct indices), or None (kept).
        norm: the limit, > 0.

    Returns:
        The clipped gradients, each in its own dtype, and the global norm before clipping.
        If that norm is NaN or infinite every gradient is NaN, so that the failure is visible.

    Raises:
        ValueError: `norm` is not a positive finite number.

    >>> clipped, norm = clip_by_global_norm([tf.constant([3.0, 4.0]), tf.constant([12.0])], 5.0)
    >>> float(norm), [round(float(x), 6) for g in clipped for x in g]
    (13.0, [1.153846, 1.538462, 4.615385])
    """
    summed = [_summed(gradient) for gradient in gradients]
    total = _norm(summed)
    limit = tf.constant(checked(norm), total.dtype)
    scale = tf.where(tf.math.is_finite(total), limit / tf.maximum(total, limit), math.nan)
    clipped = [
        None if before is None else _scaled(after, scale, before.dtype)
        for before, after in zip(gradients, summed)
    ]
    return clipped, total


def checked(norm: float) -> float:
    """`norm`, if it is a valid limit."""
    if not (0 < norm < math.inf):
        raise ValueError(f"norm must be positive and finite. Received: norm={norm}.")
    return float(norm)


def _summed(gradient):
    """The gradient in at least float32, with the rows of each index added up."""
    if gradient is None:
        return None
    wide = tf.float64 if gradient.dtype == tf.float64 else tf.float32
    if not isinstance(gradient, tf.IndexedSlices):
        return tf.cast(gradient, wide)
    indices, row = tf.unique(gradient.indices)
    values = tf.math.unsorted_segment_sum(tf.cast(gradient.values, wide), row, tf.size(indices))
    return tf.IndexedSlices(values, indices, gradient.dense_shape)


def _norm(summed):
    values = [_values(gradient) for gradient in summed if gradient is not None]
    wide = tf.float64 if any(value.dtype == tf.float64 for value in values) else tf.float32
    halves = [tf.cast(tf.nn.l2_loss(value), wide) for value in values]
    return tf.sqrt(2.0 * tf.add_n(halves)) if halves else tf.constant(0.0)


def _scaled(gradient, scale, dtype):
    values = _values(gradient)
    values = tf.cast(values * tf.cast(scale, values.dtype), dtype)
    if isinstance(gradient, tf.IndexedSlices):
        return tf.IndexedSlices(values, gradient.indices, gradient.dense_shape)
    return values


def _values(gradient):
    return gradient.values if isinstance(gradient, tf.IndexedSlices) else gradient
