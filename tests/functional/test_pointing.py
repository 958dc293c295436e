"""Attention weights as a distribution over source tokens, and a penalty for equal hops."""

import numpy as np
import pytest
import tensorflow as tf

from keras_attention.functional import copy_mixture, redundancy, taken_before
from tests import oracles

VOCABULARY, SLOTS = 5, 3


def example(batch=2, steps=3, source=6):
    probabilities = oracles.softmax(np.random.normal(size=(batch, steps, VOCABULARY)))
    attention = oracles.softmax(np.random.normal(size=(batch, steps, source)))
    ids = np.random.randint(VOCABULARY + SLOTS, size=(batch, source))
    ids[:, -1] = ids[:, 0]  # said twice
    return probabilities, attention, ids, np.random.random((batch, steps, 1))


def mixture_by_loops(probabilities, attention, ids, p_gen):
    batch, steps, source = attention.shape
    mixture = np.zeros((batch, steps, VOCABULARY + SLOTS))
    for b, t in np.ndindex(batch, steps):
        mixture[b, t, :VOCABULARY] = p_gen[b, t] * probabilities[b, t]
        for s in range(source):
            mixture[b, t, ids[b, s]] += (1 - p_gen[b, t, 0]) * attention[b, t, s]
    return mixture


def test_the_mixture_is_that_of_the_loops_and_sums_to_one():
    parts = example()
    found = copy_mixture(*parts, SLOTS)
    np.testing.assert_allclose(found, mixture_by_loops(*parts), atol=1e-12)
    np.testing.assert_allclose(tf.reduce_sum(found, -1), 1, atol=1e-12)


def test_always_to_copy_is_a_pointer_over_the_words_of_the_source():
    probabilities, attention, ids, p_gen = example()
    found = copy_mixture(probabilities, attention, ids, 0 * p_gen, SLOTS).numpy()
    for row in range(2):
        absent = sorted(set(range(VOCABULARY + SLOTS)) - set(ids[row]))
        np.testing.assert_allclose(found[row][:, absent], 0, atol=1e-15)
        np.testing.assert_allclose(found[row].sum(-1), 1, atol=1e-12)


def test_never_to_copy_is_the_vocabulary():
    probabilities, attention, ids, p_gen = example()
    found = copy_mixture(probabilities, attention, ids, p_gen * 0 + 1, SLOTS)
    np.testing.assert_array_equal(found[..., :VOCABULARY], probabilities)
    assert not np.any(found[..., VOCABULARY:])


def test_with_nothing_to_see_everything_is_generated():
    probabilities, attention, ids, p_gen = example()
    found = copy_mixture(probabilities, 0 * attention, ids, p_gen, SLOTS)
    np.testing.assert_allclose(found[..., :VOCABULARY], probabilities, atol=1e-12)


def test_no_probability_is_ever_negative():
    probabilities, attention, ids, _ = (tf.cast(x, tf.float32) for x in example(64))
    copying = copy_mixture(probabilities, attention * 1.001, ids, tf.zeros([64, 3, 1]), SLOTS)
    assert (copying.numpy() >= 0).all()


def test_gradients_reach_all_parts():
    probabilities, attention, ids, p_gen = example(1, 2, 3)
    direction = tf.constant(np.random.normal(size=(1, 2, VOCABULARY + SLOTS)))

    def loss(probabilities, scores, p_gen):
        weights = tf.nn.softmax(scores)
        return tf.reduce_sum(copy_mixture(probabilities, weights, ids, p_gen, SLOTS) * direction)

    inputs = [tf.constant(x) for x in (probabilities, attention, p_gen)]
    for theory, numbers in zip(*tf.test.compute_gradient(loss, inputs)):
        np.testing.assert_allclose(theory, numbers, atol=1e-7)
        assert np.any(theory)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_narrow_types_are_mixed_in_float32(dtype):
    probabilities, attention, ids, p_gen = example()
    narrow = [tf.cast(x, dtype) for x in (probabilities, attention, p_gen)]
    found = copy_mixture(*narrow[:2], ids, narrow[2], SLOTS)
    assert found.dtype == tf.float32
    np.testing.assert_allclose(
        found, mixture_by_loops(probabilities, attention, ids, p_gen), atol=2e-2
    )


def test_eager_xla_and_unknown_lengths_agree():
    def mix(*parts):
        return copy_mixture(*parts, SLOTS)

    parts = [tf.constant(x) for x in example()]
    compiled = tf.function(mix, jit_compile=True, autograph=False)
    np.testing.assert_allclose(compiled(*parts), mix(*parts), atol=1e-12)
    unknown = [tf.TensorSpec([None] * x.shape.rank, x.dtype) for x in parts]
    unknown[0] = tf.TensorSpec([None, None, VOCABULARY], parts[0].dtype)
    compiled = tf.function(mix, input_signature=unknown)
    for sizes in ((2, 3, 6), (1, 0, 4), (3, 2, 1)):
        parts = example(*sizes)
        np.testing.assert_allclose(compiled(*parts), mixture_by_loops(*parts), atol=1e-12)


def test_a_slot_is_taken_after_the_step_that_chose_it():
    ids = np.array([[2, 0, 2, -1], [1, 1, 3, 0]])
    found = taken_before(ids, 4)
    assert found.dtype == tf.bool
    for row, step, slot in np.ndindex(2, 4, 4):
        assert bool(found[row, step, slot]) == (slot in ids[row, :step])


def test_the_reference_of_the_penalty():
    weights = np.array([[[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]]])
    np.testing.assert_allclose(redundancy(weights), [0.385], atol=1e-9)


def test_one_hop_pays_for_being_spread_out():
    weights = oracles.softmax(np.random.normal(size=(4, 1, 6)))
    expected = np.square(np.square(weights).sum(-1) - 1)[:, 0]
    np.testing.assert_allclose(redundancy(weights), expected, rtol=1e-12)


def test_only_different_one_hot_rows_are_free():
    assert float(redundancy(tf.one_hot([[0, 2, 1]], 4))[0]) == 0
    assert float(redundancy(tf.one_hot([[0, 2, 0]], 4))[0]) == 2
    more_hops_than_slots = oracles.softmax(np.random.normal(size=(50, 3, 2)) * 20)
    assert (redundancy(more_hops_than_slots).numpy() > 0.9).all()
