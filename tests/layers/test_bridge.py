"""A bridge carries an encoder's last states to where a decoder begins."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.layers import Bridge


def _states(*widths_per_layer, batch=2):
    rng = np.random.default_rng(0)
    return [
        [tf.constant(rng.normal(size=(batch, width)), tf.float32) for width in widths]
        for widths in widths_per_layer
    ]


def test_pass_hands_the_states_over_as_they_are():
    cell = keras.layers.LSTMCell(4)
    states = _states((4, 4))
    begun = Bridge("pass")(states, cell.get_initial_state(batch_size=2))
    for given, got in zip(states[0], begun):
        np.testing.assert_array_equal(given, got)


def test_zero_begins_with_nothing():
    begun = Bridge("zero")(_states((9,)), keras.layers.GRUCell(4).get_initial_state(batch_size=2))
    assert all(not np.any(part) for part in begun)


def test_dense_is_tanh_of_one_projection_of_both_directions():
    states = _states((3, 3))
    bridge = Bridge("dense")
    (begun,) = bridge(states, keras.layers.GRUCell(4).get_initial_state(batch_size=2))
    kernel, bias = bridge.get_weights()
    joined = np.concatenate(states[0], -1)
    np.testing.assert_allclose(begun, np.tanh(joined @ kernel + bias), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cell", [keras.layers.GRUCell, keras.layers.LSTMCell])
@pytest.mark.parametrize("ways", [1, 2])
def test_a_stack_keeps_the_containers_of_the_decoder(cell, ways):
    stack = keras.layers.StackedRNNCells([cell(4), cell(5)])
    begin = stack.get_initial_state(batch_size=2)
    per_layer = len(tf.nest.flatten(begin)) // 2
    begun = Bridge("dense")(_states(*[(3,) * per_layer * ways] * 2), begin)
    tf.nest.assert_same_structure(begin, begun)
    assert [part.shape for part in tf.nest.flatten(begun)] == [
        part.shape for part in tf.nest.flatten(begin)
    ]


def test_an_lstm_pairs_forward_h_with_backward_h():
    forward_h, forward_c, backward_h, backward_c = (tf.fill([1, 1], float(i)) for i in range(4))
    bridge = Bridge("dense")
    begin = keras.layers.LSTMCell(1).get_initial_state(batch_size=1)
    states = [[forward_h, forward_c, backward_h, backward_c]]
    bridge(states, begin)
    bridge.set_weights([np.array([[0.1], [0.1]]), np.zeros(1)] * 2)
    h, c = bridge(states, begin)
    np.testing.assert_allclose([h[0, 0], c[0, 0]], np.tanh([0.2, 0.4]), rtol=1e-6)


def test_states_that_do_not_fit_are_refused_with_both_shapes():
    begin = keras.layers.GRUCell(4).get_initial_state(batch_size=2)
    with pytest.raises(ValueError, match=r"\(2, 6\).*\(2, 4\)"):
        Bridge("pass")(_states((3, 3)), begin)
    with pytest.raises(ValueError, match="2 layers"):
        Bridge("pass")(_states((4,), (4,)), begin)
    with pytest.raises(ValueError, match="kind"):
        Bridge("copy")
