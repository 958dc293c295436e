"""Multi-head attention that knows how far away things stand."""

import keras
import tensorflow as tf

from keras_attention.functional.heads import head_contexts, head_scores, write_slots
from keras_attention.functional.masks import steps_before
from keras_attention.functional.relative import relative_context, relative_scores
from keras_attention.functional.shapes import sizes
from keras_attention.layers.multi_head import Cache, MultiHeadAttention, weigh_scores


@keras.saving.register_keras_serializable("keras_attention")
class RelativeAttention(MultiHeadAttention):
    """Keys and values that depend on the distance, up to k (Shaw et al., 2018, eqs. 1 to 5).

        e_ij = q_i·(k_j + a^K_{clip(j - i, -k, k)}) / sqrt(Dk)
        z_i = sum_j softmax_j(e_ij) (v_j + a^V_{clip(j - i, -k, k)})

    It takes the place of sinusoids. Two tables of 2k + 1 vectors, for all heads or one each; no
    vector for every pair of steps ever exists. With tables of zeros it is `MultiHeadAttention`; in
    sequences of n <= k + 1 steps what lies beyond distance n - 1 is not used.

    Args:
        num_heads: H.
        reach: k; 16 in the paper's base model.
        share_heads: one pair of tables for all heads (the paper's big model) instead of one for
            each (its base model).
        others: `key_width`, `value_width`, `output_width`, `num_key_heads`, `use_bias` and
            `dropout` of `MultiHeadAttention`.

    Call: as `MultiHeadAttention`. The queries are the last T of the S steps of a `memory`
    [B, S, D], with `causal` and without; other memories have no distances.

    Raises ValueError for a reach below 0, or a known S < T.

    >>> layer = RelativeAttention(num_heads=2, reach=4)
    >>> layer(tf.ones([1, 5, 8]), causal=True).shape, tuple(layer.key_table.shape)
    (TensorShape([1, 5, 8]), (9, 4))
    """

    def __init__(self, num_heads: int, reach: int, share_heads: bool = True, **kwargs):
        super().__init__(num_heads, **kwargs)
        if reach < 0:
            raise ValueError(f"reach must be at least 0. Received: reach={reach}")
        self.reach, self.share_heads = reach, share_heads

    def build(self, query_shape, memory_shape=None) -> None:
        """The projections, and two tables [2k + 1, Dk] and [2k + 1, Dv], or one for each head."""
        super().build(query_shape, memory_shape)
        heads = () if self.share_heads else (self.num_heads,)
        self.key_table, self.value_table = (
            self.add_weight(shape=(*heads, 2 * self.reach + 1, width), name=name)
            for width, name in ((self._key_width, "key_table"), (self._value_width, "value_table"))
        )
        self.built = True

    def weigh(self, query, keys, mask=None, bias=None, offset=None) -> tf.Tensor:
        """What each head looks at, the first query standing at slot `offset`, by default S - T."""
        if offset is None:
            offset = steps_before(sizes(query)[2], sizes(keys)[2])
        scores = head_scores(query, keys)
        scores += relative_scores(query, self.key_table, tf.shape(keys)[2], offset)
        return weigh_scores(scores, query, mask, bias)

    def read(self, weights, values, offset=None) -> tf.Tensor:
        """The heads' contexts, joined; `offset` as in `weigh`."""
        weights = tf.cast(weights, values.dtype)
        if offset is None:
            offset = steps_before(sizes(weights)[2], sizes(values)[2])
        context = head_contexts(weights, values)
        return self.join(context + relative_context(weights, self.value_table, offset))

    def step(self, query, cache: Cache, slot, mask, bias=None):
        """As that of `MultiHeadAttention`, the slots being steps 0, 1, ...."""
        new = self.project_memory(query)
        cache = Cache(*(write_slots(old, x, slot) for old, x in zip(cache, new)))
        weights = self.weigh(self.split_query(query), cache.keys, mask, bias, offset=slot)
        return self.read(weights, cache.values, offset=slot), cache

    def get_config(self) -> dict:
        own = {"reach": self.reach, "share_heads": self.share_heads}
        return {**super().get_config(), **own}
