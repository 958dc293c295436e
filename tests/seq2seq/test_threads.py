"""Threads that share a layer, a decoder or a sampler get independent results."""

import copy
import threading
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.seq2seq import (
    AttentionRNN,
    AttentionWrapper,
    BahdanauAttention,
    BasicDecoder,
    BeamSearchDecoder,
    GreedyEmbeddingSampler,
    LuongAttention,
    ScheduledOutputTrainingSampler,
    TrainingSampler,
    tile_batch,
)
from tests.seq2seq.cells import INPUT, UNITS, keras3, normal

STEPS, ROUNDS, TIMEOUT = 3, 2, 30


class Lockstep:
    """Holds the threads in each step until all of them have come to it."""

    def __init__(self):
        self.barrier = None

    def __call__(self, inputs, attention):
        if self.barrier is not None:
            self.barrier.wait(TIMEOUT)
        return tf.concat([inputs, attention], -1)

    def answers(self, *calls):
        """What the calls return when each runs in a thread of its own, all in step."""
        self.barrier = threading.Barrier(len(calls))
        try:
            return in_threads(*calls)
        finally:
            self.barrier = None


def in_threads(*calls):
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]


def attending(lockstep, mechanism=LuongAttention):
    cell = keras.layers.GRUCell(UNITS)
    return AttentionWrapper(cell, mechanism(UNITS), 5, cell_input_fn=lockstep)


def rnn_of(cell):
    layer = AttentionRNN(cell, return_sequences=True)
    return lambda x, memory, training: layer(x, memory=memory, training=training)


def decoder_of(cell):
    decoder = BasicDecoder(cell, TrainingSampler())
    return lambda x, memory, training: decoder(x, memory=memory, training=training)[0].rnn_output


def rnn(cell):
    layer = AttentionRNN(cell, return_sequences=True)
    return lambda x, memory: layer(x, **given(memory))


def basic(cell):
    decoder = BasicDecoder(cell, TrainingSampler())
    return lambda x, memory: decoder(x, **given(memory))[0].rnn_output


def greedy(cell):
    never = keras.initializers.Constant([0, 0, -99])
    output_layer = keras.layers.Dense(INPUT, bias_initializer=never)
    decoder = BasicDecoder(cell, GreedyEmbeddingSampler(), output_layer, maximum_iterations=STEPS)
    return lambda x, memory: (
        decoder(
            tf.eye(INPUT), start_tokens=tf.zeros(len(x), tf.int32), end_token=2, **given(memory)
        )[0].rnn_output
    )


def beam(cell):
    never = keras.initializers.Constant([0, 0, -99])
    output_layer = keras.layers.Dense(INPUT, bias_initializer=never)
    decoder = BeamSearchDecoder(cell, 2, output_layer=output_layer, maximum_iterations=STEPS)

    def call(x, memory):
        rows = tf.zeros(len(x), tf.int32)
        tokens = {"start_tokens": rows, "end_token": 2, **given(memory)}
        if memory is None:  # a bound memory has a row for each hypothesis
            tokens["initial_state"] = cell.get_initial_state(batch_size=2 * len(x))
        return decoder(tf.eye(INPUT), **tokens)[1].log_probs

    return call


def given(memory):
    return {} if memory is None else {"memory": memory}


KINDS = {"rnn": rnn, "basic": basic, "greedy": greedy, "beam": beam}
# Of other sizes, so that another thread's memory does not even fit.
QUESTIONS = [(2, 5), (3, 4)]


@pytest.fixture
def lockstep():
    return Lockstep()


def questions():
    return [(normal(batch, STEPS, INPUT), normal(batch, s, 6)) for batch, s in QUESTIONS]


@pytest.mark.parametrize("kind", KINDS)
def test_threads_with_memories_of_their_own_get_their_own_answers(kind, lockstep):
    ask, asked = KINDS[kind](attending(lockstep)), questions()
    expected = [ask(*question) for question in asked]
    for _ in range(ROUNDS):
        found = lockstep.answers(*(lambda question=question: ask(*question) for question in asked))
        for one, other in zip(found, expected):
            np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_threads_that_bind_their_memories_get_their_own_answers(kind, lockstep):
    cell, asked = attending(lockstep, BahdanauAttention), questions()
    ask = KINDS[kind](cell)

    def bind_and_ask(x, memory):
        memory = tile_batch(memory, 2) if kind == "beam" else memory
        cell.attention_mechanism.setup_memory(memory)
        return ask(x, None)

    expected = [bind_and_ask(*question) for question in asked]
    for _ in range(ROUNDS):
        calls = (lambda question=question: bind_and_ask(*question) for question in asked)
        for one, other in zip(lockstep.answers(*calls), expected):
            np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.full
@pytest.mark.parametrize("kind", KINDS)
def test_threads_may_trace_their_functions_at_once(kind, lockstep):
    ask, asked = KINDS[kind](attending(lockstep)), questions()
    expected = [ask(*question) for question in asked]
    traced = [tf.function(lambda question=question: ask(*question)) for question in asked]
    for one, other in zip(lockstep.answers(*traced), expected):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_a_thread_that_binds_nothing_sees_what_was_bound_last():
    mechanism, (memory, other) = LuongAttention(UNITS), normal(2, 2, 5, 6)
    mechanism.setup_memory(memory)
    (seen,) = in_threads(lambda: mechanism.values)
    np.testing.assert_array_equal(seen, memory)
    in_threads(lambda: mechanism.setup_memory(other))
    np.testing.assert_array_equal(mechanism.values, memory)


