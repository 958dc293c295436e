"""Layer normalization against NumPy, and its gradient against finite differences."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.functional.norms import layer_norm


def drawn(*shape):
    return np.random.normal(size=shape)


@pytest.mark.parametrize("shape", [(5, 4), (2, 3, 4), (0, 4), (2, 0, 4), (4,)])
def test_vectors_have_mean_0_and_variance_1_and_are_scaled_and_shifted(shape):
    x, scale, shift = 3 + 2 * drawn(*shape), drawn(4), drawn(4)
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    expected = scale * (x - mean) / np.sqrt(variance + 1e-3) + shift
    found = layer_norm(tf.constant(x), tf.constant(scale), tf.constant(shift), 1e-3)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


@pytest.mark.parametrize("graph", [False, True])
def test_the_gradient_is_right_also_the_second(graph):
    factors = tf.constant(drawn(2, 3, 4))
    arguments = [tf.constant(drawn(*shape)) for shape in ((2, 3, 4), (4,), (4,))]

    def loss(*arguments):
        return tf.reduce_sum(factors * layer_norm(*arguments) ** 2)

    def gradients(*arguments):
        with tf.GradientTape() as tape:
            tape.watch(arguments)
            y = loss(*arguments)
        return tape.gradient(y, arguments)

    first = tf.function(gradients) if graph else gradients
    for f in (loss, lambda *a: sum(tf.reduce_sum(g**2) for g in first(*a))):
        for theory, numbers in zip(*tf.test.compute_gradient(f, arguments)):
            np.testing.assert_allclose(theory, numbers, rtol=1e-4, atol=1e-5)


def test_it_is_what_keras_computes_in_a_graph_of_unknown_sizes_and_under_xla():
    layer = keras.layers.LayerNormalization(epsilon=1e-6)
    layer.build((None, None, 8))
    layer.set_weights([drawn(8), drawn(8)])
    x = drawn(2, 3, 8).astype("float32")

    def gradient(x, normalize):
        with tf.GradientTape() as tape:
            tape.watch([x, *weights])
            y = tf.reduce_sum(normalize(x) ** 3)
        return tape.gradient(y, [x, *weights])

    variables = layer.trainable_variables
    weights = [w if isinstance(w, tf.Variable) else w.value for w in variables]
    unknown = [tf.TensorSpec([None, None, 8])]
    for options in ({"input_signature": unknown}, {"jit_compile": True}):
        found, expected = (
            tf.function(lambda x, f=f: gradient(x, f), **options)(tf.constant(x))
            for f in (lambda x: layer_norm(x, *weights), layer)
        )
        for one, other in zip(found, expected):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
