"""contrib's formulas, written out, against Keras' cells with converted weights."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.contrib import weights

N, D, U = 2, 3, 4


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype("float32")


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def step(cell, converted, x, *states):
    cell.build((None, D))
    cell.set_weights(converted)
    output, new = cell(tf.constant(x), [tf.constant(state) for state in states])
    return [np.asarray(part) for part in (output, *new)]


@pytest.mark.parametrize("forget_bias", [1.0, 0.3])
def test_an_lstm_adds_the_forget_bias_to_the_third_gate(forget_bias):
    kernel, bias = normal(D + U, 4 * U), normal(4 * U)
    x, c, h = normal(N, D), normal(N, U, seed=1), normal(N, U, seed=2)
    i, j, f, o = np.split(np.concatenate([x, h], 1) @ kernel + bias, 4, 1)
    new_c = sigmoid(f + forget_bias) * c + sigmoid(i) * np.tanh(j)
    new_h = sigmoid(o) * np.tanh(new_c)
    converted = weights.lstm_weights(kernel, bias, forget_bias)
    found = step(keras.layers.LSTMCell(U), converted, x, h, c)
    np.testing.assert_allclose(found, [new_h, new_h, new_c], rtol=1e-5, atol=1e-6)


def test_a_gru_resets_the_state_before_the_recurrent_product():
    gates, gates_bias = normal(D + U, 2 * U), normal(2 * U)
    candidate, candidate_bias = normal(D + U, U), normal(U)
    x, h = normal(N, D), normal(N, U, seed=1)
    r, u = np.split(sigmoid(np.concatenate([x, h], 1) @ gates + gates_bias), 2, 1)
    new = np.tanh(np.concatenate([x, r * h], 1) @ candidate + candidate_bias)
    converted = weights.gru_weights(gates, gates_bias, candidate, candidate_bias)
    found = step(keras.layers.GRUCell(U, reset_after=False), converted, x, h)
    np.testing.assert_allclose(found[0], u * h + (1 - u) * new, rtol=1e-5, atol=1e-6)


def test_a_basic_rnn_has_its_inputs_above_its_state():
    kernel, bias = normal(D + U, U), normal(U)
    x, h = normal(N, D), normal(N, U, seed=1)
    converted = weights.basic_rnn_weights(kernel, bias)
    found = step(keras.layers.SimpleRNNCell(U), converted, x, h)
    expected = np.tanh(np.concatenate([x, h], 1) @ kernel + bias)
    np.testing.assert_allclose(found[0], expected, rtol=1e-5, atol=1e-6)


def test_the_type_of_the_weights_is_kept():
    kernel, bias = normal(D + U, 4 * U).astype("float64"), normal(4 * U).astype("float64")
    assert {part.dtype.name for part in weights.lstm_weights(kernel, bias)} == {"float64"}
    kernel, bias = kernel.astype("float32"), bias.astype("float32")
    assert {part.dtype.name for part in weights.lstm_weights(kernel, bias)} == {"float32"}


def test_a_matrix_that_is_no_kernel_is_refused():
    with pytest.raises(ValueError, match=r"\[inputs \+ units, 4 \* units\]. Received: \(7, 15\)"):
        weights.lstm_weights(normal(7, 15), normal(15))
    with pytest.raises(ValueError, match="Received: \\(4, 4\\)"):
        weights.basic_rnn_weights(normal(4, 4), normal(4))  # no row for an input
