"""Relative positions by moved rows are the vectors of every pair."""

import numpy as np
import pytest
import tensorflow as tf

from keras_attention.functional import relative_context, relative_index, relative_scores

HEADS, WIDTH = 2, 3


def tables(reach):
    """One for all heads, and one for each."""
    for shape in ((2 * reach + 1, WIDTH), (HEADS, 2 * reach + 1, WIDTH)):
        yield tf.constant(np.random.normal(size=shape))


def of_every_pair(table, steps, reach, offset):
    """[1 or H, T, S, D]."""
    table = table if table.shape.rank == 3 else table[None]
    return table.numpy()[:, relative_index(steps, reach, offset)]


def normal(*shape):
    return tf.constant(np.random.normal(size=shape))


@pytest.mark.parametrize("reach", [0, 1, 3, 9])
@pytest.mark.parametrize("steps, offset", [(0, 0), (1, 0), (5, 0), (1, 4), (3, 2)])
def test_they_are_those_of_a_vector_for_every_pair(steps, offset, reach):
    slots = steps + offset
    query, weights = normal(2, HEADS, steps, WIDTH), normal(2, HEADS, steps, slots)
    for table in tables(reach):
        vectors = of_every_pair(table, steps, reach, offset)
        expected = (query.numpy()[:, :, :, None] * vectors).sum(-1)
        found = relative_scores(query, table, slots, offset)
        np.testing.assert_allclose(found, expected, atol=1e-12)
        expected = (weights.numpy()[..., None] * vectors).sum(3)
        np.testing.assert_allclose(relative_context(weights, table, offset), expected, atol=1e-12)


def test_one_is_the_transpose_of_the_other():
    """w·scores(q) = q·context(w), for any w and q."""
    query, weights = normal(2, HEADS, 5, WIDTH), normal(2, HEADS, 5, 7)
    for table in tables(2):
        one = tf.reduce_sum(weights * relative_scores(query, table, 7, 2))
        other = tf.reduce_sum(query * relative_context(weights, table, 2))
        np.testing.assert_allclose(one, other, rtol=1e-12)


def test_no_tensor_holds_a_vector_for_every_pair():
    (steps, width), shapes = (64, 16), []

    def both(query, weights, table):
        return relative_scores(query, table, steps), relative_context(weights, table)

    specs = ([3, 4, steps, width], [3, 4, steps, steps], [2 * steps + 1, width])
    graph = tf.function(both, autograph=False).get_concrete_function(*map(tf.TensorSpec, specs))
    for operation in graph.graph.get_operations():
        shapes += [output.shape.num_elements() or 0 for output in operation.outputs]
    assert max(shapes) < 3 * 4 * steps * steps * 3


def test_half_precision_scores_in_single():
    query = tf.cast(normal(1, HEADS, 5, WIDTH), tf.float16)
    assert relative_scores(query, tf.ones([3, WIDTH]), 5).dtype == tf.float32
