"""The Transformer (Vaswani et al., 2017).

    memory = encoder(sqrt(D) E[source] + PE)                N x [self-attention, feed-forward]
    hidden = decoder(sqrt(D) E[target_in] + PE, memory)     N x [causal self-, cross-attention, ff]
    p(y_t) = softmax(hidden_t E^T)                          one matrix E for all three

`python -m models.transformer` trains a model to copy strings in about a minute.
"""

from typing import Any

import keras
import numpy as np

from keras_attention.backend.keras import build, deserialize, serialize
from keras_attention.data import batches
from keras_attention.functional import as_ids, right_padded
from keras_attention.layers import (
    MultiHeadAttention,
    TiedEmbedding,
    TransformerCell,
    TransformerStack,
)
from keras_attention.training import InverseSquareRoot, token_objective
from models._base import EncoderDecoder, TiedOutput

# Table 3 of the paper, and two that can be trained on a CPU.
PRESETS: dict[str, dict[str, Any]] = {
    "base": dict(layers=6, width=512, heads=8, ff_width=2048, dropout=0.1),
    "big": dict(layers=6, width=1024, heads=16, ff_width=4096, dropout=0.3),
    "small": dict(layers=4, width=128, heads=4, ff_width=256, dropout=0.3),
    "toy": dict(layers=2, width=64, heads=4, ff_width=128, dropout=0.1),
}