def test_a_memory_of_one_call_is_bound_for_no_other_thread(lockstep):
    cell = attending(lockstep)
    with cell.bound_to(normal(2, 5, 6)):
        assert in_threads(lambda: cell.attention_mechanism.memory_initialized) == [False]
    assert not cell.attention_mechanism.memory_initialized


def test_threads_share_a_sampler():
    sampler = ScheduledOutputTrainingSampler(0.0)
    barrier = threading.Barrier(2)

    def read(inputs, lengths):
        given = []
        for t in range(STEPS):
            if t == 0:
                finished, x = sampler.initialize(inputs, lengths, auxiliary_inputs=inputs)
            else:
                coins = sampler.sample(t - 1, x[:, :2], None)
                finished, x, _ = sampler.next_inputs(t - 1, x[:, :2], None, coins)
            barrier.wait(TIMEOUT)
            given.append(np.where(finished[:, None], 0, x))
        return np.stack(given, 1), int(sampler.batch_size)

    first, second = normal(2, STEPS, 2), normal(3, STEPS, 2)
    lengths = [[3, 3], [3, 3, 3]]
    found = in_threads(lambda: read(first, lengths[0]), lambda: read(second, lengths[1]))
    for (inputs, count), expected in zip(found, (first, second)):
        np.testing.assert_array_equal(inputs, np.concatenate([expected, expected], -1))
        assert count == len(expected)


def test_a_copy_of_a_sampler_has_what_was_given_to_the_original():
    sampler = TrainingSampler()
    sampler.initialize(normal(2, STEPS, 2), [1, 2])
    assert copy.deepcopy(sampler).sequence_length.numpy().tolist() == [1, 2]


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_call_may_be_made_by_four_threads(kind, lockstep):
    ask, (x, memory) = KINDS[kind](attending(lockstep, BahdanauAttention)), questions()[0]
    barrier = threading.Barrier(4)

    def call():
        barrier.wait(TIMEOUT)
        return ask(x, memory)

    found = in_threads(*[call] * 4)
    for one in found:
        np.testing.assert_allclose(one, ask(x, memory), atol=1e-6)


@keras3("the models are made for it")
@pytest.mark.parametrize("name", ["RNNSeq2Seq", "Transformer", "TransformerLM"])
def test_the_first_call_of_a_model_may_be_made_by_four_threads(name):
    import models

    sizes = {"units": 3} if name == "RNNSeq2Seq" else {"layers": 1, "width": 4, "heads": 2}
    model = getattr(models, name)(7, **sizes)
    barrier, ids = threading.Barrier(4), tf.constant([[5, 6, 4]])

    def call(inputs):
        barrier.wait(TIMEOUT)
        return model(inputs)

    inputs = ids if name == "TransformerLM" else (ids, ids)
    found = in_threads(*[lambda: call(inputs)] * 3, lambda: call(inputs))
    for one in found:
        np.testing.assert_allclose(one, model(inputs), atol=1e-6)
    fresh = getattr(models, name)(7, **sizes)
    fresh(inputs)
    assert len(model.weights) == len(fresh.weights)


@keras3("the models are made for it")
def test_threads_that_ask_one_model_get_their_own_answers():
    from models import RNNSeq2Seq

    model = RNNSeq2Seq(7, units=3)
    sources = [tf.constant([[5, 6, 4]]), tf.constant([[4, 3, 0, 0], [6, 5, 4, 3]])]
    expected = [model.generate(source, beam_width=2, max_length=4).ids for source in sources]
    calls = [
        lambda source=source: model.generate(source, beam_width=2, max_length=4).ids
        for source in sources
    ]
    for _ in range(ROUNDS):
        for one, other in zip(in_threads(*calls), expected):
            np.testing.assert_array_equal(one, other)


@keras3("it keeps dropout masks on a cell for the time of a call")
@pytest.mark.parametrize("make", [rnn_of, decoder_of], ids=["rnn", "decoder"])
def test_a_thread_that_only_answers_leaves_the_masks_of_one_that_trains(make):
    x, memory = normal(2, STEPS, INPUT), normal(2, 4, 6)
    other = None

    def join(inputs, attention):
        nonlocal other
        if other is not None:
            call, other = other, None
            in_threads(call)
        return tf.concat([inputs, attention], -1)

    cell = keras.layers.GRUCell(UNITS, dropout=0.5, seed=1)
    layer = make(AttentionWrapper(cell, LuongAttention(UNITS), 5, cell_input_fn=join))
    answer = layer(x, memory, training=False)
    (seed,) = [variable for variable in cell.variables if "seed" in variable.path]
    before = seed.numpy()
    trained = layer(x, memory, training=True)
    assert not np.allclose(trained, answer)
    seed.assign(before)
    other = lambda: layer(x, memory, training=False)  # noqa: E731
    np.testing.assert_allclose(layer(x, memory, training=True), trained, atol=1e-6)
    after = seed.numpy()
    np.testing.assert_allclose(layer(x, memory, training=False), answer, atol=1e-6)
    np.testing.assert_array_equal(seed, after)
