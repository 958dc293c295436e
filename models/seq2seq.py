"""Encoder-decoders without attention (Sutskever et al., 2014; Cho et al., 2014).

Sutskever, Vinyals, Le: L layers of LSTM; the source is read backwards.
    h_1..h_S   = LSTM(E_x x_S..x_1)                     states v = (h_S, c_S) of each layer
    s_0        = v
    s_t        = LSTM(E_y y_{t-1}, s_{t-1})                                         [B, T, n]
    p(y_t)     = softmax(W_o s_t)                                                   [B, T, V]

Cho et al. (`maxout_units`): the decoder, and its output, see the summary c at every step.
    h_1..h_S   = GRU(E_x x_1..x_S)        c = tanh(V h_S)        s_0 = tanh(V' c)   [B, n]
    z_t        = sigmoid(W_z E y_{t-1} + U_z s_{t-1} + C_z c)    r_t likewise       [B, T, n]
    s~_t       = tanh(W E y_{t-1} + r_t * (U s_{t-1} + C c))
    s_t        = z_t * s_{t-1} + (1 - z_t) * s~_t
    t_t        = max of pairs of O_h s_t + O_y E y_{t-1} + O_c c                    [B, T, l]
    p(y_t)     = softmax(G t_t)

`python -m models.seq2seq` shows what reading backwards does for a copying task.
"""

import functools
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from keras_attention.data import batches
from keras_attention.layers import Bridge
from keras_attention.layers._base import Layer
from keras_attention.seq2seq import RNN
from keras_attention.training import ClipByGlobalNorm, token_objective
from models import _toy as toy
from models._base import check_sizes
from models._rnn import MaxoutOutput, RNNDecoder, embedding, reverse

# The sizes of the papers.
PRESETS: dict[str, dict[str, Any]] = {
    "sutskever": dict(units=1000, layers=4, reverse_source=True, uniform=0.08),
    "cho": dict(units=1000, embedding_width=100, maxout_units=500),
}


class ChoState(NamedTuple):
    """s_t and c, which stays, of a `ChoCell`; both [N, n]."""

    hidden: Any
    summary: Any


