"""Windows on an image: partition, merge, shift cyclically (Liu et al., 2021, Swin).

B batch, Y rows, X columns, D width; a window has My rows and Mx columns, N windows tile the image
row by row. `window` is one number for a square, or the pair (My, Mx).
"""

from typing import Any

import numpy as np
import tensorflow as tf

from keras_attention.functional.shapes import check_shapes, pair, sizes


def window_partition(x: tf.Tensor, window: int | tuple[int, int]) -> tf.Tensor:
    """Cut an image into windows, row by row.  [B, Y, X, D] -> [B, N, My*Mx, D].

    Raises ValueError where Y or X is known and not a multiple of the window's.

    >>> image = tf.reshape(tf.range(8), [1, 2, 4, 1])
    >>> window_partition(image, 2)[0, ..., 0].numpy().tolist()
    [[0, 1, 4, 5], [2, 3, 6, 7]]
    """
    x = tf.convert_to_tensor(x)
    rows, columns = _whole(window)
    check_shapes(x=("B Y X D", x))
    batch, height, width, depth = sizes(x)
    for axis, size, step in (("Y", height, rows), ("X", width, columns)):
        if isinstance(size, int) and size % step:
            raise ValueError(
                f"{axis} must be a multiple of the window's {step}; pad the image. "
                f"Received: {axis}={size}"
            )
    x = tf.reshape(x, [batch, height // rows, rows, width // columns, columns, depth])
    x = tf.transpose(x, [0, 1, 3, 2, 4, 5])  # [B, Y/My, X/Mx, My, Mx, D]
    return tf.reshape(x, [batch, (height // rows) * (width // columns), rows * columns, depth])


def window_merge(
    windows: tf.Tensor, window: int | tuple[int, int], height: Any, width: Any
) -> tf.Tensor:
    """Merge windows to an image, the inverse of `window_partition`.

    [B, N, My*Mx, D], and Y and X as ints or scalar tensors -> [B, Y, X, D].

    >>> image = tf.reshape(tf.range(8), [1, 2, 4, 1])
    >>> bool(tf.reduce_all(window_merge(window_partition(image, 2), 2, 2, 4) == image))
    True
    """
    windows = tf.convert_to_tensor(windows)
    rows, columns = pair(window)
    batch, _, _, depth = sizes(windows)
    x = tf.reshape(windows, [batch, height // rows, width // columns, rows, columns, depth])
    x = tf.transpose(x, [0, 1, 3, 2, 4, 5])  # [B, Y/My, My, X/Mx, Mx, D]
    return tf.reshape(x, [batch, height, width, depth])


def cyclic_shift(x: tf.Tensor, shift: Any) -> tf.Tensor:
    """Shift an image up and left; pixels that leave at one edge enter at the other.  [B, Y, X, D]

    `shift` is one number or a pair (up, left); its negative undoes it.

    >>> cyclic_shift(tf.reshape(tf.range(4), [1, 1, 4, 1]), (0, 1))[0, 0, :, 0].numpy().tolist()
    [1, 2, 3, 0]
    """
    up, left = pair(shift)
    return tf.roll(x, [-up, -left], [1, 2])


def shifted_window_mask(
    height: Any, width: Any, window: int | tuple[int, int], shift: Any
) -> tf.Tensor:
    """Which pixels of a window attend to each other after a `cyclic_shift`: real neighbours only.

    Y and X multiples of the window's; `shift` up and left -> [N, My*Mx, My*Mx] bool.

    Of the paper's nine regions those in the same window differ only in whether their rows and
    their columns were wrapped.

    >>> shifted_window_mask(1, 2, (1, 2), (0, 1))[0].numpy().astype(int).tolist()
    [[1, 0], [0, 1]]
    """
    up, left = pair(shift)
    below = tf.cast(tf.range(height) >= height - up, tf.int32)
    right = tf.cast(tf.range(width) >= width - left, tf.int32)
    region = 2 * below[:, None] + right  # [Y, X]
    region = window_partition(region[None, :, :, None], window)[0, :, :, 0]  # [N, My*Mx]
    return region[:, :, None] == region[:, None]


def relative_position_index(window: int | tuple[int, int]) -> tf.Tensor:
    """Index of each pair of places in a table of (2My-1)(2Mx-1) offsets (Swin, section 3.2).

    -> [My*Mx, My*Mx] int32: row i, column j hold the offset from place j to place i. The first
    offset, 0, is (1-My, 1-Mx).

    >>> relative_position_index((1, 3)).numpy().tolist()
    [[2, 1, 0], [3, 2, 1], [4, 3, 2]]
    """
    rows, columns = _whole(window)
    y, x = np.divmod(np.arange(rows * columns), columns)
    down = y[:, None] - y + rows - 1
    across = x[:, None] - x + columns - 1
    return tf.constant(down * (2 * columns - 1) + across, tf.int32)


def _whole(window):
    rows, columns = pair(window)
    if min(rows, columns) < 1:
        raise ValueError(f"window must be at least 1. Received: window={window}")
    return rows, columns
