"""The Neural Turing Machine: a controller with a memory that it reads and writes."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.layers import NTMCell
from tests import oracles

SLOTS, WIDTH, INPUTS = 6, 3, 5


def cell_of(heads=(1, 1), controller=keras.layers.LSTMCell, shift_range=1, dtype="float32"):
    inner = controller(7, dtype=dtype)
    return NTMCell(4, inner, SLOTS, WIDTH, *heads, shift_range, dtype=dtype)


def two_lstms(units, dtype):
    return keras.layers.StackedRNNCells(
        [keras.layers.LSTMCell(size, dtype=dtype) for size in (3, units)], dtype=dtype
    )


def drawn(cell, **kwargs):
    rnn = keras.layers.RNN(cell, return_sequences=True, **kwargs)
    rnn.build((None, None, INPUTS))
    rnn.set_weights([np.random.normal(size=weight.shape) for weight in rnn.weights])
    return rnn, np.random.normal(size=(2, 4, INPUTS)).astype("float32")


def softplus(x):
    return np.log1p(np.exp(x))


class Machine:
    """Equations 2 to 9 for one row, a head and a slot at a time; the controller is a GRU."""

    def __init__(self, cell):
        self.cell = cell
        self.gru = cell.controller.get_weights()
        self.heads, self.output = cell.heads.get_weights(), cell.output_layer.get_weights()
        self.memory = np.full((SLOTS, WIDTH), 1e-6)
        self.weights = oracles.softmax(cell.first_places.numpy())
        self.reads = cell.first_reads.numpy()
        self.state = np.zeros((1, 7))

    def find(self, drawn, previous):
        key, (strength, gate), rest = drawn[:WIDTH], drawn[WIDTH : WIDTH + 2], drawn[WIDTH + 2 :]
        shift, sharpness = oracles.softmax(rest[:-1]), 1 + softplus(rest[-1])
        norms = np.linalg.norm(self.memory, axis=1) * np.linalg.norm(key)
        content = oracles.softmax(softplus(strength) * (self.memory @ key) / norms)
        gate = oracles.sigmoid(gate)
        gated = gate * content + (1 - gate) * previous
        reach = len(shift) // 2
        moved = [
            sum(gated[(i - j) % SLOTS] * shift[j + reach] for j in range(-reach, reach + 1))
            for i in range(SLOTS)
        ]
        return np.power(moved, sharpness) / np.power(moved, sharpness).sum()

    def step(self, x):
        seen = np.concatenate([x, self.reads])[None]
        self.state = oracles.gru(seen, self.state, *self.gru)
        drawn = np.clip((self.state @ self.heads[0] + self.heads[1])[0], -20, 20)
        count, writes = self.cell.read_heads + self.cell.write_heads, self.cell.write_heads
        size = WIDTH + 3 + 2 * self.cell.shift_range + 1
        places = drawn[: count * size].reshape(count, size)
        self.weights = np.array([self.find(*pair) for pair in zip(places, self.weights)])
        self.reads = (self.weights[: self.cell.read_heads] @ self.memory).reshape(-1)
        written = drawn[count * size :].reshape(writes, 2 * WIDTH)
        writing = self.weights[self.cell.read_heads :]
        for weights, part in zip(writing, written):
            self.memory = self.memory * (1 - np.outer(weights, oracles.sigmoid(part[:WIDTH])))
        for weights, part in zip(writing, written):
            self.memory = self.memory + np.outer(weights, part[WIDTH:])
        joined = np.concatenate([self.state[0], self.reads])
        return joined @ self.output[0] + self.output[1]


@pytest.mark.parametrize("heads, shift_range", [((1, 1), 1), ((2, 3), 2), ((1, 2), 0)])
def test_it_is_the_machine_of_the_paper(heads, shift_range):
    cell = cell_of(heads, keras.layers.GRUCell, shift_range, "float64")
    rnn, inputs = drawn(cell, return_state=True, dtype="float64")
    found, memory, weights, reads, _ = rnn(inputs)
    for row in range(2):
        machine = Machine(cell)
        expected = [machine.step(x) for x in inputs[row]]
        np.testing.assert_allclose(found[row], expected, atol=1e-8)
        np.testing.assert_allclose(memory[row], machine.memory.reshape(-1), atol=1e-8)
        np.testing.assert_allclose(weights[row], machine.weights.reshape(-1), atol=1e-8)
        np.testing.assert_allclose(reads[row], machine.reads, atol=1e-8)


def test_it_begins_at_the_first_slot_of_an_almost_empty_memory():
    cell = cell_of((2, 1))
    cell.build((None, INPUTS))
    state = cell.get_initial_state(batch_size=3)
    assert state._fields == ("memory", "weights", "reads", "controller")
    np.testing.assert_allclose(state.memory, 1e-6)
    places = np.reshape(state.weights, (3, 3, SLOTS))
    np.testing.assert_allclose(places, np.eye(SLOTS)[[[0] * 3] * 3], atol=1e-3)


def test_where_it_begins_is_learned():
    rnn, inputs = drawn(cell_of())
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(rnn(inputs)))
    begin = [rnn.cell.first_places, rnn.cell.first_reads]
    assert all(np.any(gradient) for gradient in tape.gradient(loss, begin))


def test_weights_of_every_head_always_sum_to_one():
    rnn, inputs = drawn(cell_of((2, 2)), return_state=True)
    weights = np.reshape(rnn(inputs)[2], (2, 4, SLOTS))
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-5)
    assert (weights >= 0).all()


def test_a_silent_input_and_a_silent_controller_have_finite_gradients():
    rnn = keras.layers.RNN(cell_of(), return_sequences=True)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(rnn(tf.zeros([2, 4, INPUTS]))))
    for gradient in tape.gradient(loss, rnn.trainable_variables):
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize(
    "controller",
    [
        keras.layers.GRUCell,
        keras.layers.SimpleRNNCell,
        two_lstms,
    ],
)
def test_any_cell_can_be_its_controller(controller):
    rnn, inputs = drawn(cell_of(controller=controller))
    assert rnn(inputs).shape == (2, 4, 4)
    again = keras.layers.RNN.from_config(rnn.get_config())
    again.build((None, None, INPUTS))
    again.set_weights(rnn.get_weights())
    np.testing.assert_array_equal(
        keras.layers.RNN(again.cell, return_sequences=True)(inputs), rnn(inputs)
    )


def test_step_by_step_is_the_whole_sequence():
    rnn, inputs = drawn(cell_of())
    state, outputs = rnn.cell.get_initial_state(batch_size=2), []
    for step in range(4):
        output, state = rnn.cell(inputs[:, step], state)
        outputs.append(output)
    np.testing.assert_allclose(tf.stack(outputs, 1), rnn(inputs), atol=1e-5)


def test_padding_freezes_the_memory_and_a_state_continues_where_it_was_left():
    rnn, inputs = drawn(cell_of(), return_state=True)
    whole = rnn(inputs)[0]
    padded = np.pad(inputs[:, :2], [[0, 0], [0, 3], [0, 0]], constant_values=9)
    first, *state = rnn(padded, mask=tf.constant([[True] * 2 + [False] * 3] * 2))
    rest = rnn(inputs[:, 2:], initial_state=state)[0]
    np.testing.assert_allclose(tf.concat([first[:, :2], rest], 1), whole, atol=1e-5)


def test_a_functional_model_knows_the_shapes_of_its_states():
    rnn, inputs = drawn(cell_of((2, 1)), return_state=True)
    symbolic = rnn(keras.Input((None, INPUTS)))
    for found, expected in zip(tf.nest.flatten(symbolic), tf.nest.flatten(rnn(inputs))):
        assert found.shape[-1] == expected.shape[-1]


def test_invalid_arguments_are_refused():
    for sizes in (dict(units=0), dict(slots=0), dict(width=0), dict(read_heads=0)):
        with pytest.raises(ValueError, match="at least 1. Received"):
            NTMCell(**{**dict(units=4, controller=keras.layers.GRUCell(7)), **sizes})
    with pytest.raises(ValueError, match="Received: shift_range=2, slots=4"):
        NTMCell(4, keras.layers.GRUCell(7), slots=4, shift_range=2)
    with pytest.raises(ValueError, match="controller must be a Keras RNN cell without dropout"):
        NTMCell(4, keras.layers.GRUCell(7, recurrent_dropout=0.1))
    with pytest.raises(ValueError, match="build it first"):
        cell_of().get_initial_state(batch_size=2)
