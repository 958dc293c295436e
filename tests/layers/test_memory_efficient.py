"""Memory-efficient attention is multi-head attention, with the same gradients."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.layers import MemoryEfficientAttention, MultiHeadAttention


def pair(chunk, **more):
    layer, plain = MemoryEfficientAttention(2, chunk, **more), MultiHeadAttention(2, **more)
    for part in (layer, plain):
        part.build((None, None, 8), (None, None, 6))
    plain.set_weights([np.random.normal(size=weight.shape) for weight in plain.weights])
    layer.set_weights(plain.get_weights())
    return layer, plain


def normal(*shape):
    return tf.constant(np.random.normal(size=shape), "float32")


def with_gradients(layer, query, memory, **how):
    with tf.GradientTape() as tape:
        tape.watch([query, memory])
        output = layer(query, memory, **how)
        loss = tf.reduce_sum(tf.sin(output))
    return [output, *tape.gradient(loss, [query, memory, *layer.trainable_variables])]


@pytest.mark.parametrize("shape", [None, (2, 7), (2, 5, 7), (2, 2, 5, 7), (2, 1, 1, 7)])
@pytest.mark.parametrize("groups", [2, 1])
def test_it_is_multi_head_attention_with_its_gradients(shape, groups):
    layer, plain = pair(3, num_key_heads=groups, value_width=5, output_width=4)
    mask = None if shape is None else np.random.random(shape) > 0.4
    query, memory = normal(2, 5, 8), normal(2, 7, 6)
    found, expected = (with_gradients(each, query, memory, mask=mask) for each in (layer, plain))
    for one, other in zip(found, expected):
        np.testing.assert_allclose(one, other, atol=1e-4)
    np.testing.assert_allclose(found[0], expected[0], atol=1e-5)


def test_causal_under_a_compiled_step():
    layer, plain = MemoryEfficientAttention(2, 4), MultiHeadAttention(2)
    query = normal(2, 10, 8)
    expected = plain(query, causal=True)
    layer.build(query.shape)
    layer.set_weights(plain.get_weights())
    np.testing.assert_allclose(layer(query, causal=True), expected, atol=1e-5)
    compiled = tf.function(lambda x: layer(x, causal=True), jit_compile=True)
    np.testing.assert_allclose(compiled(query), expected, atol=1e-5)


def test_a_memory_projected_once_serves_many_queries():
    layer, _ = pair(2)
    memory = normal(2, 7, 6)
    projected = layer.project_memory(
        memory, mask=tf.constant([[True] * 7, [True] * 2 + [False] * 5])
    )
    for steps in (1, 3):
        query = normal(2, steps, 8)
        expected = layer(query, memory, mask=projected.mask)
        np.testing.assert_allclose(layer(query, projected), expected, atol=1e-6)


def test_the_mask_of_an_embedding_is_honoured():
    ids = keras.Input((None,), dtype="int32")
    embedded = keras.layers.Embedding(9, 8, mask_zero=True)(ids)
    attended = MemoryEfficientAttention(2, 2)(embedded)
    model = keras.Model(ids, attended)
    expected = model(np.array([[3, 5]]))
    np.testing.assert_allclose(model(np.array([[3, 5, 0]]))[:, :2], expected, atol=1e-7)


def test_invalid_arguments_are_refused():
    with pytest.raises(ValueError, match="Received: chunk=0"):
        MemoryEfficientAttention(2, 0)
    with pytest.raises(ValueError, match="dropout=0.1"):
        MemoryEfficientAttention(2, dropout=0.1)
    with pytest.raises(ValueError, match=r"mask must be .*Received: shape \(3,\)"):
        MemoryEfficientAttention(2)(normal(1, 3, 8), mask=tf.ones([3], tf.bool))
