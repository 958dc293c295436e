"""GPT-1 and GPT-2 (Radford et al., 2018; Radford et al., 2019).

    x_t = E[token_t] + P[t]                                   learned positions, no factor sqrt(D)
    GPT-1    x = LayerNorm(x + MultiHead(x))                  N blocks, causal
             x = LayerNorm(x + W_2 gelu(W_1 x + b_1) + b_2)
    GPT-2    x = x + MultiHead(LayerNorm(x))
             x = x + W_2 gelu(W_1 LayerNorm(x) + b_1) + b_2   and one more LayerNorm above
    p(token_{t+1}) = softmax(x_t E^T)

`python -m models.gpt` learns to repeat a string that it has read once.
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_attention.layers import (
    MultiHeadAttention,
    TiedEmbedding,
    TransformerCell,
    TransformerStack,
)
from keras_attention.training import InverseSquareRoot, token_objective
from models.language_model import LanguageModel, shifted

# The published sizes; GPT-3 (Brown et al., 2020) is GPT-2 but for attention that is partly sparse.
PRESETS: dict[str, dict[str, Any]] = {
    "gpt1": dict(vocab_size=40478, version=1, layers=12, width=768, heads=12, max_length=512),
    "gpt2": dict(vocab_size=50257, version=2, layers=12, width=768, heads=12, max_length=1024),
    "gpt2-medium": dict(vocab_size=50257, layers=24, width=1024, heads=16, max_length=1024),
    "gpt2-large": dict(vocab_size=50257, layers=36, width=1280, heads=20, max_length=1024),
    "gpt2-xl": dict(vocab_size=50257, layers=48, width=1600, heads=25, max_length=1024),
    "gpt3": dict(vocab_size=50257, layers=96, width=12288, heads=96, max_length=2048),
}


@keras.saving.register_keras_serializable("keras_attention")
def gelu_tanh(x):
    """gelu(x) in the approximation of the authors' code (Hendrycks & Gimpel, 2016)."""
    return tf.nn.gelu(x, approximate=True)


def parameters(
    vocab_size: int, layers: int, width: int, max_length: int, version: int = 2, heads: int = 1
) -> int:
    """How many weights a `GPT` has, whatever its heads: (V + L) D + N (12 D^2 + 13 D) [+ 2 D].

    >>> parameters(**PRESETS["gpt1"]), parameters(**PRESETS["gpt2"])
    (116534784, 124439808)
    """
    block = 12 * width**2 + 13 * width
    return (vocab_size + max_length) * width + layers * block + 2 * width * (version == 2)


@keras.saving.register_keras_serializable("keras_attention")
class GPT(LanguageModel):
    """Predict the next token from those before it, as GPT-1 or GPT-2.

    Call: `model(tokens_in [B, T]) -> logits [B, T, V]`, ids that begin with `start_id`, `pad_id` on
    the right. Train it with `compile(**token_objective())` and `fit` on the result of
    `language_model.shifted`; `generate(prompt)` continues a text.

    Args:
        vocab_size: V.
        version: 1 (norms above the sublayers) or 2 (below them, and one above all).
        layers: N.
        width: D; the feed-forward layers' hidden layer has 4 D.
        heads: H.
        max_length: L, number of learned positions: no text is longer.
        dropout: of the embeddings, of the output of every sublayer and of the attention's weights.

    `GPT.of("gpt2")` has a published size; see `PRESETS`. Raises ValueError for another version.

    >>> model = GPT(vocab_size=20, layers=1, width=8, heads=2, max_length=6)
    >>> model(tf.constant([[1, 5, 6]])).shape
    TensorShape([1, 3, 20])
    >>> model.generate(tf.constant([[5, 6], [7, 0]]), max_length=5).ids[:, 0, 0].numpy().tolist()
    [5, 7]
    """

    def __init__(
        self,
        vocab_size: int,
        version: int = 2,
        layers: int = 12,
        width: int = 768,
        heads: int = 12,
        max_length: int = 1024,
        dropout: float = 0.1,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if version not in (1, 2):
            raise ValueError(f"version must be 1 or 2. Received: version={version!r}")
        self._config = dict(
            vocab_size=vocab_size, version=version, layers=layers, width=width, heads=heads,
            max_length=max_length, dropout=dropout,
        )  # fmt: skip
        policy = self.dtype_policy
        self.target_vocab_size = self.logits_width = vocab_size
        self.embedding = TiedEmbedding(vocab_size, width, scale=False, dtype=policy)
        self.stack = TransformerStack(
            layers, heads, 4 * width, dropout, "post" if version == 1 else "pre", "learned",
            max_length=max_length, causal=True, activation=gelu_tanh, epsilon=1e-5,
            self_attention=MultiHeadAttention(heads, dropout=dropout), dtype=policy,
        )  # fmt: skip
        self.cell = TransformerCell(self.stack)

    @classmethod
    def of(cls, preset: str, **changes) -> "GPT":
        """A model of a published size; other arguments override it.

        >>> GPT.of("gpt2-xl", layers=1).stack.get_config()["heads"]
        25
        """
        if preset not in PRESETS:
            raise ValueError(f"preset must be one of {list(PRESETS)}. Received: {preset!r}")
        return cls(**{**PRESETS[preset], **changes})


def repeated(count: int, rng: np.random.Generator, symbols: int = 10, length: int = 8):
    """Texts of a random string, id 3, and the same string.  [N, 2 length + 1], ids from 4 on."""
    strings = rng.integers(4, 4 + symbols, (count, length))
    return np.concatenate([strings, np.full([count, 1], 3), strings], 1)


def main() -> None:
    """Train, and repeat new strings; all of it must be right."""
    rng = np.random.default_rng(0)
    model = GPT(vocab_size=14, layers=2, width=64, heads=4, max_length=18, dropout=0.0)
    model.compile(keras.optimizers.Adam(InverseSquareRoot(2e-3, 100)), **token_objective())
    tokens_in, tokens_out, weights = shifted(repeated(25_600, rng))
    weights[:, :9] = 0  # what cannot be known
    model.fit(tokens_in, tokens_out, sample_weight=weights, batch_size=64, epochs=2, verbose=2)
    texts = repeated(200, rng)
    found = model.generate(tf.constant(texts[:, :9], tf.int32), max_length=18).ids[:, 0].numpy()
    right = sum(np.array_equal(row[:17], text) for row, text in zip(found, texts))
    print(f"exactly right: {right} of {len(texts)}")


if __name__ == "__main__":
    main()
