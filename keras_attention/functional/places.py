"""The positions of an image, video or sequence as one axis S, for attention over space."""

from typing import Any

import tensorflow as tf

from keras_attention.functional.shapes import extend, sizes


def flatten_places(x: tf.Tensor) -> tf.Tensor:
    """[B, ..., D] -> [B, S, D], row by row.

    >>> flatten_places(tf.zeros([2, 3, 4, 5])).shape
    TensorShape([2, 12, 5])
    """
    x = tf.convert_to_tensor(x)
    batch, *_, depth = sizes(x)
    return tf.reshape(x, [batch, -1, depth])


def pool_places(x: tf.Tensor, pool: Any, mask: tf.Tensor | None = None) -> tuple:
    """Max pooling over blocks of positions, of the real ones only.

    x [B, ..., D], mask [B, ...] bool or None, `pool` the side of a block along each axis of
    positions (one number, or one for each) -> [B, S', D], mask [B, S'] or None. An incomplete last
    block counts, too.

    >>> pool_places(tf.reshape(tf.range(5.0), [1, 5, 1]), 2)[0][0, :, 0].numpy().tolist()
    [1.0, 3.0, 4.0]
    """
    x = tf.convert_to_tensor(x)
    axes = x.shape.rank - 2
    steps = (pool,) * axes if isinstance(pool, int) else tuple(pool)
    if len(steps) != axes or min(steps) < 1:
        raise ValueError(
            f"pool needs one step, at least 1, for each of the {axes} axes of positions. "
            f"Received: pool={pool}, input of shape {x.shape}"
        )
    if max(steps) > 1:
        if mask is not None:
            x = tf.where(mask[..., None], x, x.dtype.min)
            mask = _largest(tf.cast(mask, tf.int32)[..., None], steps)[..., 0] > 0
        x = _largest(x, steps)
        if mask is not None:
            x = tf.where(mask[..., None], x, tf.zeros([], x.dtype))
    return flatten_places(x), None if mask is None else flatten_places(mask[..., None])[..., 0]


def _largest(x, steps):
    """The maximum over a block, as maxima along each axis."""
    for axis, step in enumerate(steps, 1):
        if step > 1:
            length = sizes(x)[axis]
            x = extend(x, axis, -length % step, x.dtype.min)
            before, (_, *after) = sizes(x)[:axis], sizes(x)[axis:]
            blocks = tf.reshape(x, [*before, -(-length // step), step, *after])
            x = tf.reduce_max(blocks, axis + 1)
    return x
