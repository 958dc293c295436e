import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.functional import (
    additive,
    biaffine,
    concat,
    cosine,
    dot,
    general,
    location,
    scaled_dot,
    softmax,
)

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


def test_general_gives_the_weights_of_the_paper():
    found = weights(general(QUERY[None, None], H[None], WA))
    np.testing.assert_allclose(found, [0.206716, 0.182426, 0.182426, 0.194192, 0.23424], atol=1e-6)


def test_general_is_dot_with_a_projected_memory_and_without_a_kernel_dot_itself():
    query, keys = np.random.normal(size=(2, 3, 4)), np.random.normal(size=(2, 5, 6))
    kernel = np.random.normal(size=(4, 6))
    np.testing.assert_allclose(general(query, keys, kernel), dot(query, keys @ kernel.T))
    np.testing.assert_allclose(general(query, query, np.eye(4)), dot(query, query))


def test_scaled_dot_gives_the_weights_of_the_paper():
    found = weights(scaled_dot(QUERY[None, None], H[None]))
    np.testing.assert_allclose(found, [0.257882, 0.151741, 0.216097, 0.116397, 0.257882], atol=1e-6)


def test_concat_gives_the_weights_of_the_paper():
    kernel = np.concatenate([WB.T, WA.T])  # W [q; k] with W = [Wb | Wa]
    found = weights(concat(QUERY[None, None], H[None], kernel, V))
    expected = [0.195751, 0.169284, 0.159705, 0.214236, 0.261024]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_concat_scores_the_concatenation():
    query, keys = np.random.normal(size=(1, 1, 3)), np.random.normal(size=(1, 4, 2))
    kernel, v = np.random.normal(size=(5, 6)), np.random.normal(size=6)
    by_hand = [np.tanh(np.concatenate([query[0, 0], key]) @ kernel) @ v for key in keys[0]]
    np.testing.assert_allclose(concat(query, keys, kernel, v)[0, 0], by_hand)


def test_cosine_gives_the_weights_of_the_paper():
    found = weights(2 * cosine(QUERY[None, None], H[None]))
    np.testing.assert_allclose(found, [0.447731, 0.030597, 0.140864, 0.010128, 0.37068], atol=1e-6)


def test_cosine_knows_no_lengths_and_a_vector_without_one_fits_nothing():
    query, keys = np.random.normal(size=(2, 3, 4)), np.random.normal(size=(2, 5, 4))
    found = cosine(query, keys)
    np.testing.assert_allclose(cosine(1e4 * query, 1e-4 * keys), found)
    assert (abs(found.numpy()) <= 1).all()
    keys = tf.Variable(np.concatenate([keys, np.zeros((2, 1, 4))], 1))
    with tf.GradientTape() as tape:
        scores = cosine(query, keys)
        total = tf.reduce_sum(scores)
    assert (scores.numpy()[..., -1] == 0).all()
    gradient = tape.gradient(total, keys).numpy()
    assert np.isfinite(gradient).all() and (gradient[:, -1] == 0).all()


LOCATION = np.array([[0.1, 0.2], [0.3, -0.4], [0, 0.5], [-0.2, 0.1], [0.6, 0.6]], np.float32).T


def test_location_gives_the_weights_of_the_paper():
    found = weights(location(QUERY[None, None], LOCATION, 5))
    expected = [0.191907, 0.246414, 0.169357, 0.169357, 0.222964]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_location_cuts_a_short_source_and_ignores_the_end_of_a_long_one():
    query = QUERY[None, None]
    whole = location(query, LOCATION, 5)
    np.testing.assert_array_equal(location(query, LOCATION, 2), whole[..., :2])
    longer = location(query, LOCATION, tf.constant(7))
    np.testing.assert_array_equal(softmax(longer)[..., :5], softmax(whole))
    assert (softmax(longer).numpy()[..., 5:] == 0).all()
    assert location(query, LOCATION, 0).shape == (1, 1, 0)


def test_biaffine_is_a_form_of_both_vectors_with_a_one():
    query, keys = np.random.normal(size=(2, 3, 4)), np.random.normal(size=(2, 5, 6))
    kernel = np.random.normal(size=(8, 5, 7))
    found = biaffine(query, keys, kernel)
    with_one = [np.concatenate([x, np.ones_like(x[..., :1])], -1) for x in (query, keys)]
    expected = np.einsum("btd,rde,bse->brts", with_one[0], kernel, with_one[1])
    np.testing.assert_allclose(found, expected)
    np.testing.assert_allclose(biaffine(query, keys, kernel[3]), expected[:, 3])


def test_biaffine_without_its_linear_parts_is_general():
    query, keys = np.random.normal(size=(2, 3, 4)), np.random.normal(size=(2, 5, 6))
    kernel = np.random.normal(size=(4, 6))
    padded = np.pad(kernel, [[0, 1], [0, 1]])
    np.testing.assert_allclose(biaffine(query, keys, padded), general(query, keys, kernel))


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


def test_the_bias_of_additive_is_inside_the_tanh():
    query, keys = np.random.normal(size=(2, 3, 4)), np.random.normal(size=(2, 5, 4))
    v, bias = np.random.normal(size=4), np.random.normal(size=4)
    np.testing.assert_allclose(
        additive(query, keys, v, bias), np.tanh(query[:, :, None] + keys[:, None] + bias) @ v
    )


def every_score(dtype, slots=3):
    """All scores of one query and some slots, with everything of one type."""
    query, keys, v = (tf.cast(tf.ones(n), dtype) for n in ([2, 3, 4], [2, slots, 4], [4]))
    kernel, both, whole = (tf.cast(tf.ones(n), dtype) for n in ([4, 4], [8, 4], [5, 5]))
    return {
        "dot": dot(query, keys),
        "scaled_dot": scaled_dot(query, keys),
        "general": general(query, keys, kernel),
        "cosine": cosine(query, keys),
        "additive": additive(query, keys, v),
        "concat": concat(query, keys, both, v),
        "location": location(query, kernel, slots),
        "biaffine": biaffine(query, keys, whole),
    }


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_every_score_is_float32_or_wider(dtype):
    expected = "float64" if dtype == "float64" else "float32"
    for name, scores in every_score(dtype).items():
        assert scores.dtype == expected and scores.shape == (2, 3, 3), name


@pytest.mark.parametrize("score", [dot, scaled_dot, cosine])
def test_scores_without_weights_are_known_to_keras(score):
    saved = keras.saving.serialize_keras_object(score)
    assert keras.saving.deserialize_keras_object(saved) is score


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_scores_of_narrow_types_are_float32(dtype):
    query, keys = (tf.cast(tf.fill([1, 1, 64], 40.0), dtype) for _ in range(2))
    scores = dot(query, keys)
    assert scores.dtype == tf.float32
    assert scores.numpy()[0, 0, 0] == 64 * 40.0**2  # more than float16 can hold
    scores = additive(query, keys, tf.cast(tf.fill([64], 2000.0), dtype))
    assert scores.dtype == tf.float32
    assert scores.numpy()[0, 0, 0] == 64 * 2000.0


def test_a_memory_without_slots_has_no_scores():
    for name, scores in every_score("float32", slots=0).items():
        assert scores.shape == (2, 3, 0), name
