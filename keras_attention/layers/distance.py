"""Attention that prefers what is near, and a sentence encoder of it (Im and Cho, 2017)."""

import keras
import tensorflow as tf

from keras_attention.functional.heads import head_mask, write_slots
from keras_attention.functional.masks import finite_padding, steps_mask
from keras_attention.functional.shapes import sizes
from keras_attention.layers._base import Layer
from keras_attention.layers._heads import distances
from keras_attention.layers._shapes import check_shapes
from keras_attention.layers.blocks import FeedForward, Residual
from keras_attention.layers.directional import Source2Token
from keras_attention.layers.multi_head import Cache, MultiHeadAttention


@keras.saving.register_keras_serializable("keras_attention")
class DistanceAttention(MultiHeadAttention):
    """Multi-head self-attention in which distance costs: softmax(q·k / sqrt(Dk) - alpha |i - j|).

    (Im and Cho, 2017, section 3.) `alpha=0` leaves it out; a great one leaves the nearest.

    Args:
        num_heads: H.
        alpha: what a step of distance costs; 1.5 in the paper.
        forward: True looks at j < i, False at j > i, None at both sides and at itself.
        others: `key_width`, `value_width`, `output_width`, `num_key_heads`, `use_bias` and
            `dropout` of `MultiHeadAttention`.

    Call: `(query [B, T, D], mask=None, causal=False, return_weights=False)` -> [B, T, D], and with
    `return_weights` also [B, H, T, T]. `mask` [B, T] or [B, T, T] boolean, True = may look;
    without one, the Keras mask of the query. `causal`: also only j <= i. What has nothing to look
    at, as the first step forward, gets zeros (and the output's bias).

    Raises ValueError for an alpha below 0, or a memory.

    >>> layer = DistanceAttention(num_heads=1, forward=None)
    >>> _, weights = layer(tf.zeros([1, 4, 2]), return_weights=True)
    >>> [round(float(weight), 4) for weight in weights[0, 0, 0]]
    [0.7788, 0.1738, 0.0388, 0.0087]
    """

    def __init__(self, num_heads: int, alpha: float = 1.5, forward: bool | None = True, **kwargs):
        super().__init__(num_heads, **kwargs)
        if alpha < 0:
            raise ValueError(f"alpha must be at least 0. Received: alpha={alpha}")
        self.alpha, self.forward = alpha, forward

    @property
    def is_causal(self) -> bool:
        """Whether it never looks ahead, without being asked to."""
        return self.forward is True

    def call(
        self, query, memory=None, mask=None, causal=False, return_weights=False, training=None
    ):
        """See the class."""
        if memory is not None:
            raise ValueError(
                "DistanceAttention looks at the query [B, T, D] itself, for only steps of one "
                "sequence have distances: leave memory out. Received: a memory"
            )
        query, memory, mask = self.prepare(query, None, mask)
        distance = distances(memory.keys, 0, tf.shape(query)[1])
        mask = head_mask(mask, causal, *2 * [sizes(query)[1]])
        weights = self.weigh_at(distance, query, memory.keys, mask)
        output = self.read(self.dropout(weights, training=training), memory.values)
        return (output, weights) if return_weights else output

    def step(self, query, cache: Cache, slot, mask, bias=None):
        """As that of `MultiHeadAttention`, the slots being steps 0, 1, ...."""
        new = self.project_memory(query)
        cache = Cache(*(write_slots(old, x, slot) for old, x in zip(cache, new)))
        distance = distances(cache.keys, slot, tf.shape(query)[1])
        weights = self.weigh_at(distance, query, cache.keys, mask)
        return self.read(weights, cache.values), cache

    def weigh_at(self, distance, query, keys, mask=None) -> tf.Tensor:
        """What each head looks at, slots being i - j steps back.

        distance [T, S], query [B, T, D], keys [B, G, S, Dk] -> [B, H, T, S].
        """
        if self.forward is not None:
            directed = distance > 0 if self.forward else distance < 0
            mask = directed if mask is None else directed & mask
        decay = -self.alpha * tf.cast(tf.abs(distance), tf.float32)
        return self.weigh(self.split_query(query), keys, mask, decay)

    def get_config(self) -> dict:
        return {**super().get_config(), "alpha": self.alpha, "forward": self.forward}


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
