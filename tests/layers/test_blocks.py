import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.layers import FeedForward, Residual


def drawn(*shape):
    return np.random.normal(size=shape).astype("float32")


def normal(x, gamma, beta, epsilon=1e-6):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + epsilon) * gamma + beta


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_a_residual_is_its_formula(norm):
    x, gamma, beta = drawn(2, 3, 4), drawn(4), drawn(4)
    layer = Residual(norm)
    layer.build(x.shape)
    layer.normalize.set_weights([gamma, beta])
    expected = {
        "post": lambda: normal(x + 2 * x**2, gamma, beta),
        "pre": lambda: x + 2 * normal(x, gamma, beta) ** 2,
    }[norm]()
    np.testing.assert_allclose(layer(x, sublayer=lambda x: 2 * x**2), expected, atol=1e-5)


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_dropout_takes_from_the_sublayer_alone_and_only_in_training(norm):
    x = drawn(2, 3, 4)
    layer = Residual(norm, dropout=0.5)
    kept = layer(x, sublayer=tf.zeros_like, training=True)
    np.testing.assert_array_equal(kept, layer(x, sublayer=tf.zeros_like))
    quiet, noisy = (layer(x, sublayer=tf.exp, training=training) for training in (False, True))
    assert (quiet.numpy() != noisy.numpy()).any()


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_large_steps_of_half_precision_are_normalised(norm):
    """The square of 300 is more than float16 can say."""
    layer = Residual(norm, dtype="mixed_float16")
    x = tf.constant([[[300.0, -300.0, 300.0, -300.0]]], tf.float16)
    found = layer(x, sublayer=tf.zeros_like)
    assert found.dtype == tf.float16
    expected = x if norm == "pre" else [[[1.0, -1.0, 1.0, -1.0]]]
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_a_feed_forward_layer_is_two_layers_applied_to_each_step_alone():
    x, layer = drawn(2, 3, 4), FeedForward(5)
    layer.build(x.shape)
    w1, b1, w2, b2 = (drawn(*weight.shape) for weight in layer.weights)
    layer.set_weights([w1, b1, w2, b2])
    expected = np.maximum(x @ w1 + b1, 0) @ w2 + b2
    np.testing.assert_allclose(layer(x), expected, atol=1e-5)
    np.testing.assert_allclose(layer(x[:, 1:2]), expected[:, 1:2], atol=1e-5)


def test_its_activation_may_be_another_and_is_saved():
    layer = FeedForward(5, keras.activations.gelu, dropout=0.1)
    layer(drawn(1, 2, 4))
    copy = FeedForward.from_config(layer.get_config())
    assert copy.activation is keras.activations.gelu and copy.dropout.rate == 0.1


def test_a_gated_activation_keeps_half_of_the_hidden_layer():
    x, layer = drawn(2, 3, 4), FeedForward(6, keras.activations.glu)
    assert layer(x).shape == x.shape and layer.output_layer.kernel.shape == (3, 4)


def test_dropout_of_the_hidden_layer_acts_in_training_alone():
    x, layer = drawn(2, 3, 4), FeedForward(50, dropout=0.5)
    quiet = layer(x)
    np.testing.assert_array_equal(layer(x, training=False), quiet)
    assert (layer(x, training=True).numpy() != quiet.numpy()).any()


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="norm='around'"):
        Residual("around")
    with pytest.raises(ValueError, match="width=0"):
        FeedForward(0)
