import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.functional import average, concatenation


def test_concatenation_scores_the_joined_pair():
    query, keys = np.random.normal(size=(2, 3, 4)), np.random.normal(size=(2, 5, 6))
    w = np.random.normal(size=10)
    found = concatenation(query, keys, w)
    for b, t, s in np.ndindex(2, 3, 5):
        joined = np.concatenate([query[b, t], keys[b, s]])
        np.testing.assert_allclose(found[b, t, s], max(0, w @ joined), atol=1e-12)


def test_average_divides_by_visible_slots():
    scores = np.random.normal(size=(3, 4, 5))
    np.testing.assert_allclose(average(scores), scores / 5)
    mask = np.random.random((3, 1, 5)) < 0.5
    mask[0] = False
    found = average(scores, mask).numpy()
    for b in range(3):
        count = mask[b].sum()
        np.testing.assert_allclose(found[b], np.where(mask[b], scores[b], 0) / max(count, 1))


def test_average_of_nothing_is_zero_with_a_finite_gradient():
    scores = tf.Variable([[1.0, 2.0]])
    with tf.GradientTape() as tape:
        weights = average(scores, tf.constant([[False, False]]))
    assert weights.numpy().tolist() == [[0, 0]]
    assert tape.gradient(weights, scores).numpy().tolist() == [[0, 0]]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_narrow_scores_are_averaged_in_float32(dtype):
    weights = average(tf.ones([1, 3000], dtype))
    assert weights.dtype == tf.float32
    np.testing.assert_allclose(tf.reduce_sum(weights), 1, rtol=1e-5)


def test_average_is_known_to_keras():
    assert keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(average)) is (
        average
    )
