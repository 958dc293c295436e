"""A sentence encoder of attention with a penalty on distance (Im and Cho, 2017)."""

import keras
import tensorflow as tf

from keras_attention.functional.masks import finite_padding, steps_mask
from keras_attention.layers._base import Layer
from keras_attention.layers._shapes import check_shapes
from keras_attention.layers.blocks import FeedForward, Residual
from keras_attention.layers.directional import Source2Token
from keras_attention.layers.head_variants import DistanceAttention


@keras.saving.register_keras_serializable("keras_attention")
class DistanceBlock(Layer):
    """`DistanceAttention` of one direction, a gate between it and its input, feed-forward.

        S = x W^S    H = attention(x) W^H    F = sigmoid(S + H + b)    g = F * S + (1 - F) * H
        LayerNorm(g + FeedForward(g))

    (Im and Cho, 2017, section 3. Reimplementations put norms elsewhere; there is one here.)

    Args: `num_heads` H, `ff_width` of the hidden layer, `alpha` and `forward` of the attention.

    Call: `(x [B, T, D], mask=None)` -> [B, T, D], `mask` as in `DistanceAttention`.

    >>> DistanceBlock(num_heads=2, ff_width=8)(tf.ones([1, 3, 4])).shape
    TensorShape([1, 3, 4])
    """

    def __init__(
        self,
        num_heads: int,
        ff_width: int,
        alpha: float = 1.5,
        forward: bool | None = True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        policy = self.dtype_policy
        self._config = {
            "num_heads": num_heads,
            "ff_width": ff_width,
            "alpha": alpha,
            "forward": forward,
        }
        self.attention = DistanceAttention(num_heads, alpha, forward, dtype=policy)
        self.feed_forward = FeedForward(ff_width, dtype=policy)
        self.residual = Residual(dtype=policy)
        self.supports_masking = True

    def build(self, input_shape) -> None:
        """The attention, W^S, W^H and b, the feed-forward layer and its norm."""
        check_shapes(x=("B T D", input_shape))
        width = input_shape[-1]
        self.own, self.attended = (
            keras.layers.Dense(width, use_bias=False, dtype=self.dtype_policy) for _ in range(2)
        )
        for layer in (self.attention, self.own, self.attended, self.feed_forward, self.residual):
            layer.build((None, None, width))
        self.bias = self.add_weight(shape=(width,), initializer="zeros", name="bias")
        self.built = True

    def call(self, x, mask=None, training=None) -> tf.Tensor:
        """See the class."""
        x = finite_padding(x, steps_mask(mask))
        attended = self.attended(self.attention(x, mask=mask, training=training))
        own = self.own(x)
        gate = tf.sigmoid(own + attended + tf.cast(self.bias, own.dtype))
        fused = gate * own + (1 - gate) * attended
        return self.residual(fused, sublayer=self.feed_forward, training=training)

    def compute_mask(self, x, previous_mask=None):
        """That of x, whatever `mask` is: it may be of pairs."""
        return getattr(x, "_keras_mask", None)

    def get_config(self) -> dict:
        return {**super().get_config(), **self._config}


@keras.saving.register_keras_serializable("keras_attention")
class DistanceSAN(Layer):
    """A sentence encoder: both directions, pooled by `Source2Token` and by their maximum.

    (Im and Cho, 2017, figure 1.) [Source2Token(u); max_t u_t] of u = [forward block; backward
    block].

    Args: `num_heads` H, `ff_width`, `alpha` of both blocks.

    Call: `(x [B, T, D], mask=None)` -> [B, 4 D]. `mask` [B, T] boolean, True = may be looked at;
    without one, the Keras mask of x, which ends here.

    >>> DistanceSAN(num_heads=2, ff_width=8)(tf.ones([2, 3, 4])).shape
    TensorShape([2, 16])
    """

    def __init__(self, num_heads: int, ff_width: int, alpha: float = 1.5, **kwargs):
        super().__init__(**kwargs)
        self._config = {"num_heads": num_heads, "ff_width": ff_width, "alpha": alpha}
        self.forward, self.backward = (
            DistanceBlock(**self._config, forward=forward, dtype=self.dtype_policy)
            for forward in (True, False)
        )
        self.pool = Source2Token(dtype=self.dtype_policy)
        self.supports_masking = True

    def build(self, input_shape) -> None:
        """Its three parts."""
        self.forward.build(input_shape)
        self.backward.build(input_shape)
        self.pool.build((*input_shape[:-1], 2 * input_shape[-1]))
        self.built = True

    def call(self, x, mask=None, training=None) -> tf.Tensor:
        """See the class."""
        ways = (self.forward, self.backward)
        steps = tf.concat([way(x, mask=mask, training=training) for way in ways], -1)
        return tf.concat([self.pool(steps, mask=mask), _maximum(steps, mask)], -1)

    def compute_mask(self, x, previous_mask=None) -> None:
        """One vector a sentence: nothing left to mask."""

    def get_config(self) -> dict:
        return {**super().get_config(), **self._config}


def _maximum(x, mask):
    """Of the steps that may be seen, or zeros without any.  [B, T, D] -> [B, D]."""
    if mask is None:
        return tf.reduce_max(x, 1)
    seen = tf.cast(mask, tf.bool)[..., None]
    best = tf.reduce_max(tf.where(seen, x, x.dtype.min), 1)
    return tf.where(tf.reduce_any(seen, 1), best, 0.0)
