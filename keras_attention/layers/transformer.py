"""The Transformer's two stacks (Vaswani et al., 2017)."""

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from keras_attention.backend.keras import in_xla
from keras_attention.backend.saving import BuiltWithMemory, deserialize, serialize
from keras_attention.functional.attend import Memory
from keras_attention.functional.packing import Packing, pack, packing_of, unpack
from keras_attention.layers._base import Layer
from keras_attention.layers._norm import LayerNormalization
from keras_attention.layers._shapes import check_shapes
from keras_attention.layers.dropout import Dropout
from keras_attention.layers.embeddings import PositionEmbedding
from keras_attention.layers.multi_head import MultiHeadAttention
from keras_attention.layers.transformer_block import TransformerBlock


class StackMemory(NamedTuple):
    """The memories of the cross-attentions of a stack, projected once per source.

    >>> decoder = TransformerStack(layers=2, heads=2, ff_width=8, causal=True, cross=True)
    >>> decoder.build((None, None, 4))
    >>> memory = decoder.project_memory(tf.ones([1, 5, 4]))
    >>> [block.keys.shape for block in memory.blocks]
    [TensorShape([1, 2, 5, 2]), TensorShape([1, 2, 5, 2])]
    """

    blocks: tuple[Memory, ...]  # of each block: keys [B, G, S, Dk], values [B, G, S, Dv], mask


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
        packed: whether layers that treat each token by itself compute on real tokens only: on
            [M, D] instead of [B, T, D], under a mask [B, T]. "auto": in training, but for XLA,
            whose shapes are fixed, and for a self-attention that defines its own `call`. True:
            always; False: never. It changes no real token. Dropout draws the same masks. Measured
            from D 16 to 512: time in proportion to the tokens with much padding, the same without.
        Others: those of `TransformerBlock`.

    Call: `(x [B, T, D], memory=None, mask=None, return_weights=False)` -> [B, T, D]; with
    `return_weights` also a list of N cross-attentions [B, H, T, S]. `mask` [B, T] or [B, T, T] is
    boolean, True = attend; without one, the Keras mask of `x`. `memory` [B, S, D'], or the
    result of `project_memory`; a `memory_mask` [B, S] hides slots of either, besides those hidden
    already. Padding gets zeros if tokens are packed, else numbers without a meaning.

    Raises ValueError for `packed=True` where tokens cannot be packed, and says why.

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
        packed: bool | str = "auto",
        epsilon: float = 1e-6,
        **kwargs,
    ):
        kwargs.setdefault("autocast", False)  # the keys of a memory are as wide as they are
        super().__init__(**kwargs)
        if layers < 1:
            raise ValueError(f"layers must be at least 1. Received: layers={layers}")
        if packed not in ("auto", True, False):
            raise ValueError(f"packed must be 'auto', True or False. Received: packed={packed!r}")
        self.packed = packed
        policy = self.dtype_policy
        self.causal, self.position_layout = causal, position_layout
        self.positions = None
        if positions is not None:
            self.positions = PositionEmbedding(positions, max_length, position_layout, dtype=policy)
        self.dropout = Dropout(dropout, dtype=policy)
        self.blocks = [
            TransformerBlock(
                heads, ff_width, key_width, key_heads, cross, dropout, norm, activation,
                attention_bias, self_attention, value_width, epsilon, dtype=policy,
                name=f"block_{number}",
            )
            for number in range(layers)
        ]  # fmt: skip
        for block in self.blocks:
            setattr(self, block.name, block)  # tf.train.Checkpoint sees into no list of Keras 3
        self.normalize = None
        if norm == "pre":
            self.normalize = LayerNormalization(epsilon=epsilon, dtype=self.variable_dtype)
        self.supports_masking = True
        self._config = dict(
            layers=layers, heads=heads, ff_width=ff_width, dropout=dropout, norm=norm,
            positions=positions, position_layout=position_layout, max_length=max_length,
            causal=causal, cross=cross, key_width=key_width, key_heads=key_heads,
            activation=self.blocks[0].get_config()["activation"], attention_bias=attention_bias,
            self_attention=serialize(self_attention), value_width=value_width, packed=packed,
            epsilon=epsilon,
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
        packing, how = self._packing(x, mask, training), {"training": training}
        if packing is not None:
            x, how["packing"] = pack(x, packing), packing
        x = self.dropout(x, **how)
        if isinstance(memory_mask, StackMemory):
            memory_mask = None  # the Keras masks of a projected memory, which has its own
        looked_at = []
        for block, part in zip(self.blocks, self._memories(memory, memory_mask, training)):
            x, weights = block(x, part, mask=mask, causal=self.causal, **how)
            looked_at.append(weights)
        x = self._above(x)
        if packing is not None:
            x = unpack(x, packing)
        return (x, looked_at) if return_weights else x

    def project_memory(self, memory, mask=None, training=None) -> StackMemory:
        """Project a memory for each block.  [B, S, D'], mask [B, S] -> `StackMemory`."""
        attentions = self._cross_attentions()
        if mask is None:
            mask = getattr(memory, "_keras_mask", None)
        packing = self._packing(memory, mask, training)
        if packing is None:
            return StackMemory(tuple(each.project_memory(memory, mask) for each in attentions))
        tokens = pack(memory, packing)
        return StackMemory(tuple(each.project_packed(tokens, packing) for each in attentions))

    def _packing(self, x, mask, training) -> Packing | None:
        """The packing of tokens [B, T, D] under a mask, or None where padding stays in."""
        if mask is None or not self.packed or (self.packed == "auto" and training is not True):
            return None
        unfit = [b for b in self.blocks if type(b.self_attention).call != MultiHeadAttention.call]
        reason = ""
        if len(mask.shape) != 2:
            reason = f"a mask of pairs, of shape {mask.shape}"
        elif in_xla():
            reason = "XLA, whose shapes are fixed"
        elif unfit:
            reason = f"{type(unfit[0].self_attention).__name__}, which defines its own call"
        if not reason:
            check_shapes(x=("B T D", x), mask=("B T", mask))
            return packing_of(mask)
        if self.packed == "auto":
            return None
        raise ValueError(
            "Tokens can be packed under a mask [B, T], outside of XLA, between self-attentions "
            f"with the call of MultiHeadAttention: else use packed='auto'. Received: {reason}"
        )

    def _memories(self, memory, mask=None, training=None):
        """The memory of each block under a mask [B, S]: N x `Memory`, or N x None."""
        if memory is None:
            return [None] * len(self.blocks)
        if not isinstance(memory, StackMemory):
            return self.project_memory(memory, mask, training).blocks
        return [a.hide(part, mask) for a, part in zip(self._cross_attentions(), memory.blocks)]

    def _cross_attentions(self):
        attentions = [block.cross_attention for block in self.blocks if block.cross_attention]
        if not attentions:
            raise ValueError("A stack takes a memory only with cross=True. Received: a memory")
        return attentions

    def step(self, x, caches, time, mask, memory: StackMemory | None = None):
        """The step at position `time` of K hypotheses, written to slots `time` * K, ...

        x [B, K, D], mask broadcastable to [B, H, K, M] -> [B, K, D], the weights of every
        cross-attention [B, H, K, S], the caches.
        """
        slot = time * x.shape[1]
        if self.positions is not None:
            x += self.positions.at(time[None, None], x.shape[-1], x.dtype)
        looked_at, written = [], []
        for block, cache, part in zip(self.blocks, caches, self._memories(memory)):
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
