"""Cells of every kind, and a table of transitions, for the tests of this folder."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.backend.keras import KERAS_3, zero_state
from keras_attention.seq2seq import AttentionWrapper, BahdanauAttention, LuongAttention

UNITS, WIDTH, INPUT = 4, 5, 3

MECHANISMS = {"bahdanau": BahdanauAttention, "luong": LuongAttention}


def stacked(cell, **kwargs):
    return keras.layers.StackedRNNCells([cell(UNITS, **kwargs) for _ in range(2)])


CELLS = {
    "lstm": functools.partial(keras.layers.LSTMCell, UNITS),
    "gru": functools.partial(keras.layers.GRUCell, UNITS),
    "simple_rnn": functools.partial(keras.layers.SimpleRNNCell, UNITS),
    "stacked_lstm": functools.partial(stacked, keras.layers.LSTMCell),
    "stacked_gru": functools.partial(stacked, keras.layers.GRUCell),
}


def keras3(why):
    """A mark for what is promised on the current stack alone."""
    return pytest.mark.skipif(not KERAS_3, reason=f"Keras 3 only: {why}")


def start_of(cell, batch):
    """The first state of a cell of Keras."""
    return zero_state(cell, batch, "float32")


def normal(*shape):
    return np.random.normal(size=shape).astype(np.float32)


def wrap(cell=CELLS["gru"], mechanism=LuongAttention, size=7, **kwargs):
    """An `AttentionWrapper` over a new cell."""
    return AttentionWrapper(cell(), mechanism(UNITS), size, **kwargs)


def unroll(cell, inputs, memory, state=None, **kwargs):
    """inputs [N, T, D] -> outputs [N, T, A], last state: the steps of a cell, one by one."""
    state = state or cell.get_initial_state(batch_size=inputs.shape[0], memory=memory)
    outputs = []
    for t in range(inputs.shape[1]):
        output, state = cell(inputs[:, t], state, memory=memory, **kwargs)
        outputs.append(output)
    return np.stack(outputs, 1), state


class Table:
    """A cell that knows log p(token | step, previous token) by heart, another table per source.

    Its inputs are one-hot tokens: let `tf.eye(V)` be the embedding. The table is its state, for
    rows of different sources decode together.
    """

    def __init__(self, log_p):
        """log_p [B, T, V, V]: log p(last axis | axis before it)."""
        self.log_p = np.asarray(log_p, np.float32)
        self.output_size = self.log_p.shape[-1]

    def __call__(self, inputs, state, training=None):
        log_p, time = state
        now = tf.gather(log_p, time[:, 0], batch_dims=1)  # [N, V, V]
        return tf.einsum("nv,nvw->nw", inputs, now), (log_p, time + 1)

    def start(self, rows=None):
        """The first state, for each source once."""
        log_p = tf.constant(self.log_p)
        log_p = log_p if rows is None else tf.gather(log_p, rows)
        return log_p, tf.zeros([tf.shape(log_p)[0], 1], tf.int32)

    @classmethod
    def random(cls, sources, steps, vocabulary, spread=2.0):
        logits = spread * np.random.normal(size=(sources, steps, vocabulary, vocabulary))
        return cls(logits - np.log(np.exp(logits).sum(-1, keepdims=True)))

    def of(self, source):
        """(t, previous) -> log p [V] in float64, as the oracles take it."""
        return lambda t, previous: self.log_p[source, t, previous].astype(np.float64)
