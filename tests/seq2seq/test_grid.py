"""Every cell, depth, encoder and place of the attention: it learns, and it answers."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.seq2seq import (
    AttentionWrapper,
    BasicDecoder,
    BeamSearchDecoder,
    LuongAttention,
    TrainingSampler,
    sequence_loss,
    tile_batch,
)
from tests.sampled import sampled
from tests.seq2seq.cells import start_of

UNITS, VOCABULARY, START, END = 8, 7, 1, 2
CELLS = {
    "lstm": keras.layers.LSTMCell,
    "gru": keras.layers.GRUCell,
    "simple_rnn": keras.layers.SimpleRNNCell,
}
SOURCE = np.array([[3, 4, 5], [5, 5, 3], [6, 3, 0], [4, 0, 0]])
TARGET = np.array([[5, 4, 3, 2], [3, 5, 5, 2], [3, 6, 2, 0], [4, 2, 0, 0]])  # reversed, and ended


class Model(keras.Model):
    """The smallest encoder and decoder; attention on the first, the top, or every layer."""

    def __init__(self, cell, layers, bidirectional, place):
        super().__init__()
        make = functools.partial(cell, UNITS)
        encoder = keras.layers.RNN(make(), return_sequences=True)
        self.encoder = keras.layers.Bidirectional(encoder) if bidirectional else encoder
        self.embedding = keras.layers.Embedding(VOCABULARY, UNITS)
        cells = [make() for _ in range(layers)]
        if place == "top":  # the outputs of the whole stack are the queries
            stack = keras.layers.StackedRNNCells(cells) if layers > 1 else cells[0]
            self.cell = AttentionWrapper(stack, LuongAttention(UNITS), UNITS)
            self.mechanisms = [self.cell.attention_mechanism]
        else:
            attending = 1 if place == "first" else layers
            self.mechanisms = [LuongAttention(UNITS) for _ in range(attending)]
            wrapped = [
                AttentionWrapper(inner, mechanism, UNITS)
                for inner, mechanism in zip(cells, self.mechanisms)
            ]
            self.cell = keras.layers.StackedRNNCells([*wrapped, *cells[attending:]])
        self.head = keras.layers.Dense(VOCABULARY)
        self.train = BasicDecoder(self.cell, TrainingSampler(), self.head)
        self.search = BeamSearchDecoder(self.cell, 2, output_layer=self.head, maximum_iterations=5)

    def begin(self, source, beam_width=1):
        """Bind the memory, tiled for a search; the first state of the cell."""
        encoded = tile_batch(self.encoder(self.embedding(source)), beam_width)
        mask = tile_batch(source != 0, beam_width)
        for mechanism in self.mechanisms:
            mechanism.setup_memory(encoded, memory_mask=mask)
        return start_of(self.cell, beam_width * source.shape[0])

    def call(self, inputs):
        source, target = inputs
        inputs = self.embedding(tf.pad(target[:, :-1], [[0, 0], [1, 0]], constant_values=START))
        return self.train(inputs, initial_state=self.begin(source))[0].rnn_output

    def answer(self, source):
        """ids [B, T] of the best hypothesis, and its log p [B]."""
        outputs, state, _ = self.search(
            self.embedding.embeddings,
            start_tokens=[START] * source.shape[0],
            end_token=END,
            initial_state=self.begin(source, 2),
        )
        return outputs.predicted_ids[:, :, 0], state.log_probs[:, 0]

    def build(self, input_shape):
        """Nothing beside what is built in the first call."""


def crossent(model, source, target):
    """-log p of every token, 0 after the first end token.  [B, T]."""
    return sequence_loss(
        model((source, target)),
        target,
        tf.cast(tf.cumsum(tf.cast(target == END, tf.int32), 1, exclusive=True) == 0, tf.float32),
        average_across_timesteps=False,
        average_across_batch=False,
    )


@pytest.mark.full
@pytest.mark.parametrize(
    "cell, layers, bidirectional, place",
    sampled(list(CELLS), [1, 2, 3], [False, True], ["first", "top", "all"], together=1),
)
def test_it_learns_and_scores_are_those_of_teacher_forcing(cell, layers, bidirectional, place):
    model = Model(CELLS[cell], layers, bidirectional, place)
    source, target = tf.constant(SOURCE), tf.constant(TARGET)
    optimizer, losses = keras.optimizers.Adam(1e-2), []
    for _ in range(4):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(crossent(model, source, target))
        gradients = tape.gradient(loss, model.trainable_variables)
        assert not any(gradient is None for gradient in gradients)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables))
        losses.append(float(loss))
    assert losses == sorted(losses, reverse=True)
    ids, log_p = model.answer(source)
    np.testing.assert_allclose(-tf.reduce_sum(crossent(model, source, ids), 1), log_p, atol=1e-4)
