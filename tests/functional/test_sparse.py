"""Sparse attention equals dense attention with its mask."""

import numpy as np
import pytest
import tensorflow as tf

from keras_attention.functional import (
    atrous,
    causal,
    fixed,
    fixed_attention,
    padding,
    softmax,
    strided,
    strided_attention,
    window,
)

HOPS = pytest.mark.parametrize("hop", [None, 1, 2])


def heads(steps):
    return [tf.constant(np.random.normal(size=(2, 2, steps, 3))) for _ in range(3)]


def dense(query, keys, values, mask):
    return tf.matmul(softmax(tf.matmul(query, keys, transpose_b=True), mask), values)


def with_gradients(attention, arrays):
    with tf.GradientTape() as tape:
        tape.watch(arrays)
        context = attention(*arrays)
        loss = tf.reduce_sum(tf.sin(3 * context))
    return [context, *tape.gradient(loss, arrays)]


def assert_same(found, expected, steps):
    arrays = heads(steps)
    for one, other in zip(with_gradients(found, arrays), with_gradients(expected, arrays)):
        np.testing.assert_allclose(one, other, atol=1e-6)


@HOPS
@pytest.mark.parametrize("steps, stride", [(0, 2), (1, 1), (7, 1), (7, 3), (9, 3), (5, 100)])
def test_strided_is_dense_attention_under_its_mask(steps, stride, hop):
    real = padding([steps, steps // 2], steps)
    assert_same(
        lambda *x: strided_attention(*x, stride, hop, real),
        lambda *x: dense(*x, strided(steps, stride, hop)[None] & real[:, None, None]),
        steps,
    )


@HOPS
@pytest.mark.parametrize("steps, stride", [(7, 1), (7, 3), (9, 3), (5, 100)])
def test_to_both_sides_it_is_local_atrous_and_sparse(steps, stride, hop):
    local, far = window(steps, stride), atrous(steps, stride)
    seen = local | far if hop is None else (local, far)[hop - 1]
    assert_same(
        lambda *x: strided_attention(*x, stride, hop, causal=False),
        lambda *x: dense(*x, seen[None]),
        steps,
    )


@HOPS
@pytest.mark.parametrize("steps, stride, summary", [(0, 2, 1), (1, 1, 1), (7, 3, 2), (8, 4, 4)])
def test_fixed_is_dense_attention_under_its_mask(steps, stride, summary, hop):
    real = padding([steps, steps // 2], steps)
    assert_same(
        lambda *x: fixed_attention(*x, stride, summary, hop, real),
        lambda *x: dense(*x, fixed(steps, stride, summary, hop)[None] & real[:, None, None]),
        steps,
    )


@pytest.mark.parametrize("attention", [strided_attention, fixed_attention])
def test_a_stride_as_long_as_the_sequence_leaves_the_causal_mask(attention):
    assert_same(lambda *x: attention(*x, 6), lambda *x: dense(*x, causal(6)[None]), 6)


@pytest.mark.parametrize("attention", [strided_attention, fixed_attention])
def test_the_scores_are_far_fewer_than_those_of_all_pairs(attention):
    graph = tf.function(lambda *x: attention(*x, 32), autograph=False).get_concrete_function(
        *[tf.TensorSpec([1, 1, 1024, 3]) for _ in range(3)]
    )
    largest = max(
        output.shape.num_elements() for op in graph.graph.get_operations() for output in op.outputs
    )
    assert largest <= 1024 * 4 * 32  # near and far, both about the root of 1024


def test_sizes_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="Received: stride=0"):
        strided_attention(*heads(3), stride=0)
    with pytest.raises(ValueError, match="Received: hop=3"):
        strided_attention(*heads(3), stride=2, hop=3)
    with pytest.raises(ValueError, match="Received: summary=3, stride=2"):
        fixed_attention(*heads(3), stride=2, summary=3)
