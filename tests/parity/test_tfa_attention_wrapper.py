"""Beside tensorflow_addons: a wrapped cell attends, and carries its state, as theirs does."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.parity.tfa_pairs import LIBRARIES, assert_same, name_case, run, tensor

B, S, D, WIDTH, UNITS = 3, 5, 4, 2, 6
LENGTHS = [5, 1, 3]


def stacked(cell, units=UNITS, **settings):
    return keras.layers.StackedRNNCells([cell(units, **settings) for _ in range(2)])


CELLS = {
    "lstm": keras.layers.LSTMCell,
    "gru": keras.layers.GRUCell,
    "simple_rnn": keras.layers.SimpleRNNCell,
    "stacked_lstm": functools.partial(stacked, keras.layers.LSTMCell),
    "stacked_gru": functools.partial(stacked, keras.layers.GRUCell),
}
LUONG, BAHDANAU = ("LuongAttention", {"scale": True}), ("BahdanauAttention", {"normalize": True})
MONOTONIC = ("BahdanauMonotonicAttention", {"score_bias_init": -1.0})


def gated(inputs, attention):
    return tf.concat([inputs * tf.reduce_mean(attention, -1, keepdims=True), attention], -1)


def halved(mechanism, cell_output, attention_state, attention_layer):
    """An attention_fn as users write one: over the mechanism's own values."""
    alignments, next_state = mechanism([cell_output, attention_state])
    context = tf.einsum("bs,bsd->bd", alignments, mechanism.values) / 2
    if attention_layer is not None:
        context = attention_layer(tf.concat([cell_output, context], 1))
    return context, alignments, next_state


def tanh(size):
    return keras.layers.Dense(size, "tanh", use_bias=False)


def wrapped(cell="gru", mechanisms=LUONG, dtype="float32", lengths=LENGTHS, steps=2, **settings):
    """Some steps of a wrapper, from its own first state. Layers are made for each library."""
    several = isinstance(mechanisms, list)

    def make(library):
        made = [
            getattr(library, name)(UNITS, dtype=dtype, **options)
            for name, options in (mechanisms if several else [mechanisms])
        ]
        for mechanism in made:  # as theirs wants it where a first cell state is given
            mechanism.setup_memory(tf.zeros([B, S, D], dtype))
        given = {k: v() if k == "attention_layer" else v for k, v in settings.items()}
        wrapper = library.AttentionWrapper(
            CELLS[cell](UNITS, dtype=dtype), made if several else made[0], dtype=dtype, **given
        )

        def answer(memory, inputs):
            for mechanism in made:
                mechanism.setup_memory(memory, memory_sequence_length=lengths)
            state = wrapper.get_initial_state(batch_size=B, dtype=tf.as_dtype(dtype))
            outputs, states = [], [state._replace(alignment_history=())]
            for t in range(steps):
                output, state = wrapper(inputs[:, t], state)
                outputs.append(output)
                states.append(state._replace(alignment_history=()))
            return {"outputs": outputs, "states": states, "history": state.alignment_history}

        return answer, {"wrapper": wrapper}

    return make


def inputs(dtype="float32"):
    return tensor("memory", B, S, D, dtype=dtype), tensor("inputs", B, 2, WIDTH, dtype=dtype)


