"""BERT (Devlin et al., 2019).

    x_t = LayerNorm(E[token_t] + S[segment_t] + P[t])
    x = LayerNorm(x + MultiHead(x))                       N blocks, in both directions
    x = LayerNorm(x + W_2 gelu(W_1 x + b_1) + b_2)
    p(token_t) = softmax(LayerNorm(gelu(W_t x_t + b_t)) E^T + b)      where a token is masked
    p(the second text follows the first) = softmax(W_n tanh(W_p x_1 + b_p) + b_n)

`python -m models.bert` learns to fill in what is masked in a string that is written four times.
"""

from typing import Any

import keras
import numpy as np

from keras_attention.backend.keras import build
from keras_attention.functional import as_ids
from keras_attention.functional.shapes import check_shapes
from keras_attention.layers import (
    MultiHeadAttention,
    PositionEmbedding,
    TiedEmbedding,
    TransformerStack,
)
from keras_attention.training import InverseSquareRoot, token_objective
from models._base import ModelOfIds

# The published sizes.
PRESETS: dict[str, dict[str, Any]] = {
    "base": dict(vocab_size=30522, layers=12, width=768, heads=12),
    "large": dict(vocab_size=30522, layers=24, width=1024, heads=16),
}


@keras.saving.register_keras_serializable("keras_attention")
class BERT(ModelOfIds):
    """Predict masked tokens from those on both sides, and whether two texts belong together.

    Call: `model((tokens [B, S], segments [B, S]))` -> logits [B, S, V] of the tokens, and, with
    `next_sentence`, logits [B, 2] of "follows" (0) and "does not" (1). Ids have `pad_id` on the
    right, segments are 0 for the first text and 1 for the second. `encode` returns the hidden
    states. Train it with weights [B, S] that are 0 but for masked tokens, see `masked`; without
    `next_sentence` the loss is that of `token_objective()`.

    Args:
        vocab_size: V.
        layers: N.
        width: D; the feed-forward layers' hidden layer has 4 D.
        heads: H.
        max_length: number of learned positions.
        segments: number of segments.
        dropout: of the embeddings, of the output of every sublayer and of the attention's weights.
        next_sentence: whether there is a second output, and a pooler for it.

    `BERT.of("base")` has a published size; see `PRESETS`.

    >>> model = BERT(vocab_size=20, layers=1, width=8, heads=2, max_length=6)
    >>> tokens = np.array([[2, 5, 3, 6], [2, 7, 3, 0]])
    >>> logits, follows = model((tokens, np.zeros_like(tokens)))
    >>> logits.shape, follows.shape
    (TensorShape([2, 4, 20]), TensorShape([2, 2]))
    """

    pad_id = 0
    inputs_count = 2

    def __init__(
        self,
        vocab_size: int,
        layers: int = 12,
        width: int = 768,
        heads: int = 12,
        max_length: int = 512,
        segments: int = 2,
        dropout: float = 0.1,
        next_sentence: bool = True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self._config = dict(
            vocab_size=vocab_size, layers=layers, width=width, heads=heads, max_length=max_length,
            segments=segments, dropout=dropout, next_sentence=next_sentence,
        )  # fmt: skip
        policy, normal = self.dtype_policy, keras.initializers.RandomNormal(stddev=0.02)
        self.logits_width = vocab_size
        self.embedding = TiedEmbedding(vocab_size, width, scale=False, dtype=policy)
        self.segments = keras.layers.Embedding(segments, width, normal, dtype=policy)
        self.positions = PositionEmbedding("learned", max_length, dtype=policy)
        self.normalize = self._norm()
        self.stack = TransformerStack(
            layers, heads, 4 * width, dropout, "post", positions=None, activation="gelu",
            self_attention=MultiHeadAttention(heads, dropout=dropout), epsilon=1e-12, dtype=policy,
        )  # fmt: skip
        self.transform = keras.layers.Dense(width, "gelu", dtype=policy)
        self.transform_norm = self._norm()
        if next_sentence:
            self.pooler = keras.layers.Dense(width, "tanh", dtype=policy)
            self.next_output = keras.layers.Dense(2, dtype=policy)

    def _norm(self):
        return keras.layers.LayerNormalization(epsilon=1e-12, dtype=self.dtype_policy)

    @classmethod
    def of(cls, preset: str, **changes) -> "BERT":
        """A model of a published size; other arguments override it.

        >>> BERT.of("large", layers=1).stack.get_config()["heads"]
        16
        """
        if preset not in PRESETS:
            raise ValueError(f"preset must be one of {list(PRESETS)}. Received: {preset!r}")
        return cls(**{**PRESETS[preset], **changes})

    def encode(self, inputs, training=None):
        """The hidden states.  tokens, segments [B, S] -> [B, S, D]."""
        self.build()
        tokens, segments = inputs
        tokens = as_ids(tokens, "tokens", "B S", self.pad_id)
        segments = as_ids(segments, "segments", "B S")
        check_shapes(tokens=("B S", tokens), segments=("B S", segments))
        x = self.positions(self.embedding(tokens) + self.segments(segments))
        return self.stack(self.normalize(x), mask=tokens != self.pad_id, training=training)

    def call(self, inputs, training=None):
        hidden = self.encode(inputs, training)
        logits = self.embedding.logits(self.transform_norm(self.transform(hidden)), self.bias)
        if not self._config["next_sentence"]:
            return logits
        return logits, self.next_output(self.pooler(hidden[:, 0]))

    def compute_output_shape(self, input_shape) -> Any:
        logits = super().compute_output_shape(input_shape)
        return (logits, (logits[0], 2)) if self._config["next_sentence"] else logits

    def _build_parts(self):
        x = (None, None, self._config["width"])
        build(self.embedding, (None, None))  # each part may be built already
        build(self.segments, (None, None))
        for layer in (self.positions, self.normalize, self.stack, self.transform):
            build(layer, x)
        build(self.transform_norm, x)
        self.bias = self.add_weight(shape=(self.logits_width,), initializer="zeros", name="bias")
        if self._config["next_sentence"]:
            build(self.pooler, x[1:])
            build(self.next_output, x[1:])


def masked(
    texts: Any, rng: np.random.Generator, vocab_size: int, mask_id: int = 1, first_id: int = 4
) -> tuple:
    """Texts with 15 % of the tokens hidden, for `fit`: tokens, targets, weights [N, S].

    Of the tokens that are chosen, and weigh 1, 80 % become `mask_id`, 10 % any id from `first_id`
    on, 10 % stay; ids below `first_id` are special and never chosen.

    >>> tokens, targets, weights = masked([[4, 5, 6]], np.random.default_rng(25), 9)
    >>> tokens.tolist(), targets.tolist(), weights.tolist()
    ([[4, 1, 6]], [[4, 5, 6]], [[0.0, 1.0, 0.0]])
    """
    targets = np.zeros([len(texts), max(map(len, texts))], np.int32)
    for row, text in enumerate(texts):
        targets[row, : len(text)] = text
    chosen = (targets >= first_id) & (rng.random(targets.shape) < 0.15)
    kind, other = rng.random(targets.shape), rng.integers(first_id, vocab_size, targets.shape)
    tokens = np.where(chosen & (kind < 0.8), mask_id, targets)
    tokens = np.where(chosen & (kind >= 0.8) & (kind < 0.9), other, tokens)
    return tokens.astype(np.int32), targets, chosen.astype(np.float32)


def main() -> None:
    """Train, and fill in what is masked in four copies of a string."""
    rng = np.random.default_rng(0)

    def examples(count):
        return masked(np.tile(rng.integers(4, 14, (count, 4)), 4), rng, 14)

    model = BERT(14, layers=2, width=64, heads=4, max_length=16, dropout=0.0, next_sentence=False)
    model.compile(keras.optimizers.Adam(InverseSquareRoot(2e-3, 100)), **token_objective())
    tokens, targets, weights = examples(25_600)
    inputs = (tokens, np.zeros_like(tokens))
    model.fit(inputs, targets, sample_weight=weights, batch_size=64, epochs=2, verbose=2)
    tokens, targets, weights = examples(1000)
    found = model.predict((tokens, np.zeros_like(tokens)), verbose=0).argmax(-1)
    print(f"masked symbols right: {(found == targets)[weights > 0].mean():.4f}; chance: 0.1")


if __name__ == "__main__":
    main()
