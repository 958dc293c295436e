"""Attention within windows of an image, shifted or not (Liu et al., 2021: Swin Transformer)."""

from typing import Any

import keras
import tensorflow as tf

from keras_attention.functional.attend import attend
from keras_attention.functional.dtypes import widen
from keras_attention.functional.masks import finite_padding
from keras_attention.functional.shapes import pair, sizes
from keras_attention.functional.windows import (
    cyclic_shift,
    relative_position_index,
    shifted_window_mask,
    window_merge,
    window_partition,
)
from keras_attention.layers._base import Layer
from keras_attention.layers._shapes import check_spatial_shapes
from keras_attention.layers.dropout import Dropout


@keras.saving.register_keras_serializable("keras_attention")
class WindowAttention(Layer):
    """Multi-head attention within windows, with a learned bias for each relative position.

        softmax(q k^T / sqrt(D/H) + B) v        B_ij = table[offset from j to i]

    (Liu et al., 2021, eq. 4.) With a shift, W-MSA becomes SW-MSA: the image is shifted up and left,
    so that windows cross the borders of the previous layer's; pixels that wrapped around are
    masked; then the image is shifted back (section 3.2, figure 4). The paper alternates `shift=0`
    and `shift=window // 2`.

    Args:
        num_heads: H, a divisor of D.
        window: M, or (My, Mx).
        shift: 0 <= shift < M, one number or (up, left). An axis that is not longer than the window
            is not shifted.
        use_bias: give query, key and value a bias.
        dropout: share of the attention weights dropped.

    Call: `(x [B, Y, X, D], mask=None, return_weights=False)` -> [B, Y, X, D], and with
    `return_weights` also [B, N, H, My*Mx, My*Mx], window by window of the shifted image, before
    dropout. Y and X need not be multiples of M: padding is never attended to.
        mask: [B, Y, X] bool, True = visible.

    Raises ValueError for heads that do not divide D, invalid windows or shifts, and windows larger
    than an image of known size.

    >>> layer = WindowAttention(num_heads=2, window=2, shift=1)
    >>> output, weights = layer(tf.ones([1, 4, 6, 8]), return_weights=True)
    >>> output.shape, weights.shape
    (TensorShape([1, 4, 6, 8]), TensorShape([1, 6, 2, 4, 4]))
    """

    def __init__(
        self,
        num_heads: int,
        window: Any,
        shift: Any = 0,
        use_bias: bool = True,
        dropout: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.window, self.shift = pair(window), pair(shift)
        if num_heads < 1 or min(self.window) < 1 or any(int(m) != m for m in self.window):
            raise ValueError(
                "num_heads and window must be whole and at least 1. Received: "
                f"num_heads={num_heads}, window={window}"
            )
        if any(not 0 <= s < max(m, 1) for s, m in zip(self.shift, self.window)):
            raise ValueError(
                "shift must be at least 0 and less than the window. Received: "
                f"shift={shift}, window={window}"
            )
        self.num_heads, self.use_bias = num_heads, use_bias
        self.dropout = Dropout(dropout, dtype=self.dtype_policy)
        self.supports_masking = True

    def build(self, input_shape) -> None:
        """W^Q, W^K, W^V as one kernel [D, 3D], W^O, and a table of (2My-1)(2Mx-1) x H biases."""
        if len(input_shape) != 4:
            raise ValueError(f"Expected [B, Y, X, D]. Received: shape {tuple(input_shape)}")
        _, *places, depth = input_shape
        if depth % self.num_heads:
            raise ValueError(f"num_heads H must divide D. Received: H={self.num_heads}, D={depth}")
        for axis, size, step in zip("YX", places, self.window):
            if size is not None and size < step:
                raise ValueError(
                    f"The window has {step} positions along {axis}, the image fewer. Use a window "
                    f"of at most {axis}. Received: {axis}={size}, window={self.window}"
                )
        self.project = keras.layers.Dense(
            3 * depth, use_bias=self.use_bias, dtype=self.dtype_policy, name="query_key_value"
        )
        self.output_layer = keras.layers.Dense(depth, dtype=self.dtype_policy, name="output")
        for layer in (self.project, self.output_layer):
            layer.build((None, None, None, depth))
        rows, columns = self.window
        self.table = self.add_weight(
            shape=((2 * rows - 1) * (2 * columns - 1), self.num_heads),
            initializer=keras.initializers.TruncatedNormal(stddev=0.02),
            name="table",
        )
        self.built = True

    def call(self, x, mask=None, return_weights=False, training=None):
        """See the class."""
        check_spatial_shapes(x, mask)
        x = finite_padding(x, mask)
        _, height, width, depth = sizes(x)
        tall, wide = (-(-size // m) * m for size, m in zip((height, width), self.window))
        shift = [_unless(n <= m, s) for s, n, m in zip(self.shift, (height, width), self.window)]
        shifts = any(not isinstance(s, int) or s > 0 for s in shift)

        def windows(image):
            paddings = [[0, 0], [0, tall - height], [0, wide - width], [0, 0]]
            image = tf.pad(image, paddings)
            return window_partition(cyclic_shift(image, shift) if shifts else image, self.window)

        seen = self._seen(x, mask, windows, (tall, wide), shift if shifts else None)
        query, key, value = self._heads(windows(x))
        scores = tf.matmul(widen(query), widen(key), transpose_b=True) + self._bias()
        weights = attend(scores, value, seen)[1]
        context = tf.matmul(self.dropout(weights, training=training), value)
        context = tf.transpose(context, [0, 1, 3, 2, 4])  # [B, N, M*M, H, D/H]
        joined = tf.reshape(context, tf.concat([tf.shape(context)[:3], [depth]], 0))
        output = window_merge(self.output_layer(joined), self.window, tall, wide)
        if shifts:
            output = cyclic_shift(output, [-s for s in shift])
        output = tf.ensure_shape(output[:, :height, :width], x.shape)
        return (output, weights) if return_weights else output

    def _heads(self, windows):
        """[B, N, M*M, D] -> query (scaled), key and value, each [B, N, H, M*M, D/H]."""
        batch, count, places, depth = sizes(windows)
        split = [batch, count, places, 3, self.num_heads, depth // self.num_heads]
        query, key, value = tf.unstack(
            tf.transpose(tf.reshape(self.project(windows), split), [3, 0, 1, 4, 2, 5])
        )
        return query * (depth // self.num_heads) ** -0.5, key, value

    def _bias(self):
        """-> [H, M*M, M*M]."""
        # A gather along axis 0 would give the table a sparse gradient, which few can clip.
        table = tf.transpose(widen(self.table))
        return tf.gather(table, relative_position_index(self.window), axis=1)

    def _seen(self, x, mask, windows, padded: tuple[Any, Any], shift):
        """The mask of a window, broadcastable to [B, N, H, M*M, M*M], or None."""
        seen = None
        if mask is not None or padded != tuple(x.shape[1:3]):
            real = tf.ones_like(x[..., 0], tf.bool) if mask is None else tf.cast(mask, tf.bool)
            real = windows(tf.cast(real, tf.int32)[..., None])[..., 0] > 0  # [B, N, M*M]
            seen = real[:, :, None, None]
        if shift is not None:
            together = shifted_window_mask(*padded, self.window, shift)[None, :, None]
            seen = together if seen is None else seen & together
        return seen

    def compute_mask(self, x, mask=None, previous_mask=None):
        return mask if previous_mask is None else previous_mask

    def get_config(self):
        names = "num_heads window shift use_bias".split()
        own = {name: getattr(self, name) for name in names}
        return {**super().get_config(), **own, "dropout": self.dropout.rate}


def _unless(condition, shift):
    """0, with an assertion that the condition holds."""
    if isinstance(condition, bool):
        return 0 if condition else shift
    return tf.where(condition, 0, shift)
