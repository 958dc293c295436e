"""The interface of contrib: memory in the constructor, `time`, lengths, custom helpers."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.contrib import rnn, seq2seq
from tests import oracles

N, S, M, U, T, D, V = 2, 4, 5, 6, 3, 3, 7


def normal(*shape):
    return tf.random.normal(shape)


def wrap(mechanism=None, inner=None, **options):
    mechanism = mechanism or seq2seq.LuongAttention(U, normal(N, S, M))
    return seq2seq.AttentionWrapper(inner or rnn.LSTMCell(U), mechanism, **options)


# -- mechanisms


def test_a_mechanism_is_called_with_two_arguments_or_a_list():
    mechanism = seq2seq.BahdanauAttention(U, normal(N, S, M))
    query, state = normal(N, U), mechanism.initial_state(N, tf.float32)
    one, other = mechanism(query, state), mechanism([query, state])
    np.testing.assert_array_equal(one[0], other[0])
    np.testing.assert_array_equal(one[0], mechanism(query, state=state)[1])


def test_a_probability_function_sees_one_row_a_query_and_minus_infinity_beyond_the_length():
    seen = []

    def uniform(scores):
        seen.append(scores)
        visible = tf.cast(scores > -np.inf, scores.dtype)
        return visible / tf.reduce_sum(visible, -1, keepdims=True)

    mechanism = seq2seq.LuongAttention(U, normal(N, S, M), [3, 1], probability_fn=uniform)
    alignments, _ = mechanism(normal(N, U), None)
    np.testing.assert_allclose(alignments, [[1 / 3] * 3 + [0], [1, 0, 0, 0]], rtol=1e-6)
    assert seen[-1].shape == (N, S)


def test_a_mask_value_is_a_score_like_any_other():
    memory, query = normal(N, S, M), normal(N, U)
    mechanism = seq2seq.LuongAttention(U, memory, [3, 1], score_mask_value=-0.5)
    alignments, _ = mechanism(query, None)
    scores = oracles.luong_scores(query.numpy(), memory.numpy(), mechanism.memory_layer.kernel)
    scores = np.where(oracles.padding([3, 1], S), scores, -0.5)
    np.testing.assert_allclose(alignments, oracles.softmax(scores), rtol=1e-5)


def test_keys_and_values_may_be_replaced():
    def shifted(keys, values):
        return keys + 1.0, tf.concat([values, values], -1)

    mechanism = seq2seq.LuongAttention(U, normal(N, S, M), custom_key_value_fn=shifted)
    assert mechanism.values.shape == (N, S, 2 * M)
    wrapper = wrap(mechanism)
    output, _ = wrapper(normal(N, D), wrapper.zero_state(N, tf.float32))
    assert output.shape == (N, 2 * M)


@pytest.mark.parametrize("make", [seq2seq.LuongAttention, seq2seq.BahdanauMonotonicAttention])
def test_one_mechanism_takes_another_memory_with_the_same_weights(make):
    mechanism = make(U, normal(N, S, M))
    mechanism(normal(N, U), mechanism.initial_state(N, tf.float32))
    count, kernel = len(mechanism.weights), mechanism.memory_layer.kernel.numpy()
    mechanism.setup_memory(normal(1, 1, M), [1])
    alignments, _ = mechanism(normal(1, U), mechanism.initial_state(1, tf.float32))
    assert alignments.shape == (1, 1) and len(mechanism.weights) == count
    np.testing.assert_array_equal(mechanism.memory_layer.kernel, kernel)


def test_a_mechanism_without_memory_reports_it():
    mechanism = seq2seq.LuongAttention(U, None)
    with pytest.raises(ValueError, match="setup_memory"):
        mechanism(normal(N, U), None)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_a_mechanism_of_another_type(dtype):
    memory = tf.cast(normal(N, S, M), dtype)
    mechanism = seq2seq.BahdanauAttention(U, memory, [S, 1], dtype=dtype)
    alignments, _ = mechanism(tf.cast(normal(N, U), dtype), None)
    assert alignments.dtype == dtype
    np.testing.assert_allclose(tf.reduce_sum(alignments, 1), [1, 1], rtol=2e-3)


# -- the wrapper and its state


def test_time_counts_the_steps():
    wrapper = wrap()
    state = wrapper.zero_state(N, tf.float32)
    for step in range(3):
        assert int(state.time) == step and state.time.dtype == tf.int32
        _, state = wrapper(normal(N, D), state)
    assert isinstance(state, seq2seq.AttentionWrapperState)
    assert wrapper.state_size.time == tf.TensorShape([])


def test_a_step_of_the_wrapper_is_its_parts():
    mechanism = seq2seq.LuongAttention(U, normal(N, S, M))
    wrapper = wrap(mechanism, attention_layer_size=4)
    x, state = normal(N, D), wrapper.zero_state(N, tf.float32)
    output, _ = wrapper(x, state)
    cell_output, _ = wrapper.cell(tf.concat([x, state.attention], -1), state.cell_state)
    alignments, _ = mechanism(cell_output, None)
    context = tf.einsum("ns,nsm->nm", alignments, mechanism.values)
    expected = wrapper._attention_layers[0](tf.concat([cell_output, context], 1))
    np.testing.assert_allclose(output, expected, rtol=1e-5, atol=1e-6)


def test_a_clone_wants_the_containers_of_the_state():
    state = wrap().zero_state(N, tf.float32)
    c, h = normal(N, U), normal(N, U)
    cloned = state.clone(cell_state=rnn.LSTMStateTuple(c, h))
    np.testing.assert_array_equal(cloned.cell_state.c, c)
    with pytest.raises((TypeError, ValueError)):
        state.clone(cell_state=[h, c])  # Keras' order
    with pytest.raises(ValueError, match="tile_batch"):
        state.clone(cell_state=rnn.LSTMStateTuple(normal(2 * N, U), h))


def test_zero_state_for_another_batch_than_the_memorys_points_to_tile_batch():
    wrapper = wrap()
    for rows in (N + 1, 2 * N):
        with pytest.raises(tf.errors.InvalidArgumentError, match="tile_batch"):
            wrapper.zero_state(rows, tf.float32)


def test_a_state_of_other_parts_is_refused():
    wrapper = wrap()
    with pytest.raises(TypeError, match=r"such as zero_state\(\). Received: LSTMStateTuple"):
        wrapper(normal(N, D), rnn.LSTMStateTuple(normal(N, U), normal(N, U)))


def test_an_attention_function_gets_the_mechanism_it_was_written_for():
    def attend(mechanism, cell_output, attention_state, attention_layer):
        assert isinstance(mechanism, seq2seq.LuongAttention) and attention_layer is None
        alignments, state = mechanism(cell_output, state=attention_state)
        return mechanism.values[:, 0], alignments, state

    wrapper = wrap(attention_fn=attend)
    output, _ = wrapper(normal(N, D), wrapper.zero_state(N, tf.float32))
    np.testing.assert_array_equal(output, wrapper.attention_mechanism.values[:, 0])


def test_the_attending_cell_may_be_one_of_a_stack():
    """As GNMT has it: the lowest cell attends, the others stand on it."""
    cell = rnn.MultiRNNCell([wrap(attention_layer_size=4, alignment_history=True), rnn.GRUCell(U)])
    helper = seq2seq.TrainingHelper(normal(N, T, D), [T, T])
    decoder = seq2seq.BasicDecoder(cell, helper, cell.zero_state(N, tf.float32))
    outputs, state, _ = seq2seq.dynamic_decode(decoder)
    assert outputs.rnn_output.shape == (N, T, U)
    assert state[0].alignment_history.stack().shape == (T, N, S)


def test_all_weights_of_a_wrapper_are_in_a_checkpoint(tmp_path):
    memory = normal(N, S, M)
    stack = [rnn.LSTMCell(U), rnn.GRUCell(U)]
    mechanisms = [seq2seq.BahdanauAttention(U, memory), seq2seq.LuongAttention(U, memory)]
    wrapper = wrap(mechanisms, rnn.MultiRNNCell(stack), attention_layer_size=[3, 4])
    wrapper(normal(N, D), wrapper.zero_state(N, tf.float32))
    path = tf.train.Checkpoint(cell=wrapper).save(str(tmp_path / "wrapper"))
    saved = [name for name, _ in tf.train.list_variables(path) if "VARIABLE_VALUE" in name]
    assert len(saved) == len(wrapper.trainable_weights) + 1  # and the save counter


# -- decoding


def searched(wrapper, table, steps=4, **options):
    start = wrapper.zero_state(N * 3, tf.float32)
    starts = tf.fill([N], 1)
    decoder = seq2seq.BeamSearchDecoder(wrapper, table, starts, 0, start, 3, **options)
    return seq2seq.dynamic_decode(decoder, maximum_iterations=steps)


def test_lengths_of_a_search_are_those_of_places_and_the_state_has_those_of_hypotheses():
    """Token 2 is likelier, token 0 ends: a place that a finished hypothesis has left decodes on."""
    cell = rnn.ResidualWrapper(rnn.GRUCell(3), lambda i, o: 0.0 * o + [0.5, 0.0, 1.0])
    decoder = seq2seq.BeamSearchDecoder(cell, tf.eye(3), [1], 0, cell.zero_state(3, "float32"), 3)
    outputs, state, lengths = seq2seq.dynamic_decode(decoder, maximum_iterations=4)
    ends = state.finished.numpy()[0]
    ids = outputs.predicted_ids.numpy()[0].T  # [K, T]
    expected = [1 + np.argmax(row == 0) if end else 4 for row, end in zip(ids, ends, strict=True)]
    np.testing.assert_array_equal(state.lengths[0], expected)
    assert lengths.dtype == tf.int32 and lengths.shape == (1, 3)
    assert not np.array_equal(lengths[0], expected)


def test_a_history_of_a_search_has_a_row_for_each_hypothesis():
    memory = seq2seq.tile_batch(normal(N, S, M), 3)
    wrapper = wrap(seq2seq.LuongAttention(U, memory), alignment_history=True)
    layer = keras.layers.Dense(V)
    _, state, _ = searched(wrapper, normal(V, D), output_layer=layer)
    history = state.cell_state.alignment_history
    assert history.shape[1:] == (3 * N, S)
    np.testing.assert_allclose(tf.reduce_sum(history, -1), np.ones(history.shape[:2]), rtol=1e-5)
    options = {"output_layer": layer, "reorder_tensor_arrays": False}
    _, state, _ = searched(wrapper, normal(V, D), **options)
    assert isinstance(state.cell_state.alignment_history, tf.TensorArray)


def test_a_custom_helper():
    class Countdown(seq2seq.Helper):
        """The ids are the time; a row ends after as many steps as it was told."""

        def __init__(self, steps):
            self.steps = tf.constant(steps)

        batch_size = property(lambda self: tf.size(self.steps))
        sample_ids_shape = tf.TensorShape([])
        sample_ids_dtype = tf.int32

        def initialize(self, name=None):
            return self.steps <= 0, tf.zeros([self.batch_size, D])

        def sample(self, time, outputs, state, name=None):
            return tf.fill([self.batch_size], time)

        def next_inputs(self, time, outputs, state, sample_ids, name=None):
            return time + 1 >= self.steps, tf.zeros([self.batch_size, D]), state

    cell = rnn.GRUCell(U)
    decoder = seq2seq.BasicDecoder(cell, Countdown([3, 1, 0]), cell.zero_state(3, tf.float32))
    outputs, _, lengths = seq2seq.dynamic_decode(decoder, impute_finished=True)
    assert lengths.numpy().tolist() == [3, 1, 0]
    assert outputs.sample_id.numpy().tolist() == [[0, 1, 2], [0, 0, 0], [0, 0, 0]]


def test_a_custom_decoder():
    class Count(seq2seq.Decoder):
        batch_size, output_size, output_dtype = 2, tf.TensorShape([]), tf.int32

        def initialize(self, name=None):
            return tf.constant([False, False]), tf.zeros([2]), tf.constant([0, 10])

        def step(self, time, inputs, state, name=None):
            return state, state + 1, inputs, tf.equal(time, [1, 2])

        def finalize(self, outputs, final_state, sequence_lengths):
            raise NotImplementedError

    outputs, state, lengths = seq2seq.dynamic_decode(Count(), scope="count")
    assert outputs.numpy().tolist() == [[0, 1, 2], [10, 11, 12]]
    assert state.numpy().tolist() == [3, 13] and lengths.numpy().tolist() == [2, 3]


def test_anything_but_a_decoder_is_refused():
    with pytest.raises(TypeError, match="must be a Decoder. Received: GRUCell"):
        seq2seq.dynamic_decode(rnn.GRUCell(U))


def test_helpers_know_their_batch_before_they_decode():
    starts, table = [1, 2], normal(V, D)
    helpers = [
        seq2seq.TrainingHelper(normal(N, T, D), [T, 1]),
        seq2seq.GreedyEmbeddingHelper(table, starts, 0),
        seq2seq.SampleEmbeddingHelper(table, starts, 0),
        seq2seq.ScheduledEmbeddingTrainingHelper(normal(N, T, D), [T, 1], table, 0.5),
        seq2seq.ScheduledOutputTrainingHelper(normal(N, T, D), [T, 1], 0.5),
        seq2seq.InferenceHelper(tf.identity, [D], tf.float32, normal(N, D), lambda ids: ids[:, 0]),
    ]
    for helper in helpers:
        assert isinstance(helper, seq2seq.Helper)
        assert int(helper.batch_size) == N
        assert helper.initialize()[0].shape == (N,)
    assert helpers[0].sequence_length == [T, 1] and helpers[0].inputs.shape == (N, T, D)
    assert helpers[-1].sample_ids_shape == [D] and helpers[-1].sample_ids_dtype == tf.float32


def test_a_helper_made_outside_of_a_graph_decodes_inside_of_it():
    cell = rnn.GRUCell(U)
    helper = seq2seq.TrainingHelper(normal(N, T, D), tf.constant([T, 1]))

    def run():
        decoder = seq2seq.BasicDecoder(cell, helper, cell.zero_state(N, tf.float32))
        return seq2seq.dynamic_decode(decoder)[0].rnn_output

    np.testing.assert_allclose(tf.function(run)(), run(), rtol=1e-5, atol=1e-6)


def test_decoding_with_dropout_in_the_cells_trains_every_weight():
    inner = rnn.DropoutWrapper(rnn.LSTMCell(U), 0.9, 0.9, 0.9)
    memory = normal(N, S, M)
    mechanism = seq2seq.BahdanauAttention(U, memory)
    wrapper = wrap(mechanism, inner, attention_layer_size=4)
    layer = keras.layers.Dense(V, use_bias=False)
    helper = seq2seq.TrainingHelper(normal(N, T, D), [T, T])
    start = wrapper.zero_state(N, tf.float32)
    decoder = seq2seq.BasicDecoder(wrapper, helper, start, output_layer=layer)

    @tf.function
    def slopes():
        with tf.GradientTape() as tape:
            mechanism.setup_memory(memory)
            outputs, _, _ = seq2seq.dynamic_decode(decoder, impute_finished=True)
            loss = tf.reduce_sum(tf.square(outputs.rnn_output))
        return tape.gradient(loss, wrapper.trainable_weights + layer.trainable_weights)

    decoder.initialize()
    layer.build((None, 4))
    found = slopes()
    assert len(found) == 3 + 3 + 1 + 1
    assert all(np.abs(slope).max() > 0 for slope in found)
    assert not np.array_equal(found[0], slopes()[0])  # every decoding draws its own masks


def test_greedy_decoding_compiles():
    wrapper, layer, table = wrap(), keras.layers.Dense(V), normal(V, D)

    def run():
        helper = seq2seq.GreedyEmbeddingHelper(table, tf.fill([N], 1), 0)
        start = wrapper.zero_state(N, tf.float32)
        decoder = seq2seq.BasicDecoder(wrapper, helper, start, output_layer=layer)
        return seq2seq.dynamic_decode(decoder, maximum_iterations=4)[0].sample_id

    expected = run().numpy()
    found = tf.function(run, jit_compile=True)().numpy()
    np.testing.assert_array_equal(found[:, : expected.shape[1]], expected)


# -- where contrib was silent


def test_an_order_of_sums_and_means_that_would_matter_is_an_error():
    """contrib takes the mean over the one axis and forgets the sum over the other."""
    with pytest.raises(ValueError, match="ambiguous"):
        seq2seq.sequence_loss(
            normal(N, T, V),
            tf.zeros([N, T], tf.int32),
            tf.ones([N, T]),
            average_across_timesteps=True,
            average_across_batch=False,
            sum_over_batch=True,
        )


def test_no_iterations_at_all_are_an_error():
    """contrib gives outputs of no steps."""
    cell = rnn.GRUCell(U)
    helper = seq2seq.TrainingHelper(normal(N, T, D), [T, T])
    decoder = seq2seq.BasicDecoder(cell, helper, cell.zero_state(N, tf.float32))
    with pytest.raises(tf.errors.InvalidArgumentError, match="greater than 0"):
        seq2seq.dynamic_decode(decoder, maximum_iterations=0)


def test_ops_take_a_name():
    ids = tf.zeros([T, N, 3], tf.int32)
    assert seq2seq.gather_tree(ids, ids, [T, T], 9, name="trace").shape == (T, N, 3)
    assert seq2seq.tile_batch(tf.ones([N]), 3, name="tile").shape == (3 * N,)
    assert seq2seq.hardmax(tf.ones([N, S]), name="best").shape == (N, S)