SETTINGS = [
    {},
    {"attention_layer_size": 7},
    {"attention_layer": functools.partial(tanh, 7)},
    {"attention_layer_size": 7, "output_attention": False},
    {"output_attention": False, "alignment_history": True},
    {"cell_input_fn": gated},
    {"attention_fn": halved},
    {"attention_fn": halved, "attention_layer_size": 7},
    {"initial_cell_state": tensor("begin", B, UNITS)},
    {"attention_layer_size": 7, "alignment_history": True, "name": "attentive"},
]
SEVERAL = [
    {},
    {"attention_layer_size": [7, 3]},
    {"attention_layer": lambda: [tanh(7), tanh(3)], "alignment_history": True},
    {"attention_fn": halved, "output_attention": False},
]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("mechanism", [LUONG, BAHDANAU, MONOTONIC], ids=name_case)
def test_every_cell_attends_the_same(cell, mechanism):
    settings = {"attention_layer_size": 7, "alignment_history": True}
    assert_same(wrapped(cell, mechanism, **settings), *inputs())


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda x: "-".join(x) or "default")
@pytest.mark.parametrize("mechanism", [LUONG, MONOTONIC], ids=name_case)
def test_every_setting_does_the_same(settings, mechanism):
    assert_same(wrapped(mechanisms=mechanism, **settings), *inputs())


@pytest.mark.parametrize("settings", SEVERAL, ids=lambda x: "-".join(x) or "default")
def test_several_mechanisms_attend_the_same(settings):
    assert_same(wrapped("lstm", [LUONG, BAHDANAU], **settings), *inputs())


@pytest.mark.parametrize("dtype", ["float64", "float16"])
@pytest.mark.parametrize("mechanism", [LUONG, BAHDANAU, MONOTONIC], ids=name_case)
def test_the_other_types_are_the_same_too(mechanism, dtype):
    steps = 1 if dtype == "float16" else 2  # theirs loses digits at every step
    settings = {"attention_layer_size": 7, "alignment_history": True}
    make = wrapped("lstm", mechanism, dtype, steps=steps, **settings)
    assert_same(make, *inputs(dtype), dtype=dtype, slopes=dtype == "float64")


def test_without_lengths_the_whole_memory_is_attended_to():
    assert_same(wrapped(lengths=None), *inputs())


# -- sizes and states


def of(library, cell="lstm", several=False, **settings):
    """A wrapper that has its memory."""
    made = [library.LuongAttention(UNITS), library.BahdanauAttention(UNITS)]
    for mechanism in made:
        mechanism.setup_memory(inputs()[0], memory_sequence_length=LENGTHS)
    made = made if several else made[0]
    return library.AttentionWrapper(CELLS[cell](UNITS), made, **settings)


@pytest.mark.parametrize("history", [False, True])
@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_sizes_and_first_states_are_the_same(cell, several, history):
    def make(library):
        wrapper = of(library, cell, several, alignment_history=history)
        states = [
            wrapper.get_initial_state(batch_size=B, dtype=tf.float32),
            wrapper.get_initial_state(batch_size=tf.constant(B), dtype=tf.float32),
            wrapper.get_initial_state(tf.zeros([B, WIDTH])),
            wrapper.get_initial_state(inputs=tf.zeros([B, WIDTH], tf.float64)),
        ]
        shapes = tf.nest.map_structure(
            lambda x: "array" if isinstance(x, tf.TensorArray) else (*x.shape, x.dtype.name), states
        )
        # Sizes inside of a cell are Keras' own.
        sizes = wrapper.state_size._replace(cell_state=())
        return (lambda: {"shapes": shapes, "sizes": sizes, "output": wrapper.output_size}), {}

    assert_same(make, slopes=False)


def test_a_state_holds_the_class_and_the_containers_of_its_library():
    for library in LIBRARIES:
        state = of(library).get_initial_state(batch_size=B, dtype=tf.float32)
        assert type(state) is library.AttentionWrapperState
        _, after = of(library)(tf.zeros([B, WIDTH]), state)
        assert type(after) is library.AttentionWrapperState
        assert type(after.cell_state) is type(state.cell_state) is list


def test_a_state_may_come_as_a_plain_sequence():
    def make(library):
        wrapper = of(library)

        def answer(x):
            return wrapper(x, tuple(wrapper.get_initial_state(batch_size=B, dtype=tf.float32)))

        return answer, {}

    (theirs, _), (ours, _) = (
        run(library, make, (tf.zeros([B, WIDTH]),), slopes=False) for library in LIBRARIES
    )
    assert set(ours) == set(theirs)


