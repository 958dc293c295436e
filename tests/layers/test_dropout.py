"""Dropout draws the mask of an example by its place in the global batch."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention import layers
from keras_attention.functional.dropout import dropout, uniform_rows


@pytest.mark.parametrize("shape", [(6, 3), (6, 5, 7), (6, 1), (6, 2, 3, 4)])
@pytest.mark.parametrize("compiled", [False, True])
def test_rows_of_a_part_have_the_masks_that_they_have_in_the_whole(shape, compiled):
    draw = tf.function(dropout, jit_compile=True) if compiled else dropout
    seed = tf.constant([-3, 2])
    whole = draw(tf.ones(shape), 0.4, seed, tf.constant(0))
    parts = [draw(tf.ones([2, *shape[1:]]), 0.4, seed, tf.constant(2 * n)) for n in range(3)]
    np.testing.assert_array_equal(tf.concat(parts, 0) > 0, whole > 0)


def test_rows_steps_and_seeds_have_masks_of_their_own():
    draws = [
        uniform_rows(tf.constant([seed, step]), 0, [4, 400]).numpy()
        for seed in (0, 1, -1)
        for step in (0, 1)
    ]
    rows = np.concatenate(draws)
    assert len(np.unique(rows, axis=0)) == len(rows)
    correlations = np.corrcoef(rows) - np.eye(len(rows))
    assert np.abs(correlations).max() < 5 / 400**0.5


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_the_share_kept_is_one_minus_rate_and_the_mean_stays(dtype):
    y = dropout(tf.ones([200, 301], dtype), 0.3, tf.constant([1, 5]))
    assert y.dtype == dtype
    kept = np.asarray(y, np.float64) > 0
    assert abs(kept.mean() - 0.7) < 4 * (0.21 / kept.size) ** 0.5
    np.testing.assert_allclose(np.asarray(y, np.float64)[kept], 1 / 0.7, rtol=8e-3)


def test_noise_shape_shares_the_mask_and_rates_of_0_and_1_need_no_numbers():
    layer = layers.Dropout(0.5, noise_shape=(None, 1, None), seed=3)
    y = layer(tf.ones([3, 4, 5]), training=True).numpy()
    np.testing.assert_array_equal(y, np.repeat(y[:, :1], 4, 1))
    assert 0 < y.mean() < 2
    x = tf.constant([[1.0, np.nan]])
    np.testing.assert_array_equal(layers.Dropout(1.0)(x, training=True), [[0.0, 0.0]])
    np.testing.assert_array_equal(layers.Dropout(0.0)(x, training=True), x)
    np.testing.assert_array_equal(layers.Dropout(0.5)(x, training=False), x)


def test_empty_batches_and_rows_are_returned_empty():
    for shape in ([0, 3], [2, 0], [0]):
        assert dropout(tf.ones(shape), 0.5, tf.constant([1, 2])).shape == shape


def test_a_hidden_nan_stays_hidden_and_its_gradient_is_finite():
    x = tf.constant([[np.inf] * 8])
    y = dropout(x, 0.5, tf.constant([0, 1]))
    assert not np.isnan(y).any()
    with tf.GradientTape() as tape:
        z = tf.ones([2, 6])
        tape.watch(z)
        y = dropout(z, 0.5, tf.constant([0, 1]))
    np.testing.assert_array_equal(tape.gradient(y, z), y)


def test_a_layer_is_saved_and_loaded_with_its_seed():
    model = keras.Sequential([keras.Input((4,)), layers.Dropout(0.5, seed=7)])
    again = keras.Sequential.from_config(model.get_config())
    x = tf.ones([3, 4])
    first = [model(x, training=True), again(x, training=True)]
    np.testing.assert_array_equal(*first)
    assert (model(x, training=True) != first[0]).numpy().any()  # the next step
