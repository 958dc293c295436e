"""Beside tensorflow_addons: `dynamic_decode` runs any decoder, also theirs, as theirs does."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.parity.tfa_pairs import (
    LIBRARIES,
    OURS,
    THEIRS,
    assert_same,
    flat,
    name_case,
    tensor,
)

B, S, D, T, WIDTH, UNITS, V = 3, 5, 4, 4, 5, 6, 7
LENGTHS = tf.constant([4, 0, 2])
MEMORY, SEQUENCE = tensor("memory", B, S, D), tensor("sequence", B, T, WIDTH)
TABLE = tensor("embedding", V, WIDTH)
TOKENS = {"start_tokens": tf.fill([B], 1), "end_token": tf.constant(2)}


def countdown(base, own_finished=False, finalizes=False):
    """A decoder such as users write: row n has ended after n steps, and counts what it has seen."""
    is_layer = issubclass(base, tf.Module)

    class Countdown(base):
        batch_size = property(lambda self: tf.constant(B))
        output_size = property(lambda self: (tf.TensorShape([2]), {"step": tf.TensorShape([])}))
        output_dtype = property(lambda self: (tf.float32, {"step": tf.int32}))
        tracks_own_finished = property(lambda self: own_finished)

        def initialize(self, *inputs, first=0.0, **_):
            assert len(inputs) == is_layer
            array = tf.TensorArray(tf.int32, 0, dynamic_size=True, element_shape=[])
            state = ([tf.zeros([B, 2]) + first, tf.constant(0)], array)
            return tf.equal(tf.range(B), 0), inputs[0] if is_layer else tf.ones([B, 2]), state

        def step(self, time, inputs, state, training=None, name=None):
            (total, calls), array = state
            total += inputs + (100.0 if training else 0.0)
            state = ([total, calls + 1], array.write(time, time + 7))
            step = tf.fill([B], time)
            finished = time + 1 >= tf.range(B)
            if own_finished:  # and turns back on in the second step
                finished &= (time != 1) | (tf.range(B) == 1)
            return (total, {"step": step}), state, inputs + 1, finished

        def finalize(self, outputs, final_state, sequence_lengths):
            if not finalizes:
                raise NotImplementedError
            return (outputs[0] * 2, outputs[1]), (final_state, sequence_lengths)

        if is_layer:

            def build(self, _):
                self.built = True

    return Countdown()


OPTIONS = [
    {},
    {"impute_finished": True},
    {"output_time_major": True},
    {"maximum_iterations": 1},
    {"maximum_iterations": tf.constant(2), "impute_finished": True},
    {"training": True, "scope": "loop", "parallel_iterations": 1, "swap_memory": True},
]
KINDS = [{}, {"own_finished": True}, {"finalizes": True}]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda x: "-".join(x) or "default")
@pytest.mark.parametrize("kind", KINDS, ids=name_case)
def test_a_decoder_written_against_their_class_is_run_the_same_by_both(kind, options):
    theirs, ours = (
        flat(library.dynamic_decode(countdown(THEIRS.Decoder, **kind), **options))
        for library in LIBRARIES
    )
    of_ours = flat(OURS.dynamic_decode(countdown(OURS.Decoder, **kind), **options))
    assert set(ours) == set(theirs) == set(of_ours)
    for path in theirs:
        assert ours[path].dtype == theirs[path].dtype
        np.testing.assert_array_equal(ours[path], theirs[path], err_msg=path)
        np.testing.assert_array_equal(of_ours[path], theirs[path], err_msg=path)


@pytest.mark.parametrize("kind", KINDS, ids=name_case)
def test_a_layer_written_against_their_base_is_run_the_same_by_both(kind):
    start = {"decoder_init_input": tf.ones([B, 2]), "decoder_init_kwargs": {"first": 3.0}}
    found = [
        flat(library.dynamic_decode(countdown(base, **kind), maximum_iterations=4, **start))
        for library, base in (
            (THEIRS, THEIRS.BaseDecoder),
            (OURS, THEIRS.BaseDecoder),
            (OURS, OURS.BaseDecoder),
        )
    ]
    for other in found[1:]:
        assert set(other) == set(found[0])
        for path, value in found[0].items():
            np.testing.assert_array_equal(other[path], value, err_msg=path)


def test_a_layer_that_is_called_hands_its_arguments_to_initialize_in_both():
    theirs, ours = (
        flat(countdown(library.BaseDecoder)(tf.ones([B, 2]), first=tf.constant(2.0), training=True))
        for library in LIBRARIES
    )
    assert set(ours) == set(theirs)
    for path in theirs:
        np.testing.assert_array_equal(ours[path], theirs[path], err_msg=path)


# -- with attention


def attentive(sampler, inputs, call, **options):
    """A decoding with an attentive cell, and the alignments of all its steps."""

    def make(library):
        mechanism = library.BahdanauAttention(UNITS)
        wrapper = library.AttentionWrapper(
            keras.layers.LSTMCell(UNITS), mechanism, UNITS, alignment_history=True
        )
        head = keras.layers.Dense(V)
        decoder = library.BasicDecoder(
            wrapper, getattr(library, sampler)(), head, maximum_iterations=T, **options
        )

        def answer(memory, inputs):
            mechanism.setup_memory(memory, memory_sequence_length=[5, 1, 3])
            state = wrapper.get_initial_state(batch_size=B, dtype=tf.float32)
            begin = [tensor("h", B, UNITS), tensor("c", B, UNITS)]
            return decoder(inputs, initial_state=state.clone(cell_state=begin), **call)

        return answer, {"wrapper": wrapper, "head": head}

    return make, MEMORY, inputs


@pytest.mark.parametrize("options", [{}, {"impute_finished": True}], ids=name_case)
@pytest.mark.parametrize(
    "sampler, inputs, call",
    [
        ("TrainingSampler", SEQUENCE, {"sequence_length": LENGTHS}),
        ("GreedyEmbeddingSampler", TABLE, TOKENS),
    ],
    ids=["training", "greedy"],
)
def test_an_attentive_cell_decodes_the_same_and_looks_the_same(sampler, inputs, call, options):
    assert_same(*attentive(sampler, inputs, call, **options))


@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_the_other_types_decode_the_same(dtype):
    def make(library):
        cell = keras.layers.GRUCell(UNITS, dtype=dtype)
        head = keras.layers.Dense(V, dtype=dtype)
        decoder = library.BasicDecoder(cell, library.TrainingSampler(), head, dtype=dtype)

        def answer(inputs):
            begin = tensor("begin", B, UNITS, dtype=dtype)
            return decoder(inputs, initial_state=begin, sequence_length=LENGTHS)

        return answer, {"cell": cell, "head": head}

    inputs = tensor("sequence", B, T, WIDTH, dtype=dtype)
    assert_same(make, inputs, dtype=dtype, slopes=dtype == "float64")


@pytest.mark.parametrize("sampler", ["TrainingSampler", "GreedyEmbeddingSampler"])
def test_a_graph_that_does_not_know_the_batch_decodes_the_same(sampler):
    """The weights are born in eager code; the graph takes two batches of different size."""
    is_training = sampler == "TrainingSampler"

    def make(library):
        cell, head = keras.layers.GRUCell(UNITS), keras.layers.Dense(V)
        decoder = library.BasicDecoder(
            cell, getattr(library, sampler)(), head, maximum_iterations=T
        )

        def decode(begin, sequence):
            if is_training:
                return decoder(sequence, initial_state=begin)
            tokens = {"start_tokens": tf.fill([tf.shape(begin)[0]], 1), "end_token": 2}
            return decoder(TABLE, initial_state=begin, **tokens)

        cell(SEQUENCE[:, 0], tf.zeros([B, UNITS]))
        head(tf.zeros([B, UNITS]))
        shapes = [tf.TensorSpec([None, UNITS]), tf.TensorSpec([None, None, WIDTH])]
        graph = tf.function(decode, shapes, autograph=False)

        def answer(begin, sequence):
            return graph(begin, sequence), graph(begin[:1], sequence[:1, :2])

        return answer, {"cell": cell, "head": head}

    assert_same(make, tensor("begin", B, UNITS), SEQUENCE)


# -- bad input


def test_mistakes_are_reported_with_the_same_error():
    for library in LIBRARIES:
        with pytest.raises(ValueError, match="maximum_iterations must be a scalar"):
            library.dynamic_decode(countdown(library.Decoder), maximum_iterations=[1])
        with pytest.raises(tf.errors.InvalidArgumentError, match="should be greater than 0"):
            library.dynamic_decode(countdown(library.Decoder), maximum_iterations=0)
        with pytest.raises(TypeError, match="abstract"):
            library.Decoder()
        with pytest.raises(TypeError):
            library.BasicDecoder("cell", library.TrainingSampler())
        with pytest.raises(TypeError):
            library.BasicDecoder(keras.layers.GRUCell(2), library.TrainingSampler(), "layer")
        compiled = tf.function(
            lambda: library.dynamic_decode(countdown(library.Decoder)),  # noqa: B023
            jit_compile=True,
            autograph=False,
        )
        with pytest.raises(ValueError, match="maximum_iterations is required for XLA compilation"):
            compiled()
