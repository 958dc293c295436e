"""A decoder-only Transformer: a language model (Liu et al., 2018).

    hidden = stack(sqrt(D) E[tokens] + PE)      N x [causal self-attention, feed-forward]
    p(y_t | y_<t) = softmax(hidden_t E^T)

`python -m models.language_model` learns to continue arithmetic progressions.
"""

import keras
import numpy as np
import tensorflow as tf

from keras_attention.backend.keras import build
from keras_attention.functional import as_ids, right_padded
from keras_attention.layers import (
    MultiHeadAttention,
    TiedEmbedding,
    TransformerCell,
    TransformerStack,
)
from keras_attention.seq2seq import SearchResult, generate
from keras_attention.training import InverseSquareRoot, token_objective
from models._base import ModelOfIds, OneStack, TiedOutput


class LanguageModel(TiedOutput, ModelOfIds):
    """Decoder-only models of a causal `stack`, an `embedding` and a `cell`: see `TransformerLM`."""

    pad_id, start_id, end_id = 0, 1, 2
    stack: TransformerStack
    cell: TransformerCell

    def encode(self, source):
        """-> (None, None): no memory, and an empty initial state."""
        self.build()
        return None, None

    def call(self, tokens_in, training=None):
        tokens_in = as_ids(tokens_in, "tokens_in", "B T", self.pad_id)
        # Padding is on the right, so no earlier step attends to it.
        mask = right_padded(tokens_in, self.pad_id) if training else None
        return self.project(self.stack(self.embedding(tokens_in), mask=mask, training=training))

    def prompt(self, source):
        """The source of a decoder-only model is its prompt.  ids [B, P]."""
        return as_ids(source, "A prompt", "B P", self.pad_id)

    def generate(self, prompt, **settings) -> SearchResult:
        """The best continuations: see `keras_attention.decoding.generate`.

        prompt: ids [B, P] without the start token, padded with `pad_id` on the right; P may be 0.
        The result begins with the prompt, which counts towards `max_length`, the score and the
        length penalty. An end token in it, also as its last, is read like any other
        token: the first one after the prompt ends the answer.

        Logits processors act on the tokens after the prompt, but count those of the prompt, too:
        lengths, positions, repetitions. `min_new_tokens` and `max_new_tokens` count the tokens
        after the prompt alone, as those of Hugging Face's `generate` do.

        Raises ValueError for ids outside of 0..V-1, padding before a token, more tokens than
        `max_length`, and for processors that force a position of the prompt; in a graph, where they
        are known when it runs, InvalidArgumentError (XLA cannot raise it).
        """
        return generate(self, self.prompt(prompt), **settings)

    def _build_parts(self):
        build(self.embedding, (None, None))  # each part may be built already
        build(self.cell, (None, self._config["width"]))


@keras.saving.register_keras_serializable("keras_attention")
class TransformerLM(LanguageModel, OneStack):
    """Predict the next token from those before it.

    Call: `model(tokens_in [B, T]) -> logits [B, T, V]`, ids that begin with `start_id`, `pad_id` on
    the right. Train it with `compile(**token_objective())` and `fit` on the result of `shifted`.
    `generate(prompt)` continues a text.

    Args:
        vocab_size: V.
        layers: N.
        width: D.
        heads: H.
        ff_width: of the feed-forward layers' hidden layer.
        dropout: of the embeddings and of the output of every sublayer.
        norm: "pre" or "post".
        positions: "sinusoid", "learned" (of `max_length`) or None.
        max_length: number of learned positions.
        self_attention: a `MultiHeadAttention` to use instead, of any core: see `TransformerBlock`.
        packed: "auto" computes on real tokens only in training: see `TransformerStack`.

    >>> model = TransformerLM(vocab_size=20, layers=1, width=8, heads=2, ff_width=16)
    >>> model(tf.constant([[1, 5, 6]])).shape
    TensorShape([1, 3, 20])
    >>> found = model.generate(tf.constant([[5, 6], [7, 0]]), max_length=5)
    >>> found.ids[:, 0, 0].numpy().tolist(), int(found.ids[0, 0, 1])
    ([5, 7], 6)
    """

    def __init__(
        self,
        vocab_size: int,
        layers: int = 6,
        width: int = 512,
        heads: int = 8,
        ff_width: int = 2048,
        dropout: float = 0.1,
        norm: str = "pre",
        positions: str | None = "sinusoid",
        max_length: int | None = None,
        self_attention: MultiHeadAttention | None = None,
        packed: bool | str = "auto",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.target_vocab_size = self.logits_width = vocab_size
        self.embedding = TiedEmbedding(vocab_size, width, dtype=self.dtype_policy)
        self.stack = TransformerStack(
            layers, heads, ff_width, dropout, norm, positions,
            max_length=max_length, causal=True, self_attention=self_attention,
            packed=packed, dtype=self.dtype_policy,
        )  # fmt: skip
        self.cell = TransformerCell(self.stack)
        self._config = self._stack_config() | {"vocab_size": vocab_size, "width": width}


def shifted(texts, start=TransformerLM.start_id, end=TransformerLM.end_id, pad=0):
    """Texts of ids as inputs, targets and weights for `fit`.

    N sequences of ids -> [N, T + 1] int32 twice, [N, T + 1] float32.

    >>> tokens_in, tokens_out, weights = shifted([[5, 6], [7]])
    >>> tokens_in.tolist(), tokens_out.tolist(), weights.tolist()
    ([[1, 5, 6], [1, 7, 0]], [[5, 6, 2], [7, 2, 0]], [[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]])
    """
    length = max(map(len, texts)) + 1
    tokens_in, tokens_out = np.full([2, len(texts), length], pad, np.int32)
    weights = np.zeros([len(texts), length], np.float32)
    for row, text in enumerate(texts):
        tokens_in[row, : len(text) + 1] = [start, *text]
        tokens_out[row, : len(text) + 1] = [*text, end]
        weights[row, : len(text) + 1] = 1
    return tokens_in, tokens_out, weights


def main() -> None:
    """Train to continue a, a + d, a + 2d, ... (mod 11) from two terms."""
    terms, modulus = 8, 11
    texts = [
        [3 + (first + step * t) % modulus for t in range(terms)]
        for first in range(modulus)
        for step in range(modulus)
    ]
    order = np.random.default_rng(0).permutation(len(texts))
    texts = np.array(texts)[order]
    model = TransformerLM(3 + modulus, layers=2, width=64, heads=4, ff_width=128, dropout=0.0)
    model.compile(keras.optimizers.Adam(InverseSquareRoot(3e-3, 50)), **token_objective())
    tokens_in, tokens_out, weights = shifted(texts)
    model.fit(tokens_in, tokens_out, sample_weight=weights, batch_size=32, epochs=100, verbose=0)
    found = model.generate(tf.constant(texts[:, :2], tf.int32), max_length=terms + 1).ids[:, 0]
    right = np.all(found.numpy() == tokens_out[:, : found.shape[1]], -1).sum()
    print(f"exactly right: {right} of {len(texts)}")


if __name__ == "__main__":
    main()
