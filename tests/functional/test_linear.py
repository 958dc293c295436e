"""Linear attention: sums instead of weights, the same numbers."""

import numpy as np
import pytest
import tensorflow as tf

from keras_attention.functional import (
    LinearState,
    causal,
    linear_attention,
    linear_step,
    padding,
)
from keras_attention.functional.linear import positive


def heads(steps, slots=None, dtype="float64"):
    slots = steps if slots is None else slots
    shapes = ((2, 2, steps, 3), (2, 2, slots, 3), (2, 2, slots, 4))
    return [tf.constant(np.random.normal(size=shape), dtype) for shape in shapes]


def dense(query, keys, values, mask=True):
    """The weights written out."""
    query, keys = (np.where(x > 0, x, np.expm1(x)) + 1 for x in (query, keys))
    weights = np.einsum("bhtd,bhsd->bhts", query, keys) * mask
    total = weights.sum(-1, keepdims=True)
    return (weights / np.where(total > 0, total, 1)) @ values.numpy()


@pytest.mark.parametrize("steps, slots", [(5, 5), (2, 7), (0, 3), (3, 0)])
def test_it_is_the_weighted_mean_of_the_values(steps, slots):
    arrays = heads(steps, slots)
    np.testing.assert_allclose(linear_attention(*arrays), dense(*arrays), atol=1e-10)
    mask = padding([slots, 0], slots)
    expected = dense(*arrays, mask.numpy()[:, None, None])
    found = linear_attention(*arrays, mask)
    np.testing.assert_allclose(found, expected, atol=1e-10)
    assert not np.any(found[1])


@pytest.mark.parametrize("block", [1, 3, 64])
@pytest.mark.parametrize("steps", [0, 1, 7, 9])
def test_causal_it_is_the_mean_of_earlier_steps(steps, block):
    arrays = heads(steps)
    mask = padding([steps, steps // 2], steps)
    seen = mask.numpy()[:, None, None] & causal(steps).numpy()
    found = linear_attention(*arrays, mask, causal=True, block=block)
    np.testing.assert_allclose(found, dense(*arrays, seen), atol=1e-10)


def test_causal_it_is_a_recurrent_network():
    query, keys, values = heads(6)
    state = LinearState(tf.zeros([2, 2, 3, 4], tf.float64), tf.zeros([2, 2, 3], tf.float64))
    steps = []
    for t in range(6):
        context, state = linear_step(query[:, :, t], keys[:, :, t], values[:, :, t], state)
        steps.append(context)
    expected = linear_attention(query, keys, values, causal=True, block=4)
    np.testing.assert_allclose(tf.stack(steps, 2), expected, atol=1e-12)


def test_half_precision_sums_in_single():
    arrays = heads(300, dtype="float16")
    for is_causal, seen in ((False, True), (True, causal(300).numpy())):
        found = linear_attention(*arrays, causal=is_causal)
        assert found.dtype == tf.float16
        wide = [tf.cast(x, tf.float64) for x in arrays]
        np.testing.assert_allclose(found, dense(*wide, seen), atol=2e-3)


def test_the_kernel_is_positive_and_exact_far_below_zero():
    x = np.array([-80.0, -18.0, -1e-8, 0.0, 3.0])
    expected = np.where(x > 0, x + 1, np.exp(np.minimum(x, 0)))
    np.testing.assert_allclose(positive(x.astype("float32")), expected, rtol=1e-5)
    query = np.full((1, 1, 1, 2), -18.0, "float32")
    keys, values = (np.random.normal(size=(1, 1, 4, 2)).astype("float32") for _ in range(2))
    shares = np.exp(-18.0) * positive(keys).numpy().sum(-1, keepdims=True)
    expected = (shares * values).sum(2, keepdims=True) / shares.sum(2, keepdims=True)
    np.testing.assert_allclose(linear_attention(query, keys, values), expected, rtol=1e-4)
