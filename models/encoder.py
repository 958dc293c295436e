"""An encoder-only Transformer: a label for every token (as in Devlin et al., 2019).

    hidden = stack(sqrt(D) E[tokens] + PE)      N x [self-attention, feed-forward]
    p(label_t) = softmax(W hidden_t + b)

`python -m models.encoder` learns to mark symbols that occur in a sequence more than once.
"""

import keras
import numpy as np

from keras_attention.backend.keras import build
from keras_attention.functional import as_ids
from keras_attention.layers import MultiHeadAttention, TiedEmbedding, TransformerStack
from keras_attention.layers.linear_cross_entropy import dense_logits
from keras_attention.training import InverseSquareRoot, TokenAccuracy, TokenCrossentropy
from models._base import OneStack


@keras.saving.register_keras_serializable("keras_attention")
class TransformerTagger(OneStack):
    """Classify every token.

    Call: `model(tokens [B, S]) -> logits [B, S, labels]`, ids with `pad_id` on the right; logits of
    padding are meaningless. Ids are integers, or floats that are whole numbers: see
    `functional.as_ids`; others are a ValueError. Train it with a loss of logits and weights [B, S]
    that are 0 on padding.

    Args:
        vocab_size: V.
        labels: number of labels.
        layers: N.
        width: D.
        heads: H.
        ff_width: of the feed-forward layers' hidden layer.
        dropout: of the embeddings and of the output of every sublayer.
        norm: "post" or "pre".
        positions: "sinusoid", "learned" (of `max_length`) or None.
        max_length: number of learned positions.
        self_attention: a `MultiHeadAttention` to use instead, of any core: see `TransformerBlock`.
        packed: "auto" computes on real tokens only in training: see `TransformerStack`.

    >>> import tensorflow as tf
    >>> model = TransformerTagger(20, labels=3, layers=1, width=8, heads=2, ff_width=16)
    >>> model(tf.constant([[5, 6, 7], [8, 0, 0]])).shape
    TensorShape([2, 3, 3])
    """

    pad_id = 0

    def __init__(
        self,
        vocab_size: int,
        labels: int,
        layers: int = 6,
        width: int = 512,
        heads: int = 8,
        ff_width: int = 2048,
        dropout: float = 0.1,
        norm: str = "post",
        positions: str | None = "sinusoid",
        max_length: int | None = None,
        self_attention: MultiHeadAttention | None = None,
        packed: bool | str = "auto",
        **kwargs,
    ):
        super().__init__(**kwargs)
        if labels < 1:
            raise ValueError(f"labels must be at least 1. Received: labels={labels}")
        self.logits_width = labels
        self.embedding = TiedEmbedding(vocab_size, width, dtype=self.dtype_policy)
        self.stack = TransformerStack(
            layers, heads, ff_width, dropout, norm, positions,
            max_length=max_length, self_attention=self_attention, packed=packed,
            dtype=self.dtype_policy,
        )  # fmt: skip
        self.output_layer = keras.layers.Dense(labels, dtype=self.dtype_policy)
        self._config = self._stack_config()
        self._config |= {"vocab_size": vocab_size, "labels": labels, "width": width}

    def call(self, tokens, training=None):
        tokens = as_ids(tokens, "tokens", "B S", self.pad_id)
        hidden = self.stack(self.embedding(tokens), mask=tokens != self.pad_id, training=training)
        return dense_logits(self.output_layer, hidden)

    def _build_parts(self):
        hidden = (None, None, self._config["width"])
        build(self.embedding, (None, None))  # each part may be built already
        build(self.stack, hidden)
        build(self.output_layer, hidden)


def examples(count: int, rng: np.random.Generator, symbols: int = 30, length: int = 12):
    """Sequences of up to S symbols; label 1 for repeated symbols; weight 1 for real ones.

    -> tokens [N, S] int32, labels [N, S] int32, weights [N, S] float32.
    """
    real = np.arange(length) < rng.integers(1, length + 1, (count, 1))
    tokens = np.where(real, rng.integers(1, symbols, (count, length)), 0)
    again = (tokens[:, :, None] == tokens[:, None]).sum(-1) > 1
    return tokens.astype(np.int32), (again & real).astype(np.int32), real.astype(np.float32)


def main() -> None:
    """Train, and mark repeated symbols in new sequences."""
    rng = np.random.default_rng(0)
    model = TransformerTagger(30, 2, layers=2, width=64, heads=4, ff_width=128, dropout=0.0)
    model.compile(
        keras.optimizers.Adam(InverseSquareRoot(3e-3, warmup=100)),
        loss=TokenCrossentropy(),
        weighted_metrics=[TokenAccuracy("accuracy")],
    )
    tokens, labels, weights = examples(20_000, rng)
    model.fit(tokens, labels, sample_weight=weights, batch_size=64, epochs=2, verbose=2)
    tokens, labels, weights = examples(1000, rng)
    right = model.evaluate(tokens, labels, sample_weight=weights, verbose=0, return_dict=True)
    once = 1 - labels[weights > 0].mean()
    print(f"labels right: {right['accuracy']:.4f}; always 'once': {once:.4f}")


if __name__ == "__main__":
    main()
