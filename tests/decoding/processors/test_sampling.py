"""Truncations against NumPy, and the distribution of the sampler in closed form."""

import numpy as np
import pytest
import tensorflow as tf

from keras_attention.seq2seq import (
    ban,
    combine,
    epsilon_cutoff,
    eta_cutoff,
    min_p,
    no_repeat_ngram,
    temperature,
    top_k,
    top_p,
    typical,
)


def log_softmax(x):
    x = np.asarray(x, np.float64)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def until_mass(log_p, order, mass):
    """The first of an order whose p reach the mass."""
    kept, total = set(), 0.0
    for token in order:
        if total >= mass and mass < 1:  # all of it is all tokens, however the sum is rounded
            break
        kept.add(token)
        total += np.exp(log_p[token])
    return kept


def the_k_best(log_p, k):
    return set(np.argsort(-log_p)[: int(k)])


def the_nucleus(log_p, p):
    return until_mass(log_p, np.argsort(-log_p), p)


def near_the_best(log_p, p):
    return {v for v in range(len(log_p)) if np.exp(log_p[v]) >= p * np.exp(log_p).max()}


def the_typical(log_p, p):
    entropy = -(np.exp(log_p) * log_p).sum()
    return until_mass(log_p, np.argsort(np.abs(-log_p - entropy)), p)


def above_epsilon(log_p, epsilon):
    return {v for v in range(len(log_p)) if np.exp(log_p[v]) >= epsilon} | {np.argmax(log_p)}


def above_eta(log_p, epsilon):
    entropy = -(np.exp(log_p) * log_p).sum()
    return above_epsilon(log_p, min(epsilon, np.sqrt(epsilon) * np.exp(-entropy)))


CUTS = [
    (top_k, the_k_best, [1, 2, 5, 11, 12, 40]),
    (top_p, the_nucleus, [1e-6, 0.3, 0.75, 0.99, 1.0]),
    (min_p, near_the_best, [1e-6, 0.05, 0.4, 1.0]),
    (typical, the_typical, [1e-6, 0.2, 0.6, 0.95, 1.0]),
    (epsilon_cutoff, above_epsilon, [1e-6, 0.03, 0.2, 0.99]),
    (eta_cutoff, above_eta, [1e-6, 0.03, 0.2, 0.99]),
]
cuts = pytest.mark.parametrize("processor, definition, settings", CUTS)


def check_cut(left, log_p, definition, setting):
    for row, given in zip(np.asarray(left), log_p):
        kept = set(np.flatnonzero(row != -np.inf))
        assert kept == definition(given.astype(np.float64), setting)
        assert all(row[v] == given[v] for v in kept)  # not raised


@cuts
def test_the_tokens_left_are_those_of_the_paper_with_their_log_p(processor, definition, settings):
    for spread in (0.1, 1.0, 6.0):
        log_p = log_softmax(spread * np.random.normal(size=(60, 12))).astype(np.float32)
        for setting in settings:
            left = processor(setting).apply(tf.constant(log_p), ())
            check_cut(left, log_p, definition, setting)


@cuts
def test_a_setting_may_be_a_tensor_that_is_known_at_run_time_alone(processor, definition, settings):
    log_p = log_softmax(np.random.normal(size=(20, 12))).astype(np.float32)

    @tf.function(autograph=False)
    def run(setting):
        return processor(setting).apply(tf.constant(log_p), ())

    for setting in settings:
        for give in (run, lambda x: processor(x).apply(tf.constant(log_p), ())):
            check_cut(give(tf.constant(setting)), log_p, definition, setting)


@cuts
def test_the_best_token_is_always_left_of_a_row_that_has_any(processor, definition, settings):
    log_p = np.full([3, 12], -np.inf, np.float32)
    log_p[0, 7] = 0.0  # one token has all the mass
    log_p[1, [2, 5]] = np.log(0.001)  # most of the mass is struck out
    for setting in settings:
        left = processor(setting).apply(tf.constant(log_p), ()).numpy()
        assert left[0, 7] == 0.0 and (np.delete(left[0], 7) == -np.inf).all()
        assert set(np.flatnonzero(np.isfinite(left[1]))) == {2, 5}  # equals stay together
        assert (left[2] == -np.inf).all()  # and not NaN


def test_a_cut_after_another_measures_what_the_first_left():
    log_p = tf.math.log([[0.4, 0.3, 0.2, 0.1]])
    both = combine(top_k(2), top_p(0.5))  # of 4/7 and 3/7, the first alone has half
    left = both.apply(log_p, ((), ())).numpy()
    assert np.flatnonzero(np.isfinite(left[0])).tolist() == [0]


@pytest.mark.full
@cuts
def test_over_a_large_vocabulary_too_whether_few_tokens_have_the_mass_or_many(
    processor, definition, settings
):
    for spread in (0.5, 8.0):
        log_p = log_softmax(spread * np.random.normal(size=(2, 3000))).astype(np.float32)
        for setting in settings:
            check_cut(processor(setting).apply(tf.constant(log_p), ()), log_p, definition, setting)
        compiled = tf.function(processor(settings[1]).apply, autograph=False, jit_compile=True)
        check_cut(compiled(tf.constant(log_p), ()), log_p, definition, settings[1])


