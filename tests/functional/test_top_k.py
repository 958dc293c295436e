import numpy as np
import pytest
import tensorflow as tf

from keras_attention.functional.top_k import top_k

LARGE = [(1, 2048), (3, 1999), (4, 5000)]  # shapes for which the blocks come in, with k = 3


def same_as_tensorflow(x, k):
    values, ids = top_k(x, k)
    expected_values, expected_ids = tf.math.top_k(x, k)
    np.testing.assert_array_equal(values, expected_values)
    np.testing.assert_array_equal(ids, expected_ids)


@pytest.mark.parametrize("shape", [(2, 5), *LARGE])
def test_the_largest_are_found_in_order(shape):
    same_as_tensorflow(tf.constant(np.random.default_rng(0).normal(size=shape), tf.float32), 3)


@pytest.mark.parametrize("shape", LARGE)
@pytest.mark.parametrize("kinds", [1, 2, 5])
def test_of_equals_the_lower_index_comes_first(shape, kinds):
    x = np.random.default_rng(0).integers(kinds, size=shape)
    same_as_tensorflow(tf.constant(x, tf.float32), 3)


@pytest.mark.parametrize("shape", LARGE)
def test_what_is_impossible_is_still_in_the_vocabulary(shape):
    same_as_tensorflow(tf.fill(shape, -float("inf")), 3)
    last = tf.one_hot([shape[1] - 1] * shape[0], shape[1], 0.0, -float("inf"))
    same_as_tensorflow(last, 3)


def test_all_of_the_largest_can_be_in_one_block():
    same_as_tensorflow(tf.range(0.0, 3000.0)[None], 3)
    same_as_tensorflow(tf.range(3000.0, 0.0, -1.0)[None], 3)


def test_leading_dimensions_stay_as_they_are():
    x = tf.random.normal([2, 3, 2048])
    values, ids = top_k(x, 4)
    assert values.shape == ids.shape == [2, 3, 4]
    same_as_tensorflow(x, 4)


def test_an_unknown_batch_is_known_when_it_runs():
    search = tf.function(lambda x: top_k(x, 2), input_signature=[tf.TensorSpec([None, 4, 3000])])
    values, ids = search(tf.random.normal([5, 4, 3000]))
    assert values.shape == ids.shape == [5, 4, 2]


def test_xla_finds_the_same():
    x = tf.constant(np.random.default_rng(0).integers(9, size=(4, 3001)), tf.float32)
    values, ids = tf.function(lambda x: top_k(x, 5), jit_compile=True)(x)
    np.testing.assert_array_equal(ids, tf.math.top_k(x, 5).indices)
    np.testing.assert_array_equal(values, tf.math.top_k(x, 5).values)
