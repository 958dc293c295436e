import numpy as np
import tensorflow as tf

from keras_attention.functional import (
    entropy,
    hardmax,
    log_prob_of_choice,
    reinforce,
    sampled,
    softmax,
)

SCORES = np.array([0.5, -0.3, 1.0])
REWARDS = np.array([2.0, -1.0, 0.5])


def gradients(baseline, draws=200_000):
    """What REINFORCE says of one step with three slots, for each of many draws.  [draws, 3]."""
    scores = tf.Variable(np.tile(SCORES, [draws, 1]))
    with tf.GradientTape() as tape:
        weights = softmax(scores)
        choice = sampled(scores)
        reward = tf.reduce_sum(choice * REWARDS, -1)
        loss = reinforce(log_prob_of_choice(choice, weights), reward, baseline)
        total = tf.reduce_sum(loss)
    return tape.gradient(total, scores).numpy()


def exact_gradient():
    scores = tf.Variable(SCORES)
    with tf.GradientTape() as tape:
        loss = -tf.reduce_sum(softmax(scores) * REWARDS)
    return tape.gradient(loss, scores).numpy()


def test_the_mean_of_many_draws_is_the_gradient_of_the_expectation():
    found, expected = gradients(0.0).mean(0), exact_gradient()
    assert np.linalg.norm(found - expected) < 0.02 * np.linalg.norm(expected)


def test_a_baseline_keeps_the_mean_and_lowers_the_variance():
    baseline = float(tf.reduce_sum(softmax(SCORES) * REWARDS))
    plain, with_baseline = gradients(0.0), gradients(baseline)
    expected = exact_gradient()
    assert np.linalg.norm(with_baseline.mean(0) - expected) < 0.02 * np.linalg.norm(expected)
    assert with_baseline.var(0).sum() < plain.var(0).sum()


def test_nothing_passes_through_the_reward_or_the_choice():
    log_prob, reward, baseline = (tf.Variable([0.5]) for _ in range(3))
    scores = tf.Variable([[1.0, 2.0]])
    with tf.GradientTape(persistent=True) as tape:
        loss = reinforce(log_prob, reward, baseline)
        chosen = log_prob_of_choice(softmax(scores), [[0.5, 0.5]])
    assert tape.gradient(loss, reward) is None and tape.gradient(loss, baseline) is None
    assert tape.gradient(chosen, scores) is None


def test_an_expected_choice_teaches_nothing():
    scores = tf.Variable(SCORES)
    with tf.GradientTape() as tape:
        weights = softmax(scores)
        log_prob = log_prob_of_choice(weights, weights)
    np.testing.assert_allclose(tape.gradient(log_prob, scores), 0.0, atol=1e-15)
    np.testing.assert_allclose(log_prob, -entropy(weights))


def test_entropy_is_largest_when_all_are_equal():
    np.testing.assert_allclose(entropy(tf.fill([5], 0.2)), np.log(5), rtol=1e-6)
    assert entropy(hardmax(SCORES)) == 0
    for _ in range(5):
        assert entropy(softmax(np.random.normal(size=5))) < np.log(5)


def test_weights_of_zero_are_finite_and_so_are_their_gradients():
    weights = tf.Variable([[0.0, 0.0], [1.0, 0.0]])
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(entropy(weights) + log_prob_of_choice([[0.0, 0], [1, 0]], weights))
    assert float(total) == 0
    assert np.isfinite(tape.gradient(total, weights)).all()


def test_narrow_types_are_computed_in_float32():
    half = tf.constant([0.5, 0.5], tf.float16)
    results = entropy(half), log_prob_of_choice(half, half), reinforce(half, half, 0.1)
    assert {result.dtype.name for result in results} == {"float32"}
