"""Slots with attention in earlier steps get less weight."""

import numpy as np
import pytest
import tensorflow as tf

from keras_attention.functional import softmax, temporal_softmax
from tests import oracles


def by_the_book(scores, mask=None):
    """Equations 3 and 4, in products and sums.  [T, S] -> [T, S]."""
    rows = [np.exp(scores[0])]
    for step in range(1, len(scores)):
        rows.append(np.exp(scores[step]) / np.exp(scores[:step]).sum(0))
    rows = np.array(rows) * (1 if mask is None else mask)
    sums = rows.sum(-1, keepdims=True)
    return np.divide(rows, sums, out=np.zeros_like(rows), where=sums > 0)


def test_the_reference():
    scores = tf.constant([[[1.0, 2.0, 0.0], [1.0, 2.0, 0.0], [0.0, 1.0, 3.0]]])
    expected = [
        [0.244728, 0.665241, 0.090031],
        [0.333333, 0.333333, 0.333333],
        [0.017668, 0.017668, 0.964663],
    ]
    np.testing.assert_allclose(temporal_softmax(scores)[0][0], expected, atol=1e-5)


def test_weights_are_those_of_the_equations():
    scores = np.random.normal(size=(2, 6, 5)) * 3
    mask = np.arange(5) < np.array([5, 3])[:, None, None]
    found, _ = temporal_softmax(scores, mask)
    for row in range(2):
        np.testing.assert_allclose(found[row], by_the_book(scores[row], mask[row]), rtol=1e-9)


def test_the_first_step_is_a_plain_softmax():
    scores = np.random.normal(size=(2, 4, 5))
    np.testing.assert_allclose(
        temporal_softmax(scores)[0][:, 0], oracles.softmax(scores[:, 0]), rtol=1e-12
    )


@pytest.mark.parametrize("cut", [0, 1, 3, 6])
def test_a_history_that_is_carried_is_the_history_that_was(cut):
    scores = np.random.normal(size=(2, 6, 5))
    first, state = temporal_softmax(scores[:, :cut])
    then, last = temporal_softmax(scores[:, cut:], state=state)
    weights, end = temporal_softmax(scores)
    np.testing.assert_allclose(tf.concat([first, then], 1), weights, rtol=1e-12)
    np.testing.assert_allclose(last, end, rtol=1e-12)
    np.testing.assert_allclose(end, np.log(np.exp(scores).sum(1)), rtol=1e-12)


def test_a_fresh_history_in_half_precision_is_still_none():
    scores = tf.random.normal([2, 1, 4])
    _, fresh = temporal_softmax(scores[:, :0])
    weights, state = temporal_softmax(scores, state=tf.cast(fresh, tf.float16))
    np.testing.assert_allclose(weights, softmax(scores), rtol=1e-6)
    np.testing.assert_allclose(state, scores[:, 0], rtol=1e-6)


def test_scores_beyond_any_exponential_are_fine():
    scores = tf.constant([[[1000.0, -1000.0], [1000.0, -1000.0], [0.0, 0.0]]])
    weights, state = temporal_softmax(scores)
    np.testing.assert_allclose(weights[0], [[1, 0], [0.5, 0.5], [0, 1]], atol=1e-6)
    assert np.isfinite(state).all()


def test_a_row_without_visible_slots_is_zero_with_finite_gradients():
    scores, mask = tf.random.normal([2, 3, 4]), tf.constant([[[False]], [[True]]])
    with tf.GradientTape() as tape:
        tape.watch(scores)
        weights, state = temporal_softmax(scores, mask)
        loss = tf.reduce_sum(tf.square(weights)) + tf.reduce_sum(state[1])
    assert not np.any(weights[0])
    gradient = tape.gradient(loss, scores).numpy()
    assert np.isfinite(gradient).all() and not gradient[0].any() and gradient[1].any()


def test_gradients_are_the_finite_differences():
    scores = np.random.normal(size=(1, 4, 3))
    direction = tf.constant(np.random.normal(size=(1, 4, 3)))

    def loss(scores):
        return tf.reduce_sum(temporal_softmax(scores)[0] * direction)

    theory, numbers = tf.test.compute_gradient(loss, [tf.constant(scores)])
    np.testing.assert_allclose(theory[0], numbers[0], atol=1e-6)


def test_a_later_step_never_changes_an_earlier_one():
    scores = tf.random.normal([1, 4, 3])
    with tf.GradientTape() as tape:
        tape.watch(scores)
        weights = tf.reduce_sum(tf.square(temporal_softmax(scores)[0]), -1)
    jacobian = tape.jacobian(weights, scores)[0, :, 0]  # [T, T', S]
    assert not np.any(np.asarray(jacobian)[np.triu_indices(4, 1)])


def test_eager_graph_and_xla_agree():
    scores = tf.random.normal([2, 5, 4])
    for jit in (False, True):
        compiled = tf.function(temporal_softmax, jit_compile=jit, autograph=False)
        for found, expected in zip(compiled(scores), temporal_softmax(scores)):
            np.testing.assert_allclose(found, expected, atol=1e-6)
