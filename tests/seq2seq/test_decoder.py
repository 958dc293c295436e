"""`dynamic_decode` with any decoder: finishing, lengths and limits."""

import numpy as np
import pytest
import tensorflow as tf

from keras_attention.seq2seq import Decoder, dynamic_decode


class Countdown(Decoder):
    """Row n finishes after n steps; outputs and state count the steps up."""

    def __init__(self, steps):
        self.steps = tf.convert_to_tensor(steps)

    @property
    def batch_size(self):
        return tf.size(self.steps)

    @property
    def output_size(self):
        return tf.TensorShape([1])

    @property
    def output_dtype(self):
        return tf.float32

    def initialize(self, name=None):
        rows = tf.cast(self.steps, tf.float32)[:, None]
        return self.steps == 0, rows, {"taken": tf.zeros_like(rows), "steps": tf.constant(0)}

    def step(self, time, inputs, state, training=None, name=None):
        taken = state["taken"] + 1
        state = {"taken": taken, "steps": state["steps"] + 1}
        return taken, state, inputs, time + 1 >= self.steps


def decode(steps, **options):
    return dynamic_decode(Countdown(steps), **options)


def in_a_graph(jit=False):
    return tf.function(decode, jit_compile=jit, autograph=False)


@pytest.mark.parametrize("call", [decode, in_a_graph()], ids=["eager", "graph"])
def test_the_loop_ends_with_the_last_row_and_gives_the_lengths(call):
    outputs, state, lengths = call([2, 0, 4])
    assert outputs.shape == (3, 4, 1)
    assert lengths.numpy().tolist() == [2, 0, 4]
    assert state["taken"].numpy().ravel().tolist() == [4, 4, 4]


@pytest.mark.parametrize("jit", [None, False, True], ids=["eager", "graph", "xla"])
def test_finished_rows_give_zeros_and_keep_their_state_if_imputed(jit):
    call = decode if jit is None else in_a_graph(jit)
    outputs, state, lengths = call([2, 0, 4], impute_finished=True, maximum_iterations=4)
    assert outputs[..., 0].numpy().tolist() == [[1, 2, 0, 0], [0, 0, 0, 0], [1, 2, 3, 4]]
    assert state["taken"].numpy().ravel().tolist() == [2, 0, 4]
    assert int(state["steps"]) == 4  # a scalar belongs to no row
    assert lengths.numpy().tolist() == [2, 0, 4]


def test_outputs_may_stay_time_major():
    batch_major, *_ = decode([3, 1])
    time_major, *_ = decode([3, 1], output_time_major=True)
    np.testing.assert_array_equal(time_major, np.swapaxes(batch_major, 0, 1))


def test_rows_that_are_cut_off_have_the_length_of_the_limit():
    outputs, _, lengths = decode([5, 1], maximum_iterations=3)
    assert outputs.shape == (2, 3, 1) and lengths.numpy().tolist() == [3, 1]
    _, _, lengths = decode([5, 1], maximum_iterations=tf.constant(2))
    assert lengths.numpy().tolist() == [2, 1]


def test_nothing_to_do_gives_outputs_without_steps():
    outputs, _, lengths = decode([0, 0])
    assert outputs.shape == (2, 0, 1) and lengths.numpy().tolist() == [0, 0]


def test_under_xla_the_outputs_have_all_the_steps_of_the_limit():
    outputs, _, lengths = in_a_graph(jit=True)([2, 1], maximum_iterations=4)
    assert outputs[..., 0].numpy().tolist() == [[1, 2, 0, 0], [1, 2, 0, 0]]
    assert lengths.numpy().tolist() == [2, 1]


@pytest.mark.parametrize("steps", [[2, 1], [1, 2, 0], []], ids=["short", "shorter", "empty"])
@pytest.mark.parametrize("jit", [False, True], ids=["graph", "xla of it"])
def test_a_graph_that_is_compiled_later_has_all_the_steps_of_the_limit(steps, jit):
    options = dict(maximum_iterations=4, enable_tflite_convertible=True)
    traced = tf.function(
        lambda steps: decode(steps, **options),
        input_signature=[tf.TensorSpec([None], tf.int32)],
        autograph=False,
    ).get_concrete_function()
    run = tf.function(lambda steps: traced(steps), jit_compile=jit, autograph=False)
    outputs, _, lengths = run(tf.constant(steps, tf.int32))
    assert outputs.shape == (len(steps), 4, 1)
    assert outputs[..., 0].numpy().tolist() == [[1, 2, 0, 0]] * len(steps)
    assert lengths.numpy().tolist() == steps


def test_what_is_compiled_without_a_limit_is_refused():
    with pytest.raises(ValueError, match="maximum_iterations is required for XLA"):
        in_a_graph(jit=True)([2, 1])
    with pytest.raises(ValueError, match="maximum_iterations is required .* LiteRT"):
        in_a_graph()([2, 1], enable_tflite_convertible=True)


@pytest.mark.parametrize("limit, error", [([1], ValueError), (0, tf.errors.InvalidArgumentError)])
def test_a_limit_is_a_positive_scalar(limit, error):
    with pytest.raises(error, match="maximum_iterations"):
        decode([2, 1], maximum_iterations=limit)


def test_finalize_sees_the_outputs_time_major_and_has_the_last_word():
    class Doubled(Countdown):
        def finalize(self, outputs, final_state, sequence_lengths):
            assert outputs.shape[:2] == (3, 2) and sequence_lengths.shape == (2,)
            return 2 * outputs, "done"

    outputs, state, _ = dynamic_decode(Doubled([3, 1]))
    assert outputs[0, :, 0].numpy().tolist() == [2, 4, 6] and state == "done"


def test_a_step_that_changes_the_structure_of_its_state_is_refused():
    class Broken(Countdown):
        def step(self, time, inputs, state, training=None, name=None):
            outputs, state, inputs, finished = super().step(time, inputs, state)
            return outputs, state["taken"], inputs, finished

    with pytest.raises(ValueError, match="structure"):
        dynamic_decode(Broken([3, 1]))


def test_a_decoder_may_track_its_own_finished_and_wake_a_row_up():
    class Waking(Countdown):
        @property
        def tracks_own_finished(self):
            return True

        def step(self, time, inputs, state, training=None, name=None):
            outputs, state, inputs, _ = super().step(time, inputs, state)
            return outputs, state, inputs, tf.stack([time != 1, time >= 2])

    outputs, _, lengths = dynamic_decode(Waking([9, 9]))
    assert outputs.shape[1] == 3 and lengths.numpy().tolist() == [3, 3]
