import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.functional import gated_tanh, glu


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_half_of_the_features_gates_the_other_half():
    x = np.random.normal(size=(2, 3, 8))
    a, b = x[..., :4], x[..., 4:]
    np.testing.assert_allclose(glu(x), a * _sigmoid(b), rtol=1e-12)
    np.testing.assert_allclose(glu(x, tf.nn.silu), a * b * _sigmoid(b), rtol=1e-12)
    np.testing.assert_allclose(glu(x, tf.identity), a * b, rtol=1e-12)
    np.testing.assert_allclose(gated_tanh(x), np.tanh(a) * _sigmoid(b), rtol=1e-12)


@pytest.mark.parametrize("gate", [glu, gated_tanh])
def test_a_gate_is_an_activation_that_keras_can_save(gate):
    saved = keras.saving.serialize_keras_object(gate)
    assert keras.saving.deserialize_keras_object(saved) is gate
    assert keras.layers.Dense(6, activation=gate)(np.ones((1, 2))).shape == (1, 3)


@pytest.mark.parametrize("gate", [glu, gated_tanh])
def test_an_odd_width_is_refused(gate):
    with pytest.raises(ValueError, match="D must be even. Received: D=3"):
        gate(np.zeros((1, 3)))
