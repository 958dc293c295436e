"""Self-attention that looks at a neighbourhood, at the cost of a neighbourhood."""

import keras
import tensorflow as tf

from keras_attention.functional.banded import banded_attention
from keras_attention.functional.normalizers import softmax
from keras_attention.layers._heads import distances, own_heads
from keras_attention.layers.multi_head import Cache, MultiHeadAttention


@keras.saving.register_keras_serializable("keras_attention")
class RestrictedAttention(MultiHeadAttention):
    """Multi-head self-attention in which step i looks at the steps with |i - j| <= radius.

    (Vaswani et al., 2017, section 4.) Its r is 2 radius + 1 here. The steps are cut into
    blocks of `radius`, each of which looks at itself and its two neighbours: time and memory are
    O(T radius), no [T, T] scores exist. A stack of L layers connects steps L radius apart. With a
    radius of T - 1 or more it is `MultiHeadAttention`.

    Args:
        num_heads: H.
        radius: how far to either side.
        others: `key_width`, `value_width`, `output_width`, `num_key_heads`, `use_bias` and
            `dropout` of `MultiHeadAttention`, whose weights these are.

    Call: `(query [B, T, D], mask=None, causal=False)` -> [B, T, D]. `mask` [B, T] boolean, True =
    may be looked at; without one, the Keras mask of the query. `causal`: also only j <= i. A step
    that may see nothing gets zeros (and the output's bias).

    Raises ValueError for a radius below 0, a memory, or a mask of another rank.

    >>> RestrictedAttention(num_heads=2, radius=1)(tf.ones([1, 5, 8])).shape
    TensorShape([1, 5, 8])
    """

    def __init__(self, num_heads: int, radius: int, **kwargs):
        super().__init__(num_heads, **kwargs)
        if radius < 0:
            raise ValueError(f"radius must be at least 0. Received: radius={radius}")
        self.radius = radius

    def call(self, query, memory=None, mask=None, causal=False, training=None) -> tf.Tensor:
        """See the class."""
        heads, mask = own_heads(self, query, memory, mask)

        def normalize(scores, mask):
            return self.dropout(softmax(scores, mask), training=training)

        context = banded_attention(*heads, self.radius, mask, causal, normalize)
        return self.join(context)

    def step(self, query, cache: Cache, slot, mask, bias=None):
        """As that of `MultiHeadAttention`, the slots being steps 0, 1, ..., within the radius."""
        distance = distances(cache.keys, slot, tf.shape(query)[1])
        return super().step(query, cache, slot, mask & (tf.abs(distance) <= self.radius), bias)

    def get_config(self) -> dict:
        return {**super().get_config(), "radius": self.radius}
