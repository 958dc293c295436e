import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.functional import additive, dot
from tests import oracles

# A memory of five slots and a query, with weights worked out by hand from the papers' formulas.
H = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [-1.0, 0.5], [0.5, -1.0]], np.float32)
QUERY = np.array([0.5, -0.25], np.float32)
WA = np.array([[0.2, -0.1], [0.4, 0.3]], np.float32)
WB = np.array([[-0.3, 0.5], [0.1, 0.2]], np.float32)
V = np.array([0.7, -0.6], np.float32)


def weights(scores):
    return tf.nn.softmax(scores).numpy()[0, 0]


def test_dot_gives_the_weights_of_the_paper():
    found = weights(dot(QUERY[None, None], H[None]))
    np.testing.assert_allclose(found, [0.279656, 0.1321, 0.217796, 0.090791, 0.279656], atol=1e-6)


def test_general_is_dot_with_a_projected_memory():
    found = weights(dot(QUERY[None, None], (H @ WA)[None]))
    by_hand = [QUERY @ WA.T @ h for h in H]
    np.testing.assert_allclose(found, oracles.softmax(by_hand), atol=1e-6)


def test_additive_gives_the_weights_of_the_paper():
    found = weights(additive((WB @ QUERY)[None, None], (H @ WA.T)[None], V))
    expected = [0.195751, 0.169284, 0.159705, 0.214236, 0.261024]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_dot_is_the_unscaled_attention_of_keras():
    query, keys = np.random.normal(size=(2, 3, 4)), np.random.normal(size=(2, 5, 4))
    _, expected = keras.layers.Attention()([query, keys], return_attention_scores=True)
    np.testing.assert_allclose(tf.nn.softmax(dot(query, keys)), expected, atol=1e-6)


def test_additive_is_the_additive_attention_of_keras_when_nothing_is_projected():
    query, keys = np.random.normal(size=(2, 3, 4)), np.random.normal(size=(2, 5, 4))
    layer = keras.layers.AdditiveAttention()
    layer.build([query.shape, keys.shape])
    layer.scale.assign(np.random.normal(size=4))
    _, expected = layer([query, keys], return_attention_scores=True)
    found = tf.nn.softmax(additive(query, keys, layer.scale.numpy().astype("float64")))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_bias_of_additive_stands_inside_the_tanh():
    query, keys = np.random.normal(size=(2, 3, 4)), np.random.normal(size=(2, 5, 4))
    v, bias = np.random.normal(size=4), np.random.normal(size=4)
    np.testing.assert_allclose(
        additive(query, keys, v, bias), np.tanh(query[:, :, None] + keys[:, None] + bias) @ v
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_scores_of_narrow_types_are_float32(dtype):
    query, keys = (tf.cast(tf.fill([1, 1, 64], 40.0), dtype) for _ in range(2))
    scores = dot(query, keys)
    assert scores.dtype == tf.float32
    assert scores.numpy()[0, 0, 0] == 64 * 40.0**2  # more than float16 can hold
    scores = additive(query, keys, tf.cast(tf.fill([64], 2000.0), dtype))
    assert scores.dtype == tf.float32
    assert scores.numpy()[0, 0, 0] == 64 * 2000.0


def test_scores_of_float64_stay_float64():
    query, keys = np.ones([1, 1, 2]), np.ones([1, 3, 2])
    assert dot(query, keys).dtype == tf.float64
    assert additive(query, keys, np.ones(2)).dtype == tf.float64


def test_a_memory_without_slots_has_no_scores():
    query, keys = np.ones([2, 3, 4]), np.ones([2, 0, 4])
    assert dot(query, keys).shape == (2, 3, 0)
    assert additive(query, keys, np.ones(4)).shape == (2, 3, 0)
