import numpy as np
import pytest
import tensorflow as tf

from keras_attention.functional import Memory, attend, hardmax, padding
from keras_attention.functional.dtypes import widen
from tests import oracles


def test_the_context_is_the_weighted_sum_of_the_values():
    scores, values = np.random.normal(size=(2, 3, 5)), np.random.normal(size=(2, 5, 4))
    mask = oracles.padding([5, 2], 5)[:, None]
    context, weights = attend(scores, values, mask)
    np.testing.assert_allclose(weights, oracles.softmax(scores, mask))
    np.testing.assert_allclose(context, oracles.softmax(scores, mask) @ values)


def test_hardmax_reads_one_value():
    scores, values = np.random.normal(size=(1, 1, 5)), np.random.normal(size=(1, 5, 4))
    context, _ = attend(scores, values, normalize=hardmax)
    np.testing.assert_array_equal(context[0, 0], values[0, scores.argmax()])


def test_padding_never_changes_the_context():
    scores, values = np.random.normal(size=(2, 3, 4)), np.random.normal(size=(2, 4, 6))
    short, _ = attend(scores, values)
    more_scores = np.concatenate([scores, np.full((2, 3, 3), 50.0)], 2)
    more_values = np.concatenate([values, np.full((2, 3, 6), 1e9)], 1)
    padded, _ = attend(more_scores, more_values, padding([4, 4], 7)[:, None])
    np.testing.assert_allclose(padded, short, atol=1e-12)


def test_a_query_without_visible_slots_gets_zeros():
    context, weights = attend(np.ones((1, 2, 3)), np.ones((1, 3, 4)), np.zeros((1, 2, 3), bool))
    assert (context.numpy() == 0).all() and (weights.numpy() == 0).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_context_and_weights_have_the_type_of_the_values(dtype):
    values = tf.cast(tf.random.normal([1, 300, 2]), dtype)
    context, weights = attend(tf.zeros([1, 1, 300]), values)
    assert context.dtype == weights.dtype == dtype
    mean = tf.cast(values, tf.float64).numpy()[0].mean(0)
    np.testing.assert_allclose(tf.cast(context, tf.float64)[0, 0], mean, atol=5e-3)


def test_a_memory_is_a_nest():
    memory = Memory(1, 2, None)
    assert tf.nest.map_structure(lambda part: part, memory) == memory


@pytest.mark.parametrize("steps", [None, 2, 4])
def test_the_padding_mask_marks_the_real_steps(steps):
    expected = oracles.padding([2, 0, 1], steps or 2)
    np.testing.assert_array_equal(padding([2, 0, 1], steps), expected)


def test_only_types_narrower_than_float32_are_widened():
    wide = {"float16": "float32", "bfloat16": "float32", "float32": "float32", "float64": "float64"}
    assert {kind: widen(tf.zeros([1], kind)).dtype.name for kind in wide} == wide