HALVES = np.array([0.5**i for i in range(1, 11)] + [0.5**10])  # 1/2, 1/4, ..., and the rest


@pytest.mark.parametrize(
    "processor, drawn",
    [
        (top_k(3), np.array([4, 2, 1]) / 7),
        (top_p(0.7), np.array([2, 1]) / 3),
        (top_p(0.8), np.array([4, 2, 1]) / 7),
        (min_p(0.3), np.array([2, 1]) / 3),
        (min_p(0.2), np.array([4, 2, 1]) / 7),
        (epsilon_cutoff(0.2), np.array([2, 1]) / 3),
        (eta_cutoff(0.2), np.array([4, 2, 1]) / 7),  # eta is sqrt(0.2) / 4 = 0.11
        (temperature(1.0), HALVES),
        (temperature(0.5), HALVES**2 / (HALVES**2).sum()),
        (temperature(2.0), HALVES**0.5 / (HALVES**0.5).sum()),
        # -log2 p is 1, 2, 3, ..., and the entropy just below 2 of these
        (typical(0.2), np.array([0, 1])),
        (typical(0.6), np.array([2, 1]) / 3),
    ],
    ids=lambda x: getattr(x, "name", ""),
)
def test_what_a_sampler_draws_has_the_probabilities_of_the_closed_form(processor, drawn):
    left = processor.apply(tf.math.log(tf.constant(HALVES[None], tf.float32)), ())
    expected = np.zeros_like(HALVES)
    expected[: len(drawn)] = drawn
    np.testing.assert_allclose(tf.nn.softmax(left)[0], expected, atol=1e-6)
    draws = tf.random.categorical(left, 4000).numpy()[0]
    counts, likely = np.bincount(draws, minlength=len(expected)), expected > 0
    assert counts[~likely].sum() == 0
    wanted = 4000 * expected[likely]
    chi_squared = ((counts[likely] - wanted) ** 2 / wanted).sum()
    freedom = likely.sum() - 1
    assert chi_squared <= freedom + 5 * np.sqrt(2 * freedom) + 1e-6


def test_temperature_is_the_softmax_of_logits_divided_by_it():
    logits = 3 * np.random.normal(size=(9, 12))
    for t in (0.25, 1.0, 3.0, tf.constant(3.0)):
        left = temperature(t).apply(tf.nn.log_softmax(tf.constant(logits, tf.float32)), ())
        np.testing.assert_allclose(left, log_softmax(logits / float(t)), rtol=1e-4, atol=1e-5)


def test_temperature_leaves_masked_what_is():
    left = temperature(0.7).apply(tf.constant([[-np.inf] * 3, [-np.inf, -1.0, -1.0]]), ()).numpy()
    assert (left[0] == -np.inf).all()
    np.testing.assert_allclose(left[1], [-np.inf, np.log(0.5), np.log(0.5)], rtol=1e-6)


@pytest.mark.parametrize("t", [1e-30, 1e-38, np.float32(1e-40), 1e30])
def test_no_temperature_leaves_no_token_or_nan(t):
    left = temperature(t).apply(tf.constant([[-8.0, -7.0, -np.inf]]), ()).numpy()
    expected = [0.5, 0.5, 0] if np.asarray(t) > 1 else [0, 1, 0]
    np.testing.assert_allclose(np.exp(left), [expected], rtol=1e-6)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: temperature(0), "above 0"),
        (lambda: temperature(-1.0), "above 0"),
        (lambda: temperature(float("nan")), "above 0"),
        (lambda: temperature(float("inf")), "above 0"),
        (lambda: temperature([0.5, 0.7]), "one number above 0"),
        (lambda: temperature(tf.constant(0.0)), "above 0"),
        (lambda: top_k(0), "k >= 1"),
        (lambda: top_k(2.5), "k >= 1"),
        (lambda: top_k(float("inf")), "k >= 1"),
        (lambda: top_k("5"), "k >= 1"),
        (lambda: no_repeat_ngram(float("inf")), ">= 1"),
        (lambda: ban([float("inf")]), "whole numbers"),
        (lambda: top_p(0.0), "0 < p <= 1"),
        (lambda: top_p(1.5), "0 < p <= 1"),
        (lambda: top_p(float("nan")), "0 < p <= 1"),
        (lambda: top_p([0.5, 0.9]), "one number"),
        (lambda: min_p(-0.1), "0 < p <= 1"),
        (lambda: typical(1.01), "0 < p <= 1"),
        (lambda: epsilon_cutoff(1.0), "0 < epsilon < 1"),
        (lambda: eta_cutoff(0.0), "0 < epsilon < 1"),
        (lambda: eta_cutoff(float("nan")), "0 < epsilon < 1"),
    ],
)
def test_settings_that_mean_nothing_are_refused(make, message):
    with pytest.raises(ValueError, match=message + r".* Received: "):
        make()
