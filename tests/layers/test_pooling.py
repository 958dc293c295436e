"""Attention that ends in one vector, or in one for each hop."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.layers import AttentionPooling, StructuredSelfAttention
from tests import oracles

MASK = np.arange(5) < np.array([5, 3])[:, None]


def drawn(layer, *shape):
    layer.build((None, *shape[1:]))
    layer.set_weights([np.random.normal(size=weight.shape) for weight in layer.weights])
    return layer, np.random.normal(size=shape).astype("float32")


def test_pooling_is_the_formula_on_visible_slots():
    layer, inputs = drawn(AttentionPooling(6), 2, 5, 4)
    (w, b), (u,) = layer.hidden.get_weights(), layer.query.get_weights()
    pooled, weights = layer(inputs, mask=MASK, return_weights=True)
    expected = oracles.softmax((np.tanh(inputs @ w + b) @ u)[..., 0], MASK)
    np.testing.assert_allclose(weights, expected, atol=1e-5)
    np.testing.assert_allclose(pooled, np.einsum("bs,bsd->bd", expected, inputs), atol=1e-5)


def test_without_a_query_pooling_is_the_average():
    layer, inputs = drawn(AttentionPooling(6), 2, 5, 4)
    layer.query.set_weights([np.zeros((6, 1))])
    np.testing.assert_allclose(layer(inputs), inputs.mean(1), atol=1e-6)
    masked = layer(inputs, mask=MASK)
    np.testing.assert_allclose(masked[1], inputs[1, :3].mean(0), atol=1e-6)


def test_one_step_gets_all_the_weight():
    layer, inputs = drawn(AttentionPooling(6), 2, 1, 4)
    pooled, weights = layer(inputs, return_weights=True)
    assert (weights.numpy() == 1).all()
    np.testing.assert_array_equal(pooled, inputs[:, 0])


def test_more_leading_axes_are_more_rows():
    layer, inputs = drawn(AttentionPooling(6), 2, 3, 5, 4)
    mask = np.random.random((2, 3, 5)) < 0.7
    flat = layer(inputs.reshape(6, 5, 4), mask=mask.reshape(6, 5))
    np.testing.assert_allclose(layer(inputs, mask=mask), np.reshape(flat, (2, 3, 4)), atol=1e-6)


def test_hops_are_the_formula_on_visible_slots():
    layer, inputs = drawn(StructuredSelfAttention(hops=3, units=6), 2, 5, 4)
    (w_1,), (w_2,) = layer.hidden.get_weights(), layer.queries.get_weights()
    pooled, weights = layer(inputs, mask=MASK, return_weights=True)
    scores = np.einsum("bsu,uh->bhs", np.tanh(inputs @ w_1), w_2)
    expected = oracles.softmax(scores, np.broadcast_to(MASK[:, None], scores.shape))
    np.testing.assert_allclose(weights, expected, atol=1e-5)
    np.testing.assert_allclose(tf.reduce_sum(weights, -1), 1, atol=1e-6)
    np.testing.assert_allclose(pooled, expected @ inputs, atol=1e-5)


def test_one_hop_is_attention_pooling_without_bias():
    hops, inputs = drawn(StructuredSelfAttention(hops=1, units=6), 2, 5, 4)
    pooling, _ = drawn(AttentionPooling(6), 2, 5, 4)
    (w_1,), (w_2,) = hops.hidden.get_weights(), hops.queries.get_weights()
    pooling.set_weights([w_1, np.zeros(6), w_2])
    expected = pooling(inputs, mask=MASK)
    np.testing.assert_allclose(hops(inputs, mask=MASK)[:, 0], expected, atol=1e-6)


def test_the_penalty_is_the_mean_squared_distance_from_separate_hops():
    layer, inputs = drawn(StructuredSelfAttention(hops=3, units=6, penalty=0.5), 2, 5, 4)
    _, weights = layer(inputs, mask=MASK, return_weights=True)
    weights = weights.numpy().astype("float64")
    overlaps = weights @ weights.transpose(0, 2, 1) - np.eye(3)
    (loss,) = layer.losses
    np.testing.assert_allclose(loss, 0.5 * np.square(overlaps).sum((1, 2)).mean(), rtol=1e-5)


def test_without_a_penalty_there_is_no_loss():
    layer, inputs = drawn(StructuredSelfAttention(hops=3, units=6), 2, 5, 4)
    layer(inputs)
    assert layer.losses == []


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_training_on_the_penalty_alone_drives_the_hops_apart(policy):
    inputs = keras.Input((6, 8))
    layer = StructuredSelfAttention(hops=3, units=8, penalty=1.0, dtype=policy)
    model = keras.Model(inputs, layer(inputs))
    model.compile(keras.optimizers.Adam(0.03), jit_compile=False)
    data = np.random.normal(size=(8, 6, 8)).astype("float32")
    dataset = tf.data.Dataset.from_tensors((data, np.zeros(8))).repeat(60)
    history = model.fit(dataset, epochs=2, verbose=0, shuffle=False).history["loss"]
    assert history[-1] < 0.5 * history[0] and layer.losses[0].dtype == tf.float32


def test_the_mask_of_an_embedding_is_honoured_and_ends_here():
    ids = keras.Input((None,), dtype="int32")
    embedded = keras.layers.Embedding(9, 4, mask_zero=True)(ids)
    for layer in (AttentionPooling(6), StructuredSelfAttention(2, 6)):
        pooled = layer(embedded)
        assert getattr(pooled, "_keras_mask", None) is None
        model = keras.Model(ids, pooled)
        short, padded = np.array([[3, 5]]), np.array([[3, 5, 0, 0]])
        np.testing.assert_allclose(model(short), model(padded), atol=1e-6)


def test_sizes_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="Received: units=0"):
        AttentionPooling(0)
    for arguments in ((0, 4), (2, 0), (2, 4, -1.0)):
        with pytest.raises(ValueError, match="Received: hops="):
            StructuredSelfAttention(*arguments)
