"""LSTMNs as encoder and decoder (Cheng, Dong, Lapata, 2016), with deep or shallow fusion.

The source's tapes are gamma_j = h_j and alpha_j = c_j of an LSTMN. Attention between the two:

    b_j     = u . tanh(W_g gamma_j + W_x x_t + W_s gamma~_{t-1})                          [B, S]
    p       = softmax(b)        gamma~_t = sum_j p_j gamma_j      alpha~_t = sum_j p_j alpha_j

Deep fusion: a gate r lets the source's memory into that of the decoder, an LSTMN whose h~_t and
c~_t come from its own tape as in models/lstmn.py.

    r_t     = sigmoid(W_r [gamma~_t; x_t])                        p(y_t) = softmax(W_o h_t)
    c_t     = r_t * alpha~_t + f_t * c~_t + i_t * c^_t            h_t = o_t * tanh(c_t)   [B, d]

Shallow fusion: the decoder is an LSTMN on its own, b_j reads its h_t instead of x_t, and
p(y_t) = softmax(W_o [h_t; gamma~_t]). In both, the tape begins with the source's last h and c.

`python -m models.lstmn_seq2seq` learns to reverse strings, and draws where it looks.
"""

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from keras_attention.backend.keras import build
from keras_attention.data import batches
from keras_attention.functional import Memory, additive, attend
from keras_attention.functional.masks import zero_masked
from keras_attention.layers import LSTMNCell
from keras_attention.layers._base import Layer
from keras_attention.training import token_objective
from models import _toy as toy
from models._base import check_sizes
from models._rnn import MaxoutOutput, RNNDecoder, embedding

FUSIONS = ("deep", "shallow")


class LSTMNDecoderState(NamedTuple):
    """An LSTMNState, gamma~ [N, d], and p [N, S]."""

    tapes: Any
    attended: Any
    alignments: Any


@keras.saving.register_keras_serializable("keras_attention")
class LSTMNDecoderCell(Layer):
    """One step of the decoder: `(x_t [N, m], state) -> (h_t, or [h_t; gamma~_t], state)`.

    `memory` is the result of `prepare_memory([gamma; alpha] [B, S, 2d], mask)`.
    """

    def __init__(self, units: int, memory_length: int, fusion: str = "deep", **kwargs):
        super().__init__(**kwargs)
        if fusion not in FUSIONS:
            raise ValueError(f"fusion must be one of {FUSIONS}. Received: {fusion=}")
        self.units, self.memory_length, self.fusion = units, memory_length, fusion
        dtype = self.dtype_policy
        self.lstmn = LSTMNCell(units, memory_length, dtype=dtype)
        self.keys = keras.layers.Dense(units, use_bias=False, dtype=dtype)  # W_g
        self.query = keras.layers.Dense(units, use_bias=False, dtype=dtype)  # [W_x; W_s]
        self.gate = keras.layers.Dense(units, "sigmoid", dtype=dtype)  # W_r
        tapes = self.lstmn.state_size
        self.state_size = LSTMNDecoderState(tapes, units, tf.TensorShape([None]))
        self.output_size = units if fusion == "deep" else 2 * units

    def build(self, input_shape) -> None:
        """Everything, for x of m."""
        width = input_shape[-1]
        self.lstmn.build((None, width))
        self.keys.build((None, self.units))
        self.query.build((None, self.units + (width if self.fusion == "deep" else self.units)))
        if self.fusion == "deep":
            self.gate.build((None, self.units + width))
        self.u = self.add_weight(shape=(self.units,), name="u")
        self.built = True

    def prepare_memory(self, tapes, mask) -> Memory:
        """W_g gamma and [gamma; alpha], zeros where masked."""
        tapes = zero_masked(tapes, mask)
        return Memory(self.keys(tapes[..., : self.units]), tapes, mask)

    def get_initial_state(self, batch_size, memory, last) -> LSTMNDecoderState:
        """`last`: the first h and c of the tape, [N, 2d]."""
        dtype, steps = self.compute_dtype, memory.mask.shape[1] or tf.shape(memory.mask)[1]
        h, c = tf.split(last, 2, -1)
        tapes = self.lstmn.get_initial_state(batch_size=batch_size)
        tapes = self.lstmn.write(tapes, h, c, tf.zeros_like(h))
        return LSTMNDecoderState(tapes, tf.zeros_like(h), tf.zeros([batch_size, steps], dtype))

    def call(self, inputs, state, memory, beam_width=1, training=None):
        """See the class."""
        tapes, attended, alignments = state
        if self.fusion == "shallow":
            h, tapes = self.lstmn(inputs, tapes)
            attended, _, weights = self._read(h, attended, memory, beam_width)
            output = tf.concat([h, attended], -1)
        else:
            attended, source_cell, weights = self._read(inputs, attended, memory, beam_width)
            r = self.gate(tf.concat([attended, inputs], -1))
            output, tapes = self._deep(inputs, tapes, r * source_cell)
        weights = tf.cast(tf.reshape(weights, tf.shape(alignments)), alignments.dtype)
        return output, LSTMNDecoderState(tapes, attended, weights)

    def _read(self, x, attended, memory, beam_width):
        """-> gamma~ [N, d], alpha~ [N, d], weights [B, K, S]; N = B K."""
        query = self.query(tf.concat([x, attended], -1))
        scores = additive(tf.reshape(query, [-1, beam_width, self.units]), memory.keys, self.u)
        both, weights = attend(scores, memory.values, memory.mask[:, None])
        return *tf.split(tf.reshape(both, [-1, 2 * self.units]), 2, -1), weights

    def _deep(self, x, tapes, from_source):
        """A step of the LSTMN whose new cell state includes `from_source`."""
        summary, carried, _ = self.lstmn.look_back(x, tapes)
        kernel, recurrent, bias = (tf.cast(w, x.dtype) for w in self.lstmn.lstm.weights)
        i, f, new, o = tf.split(tf.matmul(x, kernel) + tf.matmul(summary, recurrent) + bias, 4, -1)
        c = from_source + tf.sigmoid(f) * carried + tf.sigmoid(i) * tf.tanh(new)
        h = tf.sigmoid(o) * tf.tanh(c)
        return h, self.lstmn.write(tapes, h, c, summary)

    def get_config(self) -> dict:
        names = ("units", "memory_length", "fusion")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable("keras_attention")
