"""Hand-written cells, and states that differ from those of the cell."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.backend.keras import zero_state
from keras_attention.layers import IntraDecoderCell, NTMCell
from keras_attention.seq2seq import (
    AttentionRNN,
    AttentionWrapper,
    BahdanauAttention,
    BasicDecoder,
    BeamSearchDecoder,
    LuongAttention,
    TrainingSampler,
)
from tests.seq2seq.cells import INPUT, UNITS, keras3, normal

BATCH, STEPS = 2, 3


class MinimalCell(keras.layers.Layer):
    """The cell of the documentation of keras.layers.RNN: no output_size, no get_initial_state."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.state_size = units

    def build(self, input_shape):
        shape = (input_shape[-1], self.units)
        self.kernel = self.add_weight(shape=shape, initializer="uniform", name="kernel")
        shape = (self.units, self.units)
        self.recurrent_kernel = self.add_weight(
            shape=shape, initializer="uniform", name="recurrent"
        )
        self.built = True

    def call(self, inputs, states):
        output = inputs @ self.kernel + states[0] @ self.recurrent_kernel
        return output, [output]


class WideCell(MinimalCell):
    """Its output is not as wide as its state."""

    def call(self, inputs, states):
        output, states = super().call(inputs, states)
        return tf.concat([output, output], -1), states


class CountingCell(MinimalCell):
    """A part of its state is an integer."""

    def __init__(self, units, **kwargs):
        super().__init__(units, **kwargs)
        self.state_size = [units, 1]

    def get_initial_state(self, inputs=None, batch_size=None, dtype=None):
        return [tf.zeros([batch_size, self.units]), tf.zeros([batch_size, 1], tf.int64)]

    def call(self, inputs, states):
        output, (hidden,) = super().call(inputs, states)
        return output, [hidden, states[1] + 1]


def running_sum(inputs, state):
    """A plain function that is a cell."""
    return inputs + state, inputs + state


def test_the_cell_of_the_documentation_of_keras_decodes_as_an_rnn_does():
    cell, x = MinimalCell(UNITS), normal(BATCH, STEPS, INPUT)
    expected = keras.layers.RNN(cell, return_sequences=True)(x)
    found, state, _ = BasicDecoder(cell, TrainingSampler())(x)
    np.testing.assert_allclose(found.rnn_output, expected, atol=1e-6)
    np.testing.assert_allclose(state[0], expected[:, -1], atol=1e-6)


@pytest.mark.parametrize("graph", [False, True])
def test_the_width_of_an_output_is_that_of_a_step(graph):
    x, head = normal(BATCH, STEPS, INPUT), keras.layers.Dense(7)
    for output_layer, width in ((None, 2 * UNITS), (head, 7)):
        decoder = BasicDecoder(WideCell(UNITS), TrainingSampler(), output_layer)
        found = (tf.function(decoder) if graph else decoder)(x)[0].rnn_output
        assert found.shape == (BATCH, STEPS, width)


@pytest.mark.parametrize("graph", [False, True])
def test_a_plain_function_is_a_cell(graph):
    x, decoder = normal(BATCH, STEPS, INPUT), BasicDecoder(running_sum, TrainingSampler())
    start = tf.zeros([BATCH, INPUT])
    run = tf.function(decoder) if graph else decoder
    found = run(x, initial_state=start)[0].rnn_output
    np.testing.assert_allclose(found, np.cumsum(x, 1), atol=1e-6)
    with pytest.raises(ValueError, match="initial_state is required"):
        decoder(x)


def test_a_plain_function_is_searched():
    decoder = BeamSearchDecoder(running_sum, 2, maximum_iterations=2)
    ids = decoder(tf.eye(5), start_tokens=[1], end_token=0, initial_state=tf.zeros([2, 5]))[
        0
    ].predicted_ids
    assert ids.shape == (1, 2, 2) and ids[0, 0, 0] == 1


@pytest.mark.parametrize("cell", [MinimalCell, CountingCell])
def test_a_wrapper_takes_any_cell_that_an_rnn_takes(cell):
    wrapper = AttentionWrapper(cell(UNITS), BahdanauAttention(UNITS), 5)
    x, memory = normal(BATCH, STEPS, INPUT), normal(BATCH, 4, 6)
    found = BasicDecoder(wrapper, TrainingSampler())(x, memory=memory)[0].rnn_output
    state = wrapper.get_initial_state(batch_size=BATCH, memory=memory)
    for step in range(STEPS):
        output, state = wrapper(x[:, step], state, memory=memory)
        np.testing.assert_allclose(found[:, step], output, atol=1e-6)
    if cell is MinimalCell:
        in_rnn = AttentionRNN(wrapper, return_sequences=True)(x, memory=memory)
        np.testing.assert_allclose(found, in_rnn, atol=1e-6)


