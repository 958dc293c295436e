"""SNAIL's blocks: the visible steps, proved by zeros in Jacobians."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.layers import (
    GatedCausalConv,
    SNAILAttentionBlock,
    SNAILDenseBlock,
    SNAILTCBlock,
)
from tests import oracles

LAYERS = {
    "convolution": lambda: GatedCausalConv(3, dilation=2, kernel_size=3),
    "dense": lambda: SNAILDenseBlock(3, dilation=2),
    "tc": lambda: SNAILTCBlock(8, 3),
    "attention": lambda: SNAILAttentionBlock(3, 2),
}


def _sees(layer, steps, width=2):
    """[T, T]: whether output t depends on input s."""
    x = tf.random.normal([1, steps, width])
    layer(x)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        outputs = [tf.reduce_sum(tf.square(step)) for step in tf.unstack(layer(x)[0])]
    return np.array([np.abs(tape.gradient(output, x)[0]).max(-1) > 0 for output in outputs])


@pytest.mark.parametrize("name", LAYERS)
def test_no_step_sees_later_steps_and_every_step_sees_itself(name):
    seen = _sees(LAYERS[name](), 9)
    assert not np.triu(seen, 1).any() and seen.diagonal().all()


def test_a_gated_convolution_is_the_two_causal_convolutions_of_keras():
    x = np.random.normal(size=(2, 7, 4)).astype("float32")
    gated = GatedCausalConv(3, dilation=2)
    gated(x)
    kernel, bias = np.random.normal(size=(2, 4, 6)), np.random.normal(size=6)
    gated.set_weights([kernel, bias])
    halves = []
    for part in (slice(0, 3), slice(3, 6)):
        half = keras.layers.Conv1D(3, 2, padding="causal", dilation_rate=2)
        half(x)
        half.set_weights([kernel[..., part], bias[part]])
        halves.append(half(x).numpy())
    expected = np.tanh(halves[0]) / (1 + np.exp(-halves[1]))
    np.testing.assert_allclose(gated(x), expected, atol=1e-5)


def test_a_stack_of_wavenet_sees_1024_steps_and_no_more():
    layers = [GatedCausalConv(1, 2**i) for i in range(10)]
    x = tf.ones([1, 1100, 1])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = x
        for layer in layers:
            layer.build((1, None, 1))
            layer.set_weights([np.full(weight.shape, 0.5) for weight in layer.weights])
            y = layer(y)
        last = y[0, -1, 0]
    seen = np.flatnonzero(tape.gradient(last, x)[0, :, 0])
    np.testing.assert_array_equal(seen, np.arange(1100 - 1024, 1100))


@pytest.mark.parametrize("first_exponent, step", [(1, 2), (0, 1)])
def test_a_tc_block_for_twenty_steps_sees_its_distances(first_exponent, step):
    """Dilations 2 to 32 reach the even distances to 62, 1 to 16 all of them to 31."""
    x = tf.random.normal([1, 80, 2])
    block = SNAILTCBlock(20, 3, first_exponent)
    with tf.GradientTape() as tape:
        tape.watch(x)
        last = tf.reduce_sum(tf.abs(block(x)[0, -1]))
    distances = 79 - np.flatnonzero(np.abs(tape.gradient(last, x)[0]).max(-1))
    assert sorted(distances) == list(range(0, 31 * step + 1, step))


def test_blocks_put_what_they_find_beside_their_input():
    x = tf.random.normal([2, 6, 4])
    for name, width in (("dense", 3), ("tc", 9), ("attention", 2)):
        found = LAYERS[name]()(x)
        assert found.shape == (2, 6, 4 + width)
        np.testing.assert_array_equal(found[..., :4], x)


def test_each_block_of_a_tc_block_is_fed_all_before_it():
    x = tf.random.normal([2, 6, 4])
    block = SNAILTCBlock(8, 3)
    expected = block(x)
    for dense in block.blocks:
        x = tf.concat([x, dense.convolve(x)], -1)
    np.testing.assert_array_equal(expected, x)
    assert [dense.dilation for dense in block.blocks] == [2, 4, 8]


def test_attention_normalises_over_what_is_attended_to():
    """Not over the queries, as a well-known port does."""
    x = np.random.normal(size=(2, 5, 4))
    block = SNAILAttentionBlock(3, 2, dtype="float64")
    output, weights = block(x, return_weights=True)
    scores = block.query(x).numpy() @ block.key(x).numpy().transpose(0, 2, 1) / np.sqrt(3)
    expected = oracles.softmax(scores, np.tril(np.ones((5, 5), bool))[None])
    np.testing.assert_allclose(weights, expected, atol=1e-12)
    np.testing.assert_allclose(output[..., 4:], expected @ block.value(x).numpy(), atol=1e-12)
    np.testing.assert_allclose(weights.numpy().sum(-1), 1)


def test_the_classifier_has_the_widths_of_the_paper():
    """Few-shot with N=5, K=1, T=6: attention, TC, attention, TC, attention."""
    x = tf.random.normal([2, 6, 64 + 5])
    blocks = [
        SNAILAttentionBlock(64, 32), SNAILTCBlock(6, 128), SNAILAttentionBlock(256, 128),
        SNAILTCBlock(6, 128), SNAILAttentionBlock(512, 256),
    ]  # fmt: skip
    widths = []
    for block in blocks:
        x = block(x)
        widths.append(x.shape[-1])
    assert widths == [101, 101 + 3 * 128, 613, 613 + 3 * 128, 997 + 256]


@pytest.mark.parametrize("length", [0, 1])
@pytest.mark.parametrize("name", LAYERS)
def test_no_step_and_one_step_are_sequences_too(name, length):
    layer = LAYERS[name]()
    layer(tf.zeros([1, 4, 2]))
    assert np.isfinite(layer(tf.ones([2, length, 2]))).all()


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="dilation=0"):
        GatedCausalConv(3, dilation=0)
    with pytest.raises(ValueError, match="key_width=0"):
        SNAILAttentionBlock(0, 2)
    with pytest.raises(ValueError, match="T=1"):
        SNAILTCBlock(1, 3)
