"""DiSAN: each feature has its own attention weights, over earlier or later words only."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.functional import additive, directional, softmax
from keras_attention.layers import DirectionalAttention, DiSAN, Source2Token

# The reference: three steps of width two, projected by nothing but W_1 and W_2.
STEPS = np.array([[[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]], "float32")
OF_SEEN = np.array([[0.2, -0.1], [0.4, 0.3]], "float32")
OF_LOOKING = np.array([[-0.3, 0.5], [0.1, 0.2]], "float32")
FORWARD = [[0.0, 0.0], [1.0, 0.0], [0.574238, 0.475438]]
BACKWARD = [[0.54965, 1.0], [1.0, 1.0], [0.0, 0.0]]


def drawn(layer, *shape):
    """The layer, built, with weights that are none of them 0, and inputs for it."""
    layer.build((None, None, shape[-1]))
    layer.set_weights([np.random.normal(size=weight.shape) for weight in layer.weights])
    return layer, np.random.normal(size=shape).astype("float32")


def elu(x):
    return np.where(x > 0, x, np.expm1(x))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("backward, expected", [(False, FORWARD), (True, BACKWARD)])
def test_the_reference(backward, expected):
    layer = DirectionalAttention(2, backward=backward)
    layer.build((None, None, 2))
    layer.project.set_weights([np.eye(2), np.zeros(2)])  # elu leaves what is not negative
    layer.seen.set_weights([OF_SEEN.T])
    layer.looking.set_weights([OF_LOOKING.T, np.zeros(2)])
    layer.gate.set_weights([np.zeros((4, 2)), np.full(2, -1e3)])  # all of s, nothing of h
    np.testing.assert_allclose(layer(STEPS)[0], expected, atol=1e-5)


@pytest.mark.parametrize("backward", [False, True, None])
def test_it_is_the_loop_over_steps_and_features(backward):
    layer, inputs = drawn(DirectionalAttention(3, backward, bound=2.0), 2, 5, 4)
    mask = np.arange(5) < np.array([5, 3])[:, None]
    (w_h, b_h), (w_1,) = layer.project.get_weights(), layer.seen.get_weights()
    (w_2, b), (w_f, b_f) = layer.looking.get_weights(), layer.gate.get_weights()
    updated, weights = layer(inputs, mask=mask, return_weights=True)
    hidden = elu(inputs @ w_h + b_h)
    for row, j in np.ndindex(2, 5):
        after, before = range(j + 1, 5), range(j)
        steps = [*before, *after] if backward is None else after if backward else before
        steps = [i for i in steps if mask[row, i]]
        attended = np.zeros(3)
        if steps:
            seen = hidden[row, steps] @ w_1
            powers = np.exp(2 * np.tanh((seen + hidden[row, j] @ w_2 + b) / 2))
            shares = powers / powers.sum(0)
            np.testing.assert_allclose(weights.numpy()[row, j][:, steps], shares.T, atol=1e-5)
            attended = (shares * hidden[row, steps]).sum(0)
        gate = sigmoid(np.concatenate([attended, hidden[row, j]]) @ w_f + b_f)
        expected = gate * hidden[row, j] + (1 - gate) * attended
        np.testing.assert_allclose(updated[row, j], expected, atol=1e-5)


def test_weights_sum_to_one_per_feature_on_one_side_and_are_zero_elsewhere():
    for backward in (False, True):
        layer, inputs = drawn(DirectionalAttention(3, backward), 2, 5, 4)
        _, weights = layer(inputs, return_weights=True)
        allowed = directional(5, not backward)[:, :, None]
        assert not np.any(tf.where(allowed, 0.0, weights)) and (weights.numpy() >= 0).all()
        sums = tf.reduce_sum(weights, -1).numpy()
        expected = tf.reduce_any(tf.broadcast_to(allowed, weights.shape), -1)
        np.testing.assert_allclose(sums, tf.cast(expected, tf.float32), atol=1e-6)


def test_time_reversed_is_the_other_direction_with_the_same_weights():
    forward, inputs = drawn(DirectionalAttention(3), 2, 5, 4)
    backward, _ = drawn(DirectionalAttention(3, backward=True), 2, 5, 4)
    backward.set_weights(forward.get_weights())
    np.testing.assert_allclose(backward(inputs[:, ::-1])[:, ::-1], forward(inputs), atol=1e-6)


def test_one_feature_is_additive_attention():
    layer, inputs = drawn(DirectionalAttention(1), 2, 5, 4)
    _, weights = layer(inputs, return_weights=True)
    hidden = layer.project(inputs)
    query, keys = layer.looking(hidden) / 5, layer.seen(hidden) / 5
    expected = softmax(additive(query, keys, v=tf.constant([5.0])), directional(5))
    np.testing.assert_allclose(weights[:, :, 0], expected, atol=1e-6)


def test_one_step_alone_is_gated_and_nothing_else():
    layer, inputs = drawn(DirectionalAttention(3), 2, 1, 4)
    hidden = layer.project(inputs)
    gate = layer.gate(tf.concat([0 * hidden, hidden], -1))
    np.testing.assert_allclose(layer(inputs), gate * hidden, atol=1e-6)


def test_the_other_side_has_no_gradient():
    for backward in (False, True):
        layer, inputs = drawn(DirectionalAttention(3, backward), 1, 4, 2)
        inputs = tf.constant(inputs)
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = tf.reduce_sum(tf.square(layer(inputs)), -1)
        jacobian = np.abs(tape.jacobian(outputs, inputs)[0, :, 0]).sum(-1)  # [S, S]
        other_side = np.tril_indices(4, -1) if backward else np.triu_indices(4, 1)
        assert not jacobian[other_side].any() and jacobian.any(1).all()


def test_source2token_is_a_softmax_over_steps_for_every_feature():
    layer, inputs = drawn(Source2Token(), 2, 5, 4)
    (w_1, b_1), (w, b) = layer.hidden.get_weights(), layer.score.get_weights()
    pooled, weights = layer(inputs, mask=np.arange(5) < [[5], [2]], return_weights=True)
    for row, steps in ((0, 5), (1, 2)):
        x = inputs[row, :steps].astype("float64")
        powers = np.exp(elu(x @ w_1 + b_1) @ w + b)
        shares = powers / powers.sum(0)
        np.testing.assert_allclose(weights[row, :steps], shares, atol=1e-5)
        assert not np.any(weights[row, steps:])
        np.testing.assert_allclose(pooled[row], (shares * x).sum(0), atol=1e-5)


def test_disan_is_both_directions_pooled():
    layer, inputs = drawn(DiSAN(3), 2, 5, 4)
    mask = np.arange(5) < [[5], [2]]
    both = [layer.forward(inputs, mask=mask), layer.backward(inputs, mask=mask)]
    expected = layer.pool(tf.concat(both, -1), mask=mask)
    np.testing.assert_array_equal(layer(inputs, mask=mask), expected)


def test_the_mask_of_an_embedding_is_honoured_to_the_end():
    keras.utils.set_random_seed(1)
    ids = keras.Input((None,), dtype="int32")
    embedded = keras.layers.Embedding(9, 4, mask_zero=True)(ids)
    encoder = DiSAN(3)
    model = keras.Model(ids, encoder(embedded))
    short, padded = np.array([[3, 5]]), np.array([[3, 5, 0, 0]])
    np.testing.assert_allclose(model(short), model(padded), atol=1e-6)
    layered = Source2Token()(DirectionalAttention(3)(embedded))
    model = keras.Model(ids, layered)
    np.testing.assert_allclose(model(short), model(padded), atol=1e-6)


def test_sizes_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="Received: units=0"):
        DirectionalAttention(0)
    with pytest.raises(ValueError, match="bound=-1"):
        DirectionalAttention(3, bound=-1)


def test_heads_and_dependents_belong_together():
    layer, chosen = DirectionalAttention(3), tf.ones([2, 5], tf.bool)
    inputs = tf.ones([2, 5, 4])
    with pytest.raises(ValueError, match="belong together"):
        layer(inputs, heads=chosen)
    with pytest.raises(ValueError, match="dependents"):
        layer(inputs, heads=chosen, dependents=chosen[:, :4])
    np.testing.assert_allclose(layer(inputs, heads=chosen, dependents=chosen), layer(inputs))
