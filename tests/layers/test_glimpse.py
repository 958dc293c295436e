import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.functional import glimpse
from keras_attention.layers import GlimpseNetwork


def _relu(x):
    return np.maximum(x, 0)


def test_what_and_where_meet_in_one_vector():
    image, location = np.random.normal(size=(3, 9, 9, 2)), np.random.uniform(-1, 1, (3, 2))
    network = GlimpseNetwork(4, 2, units=7, hidden=5, dtype="float64")
    network(image, location)
    weights = [np.random.normal(size=weight.shape) for weight in network.weights]
    network.set_weights(weights)
    w_see, b_see, w_place, b_place, w_what, b_what, w_where, b_where = weights
    patches = glimpse(image, location, 4, 2).numpy().reshape(3, -1)
    what = _relu(patches @ w_see + b_see) @ w_what + b_what
    where = _relu(location @ w_place + b_place) @ w_where + b_where
    np.testing.assert_allclose(network(image, location), _relu(what + where), atol=1e-9)


def test_a_saved_model_of_unknown_sizes_gives_the_same(tmp_path):
    image, location = keras.Input([None, None, 1]), keras.Input([2])
    network = GlimpseNetwork(3, 2, units=6, hidden=4)
    model = keras.Model([image, location], network(image, location))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    xla = tf.function(model, jit_compile=True)
    for batch, side in ((1, 4), (3, 7)):
        inputs = [tf.random.normal([batch, side, side, 1]), tf.random.uniform([batch, 2], -1, 1)]
        np.testing.assert_array_equal(loaded(inputs), model(inputs))
        np.testing.assert_allclose(xla(inputs), model(inputs), atol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_computes_narrow_and_stays_close(policy):
    inputs = tf.random.normal([2, 8, 8, 1]), tf.constant([[0.0, 0.0], [0.5, -0.25]])
    wide, narrow = GlimpseNetwork(4), GlimpseNetwork(4, dtype=policy)
    wide(*inputs), narrow(*inputs)
    narrow.set_weights(wide.get_weights())
    assert narrow(*inputs).dtype == policy.removeprefix("mixed_")
    np.testing.assert_allclose(tf.cast(narrow(*inputs), tf.float32), wide(*inputs), atol=0.05)


def test_sizes_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="size=0"):
        GlimpseNetwork(0)


def test_low_precision_attends_to_the_same_pixels():
    image = tf.cast(tf.random.uniform([64, 224, 1, 1]) > 0.5, tf.float32)
    location = tf.stack([tf.linspace(-0.99, 0.99, 64), tf.zeros(64)], 1)
    wide, narrow = (GlimpseNetwork(1, units=4, dtype=d) for d in ("float32", "mixed_bfloat16"))
    expected = wide(image, location)
    narrow(image, location)
    narrow.set_weights(wide.get_weights())
    np.testing.assert_allclose(narrow(image, location), expected, atol=0.05)