def test_a_wrapper_names_the_missing_width_of_a_cell():
    wrapper = AttentionWrapper(WideCell(UNITS), LuongAttention(UNITS), 5)
    x, memory = normal(BATCH, INPUT), normal(BATCH, 4, 6)
    state = wrapper.get_initial_state(batch_size=BATCH, memory=memory)
    with pytest.raises(ValueError, match="Give WideCell an output_size"):
        wrapper(x, state, memory=memory)


def test_integers_in_a_state_stay_integers():
    hidden, count = zero_state(CountingCell(UNITS), BATCH, tf.float64)
    assert (hidden.dtype, count.dtype) == (tf.float64, tf.int64)
    wrapper = AttentionWrapper(CountingCell(UNITS), LuongAttention(UNITS))
    state = wrapper.get_initial_state(batch_size=BATCH, memory=normal(BATCH, 4, 6))
    assert state.cell_state[1].dtype == tf.int64
    _, state, _ = BasicDecoder(CountingCell(UNITS), TrainingSampler())(normal(2, STEPS, INPUT))
    assert state[1].dtype == tf.int64 and (state[1].numpy() == STEPS).all()


@keras3("its layers")
@pytest.mark.parametrize(
    "around", [lambda c: IntraDecoderCell(c, 3), lambda c: NTMCell(4, c, 6, 3)]
)
def test_the_cells_around_a_cell_take_that_of_the_documentation(around):
    x = normal(BATCH, STEPS, INPUT)
    assert keras.layers.RNN(around(MinimalCell(UNITS)))(x).shape[0] == BATCH


@pytest.mark.parametrize("make", [keras.layers.LSTM, keras.layers.GRU, keras.layers.Dense])
def test_a_layer_that_is_no_cell_is_refused(make):
    with pytest.raises(TypeError, match=f"must be an RNN cell.*Received: {make.__name__}"):
        BasicDecoder(make(3), TrainingSampler())
    with pytest.raises(TypeError, match="must be an RNN cell"):
        BeamSearchDecoder(make(3), 2)


# -- states of another structure

ONE, TWO = np.zeros([BATCH, UNITS], "f"), [np.zeros([BATCH, UNITS], "f")] * 2
EXPECTED = r"must have the structure \[\[N, 4\], \[N, 4\]\]. Received: \[2, 4\].*\[h, c\]"


def lstm():
    wrapper = AttentionWrapper(keras.layers.LSTMCell(UNITS), LuongAttention(UNITS), 5)
    return wrapper, normal(BATCH, STEPS, INPUT), normal(BATCH, 4, 6)


def test_one_tensor_as_the_state_of_an_lstm_is_answered_by_its_structure():
    wrapper, x, memory = lstm()
    decoder = BasicDecoder(keras.layers.LSTMCell(UNITS), TrainingSampler())
    with pytest.raises(ValueError, match=EXPECTED):
        decoder(x, initial_state=ONE)
    with pytest.raises(ValueError, match=r"Received: \[\[2, 4\], \[2, 4\], \[2, 4\]\]"):
        decoder(x, initial_state=[ONE] * 3)
    state = wrapper.get_initial_state(batch_size=BATCH, memory=memory)
    with pytest.raises(ValueError, match="cell_state must have the structure"):
        state.clone(cell_state=ONE)
    with pytest.raises(ValueError, match=EXPECTED.replace("must", ".*must")):
        wrapper(x[:, 0], state._replace(cell_state=ONE), memory=memory)
    search = BeamSearchDecoder(keras.layers.LSTMCell(UNITS), 2, maximum_iterations=2)
    with pytest.raises(ValueError, match="must have the structure"):
        search(tf.eye(UNITS), start_tokens=[1], end_token=0, initial_state=ONE)


@pytest.mark.parametrize("state", [ONE, TWO], ids=["one", "two"])
def test_the_state_of_the_inner_cell_alone_is_answered_by_the_way_to_the_whole(state):
    wrapper, x, memory = lstm()
    for call in (
        lambda: wrapper(x[:, 0], state, memory=memory),
        lambda: BasicDecoder(wrapper, TrainingSampler())(x, initial_state=state, memory=memory),
        lambda: AttentionRNN(wrapper)(x, initial_state=state, memory=memory),
    ):
        with pytest.raises(TypeError, match=r"clone\(cell_state=...\).*Received"):
            call()


@keras3("one tensor is said in this way there")
def test_an_initial_cell_state_of_another_structure_is_answered_in_the_same_way():
    wrapper, x, memory = lstm()
    for layer in (AttentionRNN(wrapper), BasicDecoder(wrapper, TrainingSampler())):
        with pytest.raises(ValueError, match="must have the structure"):
            layer(x, initial_cell_state=ONE, memory=memory)


