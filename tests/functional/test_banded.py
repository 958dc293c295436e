"""Restricted attention by blocks is attention under a window."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from keras_attention.functional import (
    banded_attention,
    causal,
    padding,
    softmax,
    sparsemax,
    window,
)


def heads(steps, batch=2, width=3):
    return [tf.constant(np.random.normal(size=(batch, 2, steps, width))) for _ in range(3)]


def dense(query, keys, values, mask=None, normalize=softmax):
    return tf.matmul(normalize(tf.matmul(query, keys, transpose_b=True), mask), values)


def with_gradients(attention, arrays):
    """What it gives, and the gradients of something that weighs all of it differently."""
    with tf.GradientTape() as tape:
        tape.watch(arrays)
        context = attention(*arrays)
        loss = tf.reduce_sum(tf.sin(3 * context))
    return [context, *tape.gradient(loss, arrays)]


def assert_same(found, expected, arrays, atol=1e-6):
    for one, other in zip(with_gradients(found, arrays), with_gradients(expected, arrays)):
        np.testing.assert_allclose(one, other, atol=atol)


@pytest.mark.parametrize("steps", [0, 1, 2, 7, 8])
@pytest.mark.parametrize("radius", [0, 1, 2, 3, 7, 100])
@pytest.mark.parametrize("is_causal", [False, True])
def test_it_is_dense_attention_under_the_window(steps, radius, is_causal):
    mask = None if is_causal else padding([steps, steps // 2], steps)
    seen = window(steps, radius)[None]
    seen = seen & (causal(steps) if is_causal else mask[:, None, None])
    assert_same(
        lambda *x: banded_attention(*x, radius, mask, is_causal),
        lambda *x: dense(*x, seen),
        heads(steps),
    )


@pytest.mark.parametrize("radius", [4, 5, 1000])
def test_a_radius_to_the_other_end_is_full_attention(radius):
    assert_same(lambda *x: banded_attention(*x, radius), dense, heads(5))


def test_another_normaliser_may_take_the_place_of_softmax():
    arrays = heads(7)
    found = banded_attention(*arrays, 2, normalize=sparsemax)
    np.testing.assert_allclose(found, dense(*arrays, window(7, 2)[None], sparsemax), atol=1e-6)


def test_twice_the_steps_cost_twice_the_products_and_full_attention_four_times():
    def products(attention, steps):
        arrays = [tf.TensorSpec([1, 2, steps, 3]) for _ in range(3)]
        graph = tf.function(attention, autograph=False).get_concrete_function(*arrays).graph
        count = 0
        for operation in graph.get_operations():
            if "BatchMatMul" in operation.type:
                count += np.prod(operation.outputs[0].shape) * operation.inputs[0].shape[-1]
        return count

    ratio = products(dense, 2048) / products(dense, 1024)
    assert ratio == 4
    for radius in (1, 16):
        growth = [
            products(functools.partial(banded_attention, radius=radius), steps)
            for steps in (1024, 2048)
        ]
        assert growth[1] / growth[0] == 2
        assert growth[0] < products(dense, 1024) / 20


def test_a_radius_below_zero_is_refused():
    with pytest.raises(ValueError, match="Received: radius=-1"):
        banded_attention(*heads(3), radius=-1)