@keras.saving.register_keras_serializable("keras_attention")
class Transformer(TiedOutput, EncoderDecoder):
    """The Transformer: encoder and decoder with multi-head attention.

    Call: `model((source [B, S], target_in [B, T])) -> logits [B, T, V]`, ids in, `pad_id` on the
    right. Train it with `compile(loss=..., ...)` and `fit` on `((source, target_in), target_out,
    weights)`; see `keras_attention.data.batches`. `generate(source)` searches for answers.

    Args:
        vocab_size: V, shared by source and target.
        layers: N, of the encoder and of the decoder.
        width: D.
        heads: H.
        ff_width: of the feed-forward layers' hidden layer.
        dropout: of the embeddings and of the output of every sublayer.
        norm: "post" (the paper's) or "pre".
        positions: "sinusoid", "learned" (of `max_length`) or None.
        max_length: number of learned positions.
        key_width, value_width: of each head; default D / H, and the key's.
        alignment_layer, alignment_head: which cross-attention a search returns as alignments, and
            `GuidedAlignment` trains: see `TransformerCell`.
        self_attention: a `MultiHeadAttention` to use instead in encoder and decoder, of any core
            that decodes: see `TransformerBlock`.
        packed: "auto" computes on real tokens only in training, where the logits of padding are
            then zeros: see `TransformerStack`.

    Ids are integers, or floats that are whole numbers: see `functional.as_ids`; others are a
    ValueError.

    `Transformer.of("base", vocab_size)` has the sizes of the paper; see `PRESETS`.

    >>> import tensorflow as tf
    >>> model = Transformer(vocab_size=20, layers=1, width=8, heads=2, ff_width=16)
    >>> source = tf.constant([[5, 6, 2], [7, 2, 0]])
    >>> model((source, tf.constant([[1, 6], [1, 7]]))).shape
    TensorShape([2, 2, 20])
    >>> model.generate(source, beam_width=3, max_length=4).scores.shape
    TensorShape([2, 3])
    """

    def __init__(
        self,
        vocab_size: int,
        layers: int = 6,
        width: int = 512,
        heads: int = 8,
        ff_width: int = 2048,
        dropout: float = 0.1,
        norm: str = "post",
        positions: str | None = "sinusoid",
        max_length: int | None = None,
        key_width: int | None = None,
        value_width: int | None = None,
        position_layout: str = "interleaved",
        attention_bias: bool = False,
        alignment_layer: int = -1,
        alignment_head: int | None = None,
        packed: bool | str = "auto",
        self_attention: MultiHeadAttention | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        shared: dict[str, Any] = dict(
            layers=layers, heads=heads, ff_width=ff_width, dropout=dropout, norm=norm,
            positions=positions, max_length=max_length, key_width=key_width,
            value_width=value_width, position_layout=position_layout, attention_bias=attention_bias,
            packed=packed, self_attention=self_attention,
        )  # fmt: skip
        self._config = dict(
            vocab_size=vocab_size, width=width,
            **{**shared, "self_attention": serialize(self_attention)},
            alignment_layer=alignment_layer, alignment_head=alignment_head,
        )  # fmt: skip
        policy = self.dtype_policy
        self.target_vocab_size = self.logits_width = vocab_size
        self.embedding = TiedEmbedding(vocab_size, width, dtype=policy)
        self.encoder = TransformerStack(**shared, dtype=policy, name="encoder")
        self.decoder = TransformerStack(
            **shared, causal=True, cross=True, dtype=policy, name="decoder"
        )
        self.cell = TransformerCell(self.decoder, alignment_layer, alignment_head)

    @classmethod
    def of(cls, preset: str, vocab_size: int, **changes) -> "Transformer":
        """A model with the sizes of a preset in `PRESETS`; other arguments override them.

        >>> Transformer.of("toy", vocab_size=12, layers=1).decoder.get_config()["heads"]
        4
        """
        if preset not in PRESETS:
            raise ValueError(f"preset must be one of {list(PRESETS)}. Received: {preset!r}")
        return cls(vocab_size, **{**PRESETS[preset], **changes})

    # -- the model: encode, decode, and the parts that `generate` uses

    def encode(self, source, training=None):
        """[B, S] ids -> (memory of each decoder layer, None: an empty initial state)."""
        self.build()
        source = as_ids(source, "source", "B S", self.pad_id)
        mask = source != self.pad_id
        encoded = self.encoder(self.embedding(source), mask=mask, training=training)
        return self.decoder.project_memory(encoded, mask, training), None

    def decode(self, target_in, memory, state=None, training=None, return_alignments=False):
        """Teacher forcing: [B, T] ids, memory and state of `encode` (None) -> logits [B, T, V],
        and alignments [B, T, S] if requested.
        """
        target_in = as_ids(target_in, "target_in", "B T", self.pad_id)
        hidden, weights = self.decoder(
            self.embedding(target_in),
            memory=memory,
            mask=right_padded(target_in, self.pad_id) if training else None,
            return_weights=True,
            training=training,
        )
        logits = self.project(hidden)
        return (logits, self.cell.alignment(weights)) if return_alignments else logits

    def _build_parts(self):
        hidden = (None, None, self._config["width"])
        build(self.embedding, (None, None))  # each part may be built already
        build(self.encoder, hidden)
        build(self.decoder, hidden, hidden)
        build(self.cell, (None, self._config["width"]))

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "self_attention": deserialize(config.get("self_attention"))})


def main() -> None:
    """Train to copy strings of ten symbols."""
    rng = np.random.default_rng(0)
    model = Transformer.of("toy", vocab_size=14)
    model.compile(
        keras.optimizers.Adam(InverseSquareRoot(3e-3, warmup=200), beta_2=0.98, epsilon=1e-9),
        **token_objective(label_smoothing=0.1),
    )

    def examples(count):
        sources = [rng.integers(4, 14, rng.integers(4, 11)) for _ in range(count)]
        return sources, sources

    model.fit(batches(*examples(51_200), 64, seed=0), shuffle=False, epochs=1)
    sources, targets = examples(200)
    right = 0
    for (source, _), target, _ in batches(sources, targets, 1):
        found = model.generate(source, max_length=12).ids[0, 0].numpy().tolist()
        right += found == target[0].numpy().tolist()
    print(f"exactly right: {right} of {len(sources)}")


if __name__ == "__main__":
    main()