def test_the_state_of_keras_is_not_taken_for_that_of_contrib():
    from keras_attention.contrib import rnn, seq2seq

    named = r"LSTMStateTuple\(c=.*LSTMStateTuple\(c=..., h=...\).*in the order h, c"
    mechanism = seq2seq.LuongAttention(UNITS, normal(BATCH, 4, 6))
    wrapper = seq2seq.AttentionWrapper(rnn.LSTMCell(UNITS), mechanism)
    with pytest.raises(ValueError, match=named):
        wrapper.zero_state(BATCH, tf.float32).clone(cell_state=TWO)
    helper = seq2seq.TrainingHelper(normal(BATCH, STEPS, INPUT), [STEPS] * BATCH)
    decoder = seq2seq.BasicDecoder(rnn.LSTMCell(UNITS), helper, TWO)
    with pytest.raises(ValueError, match=named):
        seq2seq.dynamic_decode(decoder)


# -- memories of functional models

SPELLINGS = {
    "constructor": lambda x, n: BahdanauAttention(UNITS, x, memory_sequence_length=n),
    "setup_memory": lambda x, n: bound(lambda m: m.setup_memory(x, n)),
    "keywords": lambda x, n: bound(lambda m: m.setup_memory(x, memory_sequence_length=n)),
    "call": lambda x, n: bound(lambda m: m([x, n], setup_memory=True)),
}


def bound(bind):
    mechanism = BahdanauAttention(UNITS)
    bind(mechanism)
    return mechanism


@keras3("symbolic tensors")
@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS)
def test_every_spelling_binds_a_symbolic_memory_with_lengths(spelling):
    memory, lengths = keras.Input([None, 6]), keras.Input([], dtype="int32")
    query, state = keras.Input([UNITS]), keras.Input([None])
    mechanism = spelling(memory, lengths)
    alignments, _ = mechanism([query, state])
    model = keras.Model([memory, lengths, query, state], alignments)
    given = normal(BATCH, 4, 6), np.array([4, 2]), normal(BATCH, UNITS), normal(BATCH, 4)
    expected, _ = mechanism(
        list(given[2:]), memory=mechanism.prepare_memory(given[0], tf.constant(given[1]))
    )
    np.testing.assert_allclose(model(list(given)), expected, atol=1e-6)
    assert not model(list(given))[1, 2:].numpy().any()


@keras3("symbolic tensors")
def test_what_a_symbolic_memory_cannot_do_is_refused_with_the_way_that_works():
    memory, lengths, x = keras.Input([None, 6]), keras.Input([], dtype="int32"), keras.Input([3, 2])
    wrapper = AttentionWrapper(keras.layers.GRUCell(UNITS), BahdanauAttention(UNITS), 5)
    mechanism = BahdanauAttention(UNITS, memory)
    around = AttentionWrapper(keras.layers.GRUCell(UNITS), mechanism, 5)
    for call in (
        lambda: wrapper.prepare_memory(memory, lengths),
        lambda: wrapper.get_initial_state(batch_size=2, memory=memory),
        lambda: mechanism.keys,
        lambda: AttentionRNN(around)(x),
        lambda: BasicDecoder(around, TrainingSampler())(x),
    ):
        with pytest.raises(ValueError, match="functional model.*memory=memory"):
            call()
    assert AttentionRNN(wrapper)(x, memory=memory, memory_sequence_length=lengths).shape[1] == 5


# -- states of the right structure and of another width, number of rows or dtype

WRONG = {
    "width": (lambda: tf.zeros([BATCH, 3]), r"shape \[2, 4\].*Received: \[2, 3\].*get_initial"),
    "rows": (lambda: tf.zeros([BATCH + 1, UNITS]), r"shape \[2, 4\].*Received: \[3, 4\].*row"),
    "one row": (lambda: tf.zeros([1, UNITS]), r"shape \[2, 4\].*Received: \[1, 4\].*row"),
    "no rows": (lambda: tf.zeros([UNITS]), r"shape \[2, 4\].*Received: \[4\]"),
    "dtype": (lambda: tf.zeros([BATCH, UNITS], tf.int32), r"float32. Received: int32.*tf.cast"),
    "numpy": (lambda: np.zeros([BATCH, UNITS], int), r"float32. Received: int64.*tf.cast"),
}


def in_graph(call):
    return tf.function(call, autograph=False)()


