import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.seq2seq._panels import in_panels


@pytest.mark.parametrize("units", [4097, 8192])
@pytest.mark.parametrize("settings", [{}, {"use_bias": False}, {"activation": "tanh"}])
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_panels_give_what_the_layer_gives(units, settings, dtype):
    layer = keras.layers.Dense(units, bias_initializer="normal", dtype=dtype, **settings)
    x = tf.random.normal([3, 8])
    expected = layer(x)
    panelled = tf.function(lambda x: in_panels(layer)(x), jit_compile=True)(x)
    assert panelled.dtype == expected.dtype
    tolerance = 1e-5 if dtype == "float32" else 2e-2
    np.testing.assert_allclose(
        tf.cast(panelled, tf.float32), tf.cast(expected, tf.float32), atol=tolerance
    )


def test_outside_of_xla_a_layer_stays_itself():
    layer = keras.layers.Dense(5000)
    layer.build((None, 4))
    assert in_panels(layer) is layer


@pytest.mark.parametrize("make", [lambda: keras.layers.Dense(7), lambda: tf.identity, lambda: None])
def test_what_is_narrow_or_no_dense_layer_stays_itself_under_xla(make):
    layer, seen = make(), []
    if isinstance(layer, keras.layers.Layer):
        layer.build((None, 4))

    def look(x):
        seen.append(in_panels(layer))
        return x

    tf.function(look, jit_compile=True)(tf.zeros([1]))
    assert seen == [layer]
