"""Attention by chunks is attention."""

import numpy as np
import pytest
import tensorflow as tf

from keras_attention.functional import causal, chunked_attention, softmax

SIZES = pytest.mark.parametrize("steps, slots", [(7, 7), (1, 5), (8, 8), (6, 2), (0, 3), (3, 0)])


def heads(steps, slots, dtype="float64"):
    shapes = ((2, 2, size, 3) for size in (steps, slots, slots))
    return [tf.constant(np.random.normal(size=shape), dtype) for shape in shapes]


def dense(query, keys, values, mask=None):
    return tf.matmul(softmax(tf.matmul(query, keys, transpose_b=True), mask), values)


def with_gradients(attention, arrays):
    with tf.GradientTape() as tape:
        tape.watch(arrays)
        context = attention(*arrays)
        loss = tf.reduce_sum(tf.sin(3 * context))
    return [context, *tape.gradient(loss, arrays)]


def assert_same(found, expected, arrays, atol=1e-10):
    for one, other in zip(with_gradients(found, arrays), with_gradients(expected, arrays)):
        np.testing.assert_allclose(one, other, atol=atol)


@SIZES
@pytest.mark.parametrize("chunk", [2, 3, 100])
def test_it_is_full_attention_with_its_gradients(steps, slots, chunk):
    arrays = heads(steps, slots)

    def check(mask=None):
        assert_same(
            lambda *x: chunked_attention(*x, mask, chunk=chunk), lambda *x: dense(*x, mask), arrays
        )

    check()
    for shape in ((2, 1, steps, slots), (2, 1, 1, slots), (1, 2, steps, 1)):
        check(tf.constant(np.random.random(shape) > 0.4))  # some rows see nothing


@pytest.mark.parametrize("chunk", [2, 3, 100])
@pytest.mark.parametrize("masked", [False, True])
def test_causal_chunks_are_causal_attention(chunk, masked):
    mask = tf.constant([[True] * 7, [False] * 7])[:, None, None] if masked else None
    seen = causal(7)[None] & mask if masked else causal(7)[None]
    assert_same(
        lambda *x: chunked_attention(*x, mask, causal=True, chunk=chunk),
        lambda *x: dense(*x, seen),
        heads(7, 7),
    )


def test_in_float32_it_is_exact_to_five_digits_with_its_gradients():
    arrays = heads(300, 300, "float32")
    found = with_gradients(lambda *x: chunked_attention(*x, chunk=64), arrays)
    expected = with_gradients(dense, [tf.cast(x, tf.float64) for x in arrays])
    for one, other in zip(found, expected):
        np.testing.assert_allclose(one, other, atol=1e-5)
    query, keys, values = arrays
    arrays = [100 * query, 100 * keys, values]  # their exponentials are no numbers
    np.testing.assert_allclose(chunked_attention(*arrays, chunk=64), dense(*arrays), atol=1e-5)


def test_what_causality_leaves_out_costs_nothing():
    """NaN in the chunks of later steps would spread, if they were computed."""
    query, keys, values = heads(8, 8)
    spoiled = tf.where(tf.range(8)[:, None] < 4, keys, np.nan)
    found = chunked_attention(query, spoiled, values, causal=True, chunk=2)
    expected = dense(query, keys, values, causal(8)[None])
    np.testing.assert_allclose(found[:, :, :4], expected[:, :, :4], atol=1e-10)
    assert np.isnan(found[:, :, 4:]).all()


def test_unknown_lengths_in_a_graph_and_under_xla_with_gradients():
    def gradients(*arrays):
        return with_gradients(lambda *x: chunked_attention(*x, causal=True, chunk=3), arrays)

    unknown = tf.TensorSpec([None, 2, None, 3], tf.float64)
    graph = tf.function(gradients, input_signature=[unknown] * 3)
    compiled = tf.function(gradients, jit_compile=True)
    for steps in (1, 5, 6):
        arrays = heads(steps, steps)
        for call in (graph, compiled) if steps == 5 else (graph,):
            for one, other in zip(call(*arrays), gradients(*arrays)):
                np.testing.assert_allclose(one, other, atol=1e-10)


def test_half_precision_goes_in_and_out_and_sums_in_single():
    arrays = heads(40, 40, "float16")
    found = chunked_attention(*arrays, chunk=7)
    assert found.dtype == tf.float16
    expected = dense(*(tf.cast(x, tf.float32) for x in arrays))
    np.testing.assert_allclose(tf.cast(found, tf.float32), expected, atol=2e-3)


def test_no_tensor_is_as_large_as_all_scores():
    @tf.function
    def gradients(*arrays):
        return with_gradients(lambda *x: chunked_attention(*x, chunk=32), arrays)

    arrays = [tf.TensorSpec([1, 1, 1024, 3])] * 3
    graph = gradients.get_concrete_function(*arrays).graph.as_graph_def(add_shapes=True)
    sizes = [
        np.prod([axis.size for axis in shape.dim])
        for nodes in (graph.node, *(function.node_def for function in graph.library.function))
        for node in nodes
        for shape in node.attr["_output_shapes"].list.shape
        if not shape.unknown_rank
    ]
    assert 32 * 32 in sizes and max(sizes) < 1024 * 1024 / 100


def test_a_chunk_below_one_is_refused():
    with pytest.raises(ValueError, match="Received: chunk=0"):
        chunked_attention(*heads(2, 2), chunk=0)
