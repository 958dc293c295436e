"""Distance-based self-attention and its sentence encoder."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.functional import directional
from keras_attention.layers import (
    DistanceAttention,
    DistanceBlock,
    DistanceSAN,
    MultiHeadAttention,
)


def drawn(layer, width=8):
    layer.build((None, None, width))
    layer.set_weights([np.random.normal(size=weight.shape) for weight in layer.weights])
    return layer


def normal(*shape):
    return tf.constant(np.random.normal(size=shape), "float32")


def test_without_content_weights_fall_by_distance():
    layer = DistanceAttention(1, alpha=1.5, forward=None)
    _, weights = layer(tf.zeros([1, 4, 2]), return_weights=True)
    np.testing.assert_allclose(weights[0, 0, 0], [0.7788, 0.1738, 0.0388, 0.0087], atol=5e-5)


@pytest.mark.parametrize("forward", [True, False, None])
def test_without_distance_it_is_multi_head_attention_of_one_direction(forward):
    layer, plain = drawn(DistanceAttention(2, 0.0, forward)), drawn(MultiHeadAttention(2))
    layer.set_weights(plain.get_weights())
    x, real = normal(2, 5, 8), tf.constant([[True] * 5, [True] * 3 + [False] * 2])
    seen = real[:, None] if forward is None else directional(5, forward) & real[:, None]
    expected = plain(x, mask=tf.broadcast_to(seen, [2, 5, 5]))
    np.testing.assert_allclose(layer(x, mask=real), expected, atol=1e-6)


@pytest.mark.parametrize("forward, nearest", [(True, [1, 2, 3]), (False, [1, 2, 3])])
def test_a_great_alpha_leaves_the_nearest(forward, nearest):
    layer = drawn(DistanceAttention(2, 1e4, forward))
    _, weights = layer(normal(1, 4, 8), return_weights=True)
    expected = np.eye(4, k=-1 if forward else 1)
    np.testing.assert_allclose(weights[0, 0], expected, atol=1e-6)


def test_the_first_step_forward_has_nothing_to_look_at():
    layer = drawn(DistanceAttention(2, use_bias=False))
    output, weights = layer(normal(1, 4, 8), return_weights=True)
    assert not np.any(output[:, 0]) and not np.any(weights[:, :, 0])


def test_the_block_gates_two_projected_streams_and_feeds_forward():
    layer, x = drawn(DistanceBlock(2, 6)), normal(2, 5, 8)
    own, attended = layer.own(x).numpy(), layer.attended(layer.attention(x)).numpy()
    gate = 1 / (1 + np.exp(-(own + attended + layer.bias.numpy())))
    fused = tf.constant(gate * own + (1 - gate) * attended)
    expected = layer.residual.normalize(fused + layer.feed_forward(fused))
    np.testing.assert_allclose(layer(x), expected, atol=1e-5)


def test_time_reversed_is_the_other_direction_with_the_same_weights():
    forward, backward = drawn(DistanceBlock(2, 6)), drawn(DistanceBlock(2, 6, forward=False))
    backward.set_weights(forward.get_weights())
    x = normal(2, 5, 8)
    np.testing.assert_allclose(backward(x[:, ::-1])[:, ::-1], forward(x), atol=1e-5)


def test_the_encoder_pools_both_directions_twice():
    layer, x = drawn(DistanceSAN(2, 6)), normal(2, 5, 8)
    mask = tf.constant([[True] * 5, [True] * 3 + [False] * 2])
    steps = tf.concat([layer.forward(x, mask=mask), layer.backward(x, mask=mask)], -1)
    largest = np.stack([steps[0].numpy().max(0), steps[1, :3].numpy().max(0)])
    expected = np.concatenate([layer.pool(steps, mask=mask), largest], -1)
    np.testing.assert_allclose(layer(x, mask=mask), expected, atol=1e-6)


def test_the_mask_of_an_embedding_is_honoured_to_the_end():
    ids = keras.Input((None,), dtype="int32")
    embedded = keras.layers.Embedding(9, 8, mask_zero=True)(ids)
    model = keras.Model(ids, DistanceSAN(2, 6)(embedded))
    np.testing.assert_allclose(model(np.array([[3, 5]])), model(np.array([[3, 5, 0]])), atol=1e-5)


def test_invalid_arguments_are_refused():
    with pytest.raises(ValueError, match="Received: alpha=-1"):
        DistanceAttention(2, alpha=-1)
    with pytest.raises(ValueError, match="Received: a memory"):
        DistanceAttention(2)(normal(1, 3, 8), normal(1, 3, 8))
