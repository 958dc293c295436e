"""One layer of a Transformer (Vaswani et al., 2017)."""

from typing import Any

import keras

from keras_attention.backend.saving import BuiltWithMemory, deserialize, serialize
from keras_attention.functional.masks import finite_padding, steps_mask
from keras_attention.layers._base import Layer
from keras_attention.layers.blocks import FeedForward, Residual
from keras_attention.layers.multi_head import Cache, MultiHeadAttention


@keras.saving.register_keras_serializable("keras_attention")
class TransformerBlock(BuiltWithMemory, Layer):
    """One layer of a stack: self-attention, perhaps cross-attention, and feed-forward.

    Each is a sublayer of a `Residual`. Vaswani et al. (2017), section 3.1.

    Args:
        heads: H. `key_width`, `value_width`, `key_heads`: see `MultiHeadAttention`, for both.
        ff_width: of the feed-forward's hidden layer.
        cross: attend to a memory, too.
        dropout: of what each sublayer gives.
        norm: "post" or "pre".
        activation: of the feed-forward.
        attention_bias: give the projections of the attentions a bias.
        self_attention: a `MultiHeadAttention` of another core, width, heads or bias to use for
            the self-attention. The block creates its own layer of the same configuration.
        epsilon: of the norms.

    Call: `(x [B, T, D], memory=None, mask=None, causal=False, packing=None)` -> ([B, T, D], the
    weights [B, H, T, S] of the cross-attention, or None). `memory` is [B, S, D'] or what
    `cross_attention.project_memory` returns. With a `functional.Packing`, which has the mask, x is
    [M, D], as `functional.pack` gives it, and so is the output.

    Padding may hold anything where `mask` is [B, T].

    >>> import tensorflow as tf
    >>> block = TransformerBlock(heads=2, ff_width=8, cross=True)
    >>> x, weights = block(tf.ones([1, 3, 4]), memory=tf.ones([1, 5, 4]))
    >>> x.shape, weights.shape
    (TensorShape([1, 3, 4]), TensorShape([1, 2, 3, 5]))
    """

    def __init__(
        self,
        heads: int,
        ff_width: int,
        key_width: int | None = None,
        key_heads: int | None = None,
        cross: bool = False,
        dropout: float = 0.0,
        norm: str = "post",
        activation: Any = "relu",
        attention_bias: bool = False,
        self_attention: MultiHeadAttention | None = None,
        value_width: int | None = None,
        epsilon: float = 1e-6,
        **kwargs,
    ):
        kwargs.setdefault("autocast", False)  # the keys of a memory are as wide as they are
        super().__init__(**kwargs)
        policy = self.dtype_policy

        def attention(name):
            return MultiHeadAttention(
                heads, key_width, value_width, num_key_heads=key_heads, use_bias=attention_bias,
                dtype=policy, name=name,
            )  # fmt: skip

        def residual(name):
            return Residual(norm, dropout, epsilon, dtype=policy, name=name)

        if self_attention is None:
            self.self_attention = attention("self_attention")
        else:
            pattern = {**self_attention.get_config(), "dtype": policy, "name": "self_attention"}
            self.self_attention = type(self_attention).from_config(pattern)
        self.self_residual = residual("self_residual")
        self.cross_attention = attention("cross_attention") if cross else None
        self.cross_residual = residual("cross_residual") if cross else None
        self.feed_forward = FeedForward(ff_width, activation, dtype=policy)
        self.feed_forward_residual = residual("feed_forward_residual")
        self.supports_masking = True
        self._config = dict(
            heads=heads, ff_width=ff_width, key_width=key_width, key_heads=key_heads, cross=cross,
            dropout=dropout, norm=norm, attention_bias=attention_bias,
            activation=keras.activations.serialize(keras.activations.get(activation)),
            self_attention=serialize(self_attention), value_width=value_width, epsilon=epsilon,
        )  # fmt: skip

    def build(self, input_shape, memory_shape=None) -> None:
        """Every sublayer; `memory_shape` is needed where D' is not D."""
        self._widths = input_shape[-1], (memory_shape or input_shape)[-1]
        x, memory = ((None, None, width) for width in self._widths)
        for layer in (self.self_attention, self.self_residual):
            layer.build(x)
        if self.cross_attention is not None:
            self.cross_attention.build(x, memory)
        for layer in (self.cross_residual, self.feed_forward, self.feed_forward_residual):
            if layer is not None:
                layer.build(x)
        self.built = True

    def call(self, x, memory=None, mask=None, causal=False, training=None, packing=None):
        """See the class."""
        how = {"training": training} | _given(packing)
        if packing is None:
            x = finite_padding(x, steps_mask(mask))

        def look(x):
            return self.self_attention(x, mask=mask, causal=causal, **how)

        return self._above(self.self_residual(x, sublayer=look, **how), memory, **how)

    def step(self, x, cache: Cache, slot, mask, memory=None):
        """One step of K hypotheses, written to the cache from `slot` = K times the step on.

        x [B, K, D], mask broadcastable to [B, H, K, M] -> [B, K, D], the weights of the
        cross-attention [B, H, K, S] or None, the cache.
        """

        def look(x):
            nonlocal cache
            output, cache = self.self_attention.step(x, cache, slot, mask, hypotheses=x.shape[1])
            return output

        return *self._above(self.self_residual(x, sublayer=look), memory, training=False), cache

    def _above(self, x, memory, **how):
        """Cross-attention and feed-forward."""
        weights, attention, residual = None, self.cross_attention, self.cross_residual
        if (attention is None) != (memory is None):
            raise ValueError(
                "A memory [B, S, D'] goes with cross=True, and cross=True with a memory. Received: "
                f"cross={attention is not None}, "
                f"{'no memory' if memory is None else 'a memory'}"
            )
        if attention is not None and residual is not None:

            def read(x):
                nonlocal weights
                output, weights = attention(x, memory=memory, return_weights=True, **how)
                return output

            x = residual(x, sublayer=read, **how)
        return self.feed_forward_residual(x, sublayer=self.feed_forward, **how), weights

    def compute_mask(self, x, previous_mask=None):
        """That of x, whatever `mask` is: it may be of pairs."""
        return getattr(x, "_keras_mask", None)

    def get_config(self):
        return {**super().get_config(), **self._config}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "self_attention": deserialize(config["self_attention"])})


def _given(packing):
    """The argument, if there is one: a self-attention of another class need not know it."""
    return {} if packing is None else {"packing": packing}
