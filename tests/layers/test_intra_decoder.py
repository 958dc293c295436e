"""Attention of a decoder over its own earlier states."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.layers import IntraDecoderAttention, IntraDecoderCell
from tests import oracles

MASK = np.arange(5) < np.array([5, 3])[:, None]


def drawn(layer, *shapes):
    inputs = [np.random.normal(size=shape).astype("float32") for shape in shapes]
    layer(*inputs)
    layer.set_weights([np.random.normal(size=weight.shape) for weight in layer.weights])
    return layer, *inputs


def test_looking_back_is_the_loop_over_earlier_steps():
    layer, states = drawn(IntraDecoderAttention(), (2, 5, 3))
    context, weights = layer(states, mask=MASK, return_weights=True)
    kernel = layer.kernel.numpy()
    for row, step in np.ndindex(2, 5):
        past = states[row, :step][MASK[row, :step]]
        expected = np.zeros(3)
        if len(past):
            shares = oracles.softmax(past @ kernel.T @ states[row, step])
            np.testing.assert_allclose(weights[row, step, : len(past)], shares, atol=1e-5)
            expected = shares @ past
        np.testing.assert_allclose(context[row, step], expected, atol=1e-5)
    assert not np.any(context[:, 0])


def test_no_state_sees_itself_or_what_follows():
    layer, states = drawn(IntraDecoderAttention(), (1, 4, 3))
    states = tf.constant(states)
    _, weights = layer(states, return_weights=True)
    assert not np.any(np.asarray(weights[0])[np.triu_indices(4)])
    with tf.GradientTape() as tape:
        tape.watch(states)
        outputs = tf.reduce_sum(tf.square(layer(states)), -1)
    jacobian = np.abs(tape.jacobian(outputs, states)[0, :, 0]).sum(-1)
    assert not jacobian[np.triu_indices(4, 1)].any()


@pytest.mark.parametrize("inner", [keras.layers.GRUCell, keras.layers.LSTMCell])
@pytest.mark.parametrize("memory_length", [2, 5, 8])
def test_the_cell_gives_the_result_of_the_layer_of_all_its_states(inner, memory_length):
    cell = IntraDecoderCell(inner(3), memory_length)
    rnn, inputs = drawn(keras.layers.RNN(cell, return_sequences=True), (2, 5, 4))
    plain = keras.layers.RNN(cell.cell, return_sequences=True)
    states = plain(inputs)
    found = rnn(inputs)
    np.testing.assert_allclose(found[..., :3], states, atol=1e-6)
    steps = range(5) if memory_length >= 5 else range(memory_length + 1)
    for step in steps:
        np.testing.assert_allclose(found[:, step, 3:], cell.attention(states)[:, step], atol=1e-5)
    if memory_length < 5:  # beyond, the oldest are forgotten
        expected = cell.attention(states[:, -memory_length - 1 :])[:, -1]
        np.testing.assert_allclose(found[:, -1, 3:], expected, atol=1e-5)


def test_padding_freezes_the_tape_and_a_state_continues_where_it_was_left():
    cell = IntraDecoderCell(keras.layers.LSTMCell(3), 5)
    rnn, inputs = drawn(keras.layers.RNN(cell, return_sequences=True, return_state=True), (2, 5, 4))
    whole = rnn(inputs)[0]
    first, *state = rnn(inputs[:, :2], mask=tf.constant([[True, True], [True, True]]))
    padded, *state = rnn(
        np.pad(inputs[:, :2], [[0, 0], [0, 3], [0, 0]]), mask=tf.constant([[1, 1, 0, 0, 0]] * 2) > 0
    )
    rest = rnn(inputs[:, 2:], initial_state=state)[0]
    np.testing.assert_allclose(tf.concat([first, rest], 1), whole, atol=1e-6)


def test_cells_that_cannot_be_held_are_refused():
    with pytest.raises(ValueError, match="without dropout.*Received: cell="):
        IntraDecoderCell(keras.layers.GRUCell(3, dropout=0.5), 5)
    with pytest.raises(ValueError, match="a Keras RNN cell, with a state_size"):
        IntraDecoderCell(keras.layers.Dense(3), 5)
    with pytest.raises(ValueError, match="memory_length=0"):
        IntraDecoderCell(keras.layers.GRUCell(3), 0)
