"""Full attention in memory that grows with T + S."""

import dataclasses

import keras

from keras_attention.functional.chunked import chunked_attention
from keras_attention.functional.heads import head_contexts, head_mask, head_weights, repeat_heads
from keras_attention.layers.cores.core import Core


@keras.saving.register_keras_serializable("keras_attention")
@dataclasses.dataclass(frozen=True)
class Chunked(Core):
    """What `Full` computes, `chunk` queries and slots at a time (Rabe and Staats, 2021).

    O(T + S) memory, the gradient as in Dao et al. (2022, algorithm 4): see `chunked_attention`. The
    weights never exist as a whole, so none are returned or dropped.

    >>> import tensorflow as tf
    >>> from keras_attention.layers import MultiHeadAttention
    >>> MultiHeadAttention(2, core=Chunked(chunk=2))(tf.ones([1, 5, 8])).shape
    TensorShape([1, 5, 8])
    """

    takes_memory = takes_pair_masks = decodes = True

    chunk: int = 512

    def __post_init__(self):
        if self.chunk < 1:
            raise ValueError(f"chunk must be at least 1. Received: chunk={self.chunk}")

    def __call__(self, query, keys, values, *, mask=None, causal=False, **_):
        mask = head_mask(mask, False, 1, 1)
        keys, values = repeat_heads(query, keys, values)
        return chunked_attention(query, keys, values, mask, causal, self.chunk), None

    def step(self, query, keys, values, *, mask, bias=None, **_):
        return head_contexts(head_weights(query, keys, mask, bias), values)
