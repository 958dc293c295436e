"""Temporal attention over a source, composed: a general score and a normaliser with a state."""

import numpy as np
import tensorflow as tf

from keras_attention.functional import temporal_softmax
from keras_attention.layers import Attention, GeneralScore

MASK = np.arange(5) < np.array([5, 3])[:, None]


def test_the_reference():
    """Scores are those of the reference if W is the identity and the memory one-hot."""
    layer = Attention(GeneralScore(), normalize=temporal_softmax)
    scores = tf.constant([[[1.0, 2.0, 0.0], [1.0, 2.0, 0.0], [0.0, 1.0, 3.0]]])
    layer(scores, tf.eye(3)[None])
    layer.set_weights([np.eye(3)])
    context, weights, _ = layer(scores, tf.eye(3)[None], return_weights=True)
    expected = [
        [0.244728, 0.665241, 0.090031],
        [0.333333, 0.333333, 0.333333],
        [0.017668, 0.017668, 0.964663],
    ]
    np.testing.assert_allclose(weights[0], expected, atol=1e-5)
    np.testing.assert_allclose(context, weights, atol=1e-6)


def test_all_steps_at_once_are_one_step_at_a_time():
    layer = Attention(GeneralScore(), normalize=temporal_softmax)
    query, memory = tf.random.normal([2, 4, 3]), tf.random.normal([2, 5, 4])
    expected = layer(query, memory, memory_mask=MASK)
    state, contexts = None, []
    for step in range(4):
        now = query[:, step : step + 1]
        context, _, state = layer(now, memory, memory_mask=MASK, state=state, return_weights=True)
        contexts.append(context)
    np.testing.assert_allclose(tf.concat(contexts, 1), expected, atol=1e-5)
