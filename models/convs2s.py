"""Convolutional sequence to sequence learning (Gehring et al., 2017).

    e_j = dropout(E_x x_j + P_j)                  g_i = dropout(E_y y_{i-1} + P_i)    inputs, [F]
    v([A B]) = A * sigmoid(B)                     gated linear unit
    h^l_i = (v(W^l [h^{l-1}_{i-k/2}; ..; h^{l-1}_{i+k/2}] + b^l) + h^{l-1}_i) sqrt(.5)    [U]

The encoder ends with z_j = W_z h^L_j. The decoder looks back only, h^{l-1}_{i-k+1} .. h^{l-1}_i,
and each of its layers attends to the m tokens of the source (multi-step attention):

    d^l_i = W_d v(..)^l_i + b_d + g_i             a^l_ij = softmax_j(d^l_i . z_j)
    c^l_i = m sqrt(1/m) sum_j a^l_ij (z_j + e_j)  h^l_i = ((v(..)^l_i + W_c c^l_i) sqrt(.5)
                                                           + h^{l-1}_i) sqrt(.5)
    p(y_i) = softmax(W_o dropout(W_h h^L_i) + b_o)

All W but the embeddings and W_o are weight-normalised (Salimans and Kingma, 2016). The gradient
that the encoder gets from the L attentions is divided by L.

`python -m models.convs2s` trains a model to copy strings in about a minute.
"""

import keras
import tensorflow as tf

from keras_attention.backend.keras import build
from keras_attention.data import batches
from keras_attention.functional import Memory, as_ids
from keras_attention.layers import Dropout, PositionEmbedding
from keras_attention.layers.linear_cross_entropy import dense_logits
from keras_attention.seq2seq import projector
from keras_attention.training import token_objective
from models import _toy as toy
from models._base import EncoderDecoder
from models._convolution import HALF, ConvDecoder, Convolution, WeightNormDense


