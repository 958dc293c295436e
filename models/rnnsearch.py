"""RNNsearch (Bahdanau, Cho, Bengio, 2015), as in its appendix A.

    h_j  = [fwd_j; bwd_j]                                       bidirectional GRU    [B, S, 2n]
    s_0  = tanh(W_s bwd_1)                                                           [B, n]
    e_ij = v_a . tanh(W_a s_{i-1} + U_a h_j)                    the previous state   [B, T, S]
    c_i  = sum_j softmax_j(e_ij) h_j                                                 [B, T, 2n]
    z_i  = sigmoid(W_z E y_{i-1} + U_z s_{i-1} + C_z c_i)       r_i likewise         [B, T, n]
    s~_i = tanh(W E y_{i-1} + U (r_i * s_{i-1}) + C c_i)
    s_i  = (1 - z_i) * s_{i-1} + z_i * s~_i
    t~_i = U_o s_{i-1} + V_o E y_{i-1} + C_o c_i                                     [B, T, 2l]
    t_i  = max(t~_{i,2k-1}, t~_{i,2k})                          maxout               [B, T, l]
    p(y_i) = softmax(W_o t_i)

Gates, t~ and p have biases, which the equations of the paper leave out.

`python -m models.rnnsearch` learns to reverse strings, and draws what it attends to.
"""

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from keras_attention.data import batches
from keras_attention.layers import AdditiveScore, Attention
from keras_attention.layers._base import Layer
from keras_attention.training import token_objective
from models import _toy as toy
from models._base import check_sizes
from models._rnn import MaxoutOutput, RNNDecoder, embedding


class RNNsearchState(NamedTuple):
    """The state of an `RNNsearchCell`."""

    hidden: Any  # s_i [N, n]
    alignments: Any  # softmax_j(e_ij) [N, S]


@keras.saving.register_keras_serializable("keras_attention")
class RNNsearchCell(Layer):
    """One step of the decoder: `(E y_{i-1} [N, m], state) -> ([s_{i-1}; E y_{i-1}; c_i], state)`.

    Args:
        units: n.
        attention_units: n', default n.

    Call: `cell(inputs, state, memory, beam_width=1)`, with `memory` the result of
    `cell.attention.project_memory(h, mask)`; N = B K, and the K hypotheses share their source.

    >>> cell = RNNsearchCell(4)
    >>> memory = cell.attention.project_memory(tf.ones([2, 3, 8]))
    >>> state = cell.get_initial_state(batch_size=2, memory=memory)
    >>> output, state = cell(tf.ones([2, 5]), state, memory=memory)
    >>> output.shape, state.alignments.shape
    (TensorShape([2, 17]), TensorShape([2, 3]))
    """

    def __init__(self, units: int, attention_units: int | None = None, **kwargs):
        super().__init__(**kwargs)
        self.units, self.attention_units = units, attention_units or units
        score = AdditiveScore(dtype=self.dtype_policy)
        width = self.attention_units
        self.attention = Attention(score, query_units=width, key_units=width, dtype=score.dtype)
        # W, U, C of the gates. The z of Keras is 1 - z.
        self.gru = keras.layers.GRUCell(units, reset_after=False, dtype=self.dtype_policy)
        self.state_size = RNNsearchState(units, tf.TensorShape([None]))

    def build(self, input_shape) -> None:
        """Everything: h has 2n."""
        self.output_size = 3 * self.units + input_shape[-1]
        self.attention.build((None, None, self.units), (None, None, 2 * self.units))
        self.gru.build((None, input_shape[-1] + 2 * self.units))
        self.built = True

    def get_initial_state(self, batch_size: Any, memory=None, hidden=None) -> RNNsearchState:
        """s_0, zeros by default, and no alignments."""
        dtype = self.compute_dtype
        if hidden is None:
            hidden = tf.zeros([batch_size, self.units], dtype)
        steps = 0 if memory is None else memory.mask.shape[1] or tf.shape(memory.mask)[1]
        return RNNsearchState(hidden, tf.zeros([batch_size, steps], dtype))

    def call(self, inputs, state, memory, beam_width=1, training=None):
        """See the class."""
        s = state[0]
        query = tf.reshape(s, [-1, beam_width, self.units])
        context, weights, _ = self.attention.attend(query, memory)
        context = tf.reshape(context, [-1, 2 * self.units])
        weights = tf.cast(tf.reshape(weights, tf.shape(state[1])), state[1].dtype)
        next_s, _ = self.gru(tf.concat([inputs, context], -1), [s])
        return tf.concat([s, inputs, context], -1), RNNsearchState(next_s, weights)

    def get_config(self) -> dict:
        units = {"units": self.units, "attention_units": self.attention_units}
        return {**super().get_config(), **units}