@pytest.mark.parametrize("run", [lambda call: call(), in_graph], ids=["eager", "graph"])
@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_state_is_answered_by_what_was_expected(kind, run):
    make, message = WRONG[kind]
    x, memory = normal(BATCH, STEPS, INPUT), normal(BATCH, 4, 6)
    gru, two = keras.layers.GRUCell(UNITS), keras.layers.LSTMCell(UNITS)
    with pytest.raises(ValueError, match=message):
        run(lambda: BasicDecoder(gru, TrainingSampler())(x, initial_state=make()))
    with pytest.raises(ValueError, match=message):
        state = lambda: [make(), tf.zeros([BATCH, UNITS])]  # noqa: E731
        run(lambda: BasicDecoder(two, TrainingSampler())(x, initial_state=state()))
    wrapper = AttentionWrapper(gru, LuongAttention(UNITS), 5)
    begin = wrapper.get_initial_state(batch_size=BATCH, memory=memory)
    with pytest.raises(ValueError, match=message):
        state = lambda: begin._replace(cell_state=make())  # noqa: E731
        run(lambda: wrapper(x[:, 0], state(), memory=memory))
    with pytest.raises(ValueError, match=message):
        run(lambda: AttentionRNN(wrapper)(x, initial_cell_state=make(), memory=memory))
    with pytest.raises(ValueError, match=r"\(?2, 4\)?.*Received|float32. Received"):
        begin.clone(cell_state=make())


@pytest.mark.parametrize("kind", ["width", "rows", "dtype"])
def test_a_wrong_attention_of_a_state_is_answered_in_the_same_way(kind):
    make, message = WRONG[kind]
    x, memory = normal(BATCH, STEPS, INPUT), normal(BATCH, 4, 6)
    wrapper = AttentionWrapper(keras.layers.LSTMCell(UNITS), LuongAttention(UNITS), UNITS)
    begin = wrapper.get_initial_state(batch_size=BATCH, memory=memory)
    state = begin._replace(attention=make())
    for call in (
        lambda: wrapper(x[:, 0], state, memory=memory),
        lambda: BasicDecoder(wrapper, TrainingSampler())(x, initial_state=state, memory=memory),
        lambda: AttentionRNN(wrapper)(x, initial_state=state, memory=memory),
    ):
        with pytest.raises(ValueError, match="attention of.*" + message):
            call()


def test_the_state_of_a_beam_search_has_to_be_tiled():
    search = BeamSearchDecoder(keras.layers.GRUCell(UNITS), 2, maximum_iterations=2)
    for rows in (BATCH, 2 * BATCH + 2):
        with pytest.raises(ValueError, match=rf"\[4, 4\].*Received: \[{rows}, 4\].*tile_batch"):
            search(
                tf.eye(UNITS),
                start_tokens=[1] * BATCH,
                end_token=0,
                initial_state=tf.zeros([rows, UNITS]),
            )


def test_rows_that_are_unknown_in_a_graph_are_counted_before_the_loop():
    decoder = BasicDecoder(keras.layers.GRUCell(UNITS), TrainingSampler())
    search = BeamSearchDecoder(keras.layers.GRUCell(UNITS), 2, maximum_iterations=2)
    spec = tf.TensorSpec([None, UNITS])

    @tf.function(input_signature=[spec])
    def decode(state):
        return decoder(tf.ones([BATCH, STEPS, INPUT]), initial_state=state)[0].rnn_output

    @tf.function(input_signature=[spec])
    def find(state):
        tokens = {"start_tokens": tf.ones([BATCH], tf.int32), "end_token": 0}
        return search(tf.eye(UNITS), initial_state=state, **tokens)[0].predicted_ids

    assert decode(tf.zeros([BATCH, UNITS])).shape == (BATCH, STEPS, UNITS)
    with pytest.raises(tf.errors.InvalidArgumentError, match="one row for each sequence"):
        decode(tf.zeros([1, UNITS]))  # which would be broadcast
    assert find(tf.zeros([2 * BATCH, UNITS])).shape == (BATCH, 2, 2)
    with pytest.raises(tf.errors.InvalidArgumentError):  # of a reshape, if the graph is optimised
        find(tf.zeros([BATCH, UNITS]))


def test_a_floating_state_where_the_cell_counts_is_refused():
    decoder = BasicDecoder(CountingCell(UNITS), TrainingSampler())
    wrapper = AttentionWrapper(CountingCell(UNITS), LuongAttention(UNITS))
    x, memory = normal(BATCH, STEPS, INPUT), normal(BATCH, 4, 6)
    state = [tf.zeros([BATCH, UNITS]), tf.zeros([BATCH, 1])]
    with pytest.raises(ValueError, match="type int64. Received: float32"):
        decoder(x, initial_state=state)
    with pytest.raises(ValueError, match="type int64. Received: float32"):
        begin = wrapper.get_initial_state(batch_size=BATCH, memory=memory)
        begin = begin._replace(cell_state=state)
        BasicDecoder(wrapper, TrainingSampler())(x, initial_state=begin, memory=memory)