@keras.saving.register_keras_serializable("keras_attention")
class ConvS2S(EncoderDecoder):
    """An encoder-decoder of convolutions.

    Call: `model((source [B, S], target_in [B, T])) -> logits [B, T, V]`, ids in, `pad_id` on the
    right. Train it with `compile(loss=..., ...)` and `fit` on `((source, target_in), target_out,
    weights)`; see `keras_attention.data.batches`. `generate(source)` searches for answers.

    Args:
        vocab_size: of the source.
        target_vocab_size: V; default: that of the source.
        encoder_layers, decoder_layers: L of each; the paper has up to 20.
        units: U, of the convolutions.
        embedding_width: F.
        kernel_size: k, odd.
        dropout: of the embeddings, of the inputs of convolutions, and before the output layer.
        max_length: number of learned positions, of the source and of the target; a longer text is
            an InvalidArgumentError.

    Raises ValueError for other ids than whole numbers, sizes below 1 and an even kernel_size.

    >>> model = ConvS2S(20, units=8, embedding_width=8)
    >>> source = tf.constant([[5, 6, 2], [7, 2, 0]])
    >>> model((source, tf.constant([[1, 6], [1, 7]]))).shape
    TensorShape([2, 2, 20])
    >>> model.generate(source, beam_width=3, max_length=4).scores.shape
    TensorShape([2, 3])
    """

    def __init__(
        self,
        vocab_size: int,
        target_vocab_size: int | None = None,
        encoder_layers: int = 2,
        decoder_layers: int = 2,
        units: int = 512,
        embedding_width: int = 512,
        kernel_size: int = 3,
        dropout: float = 0.2,
        max_length: int = 1024,
        **kwargs,
    ):
        super().__init__(**kwargs)
        target_vocab_size = target_vocab_size or vocab_size
        sizes = dict(
            vocab_size=vocab_size, target_vocab_size=target_vocab_size,
            encoder_layers=encoder_layers, decoder_layers=decoder_layers, units=units,
            embedding_width=embedding_width, kernel_size=kernel_size, max_length=max_length,
        )  # fmt: skip
        if min(sizes.values()) < 1 or kernel_size % 2 == 0:
            raise ValueError(
                f"All sizes must be at least 1, and kernel_size odd. Received: {sizes}"
            )
        self._config = {**sizes, "dropout": dropout}
        self.target_vocab_size = self.logits_width = target_vocab_size
        policy = self.dtype_policy
        small = keras.initializers.RandomNormal(stddev=0.1)
        self.source_embedding, self.target_embedding = (
            keras.layers.Embedding(size, embedding_width, small, dtype=policy)
            for size in (vocab_size, target_vocab_size)
        )
        self.source_positions, self.target_positions = (
            PositionEmbedding("learned", max_length, dtype=policy) for _ in range(2)
        )
        self.dropout = Dropout(dropout, dtype=policy)
        self.encoder_in = WeightNormDense(units, dropout, dtype=policy)
        self.encoder = [
            Convolution(units, kernel_size, dropout, dtype=policy, name=f"encoder_{number}")
            for number in range(encoder_layers)
        ]
        self.encoder_out = WeightNormDense(embedding_width, dtype=policy)
        self.cell = ConvDecoder(
            decoder_layers, units, embedding_width, kernel_size, dropout,
            positions=self.target_positions, dtype=policy,
        )  # fmt: skip
        self.output_layer = keras.layers.Dense(target_vocab_size, dtype=policy, name="output")

    def encode(self, source, training=None):
        """[B, S] ids -> (memory: keys z, values z + e, mask; the decoder's initial state)."""
        self.build()
        source = as_ids(source, "source", "B S", self.pad_id)
        mask = source != self.pad_id
        real = tf.cast(mask, self.compute_dtype)[..., None]
        e = self.source_positions(self.source_embedding(source)) * real
        e = self.dropout(e, training=training)
        h = self.encoder_in(e) * real
        for layer in self.encoder:
            h = (layer(h, training=training) + h) * HALF * real
        z, share = self.encoder_out(h), 1 / self._config["decoder_layers"]
        z = share * z + tf.stop_gradient((1 - share) * z)  # divides the gradient alone
        memory = Memory(z, z + e, mask)
        return memory, self.cell.get_initial_state(tf.shape(source)[0], memory)

    def decode(self, target_in, memory, state, training=None, return_alignments=False):
        """Teacher forcing: [B, T] ids, memory and state of `encode` -> logits [B, T, V], and
        alignments [B, T, S] if requested.
        """
        target_in = as_ids(target_in, "target_in", "B T", self.pad_id)
        hidden, _, alignments = self.cell.steps(
            self.embed(target_in), state, memory, training=training
        )
        logits = self.project(self.dropout(hidden, training=training))
        return (logits, alignments) if return_alignments else logits

    def embed(self, tokens):
        """Target ids -> inputs of the cell, which adds the position.  [...] -> [..., F]."""
        return self.target_embedding(tokens)

    def project(self, output):
        """Outputs of the cell -> logits.  [..., F] -> [..., V]."""
        return dense_logits(self.output_layer, output)

    def projection(self):
        """`project`, with the part that can be done before a loop already done."""
        return projector(self.output_layer.kernel, self.output_layer.bias, self.compute_dtype)

    def _build_parts(self):
        embedded = (None, None, self._config["embedding_width"])
        for layer in (self.source_embedding, self.target_embedding):
            build(layer, (None, None))
        for layer in (self.source_positions, self.encoder_in, self.cell, self.output_layer):
            build(layer, embedded)
        for layer in (*self.encoder, self.encoder_out):
            build(layer, (None, None, self._config["units"]))


def main() -> None:
    """Train to copy strings of ten symbols, and draw what the decoder attends to."""
    keras.utils.set_random_seed(0)
    model = ConvS2S(toy.SYMBOLS, units=64, embedding_width=64, dropout=0.1, max_length=32)
    model.compile(keras.optimizers.Adam(2e-3), **token_objective())
    strings = toy.strings(38_400, seed=0)
    model.fit(batches(strings, strings, 64, seed=0), shuffle=False, verbose=2)
    strings = toy.strings(200, seed=1)
    toy.report(model, strings, strings, picture="convs2s.png")


if __name__ == "__main__":
    main()
