"""Restricted and sparse self-attention as layers: multi-head attention under a mask."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.functional import atrous, causal, fixed, strided, window
from keras_attention.layers import (
    FixedAttention,
    MultiHeadAttention,
    RestrictedAttention,
    StridedAttention,
)

STEPS = 7
LAYERS = {  # and the mask of each, causal and not
    "restricted": (lambda **more: RestrictedAttention(2, 2, **more), lambda: window(STEPS, 2)),
    "strided": (lambda **more: StridedAttention(2, 3, **more), lambda: strided(STEPS, 3)),
    "strided_far": (
        lambda **more: StridedAttention(2, 3, hop=2, **more),
        lambda: strided(STEPS, 3, 2),
    ),
    "fixed": (lambda **more: FixedAttention(2, 3, 2, **more), lambda: fixed(STEPS, 3, 2)),
    "fixed_far": (
        lambda **more: FixedAttention(2, 3, hop=2, **more),
        lambda: fixed(STEPS, 3, 1, 2),
    ),
}
each = pytest.mark.parametrize("name", LAYERS)


def pair(make, **more):
    """The layer, and `MultiHeadAttention` with the same weights."""
    layer, plain = make(**more), MultiHeadAttention(2, **more)
    for part in (layer, plain):
        part.build((None, None, 8))
    plain.set_weights([np.random.normal(size=weight.shape) for weight in plain.weights])
    layer.set_weights(plain.get_weights())
    return layer, plain


def normal(*shape):
    return tf.constant(np.random.normal(size=shape), "float32")


@each
@pytest.mark.parametrize("groups", [2, 1])
def test_it_is_multi_head_attention_under_its_mask(name, groups):
    make, seen = LAYERS[name][0], LAYERS[name][1]()
    layer, plain = pair(make, num_key_heads=groups, value_width=3)
    x, real = normal(2, STEPS, 8), tf.constant([[True] * 7, [True] * 4 + [False] * 3])
    np.testing.assert_allclose(layer(x, mask=real), plain(x, mask=seen & real[:, None]), atol=1e-5)


@each
def test_step_by_step_it_is_the_whole_sequence(name):
    layer, _ = pair(LAYERS[name][0])
    x = normal(2, STEPS, 8)
    whole = layer(x, causal=True) if name == "restricted" else layer(x)
    cache, outputs = layer.empty_cache(2, STEPS), []
    for t in range(STEPS):
        seen = (tf.range(STEPS) <= t)[None, None, None]
        output, cache = layer.step(x[:, t : t + 1], cache, t, seen)
        outputs.append(output)
    np.testing.assert_allclose(tf.concat(outputs, 1), whole, atol=1e-5)


@pytest.mark.parametrize("radius", [6, 7, 50])
@pytest.mark.parametrize("is_causal", [False, True])
def test_a_radius_to_the_other_end_is_full_attention(radius, is_causal):
    layer, plain = pair(lambda **more: RestrictedAttention(2, radius))
    x = normal(2, STEPS, 8)
    np.testing.assert_allclose(layer(x, causal=is_causal), plain(x, causal=is_causal), atol=1e-6)


@pytest.mark.parametrize("radius", [1, 2, 3])
def test_causal_it_leaves_later_steps_out(radius):
    layer, plain = pair(lambda **more: RestrictedAttention(2, radius))
    x, seen = normal(2, STEPS, 8), window(STEPS, radius) & causal(STEPS)
    np.testing.assert_allclose(layer(x, causal=True), plain(x, mask=seen), atol=1e-6)


@pytest.mark.parametrize("hop, seen", [(1, window), (2, atrous)])
def test_strided_to_both_sides_is_local_or_atrous(hop, seen):
    layer, plain = pair(lambda **more: StridedAttention(2, 3, hop=hop))
    x = normal(2, STEPS, 8)
    np.testing.assert_allclose(layer(x, causal=False), plain(x, mask=seen(7, 3)), atol=1e-6)


def test_it_is_keras_with_its_sliding_window():
    """An oracle of others: their window keeps |i - j| < size."""
    layer, _ = pair(lambda **more: RestrictedAttention(2, 2))
    theirs = keras.layers.MultiHeadAttention(2, 4)
    theirs.build((None, STEPS, 8), (None, STEPS, 8))
    shapes = [weight.shape for weight in theirs.weights]
    weights = layer.query.get_weights() + layer.key.get_weights() + layer.value.get_weights()
    weights += layer.output_layer.get_weights()
    theirs.set_weights([weight.reshape(shape) for weight, shape in zip(weights, shapes)])
    x = normal(2, STEPS, 8)
    expected = theirs(x, x, attention_mask=window(STEPS, 2))
    np.testing.assert_allclose(layer(x), expected, atol=1e-5)


@each
def test_dropout_takes_weights_away_only_in_training(name):
    layer, plain = pair(LAYERS[name][0], dropout=0.5)
    x = normal(2, STEPS, 8)
    np.testing.assert_array_equal(layer(x), layer(x, training=False))
    assert np.abs(layer(x, training=True) - layer(x)).max() > 1e-3


@each
def test_the_mask_of_an_embedding_is_honoured(name):
    ids = keras.Input((None,), dtype="int32")
    embedded = keras.layers.Embedding(9, 8, mask_zero=True)(ids)
    model = keras.Model(ids, LAYERS[name][0]()(embedded))
    padded = model(np.array([[0, 0, 3, 5, 2, 4]]))
    other = model.layers[1].get_weights()[0]
    model.layers[1].set_weights([np.where(np.arange(9)[:, None] == 0, 1e3, other)])
    assert np.any(padded)
    np.testing.assert_array_equal(model(np.array([[0, 0, 3, 5, 2, 4]]))[:, 2:], padded[:, 2:])


def test_invalid_arguments_are_refused():
    x = normal(1, 3, 8)
    with pytest.raises(ValueError, match="Received: radius=-1"):
        RestrictedAttention(2, -1)
    with pytest.raises(ValueError, match="Received: stride=0, hop=None"):
        StridedAttention(2, 0)
    with pytest.raises(ValueError, match="Received: stride=2, summary=3, hop=None"):
        FixedAttention(2, 2, 3)
    with pytest.raises(ValueError, match="leave memory out.*Received: a memory"):
        RestrictedAttention(2, 1)(x, x)
    with pytest.raises(ValueError, match=r"mask must be \[B, S\].*Received: shape \(1, 3, 3\)"):
        RestrictedAttention(2, 1)(x, mask=tf.ones([1, 3, 3], tf.bool))