@pytest.mark.parametrize("cell", ["lstm", "gru", "stacked_gru"])
def test_a_clone_replaces_what_is_given_and_keeps_the_rest(cell):
    def make(library):
        state = of(library, cell).get_initial_state(batch_size=B, dtype=tf.float32)
        new = tf.nest.map_structure(lambda x: tensor("new", *x.shape), state.cell_state)
        return (
            lambda: [
                state.clone(cell_state=new),
                state.clone(),
                state.clone(attention=state.attention + 1),
            ]
        ), {}

    assert_same(make, slopes=False)


def test_a_clone_of_another_shape_is_an_error_in_both():
    for library in LIBRARIES:
        state = of(library, "gru").get_initial_state(batch_size=B, dtype=tf.float32)
        with pytest.raises(ValueError, match="expected to be same as the one to clone"):
            state.clone(cell_state=tf.zeros([B + 1, UNITS]))

        @tf.function(autograph=False, input_signature=[tf.TensorSpec([None, UNITS])])
        def clone(new, state=state):
            return state.clone(cell_state=new).cell_state

        np.testing.assert_array_equal(clone(tf.ones([B, UNITS])), 1.0)
        with pytest.raises(tf.errors.InvalidArgumentError):
            clone(tf.ones([B + 1, UNITS]))


# -- bad input


def at_two_layers(library):
    of(library, attention_layer_size=3, attention_layer=tanh(3))


def at_sizes(library):
    of(library, several=True, attention_layer_size=[3])


def at_layers(library):
    of(library, several=True, attention_layer=[tanh(3)])


def at_batch(library):
    of(library).get_initial_state(batch_size=B + 1, dtype=tf.float32)


def at_no_memory(library):
    wrapper = library.AttentionWrapper(CELLS["gru"](UNITS), library.LuongAttention(UNITS))
    wrapper.get_initial_state(batch_size=B, dtype=tf.float32)


def at_mechanism(library):
    library.AttentionWrapper(CELLS["gru"](UNITS), CELLS["gru"](UNITS))


def at_state(library):
    of(library)(tf.zeros([B, WIDTH]), (tf.zeros([B, UNITS]),))


@pytest.mark.parametrize(
    "mistake, error, words",
    [
        (at_two_layers, ValueError, "Only one of attention_layer_size and attention_layer"),
        (at_sizes, ValueError, "attention_layer_size must contain exactly"),
        (at_layers, ValueError, "attention_layer must contain exactly"),
        (at_batch, tf.errors.InvalidArgumentError, "Non-matching batch sizes"),
        (at_no_memory, ValueError, "memory"),
        (at_mechanism, TypeError, "attention_mechanism"),
        (at_state, TypeError, "AttentionWrapperState"),
    ],
    ids=name_case,
)
def test_mistakes_are_reported_with_the_same_error(mistake, error, words):
    for library in LIBRARIES:
        with pytest.raises(error, match=words):
            mistake(library)


# -- in a layer of Keras


@pytest.mark.parametrize("several", [False, True])
def test_a_wrapper_in_a_keras_rnn_reads_a_sequence_the_same(several):
    def make(library):
        made = [library.LuongAttention(UNITS), library.BahdanauAttention(UNITS)]
        made = made if several else made[:1]
        for mechanism in made:
            mechanism.setup_memory(inputs()[0])
        wrapper = library.AttentionWrapper(
            CELLS["lstm"](UNITS),
            made if several else made[0],
            attention_layer_size=[7, 3] if several else 7,
        )
        rnn = keras.layers.RNN(wrapper, return_sequences=True, return_state=True)

        def answer(memory, x):
            for mechanism in made:
                mechanism.setup_memory(memory, memory_sequence_length=LENGTHS)
            outputs, *states = rnn(x)
            return outputs, tf.nest.flatten(states)

        return answer, {"wrapper": wrapper}

    assert_same(make, *inputs())
