"""REINFORCE: a loss with the gradient of the expected reward (Williams, 1992)."""

import tensorflow as tf

from keras_attention.functional.dtypes import widen


def reinforce(log_prob: tf.Tensor, reward: tf.Tensor, baseline: tf.Tensor | float = 0.0):
    """-(reward - baseline) log p(choice), where only log p has a gradient.  [...], [...] -> [...].

    The gradient of its mean is that of -E[reward], for any baseline that does not depend on the
    choice: no gradient passes through the reward or the choice itself.

    >>> reinforce(tf.constant([-1.0]), tf.constant([3.0]), baseline=1.0).numpy().tolist()
    [2.0]
    """
    log_prob, reward = widen(log_prob), widen(reward)
    advantage = tf.cast(reward, log_prob.dtype) - tf.cast(baseline, log_prob.dtype)
    return -tf.stop_gradient(advantage) * log_prob


def log_prob_of_choice(choice: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """log p of the slot that was sampled from the weights.  [..., S], [..., S] -> [...].

    The choice is a one-hot constant, or all zeros (log 1). If the weights themselves are passed,
    the sum of weight * log(weight), without a gradient: no choice was made.

    >>> float(tf.exp(log_prob_of_choice(tf.constant([0.0, 1.0]), tf.constant([0.75, 0.25]))))
    0.25
    """
    return tf.reduce_sum(tf.math.xlogy(tf.stop_gradient(widen(choice)), widen(weights)), -1)


def entropy(weights: tf.Tensor) -> tf.Tensor:
    """-sum of w log w, at most log S, reached when all are equal.  [..., S] -> [...].

    >>> round(float(entropy(tf.constant([0.5, 0.5, 0.0])) / tf.math.log(2.0)), 6)
    1.0
    """
    weights = widen(weights)
    return -tf.reduce_sum(tf.math.xlogy(weights, weights), -1)
