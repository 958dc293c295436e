"""The decoder of `models.paulus`: an LSTM with two attentions and a pointer."""

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from keras_attention.backend.cells import push
from keras_attention.backend.keras import build
from keras_attention.functional import softmax, temporal_softmax
from keras_attention.functional.dtypes import widen
from keras_attention.layers import Attention, CopyHead, GeneralScore, IntraDecoderAttention
from keras_attention.layers._base import Layer
from keras_attention.seq2seq import RNN

TINY = 1e-30  # p of a word that cannot be said, for a finite log


class SummaryMemory(NamedTuple):
    """What the decoder looks at."""

    encoded: Any  # `Memory` of h^e [B, S, 2U]
    words: Any  # [B, S] ids of the extended vocabulary


class SummaryState(NamedTuple):
    """What the decoder remembers."""

    hidden: Any  # h^d [N, 2U]
    carry: Any  # of the LSTM [N, 2U]
    past: Any  # the last M of h^d [N, M, 2U]
    filled: Any  # which of them have been [N, M] bool
    history: Any  # log sum_j exp(e_ji) [N, S], or () without intra-temporal attention
    alignments: Any  # a^e_t [N, S]


@keras.saving.register_keras_serializable("keras_attention")
class TiedProjection(Layer):
    """Logits x W_out + b with W_out = tanh(W_emb W_proj), eq. 13.  [..., D] -> [..., V]."""

    def __init__(self, embedding, **kwargs):
        super().__init__(**kwargs)
        self.embedding = embedding

    def build(self, input_shape) -> None:
        size, width = self.embedding.input_dim, self.embedding.output_dim
        self.kernel = self.add_weight(shape=(width, input_shape[-1]), name="W_proj")
        self.bias = self.add_weight(shape=(size,), initializer="zeros", name="b_out")
        self.built = True

    def call(self, x):
        words = tf.cast(self.embedding.embeddings, x.dtype)
        output = tf.tanh(tf.matmul(words, tf.cast(self.kernel, x.dtype)))
        return tf.tensordot(x, output, [[-1], [-1]]) + tf.cast(self.bias, x.dtype)


@keras.saving.register_keras_serializable("keras_attention")
class SummaryCell(Layer):
    """One step: `(E y_{t-1} [N, E], state, memory, beam_width) -> (log p(y_t) [N, V'], state)`.

    `steps` does all steps of a known target at once. V' is V, and `copy_slots` more with a pointer.
    """

    def __init__(self, units, words, temporal, intra_decoder, pointer, copy_slots, look_back, **kw):
        super().__init__(**kw)
        policy = self.dtype_policy
        self.units, self.look_back = units, look_back
        self.lstm = keras.layers.LSTMCell(units, dtype=policy)
        self.all_steps = RNN(self.lstm, return_sequences=True, return_state=True, dtype=policy)
        normalize = temporal_softmax if temporal else softmax
        self.attention = Attention(GeneralScore(dtype=policy), normalize, dtype=policy)
        self.intra = IntraDecoderAttention(dtype=policy) if intra_decoder else None
        self.output_layer = TiedProjection(words, dtype=policy)
        self.head = CopyHead(self.output_layer, copy_slots, dtype=policy) if pointer else None

    def build(self, input_shape) -> None:
        states = (None, None, self.units)
        joined = (None, None, self.units * (2 if self.intra is None else 3))
        build(self.all_steps, (None, None, input_shape[-1]))
        build(self.attention, states, states)
        if self.intra is not None:
            build(self.intra, states)
        if self.head is None:
            build(self.output_layer, joined)
        else:
            self.head.build(joined, (None, None, None), (None, None))
        self.built = True

    def get_initial_state(self, hidden, memory) -> SummaryState:
        """From h^d_0 [N, 2U], c^d_0."""
        (h, c), rows = hidden, tf.shape(hidden[0])[0]
        return SummaryState(
            h, c,
            past=tf.zeros([rows, self.look_back, self.units], h.dtype),
            filled=tf.zeros([rows, self.look_back], tf.bool),
            history=self.attention.initial_state(rows, tf.float32, memory.encoded),
            alignments=tf.zeros(tf.shape(memory.words), tf.float32),
        )  # fmt: skip

    def call(self, inputs, state, memory: Any = None, beam_width=1, training=None):
        """See the class."""
        state, beams = SummaryState(*state), beam_width or 1
        h, (h, c) = self.lstm(inputs, [state.hidden, state.carry])

        def of_sources(x):  # [N, ...] -> [B, K, ...]
            return tf.reshape(x, tf.concat([[-1, beams], tf.shape(x)[1:]], 0))

        def of_rows(x):  # and back
            return tf.reshape(x, tf.concat([[-1], tf.shape(x)[2:]], 0))

        history = tf.nest.map_structure(of_sources, state.history)
        query = of_sources(h)
        context, weights, history = self.attention.attend(query, memory.encoded, history)
        joined = [query, context]
        if self.intra is not None:
            before = self.intra.look_back(h, state.past, state.filled)
            joined.append(of_sources(tf.cast(before, h.dtype)))
        log_p, _ = self.say(tf.concat(joined, -1), weights, memory)
        return of_rows(log_p), SummaryState(
            h, c, push(state.past, h), push(state.filled, tf.ones_like(state.filled[:, 0])),
            tf.nest.map_structure(of_rows, history),
            tf.cast(of_rows(weights), state.alignments.dtype),
        )  # fmt: skip

    def steps(self, inputs, state, memory, training=None):
        """[B, T, E] -> log p [B, T, V'], a^e [B, T, S], p(u=0) [B, T, 1] or None."""
        h, *_ = self.all_steps(inputs, initial_state=[state.hidden, state.carry], training=training)
        context, weights, *_ = self.attention(h, memory.encoded, return_weights=True)
        joined = [h, context] if self.intra is None else [h, context, self.intra(h)]
        log_p, p_gen = self.say(tf.concat(joined, -1), weights, memory)
        return log_p, weights, p_gen

    def say(self, joined, weights, memory):
        """[h^d; c^e; c^d] [B, T, D], a^e [B, T, S] -> log p(y) [B, T, V'], p(u=0) or None."""
        if self.head is None:
            return tf.nn.log_softmax(widen(self.output_layer(joined))), None
        p, p_gen = self.head(joined, weights, memory.words)
        return tf.math.log(tf.maximum(p, TINY)), p_gen
