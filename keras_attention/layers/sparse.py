"""Self-attention over few places: strided and fixed (Child et al., 2019)."""

import keras
import tensorflow as tf

from keras_attention.functional.normalizers import softmax
from keras_attention.functional.sparse import fixed_attention, strided_attention
from keras_attention.layers._heads import distances, own_heads
from keras_attention.layers.multi_head import Cache, MultiHeadAttention


@keras.saving.register_keras_serializable("keras_attention")
class StridedAttention(MultiHeadAttention):
    """Step i looks at the `stride` steps before it, and at every stride-th one before.

    (Child et al., 2019, section 4.3.) Attention under `strided(T, stride, hop)`, of which only the
    scores that count are computed: O(T (stride + T / stride)), least for a stride of sqrt(T). From
    any step, two layers reach all before it.

    Args:
        num_heads: H.
        stride: of the far places, and how far the near ones reach.
        hop: 1 near places, 2 far places, None their union. Alternate 1 and 2 in a stack, or add
            the outputs of both, half of the heads each: the paper's factorised forms.
        others: `key_width`, `value_width`, `output_width`, `num_key_heads`, `use_bias` and
            `dropout` of `MultiHeadAttention`, whose weights these are.

    Call: `(query [B, T, D], mask=None, causal=True)` -> [B, T, D]. `mask` [B, T] boolean, True =
    may be looked at; without one, the Keras mask of the query. With `causal=False` the hops are
    |i - j| <= stride and (i - j) mod stride = 0: local, atrous, and sparse attention
    (Su, 2019, kexue.fm). A step that may see nothing gets zeros (and the output's bias).

    Raises ValueError for a stride below 1, another hop, a memory, or a mask of another rank.

    >>> StridedAttention(num_heads=2, stride=3)(tf.ones([1, 9, 8])).shape
    TensorShape([1, 9, 8])
    """

    def __init__(self, num_heads: int, stride: int, hop: int | None = None, **kwargs):
        super().__init__(num_heads, **kwargs)
        if stride < 1 or hop not in (None, 1, 2):
            raise ValueError(
                "stride must be at least 1, and hop 1, 2, or None for both. Received: "
                f"stride={stride}, hop={hop!r}"
            )
        self.stride, self.hop = stride, hop

    def call(self, query, memory=None, mask=None, causal=True, training=None) -> tf.Tensor:
        """See the class."""
        heads, mask = own_heads(self, query, memory, mask)

        def normalize(scores, mask):
            return self.dropout(softmax(scores, mask), training=training)

        context = strided_attention(*heads, self.stride, self.hop, mask, causal, normalize)
        return self.join(context)

    def step(self, query, cache: Cache, slot, mask, bias=None):
        """As that of `MultiHeadAttention`, the slots being steps 0, 1, ..., of its hops."""
        distance = distances(cache.keys, slot, tf.shape(query)[1])
        hops = tf.abs(distance) <= self.stride, distance % self.stride == 0
        seen = hops[0] | hops[1] if self.hop is None else hops[self.hop - 1]
        return super().step(query, cache, slot, mask & seen, bias)

    def get_config(self) -> dict:
        return {**super().get_config(), "stride": self.stride, "hop": self.hop}


@keras.saving.register_keras_serializable("keras_attention")
class FixedAttention(MultiHeadAttention):
    """Step i looks at its own block so far, and at the last `summary` steps of all blocks before.

    (Child et al., 2019, section 4.3.) Attention under `fixed(T, stride, summary, hop)`, always
    j <= i, of which only the scores that count are computed: O(T (stride + summary T / stride)).

    Args:
        num_heads: H.
        stride: the length of a block.
        summary: c, the steps of a block that later blocks see.
        hop: 1 own block, 2 summaries (here its own block's as well), None their union.
        others: those of `StridedAttention`.

    Call: `(query [B, T, D], mask=None)` -> [B, T, D]. `mask` [B, T] boolean, True = may be looked
    at; without one, the Keras mask of the query. A step that may see nothing gets zeros (and the
    output's bias).

    Raises ValueError for a stride below 1, a summary not in 1 .. stride, another hop, a memory, or
    a mask of another rank.

    >>> FixedAttention(num_heads=2, stride=3)(tf.ones([1, 9, 8])).shape
    TensorShape([1, 9, 8])
    """

    is_causal = True

    def __init__(
        self, num_heads: int, stride: int, summary: int = 1, hop: int | None = None, **kwargs
    ):
        super().__init__(num_heads, **kwargs)
        if not 1 <= summary <= stride or hop not in (None, 1, 2):
            raise ValueError(
                "summary must be at least 1 and at most the stride, and hop 1, 2, or None for "
                f"both. Received: stride={stride}, summary={summary}, hop={hop!r}"
            )
        self.stride, self.summary, self.hop = stride, summary, hop

    def call(self, query, memory=None, mask=None, training=None) -> tf.Tensor:
        """See the class."""
        heads, mask = own_heads(self, query, memory, mask)

        def normalize(scores, mask):
            return self.dropout(softmax(scores, mask), training=training)

        context = fixed_attention(*heads, self.stride, self.summary, self.hop, mask, normalize)
        return self.join(context)

    def step(self, query, cache: Cache, slot, mask, bias=None):
        """As that of `MultiHeadAttention`, the slots being steps 0, 1, ..., of its hops."""
        place = slot + tf.range(tf.shape(query)[1])[:, None]
        slots = tf.range(tf.shape(cache.keys)[2])
        hops = (
            place // self.stride == slots // self.stride,
            tf.broadcast_to(
                slots % self.stride >= self.stride - self.summary,
                [tf.shape(place)[0], tf.shape(slots)[0]],
            ),
        )
        seen = hops[0] | hops[1] if self.hop is None else hops[self.hop - 1]
        return super().step(query, cache, slot, mask & seen & (slots <= place), bias)

    def get_config(self) -> dict:
        own = {"stride": self.stride, "summary": self.summary, "hop": self.hop}
        return {**super().get_config(), **own}
