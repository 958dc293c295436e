"""The Transformer's two stacks (Vaswani et al., 2017)."""

from typing import Any

import keras
import tensorflow as tf

from keras_attention.backend.saving import BuiltWithMemory, deserialize, serialize
from keras_attention.functional.attend import Memory
from keras_attention.layers._base import Layer
from keras_attention.layers.embeddings import PositionEmbedding
from keras_attention.layers.multi_head import MultiHeadAttention
from keras_attention.layers.transformer_block import (
    TransformerBlock,
)


@keras.saving.register_keras_serializable("keras_attention")
class TransformerStack(BuiltWithMemory, Layer):
    """N blocks, with positions and dropout below them and, pre-norm, one more norm above.

    The encoder as it is; with `causal=True` a language model; with `cross=True` and `causal=True`
    the decoder.

    Args:
        layers: N.
        positions: "sinusoid", "learned" (of `max_length`), or None.
        position_layout: of the sinusoid, see `functional.sinusoid`.
        causal: step t sees s <= t.
        Others: those of `TransformerBlock`.

    Call: `(x [B, T, D], memory=None, mask=None, return_weights=False)` -> [B, T, D]; with
    `return_weights` also a list of N cross-attentions [B, H, T, S]. `mask` [B, T] or [B, T, T] is
    boolean, True = may look; without one, the Keras mask of `x`. `memory` [B, S, D'], or what
    `project_memory` gave; a `memory_mask` [B, S] hides slots of either, besides those hidden
    already.

    >>> encoder = TransformerStack(layers=2, heads=2, ff_width=8)
    >>> decoder = TransformerStack(layers=2, heads=2, ff_width=8, causal=True, cross=True)
    >>> decoder(tf.ones([1, 3, 4]), memory=encoder(tf.ones([1, 5, 4]))).shape
    TensorShape([1, 3, 4])
    """

    def __init__(
        self,
        layers: int = 6,
        heads: int = 8,
        ff_width: int = 2048,
        dropout: float = 0.1,
        norm: str = "post",
        positions: str | None = "sinusoid",
        position_layout: str = "interleaved",
        max_length: int | None = None,
        causal: bool = False,
        cross: bool = False,
        key_width: int | None = None,
        key_heads: int | None = None,
        activation: Any = "relu",
        attention_bias: bool = False,
        self_attention: MultiHeadAttention | None = None,
        value_width: int | None = None,
        **kwargs,
    ):
        kwargs.setdefault("autocast", False)  # the keys of a memory are as wide as they are
        super().__init__(**kwargs)
        if layers < 1:
            raise ValueError(f"layers must be at least 1. Received: layers={layers}")
        policy = self.dtype_policy
        self.causal, self.position_layout = causal, position_layout
        self.positions = None
        if positions is not None:
            self.positions = PositionEmbedding(positions, max_length, position_layout, dtype=policy)
        self.dropout = keras.layers.Dropout(dropout, dtype=policy)
        self.blocks = [
            TransformerBlock(
                heads, ff_width, key_width, key_heads, cross, dropout, norm, activation,
                attention_bias, self_attention, value_width, dtype=policy, name=f"block_{number}",
            )
            for number in range(layers)
        ]  # fmt: skip
        for block in self.blocks:
            setattr(self, block.name, block)  # tf.train.Checkpoint sees into no list of Keras 3
        self.normalize = None
        if norm == "pre":
            self.normalize = keras.layers.LayerNormalization(
                epsilon=1e-6, dtype=self.variable_dtype
            )
        self.supports_masking = True
        self._config = dict(
            layers=layers, heads=heads, ff_width=ff_width, dropout=dropout, norm=norm,
            positions=positions, position_layout=position_layout, max_length=max_length,
            causal=causal, cross=cross, key_width=key_width, key_heads=key_heads,
            activation=self.blocks[0].get_config()["activation"], attention_bias=attention_bias,
            self_attention=serialize(self_attention), value_width=value_width,
        )  # fmt: skip

    def build(self, input_shape, memory_shape=None) -> None:
        """Every weight; `memory_shape` is needed where D' is not D."""
        self._widths = input_shape[-1], (memory_shape or input_shape)[-1]
        x, memory = ((None, None, width) for width in self._widths)
        for block in self.blocks:
            block.build(x, memory)
        for layer in (self.positions, self.normalize):
            if layer is not None:
                layer.build(x)
        self.built = True

    def call(
        self, x, memory=None, mask=None, memory_mask=None, return_weights=False, training=None
    ):
        """See the class."""
        if self.positions is not None:
            x = self.positions(x)
        x = self.dropout(x, training=training)
        if memory is not None and not isinstance(memory, tuple):
            memory = self.project_memory(memory, memory_mask)
        elif memory is not None and not isinstance(memory_mask, (tuple, type(None))):
            # A tuple would be Keras' masks of the parts of a projected memory.
            layers = (block.cross_attention for block in self.blocks)
            memory = tuple(
                layer.hide(part, memory_mask) if layer else part
                for layer, part in zip(layers, memory)
            )
        looked_at = []
        for block, part in zip(self.blocks, memory or [None] * len(self.blocks)):
            x, weights = block(x, part, mask=mask, causal=self.causal, training=training)
            looked_at.append(weights)
        x = self._above(x)
        return (x, looked_at) if return_weights else x

    def project_memory(self, memory, mask=None) -> tuple[Memory, ...]:
        """What each block looks at, once per source.  [B, S, D'] -> N x `Memory`."""
        looking = [block.cross_attention for block in self.blocks if block.cross_attention]
        if not looking:
            raise ValueError("A stack without cross=True looks at no memory. Received: a memory.")
        return tuple(attention.project_memory(memory, mask) for attention in looking)

    def step(self, x, caches, time, slot, mask, memory=None):
        """The step at position `time`, for T hypotheses that are written to `slot`, ...

        x [B, T, D], mask broadcastable to [B, H, T, M] -> [B, T, D], the weights of every
        cross-attention [B, H, T, S], the caches.
        """
        if self.positions is not None:
            x += self.positions.at(time[None, None], x.shape[-1], x.dtype)
        looked_at, written = [], []
        for block, cache, part in zip(self.blocks, caches, memory or [None] * len(self.blocks)):
            x, weights, cache = block.step(x, cache, slot, mask, part)
            looked_at.append(weights)
            written.append(cache)
        return self._above(x), looked_at, tuple(written)

    def _above(self, x):
        """The norm above a pre-norm stack."""
        return x if self.normalize is None else tf.cast(self.normalize(x), self.compute_dtype)

    def compute_mask(self, x, previous_mask=None):
        """That of x, whatever `mask` is: it may be of pairs."""
        return getattr(x, "_keras_mask", None)

    def get_config(self):
        return {**super().get_config(), **self._config}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "self_attention": deserialize(config["self_attention"])})
