"""Beside tensorflow_addons: the four mechanisms weigh a memory as tfa.seq2seq's do."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.parity.tfa_pairs import (
    LIBRARIES,
    OURS,
    THEIRS,
    assert_close,
    assert_same,
    draw,
    name_case,
    run,
    tensor,
    weights_of,
)

B, S, D, UNITS, STEPS = 3, 5, 4, 6, 2
LENGTHS = [5, 1, 3]
MASK = [[True, False, True, True, False], [True] * 5, [False, False, False, False, True]]
PLAIN = [
    ("LuongAttention", {}),
    ("LuongAttention", {"scale": True}),
    ("LuongAttention", {"probability_fn": "hardmax"}),
    ("BahdanauAttention", {}),
    ("BahdanauAttention", {"normalize": True}),
    ("BahdanauAttention", {"normalize": True, "probability_fn": "hardmax"}),
]
MONOTONIC = [
    (name, {"mode": mode, **settings})
    for name, option in (
        ("LuongMonotonicAttention", "scale"),
        ("BahdanauMonotonicAttention", "normalize"),
    )
    for mode in ("parallel", "recursive", "hard")
    for settings in ({}, {option: True, "score_bias_init": -1.0})
]
MEMORIES = {
    "whole": {},
    "lengths": {"memory_sequence_length": LENGTHS},
    "mask": {"memory_mask": MASK},
}


def asked(name, settings, memory_settings, dtype="float32"):
    """Some steps of a mechanism, each with the state that the step before gave."""

    def make(library):
        mechanism = getattr(library, name)(UNITS, dtype=dtype, **settings)

        def answer(memory, queries):
            mechanism.setup_memory(memory, **memory_settings)
            states = [mechanism.initial_state(B, tf.as_dtype(dtype))]
            alignments = []
            for t in range(STEPS):
                found, state = mechanism([queries[:, t], states[-1]])
                alignments.append(found)
                states.append(state)
            return {
                "keys": mechanism.keys,
                "values": mechanism.values,
                "first": mechanism.initial_alignments(B, tf.as_dtype(dtype)),
                "alignments": alignments,
                "states": states,
                "sizes": [mechanism.alignments_size, mechanism.state_size],
            }

        return answer, {"mechanism": mechanism}

    return make


def inputs(dtype="float32"):
    return tensor("memory", B, S, D, dtype=dtype), tensor("queries", B, STEPS, UNITS, dtype=dtype)


@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("name, settings", PLAIN + MONOTONIC, ids=name_case)
def test_alignments_states_and_slopes_are_the_same(name, settings, memory):
    assert_same(asked(name, settings, MEMORIES[memory]), *inputs())


@pytest.mark.parametrize("dtype", ["float64", "float16"])
@pytest.mark.parametrize(
    "name, settings",
    [case for case in PLAIN + MONOTONIC if case[1].get("mode") != "recursive"],
    ids=name_case,
)
def test_the_other_types_are_the_same_too(name, settings, dtype):
    make = asked(name, settings, MEMORIES["lengths"], dtype)
    assert_same(make, *inputs(dtype), dtype=dtype, slopes=dtype == "float64")


@pytest.mark.parametrize("name", ["LuongMonotonicAttention", "BahdanauMonotonicAttention"])
def test_the_recursive_mode_knows_other_types_than_float32_where_the_original_does_not(name):
    settings = {"mode": "recursive"}
    expected, _ = run(THEIRS, asked(name, settings, MEMORIES["lengths"]), inputs(), slopes=False)
    for dtype, tolerance in (("float64", 1e-5), ("float16", 2e-3)):
        make = asked(name, settings, MEMORIES["lengths"], dtype)
        with pytest.raises(tf.errors.InvalidArgumentError, match="float"):
            run(THEIRS, make, inputs(dtype), slopes=False)
        found, _ = run(OURS, make, inputs(dtype), slopes=False)
        for path, value in found.items():
            assert value.dtype == dtype or expected[path].dtype != "float32"
            assert_close(value, expected[path], tolerance, tolerance, path)


# -- the ways to a memory


def by_constructor(mechanism, memory):
    return mechanism(memory=memory, memory_sequence_length=tf.constant(LENGTHS))


def by_call(mechanism, memory):
    mechanism = mechanism()
    mechanism(memory, setup_memory=True)
    return mechanism


def by_call_with_lengths(mechanism, memory):
    mechanism = mechanism()
    mechanism([memory, tf.constant(LENGTHS)], setup_memory=True)
    return mechanism


def by_call_with_mask(mechanism, memory):
    mechanism = mechanism()
    mechanism(memory, mask=tf.constant(MASK), setup_memory=True)
    return mechanism


def by_second_setup(mechanism, memory):
    mechanism = mechanism()
    mechanism.setup_memory(tf.ones([1, 2, D]))
    mechanism.setup_memory(memory, memory_sequence_length=LENGTHS)
    return mechanism


WAYS = [by_constructor, by_call, by_call_with_lengths, by_call_with_mask, by_second_setup]


def dense(place, width, **settings):
    """A layer that has its weights already: a memory may be projected at once."""
    layer = keras.layers.Dense(UNITS, use_bias=False, **settings)
    layer.build((None, width))
    layer.kernel.assign(draw(place, width, UNITS))
    return layer


@pytest.mark.parametrize("way", WAYS, ids=name_case)
@pytest.mark.parametrize(
    "name, settings",
    [
        ("LuongAttention", {"scale": True}),
        ("BahdanauAttention", {"normalize": True}),
        ("LuongMonotonicAttention", {"mode": "hard"}),
        ("BahdanauMonotonicAttention", {"normalize": True}),
    ],
    ids=name_case,
)
def test_every_way_to_give_a_memory_and_layers_gives_the_same(name, settings, way):
    def make(library):
        given = {"memory_layer": dense("memory layer", D, activation="tanh")}
        if name.startswith("Bahdanau"):
            given["query_layer"] = dense("query layer", UNITS, activation="relu")
            given["kernel_initializer"] = "ones"
        mechanism_of = functools.partial(getattr(library, name), UNITS, **given, **settings)

        def answer(memory, queries):
            mechanism = way(mechanism_of, memory)
            assert mechanism.memory_initialized
            state = mechanism.initial_state(B, tf.float32)
            alignments, state = mechanism([queries[:, 0], state])
            return alignments, state, mechanism.values, int(mechanism.batch_size)

        return answer, {}

    assert_same(make, *inputs())


@pytest.mark.parametrize("name, settings", PLAIN + MONOTONIC[::3], ids=name_case)
def test_a_config_keeps_what_the_original_keeps(name, settings):
    settings = {**settings, "name": "first"}
    theirs, ours = (getattr(library, name)(UNITS, **settings).get_config() for library in LIBRARIES)
    plain = {key: value for key, value in theirs.items() if isinstance(value, (int, float, str))}
    assert {key: ours[key] for key in plain} == plain

    def make(library):
        again = getattr(library, name).from_config(getattr(library, name)(UNITS).get_config())

        def answer(memory, queries):
            again.setup_memory(memory, memory_sequence_length=LENGTHS)
            return again([queries[:, 0], again.initial_state(B, tf.float32)])

        return answer, {"mechanism": again}

    assert_same(make, *inputs(), slopes=False)


@pytest.mark.parametrize("name, settings", PLAIN + MONOTONIC, ids=name_case)
def test_weights_begin_with_the_same_numbers(name, settings):
    def make(library):
        given = {} if name.startswith("Luong") else {"kernel_initializer": "ones"}
        mechanism = getattr(library, name)(UNITS, **settings, **given)
        mechanism.setup_memory(inputs()[0])
        mechanism([inputs()[1][:, 0], mechanism.initial_state(B, tf.float32)])
        begin = {
            place: weight.numpy()
            for place, weight in weights_of(mechanism, "").items()
            if "layer" not in place
        }
        return (lambda: begin), {}

    assert_same(make, slopes=False)


@pytest.mark.parametrize("name", ["LuongMonotonicAttention", "BahdanauMonotonicAttention"])
def test_the_same_seed_makes_the_same_noise(name):
    settings = {"sigmoid_noise": 2.0, "sigmoid_noise_seed": 7}
    quiet, _ = run(OURS, asked(name, {}, {}), inputs(), slopes=False)
    _, noisy = assert_same(asked(name, settings, {}), *inputs())
    assert np.abs(noisy[".alignmentslist[0]"] - quiet[".alignmentslist[0]"]).max() > 0.1


def test_luong_needs_no_state_in_both():
    def make(library):
        mechanism = library.LuongAttention(UNITS)

        def answer(memory, queries):
            mechanism.setup_memory(memory)
            return mechanism([queries[:, 0], None])

        return answer, {"mechanism": mechanism}

    assert_same(make, *inputs(), slopes=False)


# -- bad input


def at_mask_and_lengths(library):
    library.LuongAttention(UNITS).setup_memory(
        inputs()[0], memory_sequence_length=LENGTHS, memory_mask=MASK
    )


def at_width(library):
    library.LuongAttention(UNITS, inputs()[0])([tf.ones([B, UNITS + 1]), None])


def at_function(library):
    library.BahdanauAttention(UNITS, probability_fn="sparsemax")


def at_no_memory(library):
    library.LuongAttention(UNITS)([tf.ones([B, UNITS]), None])


def at_inputs(library):
    library.LuongAttention(UNITS, inputs()[0])([tf.ones([B, UNITS])])


def at_unknown_width(library):
    tf.function(library.LuongAttention(UNITS).setup_memory, autograph=False).get_concrete_function(
        tf.TensorSpec([B, S, None])
    )


def at_length_zero(library):
    mechanism = library.LuongAttention(UNITS)
    mechanism.setup_memory(inputs()[0], memory_sequence_length=[5, 0, 3])
    mechanism([tf.ones([B, UNITS]), None])


@pytest.mark.parametrize(
    "mistake, error, words",
    [
        (at_mask_and_lengths, ValueError, "memory_sequence_length and memory_mask cannot be used"),
        (at_width, ValueError, "Incompatible .*inner dimensions .*query and keys"),
        (at_function, ValueError, "Invalid probability function"),
        (at_no_memory, ValueError, None),
        (at_inputs, ValueError, None),
        (at_unknown_width, ValueError, None),
        (at_length_zero, tf.errors.InvalidArgumentError, "All values in memory_sequence_length"),
    ],
    ids=name_case,
)
def test_mistakes_are_reported_with_the_same_error(mistake, error, words):
    for library in LIBRARIES:
        with pytest.raises(error, match=words):
            mistake(library)


def test_a_row_without_visible_slots_gives_zeros_where_the_original_attends_to_all_of_the_padding():
    nothing = tf.constant([[False] * S] + MASK[1:])

    def make(library):
        mechanism = library.LuongAttention(UNITS)

        def answer(memory, query):
            mechanism.setup_memory(memory, memory_mask=nothing)
            return mechanism([query, None])[0]

        return answer, {"mechanism": mechanism}

    memory, queries = inputs()
    (theirs, _), (ours, _) = (
        run(library, make, (memory, queries[:, 0]), slopes=False) for library in LIBRARIES
    )
    np.testing.assert_allclose(theirs[""][0], 1 / S, rtol=1e-6)
    np.testing.assert_array_equal(ours[""][0], 0.0)
    np.testing.assert_allclose(ours[""][1:], theirs[""][1:], rtol=1e-5)
