"""A core whose cost grows with T + S."""

import dataclasses

import keras
import tensorflow as tf

from keras_attention.functional.heads import head_contexts, repeat_heads
from keras_attention.functional.linear import linear_attention, positive
from keras_attention.layers.cores.core import Core


@keras.saving.register_keras_serializable("keras_attention")
@dataclasses.dataclass(frozen=True)
class Linear(Core):
    """Weights in proportion to phi(q)·phi(k), phi = elu + 1 (Katharopoulos et al., 2020, eq. 5).

    O(T + S): see `linear_attention`. The query is not scaled. A decoding step reads the keys and
    values of the cache; `LinearAttentionCell` keeps sums of constant size instead.

    >>> from keras_attention.layers import MultiHeadAttention
    >>> MultiHeadAttention(2, core=Linear())(tf.ones([1, 5, 8]), causal=True).shape
    TensorShape([1, 5, 8])
    """

    takes_memory = decodes = True
    scales_query = False

    def __call__(self, query, keys, values, *, mask=None, causal=False, **_):
        keys, values = repeat_heads(query, keys, values)
        return linear_attention(query, keys, values, mask, causal), None

    def step(self, query, keys, values, *, mask, **_):
        return head_contexts(self.weights(query, keys, mask), values)

    def weights(self, query, keys, mask=None) -> tf.Tensor:
        """Explicit attention weights, which `__call__` does not compute.  -> [B, H, T, S].

        query [B, H, T, Dk], keys [B, G, S, Dk], mask broadcastable to [B, H, T, S].
        """
        (keys,) = repeat_heads(query, keys)
        shares = tf.matmul(positive(query), positive(keys), transpose_b=True)
        shares = shares if mask is None else tf.where(mask, shares, 0.0)
        return tf.math.divide_no_nan(shares, tf.reduce_sum(shares, -1, keepdims=True))
