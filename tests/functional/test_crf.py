"""A linear-chain CRF, against all L^T sequences of labels."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from keras_attention.functional import crf_log_likelihood, crf_log_normalizer, viterbi

STEPS, COUNT = 4, 3
MASKS = np.array([[1, 1, 1, 1], [1, 1, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0]], bool)


@pytest.fixture
def chain():
    """Emissions [B, T, L], transitions [L, L], start [L]."""
    random = np.random.default_rng(0)
    return [random.normal(size=shape) for shape in ([4, STEPS, COUNT], [COUNT, COUNT], [COUNT])]


def score(labels, emissions, transitions, start):
    """The score of labels of real steps, by the definition."""
    if not len(labels):
        return 0.0
    path = sum(transitions[pair] for pair in itertools.pairwise(labels))
    return start[labels[0]] + path + sum(emissions[np.arange(len(labels)), labels])


def sequences(row, mask, transitions, start):
    """{labels of the real steps: score}."""
    real = row[mask]
    every = itertools.product(range(COUNT), repeat=len(real))
    return {labels: score(list(labels), real, transitions, start) for labels in every}


def test_the_forward_algorithm_sums_over_all_sequences(chain):
    emissions, transitions, start = chain
    found = crf_log_normalizer(*chain, mask=MASKS)
    for row, mask, log_z in zip(emissions, MASKS, found):
        every = list(sequences(row, mask, transitions, start).values())
        np.testing.assert_allclose(log_z, np.log(np.sum(np.exp(every))), rtol=1e-12, atol=1e-12)


def test_the_likelihood_is_the_share_of_one_sequence(chain):
    emissions, transitions, start = chain
    labels = np.random.default_rng(1).integers(0, COUNT, [4, STEPS])
    found = crf_log_likelihood(np.where(MASKS, labels, -100), *chain, mask=MASKS)
    for b, mask in enumerate(MASKS):
        every = sequences(emissions[b], mask, transitions, start)
        expected = every[tuple(labels[b, mask])] - np.log(np.sum(np.exp(list(every.values()))))
        np.testing.assert_allclose(found[b], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("constrained", [False, True])
def test_viterbi_finds_the_best_of_all_sequences(chain, constrained):
    emissions, transitions, start = chain
    if constrained:
        transitions[0, 2] = transitions[1, 1] = start[2] = -np.inf
    labels, scores = viterbi(emissions, transitions, start, MASKS)
    for b, mask in enumerate(MASKS):
        every = sequences(emissions[b], mask, transitions, start)
        best = max(every, key=every.__getitem__)
        assert tuple(labels[b].numpy()[mask]) == best
        assert not labels[b].numpy()[~mask].any()
        np.testing.assert_allclose(scores[b], every[best], rtol=1e-12)


def test_the_gradient_of_the_normalizer_is_the_marginal_probability(chain):
    """d log Z / d emissions_{t, l} = p(y_t = l), and that of padding is 0."""
    emissions, transitions, start = map(tf.constant, chain)

    @tf.function
    def gradient(emissions):
        return tf.gradients(crf_log_normalizer(emissions, transitions, start, MASKS), emissions)[0]

    found = gradient(emissions).numpy()
    for b, mask in enumerate(MASKS):
        every = sequences(chain[0][b], mask, chain[1], chain[2])
        total = np.sum(np.exp(list(every.values())))
        expected = np.zeros([STEPS, COUNT])
        for labels, value in every.items():
            expected[np.flatnonzero(mask), labels] += np.exp(value) / total
        np.testing.assert_allclose(found[b], expected, atol=1e-12)


def test_forbidden_transitions_have_no_gradient_and_no_share(chain):
    emissions, transitions, start = chain
    transitions[0, 1] = -np.inf
    with tf.GradientTape() as tape:
        given = tf.constant(transitions)
        tape.watch(given)
        found = crf_log_likelihood([[0, 2, 1, 1]], emissions[:1], given, start)
    every = sequences(emissions[0], MASKS[0], transitions, start)
    expected = every[0, 2, 1, 1] - np.log(np.sum(np.exp(list(every.values()))))
    np.testing.assert_allclose(found[0], expected, rtol=1e-9)
    gradient = tape.gradient(found, given).numpy()
    assert np.isfinite(gradient).all() and gradient[0, 1] == 0 and gradient[2, 1] != 0


@pytest.mark.parametrize(
    "labels, shape, message",
    [
        ([[0, 3]], [1, 2, 3], r"labels must be ids from 0 to L - 1 = 2. Received: ids from 0 to 3"),
        ([[0, 1, 1]], [1, 2, 3], "labels must be.*T = 2"),
        ([[0, 1]], [1, 2, 4], r"transitions must be \[L, L\]"),
        ([[]], [1, 0, 3], "at least one step"),
    ],
)
def test_what_does_not_fit_is_refused(labels, shape, message):
    with pytest.raises(ValueError, match=message):
        crf_log_likelihood(np.array(labels, int), np.zeros(shape), np.zeros([3, 3]))