class LSTMNSeq2Seq(MaxoutOutput, RNNDecoder):
    """An encoder-decoder of LSTMNs. Call, `fit` and `generate` are those of `RNNSeq2Seq`.

    Args:
        vocab_size, target_vocab_size: of the source; V of the target, default: the same.
        units: d.
        memory_length: M, of both tapes.
        embedding_width: m; default: `units`.
        fusion: "deep" or "shallow".
        dropout: of the source's embeddings and of the decoder's output.

    Raises ValueError for sizes below 1 and for an unknown fusion.

    >>> model = LSTMNSeq2Seq(vocab_size=20, units=8, memory_length=10, fusion="shallow")
    >>> model.generate(tf.constant([[5, 6, 2], [7, 2, 0]]), beam_width=3).scores.shape
    TensorShape([2, 3])
    """

    def __init__(
        self,
        vocab_size: int,
        target_vocab_size: int | None = None,
        units: int = 300,
        memory_length: int = 50,
        embedding_width: int | None = None,
        fusion: str = "deep",
        dropout: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        target_vocab_size = target_vocab_size or vocab_size
        self._config = dict(
            vocab_size=vocab_size, target_vocab_size=target_vocab_size, units=units,
            memory_length=memory_length, embedding_width=embedding_width or units, fusion=fusion,
            dropout=dropout,
        )  # fmt: skip
        check_sizes(**self._config)
        self.target_vocab_size = self.logits_width = target_vocab_size
        width, dtype = self._config["embedding_width"], self.dtype_policy
        self.source_embedding = embedding(vocab_size, width, dtype, "source_embedding")
        self.target_embedding = embedding(target_vocab_size, width, dtype, "target_embedding")
        encoder = LSTMNCell(units, memory_length, return_cell=True, dtype=dtype)
        self.encoder = keras.layers.RNN(encoder, return_sequences=True, dtype=dtype)
        self.cell = LSTMNDecoderCell(units, memory_length, fusion, dtype=dtype)
        self.make_output(None, target_vocab_size, dropout)

    def _encode(self, source, training=None):
        mask = source != self.pad_id
        embedded = self.dropout(self.source_embedding(source), training=training)
        tapes = self.encoder(embedded, mask=mask, training=training)
        memory = self.cell.prepare_memory(tapes, mask)
        # Over padding an RNN repeats its output, so the last is that of the last token.
        return memory, self.cell.get_initial_state(tf.shape(source)[0], memory, tapes[:, -1])

    def _build_parts(self):
        build(self.cell, (None, self._config["embedding_width"]))
        super()._build_parts()


def main() -> None:
    """Train to reverse strings of ten symbols."""
    keras.utils.set_random_seed(0)
    model = LSTMNSeq2Seq(toy.SYMBOLS, units=64, memory_length=16, embedding_width=32)
    model.compile(keras.optimizers.Adam(5e-3, global_clipnorm=1.0), **token_objective())
    sources, targets = toy.reversals(19_200, (4, 8))
    model.fit(batches(sources, targets, 64, seed=0), shuffle=False, verbose=2)
    toy.report(model, *toy.reversals(200, (4, 8), seed=1), picture="lstmn_seq2seq.png")


if __name__ == "__main__":
    main()