@keras.saving.register_keras_serializable("keras_attention")
class RNNsearch(MaxoutOutput, RNNDecoder):
    """Bahdanau's encoder-decoder; the defaults are the sizes of the paper.

    Call: `model((source [B, S], target_in [B, T])) -> logits [B, T, V]`, ids in, `pad_id` on the
    right. Train it with `compile(**token_objective())` and `fit` on `((source, target_in),
    target_out, weights)`; see `keras_attention.data.batches`. `generate(source)` searches for
    answers.

    Args:
        vocab_size: of the source.
        target_vocab_size: V; default: the same.
        units: n, of each direction of the encoder, and of the decoder.
        embedding_width: m.
        maxout_units: l.
        attention_units: n', default n.
        dropout: of the source's embeddings and of [s_{i-1}; E y_{i-1}; c_i] before the output; the
            paper has none.

    Raises ValueError for sizes below 1, and for ids that are not of the vocabulary's type.

    >>> model = RNNsearch(vocab_size=20, units=8, embedding_width=6, maxout_units=4)
    >>> source = tf.constant([[5, 6, 2], [7, 2, 0]])
    >>> model((source, tf.constant([[1, 6], [1, 7]]))).shape
    TensorShape([2, 2, 20])
    >>> model.generate(source, beam_width=3, max_length=4, return_alignments=True).alignments.shape
    TensorShape([2, 3, 4, 3])
    """

    def __init__(
        self,
        vocab_size: int,
        target_vocab_size: int | None = None,
        units: int = 1000,
        embedding_width: int = 620,
        maxout_units: int = 500,
        attention_units: int | None = None,
        dropout: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        target_vocab_size = target_vocab_size or vocab_size
        self._config = dict(
            vocab_size=vocab_size, target_vocab_size=target_vocab_size, units=units,
            embedding_width=embedding_width, maxout_units=maxout_units,
            attention_units=attention_units or units, dropout=dropout,
        )  # fmt: skip
        check_sizes(**self._config)
        self.target_vocab_size = self.logits_width = target_vocab_size
        dtype = self.dtype_policy

        self.source_embedding = embedding(vocab_size, embedding_width, dtype, "source_embedding")
        self.target_embedding = embedding(
            target_vocab_size, embedding_width, dtype, "target_embedding"
        )
        cell = keras.layers.GRUCell(units, reset_after=False, dtype=dtype)
        layer = keras.layers.RNN(cell, return_sequences=True, return_state=True, dtype=dtype)
        self.encoder = keras.layers.Bidirectional(layer, dtype=dtype, name="encoder")
        self.bridge = keras.layers.Dense(units, "tanh", dtype=dtype, name="W_s")
        self.cell = RNNsearchCell(units, attention_units, dtype=dtype)
        self.make_output(maxout_units, target_vocab_size, dropout)

    def _encode(self, source, training=None):
        mask = source != self.pad_id
        embedded = self.dropout(self.source_embedding(source), training=training)
        annotations, _, backward = self.encoder(embedded, mask=mask, training=training)
        memory = self.cell.attention.project_memory(annotations, mask)
        state = self.cell.get_initial_state(
            batch_size=tf.shape(source)[0], memory=memory, hidden=self.bridge(backward)
        )
        return memory, state


def main() -> None:
    """Train to reverse strings of ten symbols."""
    keras.utils.set_random_seed(0)
    model = RNNsearch(toy.SYMBOLS, units=64, embedding_width=32, maxout_units=32)
    model.compile(keras.optimizers.Adam(3e-3), **token_objective())
    sources, targets = toy.reversals(19_200, seed=0)
    model.fit(batches(sources, targets, 64, seed=0), shuffle=False, verbose=2)
    toy.report(model, *toy.reversals(200, seed=1), picture="rnnsearch.png")


if __name__ == "__main__":
    main()
