"""Full attention without its [T, S] weights."""

import keras
import tensorflow as tf

from keras_attention.functional.chunked import chunked_attention
from keras_attention.functional.shapes import sizes
from keras_attention.layers._heads import spread
from keras_attention.layers.multi_head import MultiHeadAttention


@keras.saving.register_keras_serializable("keras_attention")
class MemoryEfficientAttention(MultiHeadAttention):
    """`MultiHeadAttention` by chunks: the same output and gradients, in O(T + S) memory.

    (Rabe and Staats, 2021; the gradient as in Dao et al., 2022, algorithm 4.) See
    `chunked_attention`. It knows no weights, so none can be returned or dropped.

    Args:
        num_heads: H.
        chunk: queries, and slots, of which scores exist at a time.
        others: `key_width`, `value_width`, `output_width`, `num_key_heads` and `use_bias` of
            `MultiHeadAttention`, whose weights these are.

    Call: `(query [B, T, D], memory=None, mask=None, causal=False)` -> [B, T, D], all as in
    `MultiHeadAttention`; a `mask` with a T and an S axis is itself of T S booleans.

    Raises ValueError for a chunk below 1, a dropout, or a mask of another rank.

    >>> efficient, plain = MemoryEfficientAttention(num_heads=2), MultiHeadAttention(num_heads=2)
    >>> x = tf.random.normal([1, 5, 8])
    >>> shapes = efficient(x).shape, plain(x).shape
    >>> efficient.set_weights(plain.get_weights())
    >>> bool(tf.reduce_all(tf.abs(efficient(x, causal=True) - plain(x, causal=True)) < 1e-5))
    True
    """

    def __init__(self, num_heads: int, chunk: int = 512, **kwargs):
        super().__init__(num_heads, **kwargs)
        if chunk < 1 or self.dropout.rate:
            raise ValueError(
                "chunk must be at least 1, and dropout 0, for no weights exist to be dropped. "
                f"Received: chunk={chunk}, dropout={self.dropout.rate}"
            )
        self.chunk = chunk

    def call(self, query, memory=None, mask=None, causal=False) -> tf.Tensor:
        """See the class."""
        query, memory, mask = self.prepare(query, memory, mask)
        if mask is not None:
            mask = tf.cast(mask, tf.bool)
            batch, *others = sizes(mask)
            mask = tf.reshape(mask, [batch, *[1] * (3 - len(others)), *others])
        keys, values = spread(self, memory.keys, memory.values)
        context = chunked_attention(self.split_query(query), keys, values, mask, causal, self.chunk)
        return self.join(context)

    def get_config(self) -> dict:
        return {**super().get_config(), "chunk": self.chunk}
