"""Global and local attention (Luong, Pham, Manning, 2015).

    m_1..m_S = LSTM(E_x x_S..x_1)                  top layer of L; the source is read backwards
    h_t      = LSTM([E_y y_{t-1}; h~_{t-1}])       top layer; input feeding, h~_0 = 0     [B, T, n]
    a_t(s)   = softmax_s(score(h_t, m_s))          global                                 [B, T, S]
               softmax over |s - t| <= D           local-m
               softmax over |s - p_t| <= D, times exp(-(s - p_t)^2 / (2 (D/2)^2))         local-p
    p_t      = S sigmoid(v_p . tanh(W_p h_t))      S is the true length                   [B, T]
    c_t      = sum_s a_t(s) m_s
    h~_t     = tanh(W_c [c_t; h_t])                                                       [B, T, n]
    p(y_t)   = softmax(W_s h~_t)

    score = h_t . m_s                              dot
            h_t . (W_a m_s)                        general
            v_a . tanh(W_a [h_t; m_s])             concat
            (W_a h_t)_s                            location, for s < S_max

Places s, t and p_t are those of the source as it is written, from 0, though it is read backwards.

`python -m models.luong` learns to copy strings by local-p, and draws its windows.
"""

import warnings
from typing import Any

import keras
import tensorflow as tf

from keras_attention.data import batches
from keras_attention.functional import dot
from keras_attention.layers import (
    AdditiveScore,
    Attention,
    GeneralScore,
    LocalMonotonicAttention,
    LocalPredictiveAttention,
    LocationScore,
)
from keras_attention.seq2seq import AttentionWrapper
from keras_attention.training import ClipByGlobalNorm, token_objective
from models import _toy as toy
from models._rnn import reverse
from models.seq2seq import Seq2Seq

ATTENTIONS = ("global", "local-m", "local-p", None)
SCORES = ("dot", "general", "concat", "location")


@keras.saving.register_keras_serializable("keras_attention")
def without_feeding(inputs, attention):
    """The inputs alone, for an `AttentionWrapper` without input feeding."""
    return inputs


@keras.saving.register_keras_serializable("keras_attention")
class Luong(Seq2Seq):
    """Luong's encoder-decoder; the defaults are the sizes of the paper.

    Call, `fit` and `generate` are those of `RNNSeq2Seq`.

    Args:
        vocab_size: of the source.
        target_vocab_size: V; default: the same.
        units: n.
        layers: L.
        embedding_width: default: `units`.
        attention: "global", "local-m", "local-p" or None.
        score: "dot", "general", "concat" or "location".
        radius: D of the local attentions.
        max_length: S_max of the location score; later places get no weight.
        input_feeding: whether the LSTM sees h~_{t-1}.
        reverse_source, uniform, dropout: those of `Seq2Seq`.

    Raises ValueError for unknown names, and for sizes below 1. Warns of local-p with D < 5: p_t
    starts at S / 2 and learns by a Gaussian that is too narrow then.

    >>> model = Luong(20, units=8, layers=2, attention="local-p", score="general")
    >>> found = model.generate(tf.constant([[5, 6, 2]]), max_length=4, return_alignments=True)
    >>> found.alignments.shape[-1]
    3
    """

    def __init__(
        self,
        vocab_size: int,
        target_vocab_size: int | None = None,
        units: int = 1000,
        layers: int = 4,
        embedding_width: int | None = None,
        attention: str | None = "global",
        score: str = "general",
        radius: float = 10,
        max_length: int = 50,
        input_feeding: bool = True,
        reverse_source: bool = True,
        uniform: float | None = None,
        dropout: float = 0.0,
        **kwargs,
    ):
        if attention not in ATTENTIONS or score not in SCORES:
            raise ValueError(
                f"attention must be one of {ATTENTIONS}, score one of {SCORES}. Received: "
                f"{attention=}, {score=}"
            )
        if attention == "local-p" and radius < 5:
            warnings.warn(
                f"local-p hardly learns with D below 5. Received: {radius=}", stacklevel=2
            )
        super().__init__(
            vocab_size, target_vocab_size, units, layers, embedding_width,
            reverse_source=reverse_source, uniform=uniform, dropout=dropout, **kwargs,
        )  # fmt: skip
        del self._config["maxout_units"]
        self._config |= dict(
            attention=attention, score=score, radius=radius, max_length=max_length,
            input_feeding=input_feeding,
        )  # fmt: skip
        if attention is None:
            return
        dtype = self.dtype_policy
        self.cell = AttentionWrapper(
            self.cell,
            _attention(attention, score, radius, max_length, units, dtype),
            cell_input_fn=None if input_feeding else without_feeding,
            attention_layer=keras.layers.Dense(units, "tanh", use_bias=False, dtype=dtype),
            dtype=dtype,
        )

    def _encode(self, source, training=None):
        if self._config["attention"] is None:
            return super()._encode(source, training)
        mask = source != self.pad_id
        values, states = self._read(source, mask, training)
        if self._config["reverse_source"]:
            values = reverse(values, mask)
        memory = self.cell.prepare_memory(values, memory_mask=mask)
        start = self.cell.get_initial_state(batch_size=tf.shape(source)[0], memory=memory)
        return memory, start.clone(cell_state=self.bridge(states, start.cell_state))


def _attention(kind, score, radius, max_length, units, dtype) -> Any:
    scores = {
        "dot": lambda: dot,
        "general": lambda: GeneralScore(dtype=dtype),
        "concat": lambda: AdditiveScore(dtype=dtype),
        "location": lambda: LocationScore(max_length, dtype=dtype),
    }
    halves = dict(query_units=units, key_units=units) if score == "concat" else {}  # of W_a
    layer = Attention(scores[score](), **halves, dtype=dtype)
    if kind == "global":
        return layer
    local = LocalMonotonicAttention if kind == "local-m" else LocalPredictiveAttention
    return local(layer, radius, dtype=dtype)


def main() -> None:
    """Train to copy strings of ten symbols."""
    keras.utils.set_random_seed(0)
    model = Luong(toy.SYMBOLS, units=96, layers=1, attention="local-p", score="general")
    model.compile(ClipByGlobalNorm(keras.optimizers.Adam(3e-3), 5.0), **token_objective())
    sources, held_out = toy.strings(25_600), toy.strings(200, seed=1)
    model.fit(batches(sources, sources, 64, seed=0), shuffle=False, verbose=2)
    toy.report(model, held_out, held_out, picture="luong.png")


if __name__ == "__main__":
    main()
