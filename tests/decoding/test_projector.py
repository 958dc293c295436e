import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.decoding.projector import projector_of
from keras_attention.seq2seq import projector


@pytest.mark.parametrize("units", [4097, 8192])
@pytest.mark.parametrize("settings", [{}, {"use_bias": False}, {"activation": "tanh"}])
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("jit", [False, True])
def test_a_projector_gives_what_the_layer_gives(units, settings, dtype, jit):
    layer = keras.layers.Dense(units, bias_initializer="normal", dtype=dtype, **settings)
    x = tf.random.normal([3, 8])
    expected = layer(x)
    projected = tf.function(lambda x: projector_of(layer)(x), jit_compile=jit)(x)
    assert projected.dtype == tf.float32
    tolerance = 1e-5 if dtype == "float32" else 2e-2
    np.testing.assert_allclose(
        tf.cast(projected, tf.float32), tf.cast(expected, tf.float32), atol=tolerance
    )


def test_a_projector_takes_any_rank_and_an_empty_batch():
    kernel = tf.random.normal([3, 5000])
    for shape in ([0, 3], [2, 3], [2, 0, 3], [2, 4, 3]):
        x = tf.random.normal(shape)
        found = tf.function(lambda x: projector(kernel)(x), jit_compile=True)(x)
        np.testing.assert_allclose(found, tf.einsum("...d,dv->...v", x, kernel), atol=1e-5)


@pytest.mark.parametrize("make", [lambda: keras.layers.Dense(7), lambda: tf.identity, lambda: None])
def test_what_is_narrow_or_no_dense_layer_stays_itself(make):
    layer = make()
    if isinstance(layer, keras.layers.Layer):
        layer.build((None, 4))
    assert projector_of(layer) is layer
