"""The Transformer with relative positions (Shaw, Uszkoreit and Vaswani, 2018).

    clip(x, k) = max(-k, min(k, x))
    a^K_ij = w^K_{clip(j - i, k)}    a^V_ij = w^V_{clip(j - i, k)}            [Dk], [Dv]: eq. 5
    e_ij = x_i W^Q (x_j W^K + a^K_ij)^T / sqrt(Dk)                            eq. 4
    alpha_ij = softmax_j(e_ij)
    z_i = sum_j alpha_ij (x_j W^V + a^V_ij)                                   eq. 3

in the self-attention of encoder and decoder, in place of the sinusoids: no token knows where it is,
only how far the others are. Attention of the decoder to the encoder has no positions. Each layer
has 2k + 1 vectors w^K and w^V, which its heads share or not.

`python -m models.shaw` learns on short sequences to say the last token but one, and does it on long
ones; with sinusoids it does not.
"""

from typing import Any

import keras
import numpy as np

from keras_attention.layers import RelativeAttention
from keras_attention.training import InverseSquareRoot, TokenAccuracy, TokenCrossentropy
from models.encoder import TransformerTagger
from models.transformer import PRESETS, Transformer

# Section 4.1 of the paper: k, and whether the heads of a layer share their vectors.
REACHES: dict[str, dict[str, Any]] = {
    "base": dict(reach=16, share_heads=False),
    "big": dict(reach=8, share_heads=True),
}


@keras.saving.register_keras_serializable("keras_attention")
class RelativeTransformer(Transformer):
    """`Transformer` whose self-attentions know distances up to k instead of positions.

    Args:
        vocab_size: V, shared by source and target.
        reach: k; 0 is a Transformer without any order.
        share_heads: whether the heads of a layer share their vectors w.
        key_width, value_width: of each head; default D / H, and the key's.
        Others: those of `Transformer`, by name.

    `RelativeTransformer.of("base", vocab_size)` has the sizes of the paper; see `PRESETS` of
    `models.transformer` and `REACHES`.

    >>> import tensorflow as tf
    >>> model = RelativeTransformer(20, reach=2, layers=1, width=8, heads=2, ff_width=16)
    >>> source = tf.constant([[5, 6, 2], [7, 2, 0]])
    >>> model((source, tf.constant([[1, 6], [1, 7]]))).shape
    TensorShape([2, 2, 20])
    >>> model.generate(source, beam_width=3, max_length=4).scores.shape
    TensorShape([2, 3])
    """

    def __init__(
        self,
        vocab_size: int,
        reach: int = 16,
        share_heads: bool = True,
        heads: int = 8,
        key_width: int | None = None,
        value_width: int | None = None,
        attention_bias: bool = False,
        **kwargs,
    ):
        widths: dict[str, Any] = dict(key_width=key_width, value_width=value_width)
        relative = RelativeAttention(
            heads, reach, share_heads, use_bias=attention_bias, **widths, dtype=kwargs.get("dtype")
        )
        super().__init__(
            vocab_size, heads=heads, **widths, attention_bias=attention_bias, positions=None,
            self_attention=relative, **kwargs,
        )  # fmt: skip
        for name in ("positions", "max_length", "position_layout", "self_attention"):
            del self._config[name]
        self._config |= {"reach": reach, "share_heads": share_heads}

    @classmethod
    def of(cls, preset: str, vocab_size: int, **changes) -> "RelativeTransformer":
        """A model with the sizes of a preset of `Transformer`; other arguments override them.

        >>> RelativeTransformer.of("base", vocab_size=12, layers=1).get_config()["reach"]
        16
        """
        if preset not in PRESETS:
            raise ValueError(f"preset must be one of {list(PRESETS)}. Received: {preset!r}")
        return cls(vocab_size, **{**PRESETS[preset], **REACHES.get(preset, {}), **changes})

    @classmethod
    def from_config(cls, config):
        return cls(**config)


def delayed(count: int, lengths: tuple[int, int], symbols: int, rng: np.random.Generator):
    """y_i = x_{i-2}, for sequences of so many tokens, from the shortest to the longest.

    -> tokens [N, S] and labels [N, S] int32, 0 on padding; weights [N, S] float32, 0 where there is
    no token two steps before.
    """
    length = rng.integers(lengths[0], lengths[1] + 1, (count, 1))
    real = np.arange(lengths[1]) < length
    tokens = np.where(real, rng.integers(1, symbols + 1, real.shape), 0).astype(np.int32)
    labels = np.pad(tokens, [[0, 0], [2, 0]])[:, :-2]
    weights = real & (np.arange(lengths[1]) >= 2)
    return tokens, np.where(weights, labels, 0), weights.astype(np.float32)


def tagger(symbols: int, reach: int | None, dropout: float = 0.0) -> TransformerTagger:
    """A small encoder for `delayed`: with relative positions, or sinusoids for `reach=None`."""
    heads = 4
    attention = None if reach is None else RelativeAttention(heads, reach, use_bias=False)
    model = TransformerTagger(
        symbols + 1, symbols + 1, layers=2, width=64, heads=heads, ff_width=128, dropout=dropout,
        positions="sinusoid" if reach is None else None, self_attention=attention,
    )  # fmt: skip
    model.compile(
        keras.optimizers.Adam(InverseSquareRoot(3e-3, warmup=100)),
        loss=TokenCrossentropy(),
        weighted_metrics=[TokenAccuracy("accuracy")],
    )
    return model


def main() -> None:
    """Train on lengths 5 to 20, test on length 40."""
    symbols = 10
    for name, reach in (("sinusoids", None), ("relative positions", 4)):
        keras.utils.set_random_seed(0)
        rng = np.random.default_rng(0)
        model = tagger(symbols, reach)
        tokens, labels, weights = delayed(16_000, (5, 20), symbols, rng)
        model.fit(tokens, labels, sample_weight=weights, batch_size=64, epochs=2, verbose=2)
        tokens, labels, weights = delayed(500, (40, 40), symbols, rng)
        right = model.evaluate(tokens, labels, sample_weight=weights, verbose=0, return_dict=True)
        print(f"{name}: {right['accuracy']:.4f} of tokens right at twice the length")


if __name__ == "__main__":
    main()
