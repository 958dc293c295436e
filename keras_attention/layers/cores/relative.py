"""A core that adds vectors of the distance to keys and values."""

import dataclasses

import keras
import tensorflow as tf

from keras_attention.functional.heads import biased_weights, head_contexts, head_mask, head_scores
from keras_attention.functional.masks import steps_before
from keras_attention.functional.relative import (
    relative_context,
    relative_scores,
    row_contexts,
    row_scores,
)
from keras_attention.functional.shapes import sizes
from keras_attention.layers.cores.core import Core


@keras.saving.register_keras_serializable("keras_attention")
@dataclasses.dataclass(frozen=True)
class Relative(Core):
    """Keys and values that depend on the distance, up to k (Shaw et al., 2018, eqs. 1 to 5).

        e_ij = q_i·(k_j + a^K_{clip(j - i, -k, k)}) / sqrt(Dk)
        z_i = sum_j softmax_j(e_ij) (v_j + a^V_{clip(j - i, -k, k)})

    It replaces sinusoids. The layer owns two tables of 2k + 1 vectors, `key_table` and
    `value_table`; no vector for every pair of steps is stored. With tables of zeros it is `Full`.
    The queries are the last T of the S steps of a memory.

    Fields: `reach` k, at least 0 (16 in the paper's base model); `share_heads` one pair of tables
    for all heads (the paper's big model), or one for each (its base model).

    >>> from keras_attention.layers import MultiHeadAttention
    >>> layer = MultiHeadAttention(2, core=Relative(reach=4))
    >>> layer(tf.ones([1, 5, 8])).shape, tuple(layer.key_table.shape)
    (TensorShape([1, 5, 8]), (9, 4))
    """

    takes_memory = takes_pair_masks = takes_bias = True
    applies_dropout = returns_weights = decodes = True

    reach: int
    share_heads: bool = True

    def __post_init__(self):
        if self.reach < 0:
            raise ValueError(f"reach must be at least 0. Received: reach={self.reach}")

    def table_shapes(self, heads, key_width, value_width):
        rows = (2 * self.reach + 1,) if self.share_heads else (heads, 2 * self.reach + 1)
        return {"key_table": (*rows, key_width), "value_table": (*rows, value_width)}

    def __call__(
        self,
        query,
        keys,
        values,
        *,
        tables,
        mask=None,
        bias=None,
        causal=False,
        dropout=tf.identity,
        **_,
    ):
        key_table, value_table = tables
        offset = steps_before(sizes(query)[2], sizes(keys)[2])
        scores = head_scores(query, keys)
        scores += relative_scores(query, key_table, tf.shape(keys)[2], offset)
        mask = head_mask(mask, causal, sizes(query)[2], sizes(keys)[2])
        weights = biased_weights(scores, query, mask, bias)
        kept = tf.cast(dropout(weights), values.dtype)
        return head_contexts(kept, values) + relative_context(kept, value_table, offset), weights

    def step(self, query, keys, values, *, mask, slots, tables, bias=None, **_):
        key_table, value_table = tables
        distances = tf.clip_by_value(slots.distances(query, keys), -self.reach, self.reach)
        rows = self.reach - distances  # [T, M]
        scores = head_scores(query, keys) + row_scores(query, key_table, rows)
        weights = tf.cast(biased_weights(scores, query, mask, bias), values.dtype)
        return head_contexts(weights, values) + row_contexts(weights, value_table, rows)
