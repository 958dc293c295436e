import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.seq2seq import (
    AttentionWrapper,
    BahdanauAttention,
    BahdanauMonotonicAttention,
    BasicDecoder,
    LuongAttention,
    LuongMonotonicAttention,
    TrainingSampler,
)
from tests import oracles
from tests.sampled import sampled
from tests.seq2seq.cells import normal

UNITS, WIDTH, BATCH, SOURCE = 4, 5, 3, 6
PLAIN = {BahdanauMonotonicAttention: BahdanauAttention, LuongMonotonicAttention: LuongAttention}
KINDS = {
    "bahdanau": BahdanauMonotonicAttention,
    "bahdanau_normalized": functools.partial(BahdanauMonotonicAttention, normalize=True),
    "luong": LuongMonotonicAttention,
    "luong_scaled": functools.partial(LuongMonotonicAttention, scale=True),
}
each = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
MODES = ["recursive", "parallel", "hard"]


def made(kind, **kwargs):
    """A mechanism with weights that are nowhere at their initial values, and a memory."""
    mechanism = kind(UNITS, **kwargs)
    memory = mechanism.prepare_memory(normal(BATCH, SOURCE, WIDTH), [SOURCE, 3, 1])
    state = mechanism.initial_state(BATCH, tf.float32, memory)
    mechanism([normal(BATCH, UNITS), state], memory=memory)
    for weight in mechanism.weights:
        weight.assign(np.random.normal(size=weight.shape))
    return mechanism, mechanism.prepare_memory(normal(BATCH, SOURCE, WIDTH), [SOURCE, 3, 1])


def plain_scores(mechanism, query, memory):
    """What the mechanism without a pointer would score.  -> [B, S]."""
    base = next(plain for mono, plain in PLAIN.items() if isinstance(mechanism, mono))
    query = query if mechanism.query_layer is None else mechanism.query_layer(query)
    return base.scores(mechanism, tf.expand_dims(query, 1), memory)[:, 0].numpy()


@each
@pytest.mark.parametrize("mode", MODES)
def test_the_pointer_moves_as_in_the_paper(kind, mode):
    mechanism, memory = made(kind, mode=mode)
    state = mechanism.initial_state(BATCH, tf.float32, memory)
    for _ in range(3):
        query, before = normal(BATCH, UNITS), state.numpy()
        alignments, state = mechanism([query, state], memory=memory)
        scores = plain_scores(mechanism, query, memory) + mechanism.attention_score_bias.numpy()
        p = scores > 0 if mode == "hard" else oracles.sigmoid(scores.astype(np.float64))
        p = np.where(memory.mask, p, 0.0)
        np.testing.assert_allclose(alignments, oracles.monotonic(p, before), atol=1e-5)
        np.testing.assert_array_equal(alignments, state)


@each
def test_the_pointer_begins_at_the_first_slot(kind):
    mechanism, memory = made(kind)
    expected = np.eye(SOURCE)[[0] * BATCH]
    for first in (mechanism.initial_alignments, mechanism.initial_state):
        np.testing.assert_array_equal(first(BATCH, tf.float32, memory), expected)


@each
def test_a_hard_pointer_never_goes_back(kind):
    mechanism, memory = made(kind, mode="hard", score_bias_init=0.0)
    state = mechanism.initial_state(BATCH, tf.float32, memory)
    place = np.zeros(BATCH)
    for _ in range(6):
        state = mechanism([normal(BATCH, UNITS), state], memory=memory)[1]
        assert set(np.unique(state)) <= {0.0, 1.0}
        found = np.sum(state, axis=1) == 1
        now = np.where(found, np.argmax(state, axis=1), np.inf)
        assert np.all(now >= place)
        place = now


@each
def test_the_initial_bias_is_the_given_one(kind):
    mechanism = kind(UNITS, score_bias_init=-3.0)
    memory = mechanism.prepare_memory(normal(BATCH, SOURCE, WIDTH))
    assert float(mechanism.attention_score_bias) == -3.0
    assert memory.mask.shape == (BATCH, SOURCE)


@each
def test_noise_is_drawn_in_every_call_and_by_the_seed(kind):
    def draw(noise):
        mechanism, memory = made(kind, sigmoid_noise=noise, sigmoid_noise_seed=3)
        for weight in mechanism.weights:
            weight.assign(tf.ones_like(weight))
        memory = mechanism.prepare_memory(tf.ones([BATCH, SOURCE, WIDTH]) * 0.1)
        state = mechanism.initial_state(BATCH, tf.float32, memory)
        tf.random.set_seed(1)
        query = tf.ones([BATCH, UNITS])
        return [mechanism([query, state], memory=memory)[0].numpy() for _ in range(2)]

    first, second = draw(1.0)
    assert np.any(first != second)
    np.testing.assert_array_equal(draw(1.0), [first, second])
    first, second = draw(0.0)
    np.testing.assert_array_equal(first, second)


@each
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_every_mode_computes_in_every_type(kind, mode, dtype):
    mechanism = kind(UNITS, mode=mode, dtype=dtype)
    memory = mechanism.prepare_memory(normal(BATCH, SOURCE, WIDTH).astype(dtype), [SOURCE, 3, 1])
    state = mechanism.initial_state(BATCH, dtype, memory)
    alignments, _ = mechanism([normal(BATCH, UNITS).astype(dtype), state], memory=memory)
    assert alignments.dtype == dtype and np.isfinite(alignments).all()
    assert np.all(np.sum(alignments, axis=1) <= 1 + 1e-3)


@pytest.mark.parametrize(
    "kind, mode, jit", sampled(KINDS.values(), MODES, [False, True], together=1)
)
def test_a_decoder_gives_the_same_eager_in_a_graph_and_compiled(kind, mode, jit):
    cell = AttentionWrapper(keras.layers.GRUCell(UNITS), kind(UNITS, mode=mode), UNITS)
    decoder = BasicDecoder(cell, TrainingSampler(), maximum_iterations=4)
    memory, inputs = normal(BATCH, SOURCE, WIDTH), normal(BATCH, 4, WIDTH)

    def run(inputs):
        return decoder(inputs, memory=memory)[0].rnn_output

    expected = run(inputs)
    found = tf.function(run, jit_compile=jit, autograph=False)(inputs)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@each
def test_a_pointer_that_stood_nowhere_is_refused(kind):
    mechanism, memory = made(kind)
    with pytest.raises(ValueError, match="initial_state"):
        mechanism([normal(BATCH, UNITS), None], memory=memory)


@each
def test_an_unknown_mode_is_refused(kind):
    with pytest.raises(ValueError, match="recursive"):
        kind(UNITS, mode="soft")


@each
def test_a_config_makes_the_same_mechanism(kind):
    mechanism = kind(UNITS, sigmoid_noise=0.5, sigmoid_noise_seed=2, score_bias_init=-1.0)
    config = mechanism.get_config()
    copy = type(mechanism).from_config(config)
    assert copy.get_config() == config
    assert (copy.sigmoid_noise, copy.score_bias_init, copy.mode) == (0.5, -1.0, "parallel")
