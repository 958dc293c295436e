"""Glimpses: image patches of several resolutions around a point (Mnih et al., 2014, 3.1)."""

import tensorflow as tf

from keras_attention.functional.shapes import sizes


def glimpse(image: tf.Tensor, location: tf.Tensor, size: int, scales: int = 1) -> tf.Tensor:
    """Square patches around a point, each twice as wide as the previous, all resized to G x G.

    image [B, Y, X, C], location [B, 2] as (y, x) in [-1, 1] -> [B, scales, G, G, C], G = `size`.

    (0, 0) is the middle of the image, (-1, -1) its upper left corner, (1, 1) its lower right one.
    Patch k is the square of side G * 2^k around the point, rounded to whole pixels, averaged over
    blocks of 2^k x 2^k; outside of the image are zeros. There is a gradient with respect to the
    image and none with respect to the location.

    Raises ValueError for an image or a location of another rank, a size or number of scales < 1.

    >>> image = tf.reshape(tf.range(16.0), [1, 4, 4, 1])
    >>> glimpse(image, tf.zeros([1, 2]), size=2)[0, 0, ..., 0].numpy().tolist()
    [[5.0, 6.0], [9.0, 10.0]]
    """
    image, location = tf.convert_to_tensor(image), tf.convert_to_tensor(location)
    if image.shape.rank != 4 or location.shape.rank != 2 or location.shape[-1] not in (2, None):
        raise ValueError(
            "image must be [B, Y, X, C] and location [B, 2], (y, x). Received: shapes "
            f"{image.shape} and {location.shape}"
        )
    if min(size, scales) < 1:
        raise ValueError(
            f"size and scales must be at least 1. Received: size={size}, scales={scales}"
        )
    return tf.stack([_patch(image, location, size, 2**k) for k in range(scales)], 1)


def _patch(image, location, size, block):
    """[B, Y, X, C] -> [B, G, G, C], the mean of each block of block x block pixels."""
    _, height, width, depth = sizes(image)
    side = size * block
    rows, row_real = _span(location[:, 0], height, side)
    columns, column_real = _span(location[:, 1], width, side)
    patch = tf.gather(image, rows, axis=1, batch_dims=1)  # [B, side, X, C]
    patch = tf.gather(patch, columns, axis=2, batch_dims=1)  # [B, side, side, C]
    real = row_real[:, :, None, None] & column_real[:, None, :, None]
    patch = tf.where(real, patch, tf.zeros([], image.dtype))
    if block == 1:
        return patch
    return tf.reduce_mean(tf.reshape(patch, [-1, size, block, size, block, depth]), [2, 4])


def _span(place, length, side):
    """Pixel indices of a patch along one axis, and which are real.  [B] -> [B, side] twice."""
    # Indices above 256 are not exact in bfloat16.
    place = tf.cast(place, tf.float32)
    first = tf.floor((place + 1) / 2 * tf.cast(length, tf.float32) - side / 2 + 0.5)
    pixels = tf.cast(first, tf.int32)[:, None] + tf.range(side)
    return tf.clip_by_value(pixels, 0, length - 1), (pixels >= 0) & (pixels < length)
