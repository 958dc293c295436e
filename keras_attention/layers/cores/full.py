"""The core of plain multi-head attention."""

import dataclasses

import keras
import tensorflow as tf

from keras_attention.functional.heads import head_contexts, head_mask, head_weights
from keras_attention.functional.shapes import sizes
from keras_attention.layers.cores.core import Core


@keras.saving.register_keras_serializable("keras_attention")
@dataclasses.dataclass(frozen=True)
class Full(Core):
    """softmax(q·k / sqrt(Dk)) over all slots (Vaswani et al., 2017, eq. 1). The default core.

    >>> from keras_attention.layers import MultiHeadAttention
    >>> MultiHeadAttention(2, core=Full())(tf.ones([1, 3, 4])).shape
    TensorShape([1, 3, 4])
    """

    takes_memory = takes_pair_masks = takes_bias = True
    applies_dropout = returns_weights = decodes = True

    def __call__(
        self, query, keys, values, *, mask=None, bias=None, causal=False, dropout=tf.identity, **_
    ):
        mask = head_mask(mask, causal, sizes(query)[2], sizes(keys)[2])
        weights = head_weights(query, keys, mask, bias)
        return head_contexts(dropout(weights), values), weights

    def step(self, query, keys, values, *, mask, bias=None, **_):
        return head_contexts(head_weights(query, keys, mask, bias), values)
