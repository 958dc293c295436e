"""An LSTM with a tape of all of its states."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.layers import LSTMNCell
from tests import oracles

UNITS, WIDTH, STEPS = 4, 3, 6


@keras.saving.register_keras_serializable("tests")
def newest(scores, mask):
    """All the weight to the last slot: where step t - 1 is."""
    slots = tf.shape(scores)[-1]
    weights = tf.one_hot(tf.fill(tf.shape(scores)[:-1], slots - 1), slots, dtype=scores.dtype)
    return tf.where(mask, weights, 0.0)


def drawn(cell, **kwargs):
    rnn = keras.layers.RNN(cell, return_sequences=True, **kwargs)
    rnn.build((None, None, WIDTH))
    rnn.set_weights([np.random.normal(size=weight.shape) for weight in rnn.weights])
    return rnn, np.random.normal(size=(2, STEPS, WIDTH)).astype("float32")


def tapes_by_loops(cell, inputs, window=None):
    """Equations 4 to 10 on lists.  [T, D'] -> [T, D]."""
    (w_h,), (w,), v = cell.keys.get_weights(), cell.query.get_weights(), cell.v.numpy()
    hs, cs, summary = [], [], np.zeros(UNITS)
    for x in inputs:
        fed = np.concatenate([x, summary]) if cell.feed_summary else x
        seen_h, seen_c = (tape[-(window or len(inputs)) :] for tape in (hs, cs))
        summary, carried = np.zeros(UNITS), np.zeros(UNITS)
        if seen_h:
            weights = oracles.softmax(np.tanh(np.array(seen_h) @ w_h + fed @ w) @ v)
            summary, carried = weights @ np.array(seen_h), weights @ np.array(seen_c)
        h, c = oracles.lstm(x[None], summary[None], carried[None], *cell.lstm.get_weights())
        hs.append(h[0])
        cs.append(c[0])
    return np.array(hs)


@pytest.mark.parametrize("feed_summary", [True, False])
@pytest.mark.parametrize("memory_length", [2, STEPS, 9])
def test_it_is_the_loop_over_tapes_that_hold_the_last_steps(memory_length, feed_summary):
    cell = LSTMNCell(UNITS, memory_length, feed_summary)
    rnn, inputs = drawn(cell)
    found = rnn(inputs)
    for row in range(2):
        expected = tapes_by_loops(cell, inputs[row], memory_length)
        np.testing.assert_allclose(found[row], expected, atol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [{"memory_length": 1}, {"memory_length": 9, "normalize": newest}],
    ids=["one slot", "forced"],
)
def test_attending_to_the_last_step_alone_is_an_lstm(settings):
    cell = LSTMNCell(UNITS, **settings)
    rnn, inputs = drawn(cell)
    lstm = keras.layers.LSTM(UNITS, return_sequences=True)
    lstm.build(inputs.shape)
    lstm.set_weights(cell.lstm.get_weights())
    np.testing.assert_allclose(rnn(inputs), lstm(inputs), atol=1e-6)


def test_it_has_the_parameters_of_the_paper():
    rnn, _ = drawn(LSTMNCell(UNITS, STEPS))
    m, d = WIDTH, UNITS
    assert rnn.count_params() == 4 * (d * (m + d) + d) + (d * d + d * m + d * d + d)
    without, _ = drawn(LSTMNCell(UNITS, STEPS, feed_summary=False))
    assert rnn.count_params() - without.count_params() == d * d


def test_a_longer_tape_than_the_sequence_changes_nothing():
    rnn, inputs = drawn(LSTMNCell(UNITS, STEPS))
    longer, _ = drawn(LSTMNCell(UNITS, 3 * STEPS))
    longer.set_weights(rnn.get_weights())
    np.testing.assert_allclose(longer(inputs), rnn(inputs), atol=1e-6)


def test_padding_freezes_the_tape():
    rnn, inputs = drawn(LSTMNCell(UNITS, STEPS), return_state=True)
    mask = np.array([[True, True, False, True, False, False], [True] * 6])
    found, *state = rnn(inputs, mask=tf.constant(mask))
    expected, *short = rnn(inputs[:1, [0, 1, 3]])
    np.testing.assert_allclose(tf.boolean_mask(found[0], mask[0]), expected[0], atol=1e-6)
    for left, right in zip(state, short):
        np.testing.assert_allclose(left[:1], right, atol=1e-6)


def test_a_state_continues_where_it_was_left():
    rnn, inputs = drawn(LSTMNCell(UNITS, STEPS), return_state=True)
    whole = rnn(inputs)[0]
    first, *state = rnn(inputs[:, :2])
    rest = rnn(inputs[:, 2:], initial_state=state)[0]
    np.testing.assert_allclose(tf.concat([first, rest], 1), whole, atol=1e-6)


def test_step_by_step_is_the_whole_sequence():
    rnn, inputs = drawn(LSTMNCell(UNITS, STEPS))
    state, outputs = rnn.cell.get_initial_state(batch_size=2), []
    for step in range(STEPS):
        output, state = rnn.cell(inputs[:, step], state)
        outputs.append(output)
    np.testing.assert_allclose(tf.stack(outputs, 1), rnn(inputs), atol=1e-6)
    assert state._fields == ("hidden", "cell", "keys", "filled", "summary")


def test_a_functional_model_knows_the_shapes_of_its_states():
    rnn, inputs = drawn(LSTMNCell(UNITS, STEPS), return_state=True)
    symbolic = rnn(keras.Input((None, WIDTH)))
    for found, expected in zip(symbolic[1:], rnn(inputs)[1:]):
        assert found.shape[1:] == expected.shape[1:]


def test_its_settings_survive_a_config():
    cell = LSTMNCell(UNITS, 7, feed_summary=False, normalize=newest)
    again = LSTMNCell.from_config(cell.get_config())
    assert (again.units, again.memory_length, again.feed_summary) == (UNITS, 7, False)
    assert again.normalize is newest


def test_sizes_that_make_no_sense_are_refused():
    for sizes in ((0, 3), (3, 0)):
        with pytest.raises(ValueError, match="Received: units="):
            LSTMNCell(*sizes)
