"""How many layers connect the ends of a sequence (Vaswani et al., 2017, table 1), by exact zeros.

The path is the least number of layers with a gradient from the last output to the first input.
"""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.layers import (
    FixedAttention,
    GatedCausalConv,
    LinearAttention,
    MemoryEfficientAttention,
    MultiHeadAttention,
    RestrictedAttention,
    StridedAttention,
)

STEPS = pytest.mark.parametrize("steps", [2, 5, 8, 9])


def connects(layers, steps):
    """Whether the last step of a stack depends on the first."""
    x = tf.constant(np.random.normal(size=(1, steps, 4)), "float32")
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = x
        for layer in layers:
            y = layer(y)
        last = tf.reduce_sum(y[:, -1])
    gradient = tape.gradient(last, x)[0, 0]
    return bool(np.any(gradient))


def is_path(depth, layer, steps):
    """Whether `depth` times `layer(number)` connects the ends, and no fewer do."""
    layers = [layer(number) for number in range(depth)]
    return connects(layers, steps) and not connects(layers[:-1], steps)


@STEPS
def test_full_attention_needs_one_layer_whichever_way_it_is_computed(steps):
    for attention in (MultiHeadAttention, LinearAttention, MemoryEfficientAttention):
        assert is_path(1, lambda _: attention(2), steps)  # noqa: B023


@STEPS
@pytest.mark.parametrize("radius", [1, 2, 3])
def test_restricted_attention_needs_one_for_every_radius(steps, radius):
    expected = math.ceil((steps - 1) / radius)
    assert is_path(expected, lambda _: RestrictedAttention(2, radius), steps)


@STEPS
@pytest.mark.parametrize("width", [3, 5])
def test_centred_convolutions_need_one_for_every_half_kernel(steps, width):
    def layer(_):
        return keras.layers.Conv1D(4, width, padding="same")

    assert is_path(math.ceil(2 * (steps - 1) / (width - 1)), layer, steps)


@STEPS
def test_dilated_causal_convolutions_need_the_logarithm(steps):
    depth = math.ceil(math.log2(steps))
    assert is_path(depth, lambda number: GatedCausalConv(4, dilation=2**number), steps)


@STEPS
def test_a_recurrent_network_needs_one_layer_of_as_many_steps(steps):
    assert is_path(1, lambda _: keras.layers.SimpleRNN(4, return_sequences=True), steps)
    run = tf.function(keras.layers.SimpleRNN(4, return_sequences=True), autograph=False)
    operations = run.get_concrete_function(tf.TensorSpec([1, steps, 4])).graph.get_operations()
    assert any("While" in operation.type for operation in operations)
    run = tf.function(MultiHeadAttention(2), autograph=False)
    operations = run.get_concrete_function(tf.TensorSpec([1, steps, 4])).graph.get_operations()
    assert not any("While" in operation.type for operation in operations)


@pytest.mark.parametrize("steps, stride", [(9, 3), (12, 3), (10, 2)])
def test_two_sparse_hops_reach_everything_before(steps, stride):
    hops = [StridedAttention(2, stride, hop=1 + number % 2) for number in range(2)]
    assert connects(hops, steps)
    assert connects([FixedAttention(2, stride), FixedAttention(2, stride)], steps)