@keras.saving.register_keras_serializable("keras_attention")
class ChoCell(Layer):
    """One step of Cho's decoder: `(E y_{t-1} [N, m], state) -> ([s_t; E y_{t-1}; c], state)`.

    >>> cell = ChoCell(4)
    >>> output, state = cell(tf.ones([2, 5]), ChoState(tf.zeros([2, 4]), tf.ones([2, 4])))
    >>> output.shape, state.hidden.shape
    (TensorShape([2, 13]), TensorShape([2, 4]))
    """

    def __init__(self, units: int, **kwargs):
        super().__init__(**kwargs)
        self.units, self.state_size = units, ChoState(units, units)
        dense = functools.partial(keras.layers.Dense, 3 * units, dtype=self.dtype_policy)
        self.given, self.carried = dense(), dense(use_bias=False)  # W and biases; [U; C]

    def build(self, input_shape) -> None:
        """W, U and C."""
        self.output_size = 2 * self.units + input_shape[-1]
        self.given.build((None, input_shape[-1]))
        self.carried.build((None, 2 * self.units))
        self.built = True

    def call(self, inputs, state, training=None):
        """See the class."""
        s, c = state
        given = tf.split(self.given(inputs), 3, -1)
        carried = tf.split(self.carried(tf.concat([s, c], -1)), 3, -1)
        z, r = (tf.sigmoid(x + h) for x, h in zip(given[:2], carried[:2]))
        s = z * s + (1 - z) * tf.tanh(given[2] + r * carried[2])
        return tf.concat([s, inputs, c], -1), ChoState(s, c)

    def get_config(self) -> dict:
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable("keras_attention")
class Seq2Seq(MaxoutOutput, RNNDecoder):
    """An encoder-decoder without attention; `Seq2Seq.of("sutskever" or "cho", vocab_size)`.

    Call, `fit` and `generate` are those of `RNNSeq2Seq`. Sutskever trains by SGD(0.7), clipped by
    `ClipByGlobalNorm(..., 5)`.

    Args:
        vocab_size: of the source.
        target_vocab_size: V; default: the same.
        units: n.
        layers: L.
        embedding_width: m; default: `units`.
        maxout_units: l; makes the model that of Cho, of one layer.
        reverse_source: read the source backwards.
        uniform: initial weights U(-uniform, uniform), 0.08 in Sutskever; None: Keras' defaults.
        dropout: of the source's embeddings and of the decoder's output; the papers have none.

    Raises ValueError for sizes below 1 and for combinations that are neither paper's.

    >>> model = Seq2Seq.of("sutskever", vocab_size=20, units=8, layers=2)
    >>> model.generate(tf.constant([[5, 6, 2], [7, 2, 0]]), beam_width=3).scores.shape
    TensorShape([2, 3])
    """

    def __init__(
        self,
        vocab_size: int,
        target_vocab_size: int | None = None,
        units: int = 256,
        layers: int = 1,
        embedding_width: int | None = None,
        maxout_units: int | None = None,
        reverse_source: bool = False,
        uniform: float | None = None,
        dropout: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        target_vocab_size = target_vocab_size or vocab_size
        self._config = dict(
            vocab_size=vocab_size, target_vocab_size=target_vocab_size, units=units, layers=layers,
            embedding_width=embedding_width or units, maxout_units=maxout_units,
            reverse_source=reverse_source, uniform=uniform, dropout=dropout,
        )  # fmt: skip
        check_sizes(**self._config)
        if maxout_units and layers != 1:
            raise ValueError(f"Cho's model has one layer. Received: {maxout_units=}, {layers=}")
        self.target_vocab_size = self.logits_width = target_vocab_size
        width, dtype = self._config["embedding_width"], self.dtype_policy
        self.source_embedding = embedding(vocab_size, width, dtype, "source_embedding")
        self.target_embedding = embedding(target_vocab_size, width, dtype, "target_embedding")
        self._make_cho() if maxout_units else self._make_lstm()
        self.make_output(maxout_units, target_vocab_size, dropout)

    @classmethod
    def of(cls, paper: str, vocab_size: int, **changes) -> "Seq2Seq":
        """The model of a paper, "sutskever" or "cho"; other arguments override its sizes."""
        if paper not in PRESETS:
            raise ValueError(f"paper must be one of {list(PRESETS)}. Received: {paper!r}")
        return cls(vocab_size, **{**PRESETS[paper], **changes})

    def _make_lstm(self):
        units, layers, dtype = self._config["units"], self._config["layers"], self.dtype_policy
        cells = [keras.layers.LSTMCell(units, dtype=dtype) for _ in range(2 * layers)]
        self.encoder = [RNN(cell, True, True, dtype=dtype) for cell in cells[:layers]]
        self.decoder = cells[layers:]  # `tf.train.Checkpoint` does not see those of a stack
        self.cell = keras.layers.StackedRNNCells(self.decoder, dtype=dtype)
        self.bridge = Bridge("pass", dtype=dtype)

    def _make_cho(self):
        units, dtype = self._config["units"], self.dtype_policy
        cell = keras.layers.GRUCell(units, reset_after=False, dtype=dtype)
        self.encoder = [keras.layers.RNN(cell, return_state=True, dtype=dtype)]
        self.summary = keras.layers.Dense(units, "tanh", dtype=dtype, name="V")
        self.bridge = keras.layers.Dense(units, "tanh", dtype=dtype, name="V_prime")
        self.cell = ChoCell(units, dtype=dtype)

    def _build_parts(self):
        super()._build_parts()
        if limit := self._config["uniform"]:
            for weight in self.weights:
                weight.assign(keras.random.uniform(weight.shape, -limit, limit))

    def _read(self, source, mask, training):
        """-> outputs of the encoder's last layer, states of all."""
        if self._config["reverse_source"]:
            source = reverse(source, mask)
        values, states = self.dropout(self.source_embedding(source), training=training), []
        for layer in self.encoder:
            values, *state = layer(values, mask=mask, training=training)
            states.append(state)
        return values, states

    def _encode(self, source, training=None):
        _, states = self._read(source, source != self.pad_id, training)
        if self._config.get("maxout_units"):
            summary = self.summary(states[0][0])
            return None, ChoState(self.bridge(summary), summary)
        return None, self.bridge(states, self.cell.get_initial_state(tf.shape(source)[0]))


def main() -> None:
    """Train to copy strings, reading them forwards and backwards."""
    sources, held_out = toy.strings(38_400, (4, 8)), toy.strings(200, (4, 8), seed=1)
    for way, backwards in [("forwards", False), ("backwards", True)]:
        keras.utils.set_random_seed(0)
        model = Seq2Seq(toy.SYMBOLS, units=96, reverse_source=backwards)
        model.compile(ClipByGlobalNorm(keras.optimizers.Adam(3e-3), 5.0), **token_objective())
        model.fit(batches(sources, sources, 64, seed=0), shuffle=False, verbose=2)
        toy.report(model, held_out, held_out, f"reading {way}, ")


if __name__ == "__main__":
    main()
