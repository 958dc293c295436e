import re

import keras
import numpy as np
import pytest

from keras_attention.training import TokenAccuracy, TokenCrossentropy
from models import StructuredAttentionClassifier
from models.structured_attention import KEYS, KINDS, overlap, three_keys
from tests.models.toy import check_exported, check_saved, is_png, run_toy, with_random_weights
from tests.results import figure

SIZES = dict(
    vocab_size=11, labels=3, embedding_width=4, units=2, attention_units=5, hops=3, hidden_units=6
)
TOKENS = np.array([[5, 6, 7, 8], [9, 2, 0, 0], [3, 0, 0, 0]])


def small(**settings):
    return with_random_weights(StructuredAttentionClassifier(**{**SIZES, **settings}))


@pytest.fixture(scope="module")
def model():
    return small()


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm(cell, steps):
    """[n, D] -> [n, u]."""
    kernel, recurrent, bias = (np.array(weight) for weight in cell.weights)
    h = c = np.zeros(cell.units)
    found = []
    for x in steps:
        i, f, g, o = np.split(x @ kernel + h @ recurrent + bias, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        found.append(h)
    return np.array(found)


def test_it_computes_the_equations_sentence_by_sentence(model):
    logits, weights = model(TOKENS), model.attention(TOKENS).numpy()
    for row, ids in enumerate(TOKENS):
        x = np.array(model.embedding.embeddings)[ids[ids > 0]]
        forward = lstm(model.encoder.forward_layer.cell, x)
        backward = lstm(model.encoder.backward_layer.cell, x[::-1])[::-1]
        h = np.concatenate([forward, backward], 1)
        w_s1, w_s2 = (layer.get_weights()[0].T for layer in (model.pool.hidden, model.pool.queries))
        a = np.exp(w_s2 @ np.tanh(w_s1 @ h.T))
        a /= a.sum(1, keepdims=True)
        np.testing.assert_allclose(weights[row, :, : len(x)], a, atol=1e-5)
        assert not weights[row, :, len(x) :].any()
        w_h, b_h = model.hidden.get_weights()
        w_o, b_o = model.output_layer.get_weights()
        expected = np.maximum((a @ h).ravel() @ w_h + b_h, 0) @ w_o + b_o
        np.testing.assert_allclose(logits[row], expected, rtol=1e-4, atol=1e-4)


def test_padding_changes_nothing(model):
    more = np.pad(TOKENS, [[0, 1], [0, 3]])
    logits = model(more)
    np.testing.assert_allclose(logits[:3], model(TOKENS), atol=1e-5)
    assert np.isfinite(logits).all()


def test_the_parameters_are_those_of_the_equations():
    v, c, d, u, d_a, r, m = 11, 3, 4, 2, 5, 3, 6
    lstms = 2 * 4 * u * (d + u + 1)
    expected = v * d + lstms + 2 * u * d_a + d_a * r + 2 * u * r * m + m + m * c + c
    assert small().count_params() == expected


def test_the_penalty_is_that_of_the_paper_and_in_the_loss():
    model, weight = small(penalty=0.7, dropout=0.0), 0.7
    a = np.array(model.attention(TOKENS))
    model(TOKENS, training=True)
    penalties = [np.sum((rows @ rows.T - np.eye(3)) ** 2) for rows in a]
    np.testing.assert_allclose(sum(model.losses), weight * np.mean(penalties), rtol=1e-5)
    model.compile("sgd", TokenCrossentropy(), run_eagerly=True)
    labels = np.array([0, 1, 2])
    error = float(TokenCrossentropy()(labels, model(TOKENS)))
    found = model.evaluate(TOKENS, labels, verbose=0)
    np.testing.assert_allclose(found, error + weight * np.mean(penalties), rtol=1e-5)
    free = small(penalty=0.0)
    free(TOKENS)
    assert not free.losses


def test_the_overlap_is_the_mean_off_the_diagonal():
    a = np.array([[[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]]])
    np.testing.assert_allclose(overlap(a), 0.7 * 0.1 + 0.2 * 0.1 + 0.1 * 0.8)


def test_it_is_trained_and_saved(tmp_path):
    model = small(dropout=0.1)
    model.compile(
        "adam", TokenCrossentropy(), weighted_metrics=[TokenAccuracy("accuracy")], run_eagerly=True
    )
    before = model.get_weights()
    model.fit(TOKENS, np.array([0, 2, 1]), verbose=0)
    assert all((a != b).any() for a, b in zip(before, model.get_weights()))
    check_saved(model, TOKENS, tmp_path)


@pytest.mark.full
def test_it_is_trained_in_a_graph_and_exported(tmp_path):
    model = StructuredAttentionClassifier(**SIZES, dropout=0.0)
    model.compile(keras.optimizers.Adam(1e-2), TokenCrossentropy())
    history = model.fit(TOKENS, np.array([0, 2, 1]), epochs=20, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    check_exported(model, TOKENS, tmp_path)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda model: small(hops=0), "hops must be at least 1"),
        (lambda model: small(penalty=-1.0), "penalty at least 0"),
        (lambda model: small(dropout=-0.1), "dropout must be"),
        (lambda model: model(TOKENS[0]), r"tokens must be ids \[B, S\]"),
        (lambda model: model(TOKENS + 3), "tokens must be ids of the vocabulary, 0 .. 10.*to 12"),
    ],
)
def test_bad_input_is_refused_by_name(model, call, message):
    with pytest.raises(ValueError, match=message):
        call(model)


def test_three_keys_spell_the_label():
    tokens, labels = three_keys(100, np.random.default_rng(1))
    for row, label in zip(tokens, labels):
        keys = sorted(row[row <= KINDS * KEYS] - 1)
        assert [key // KEYS for key in keys] == [0, 1, 2]
        assert sum((key % KEYS) * KEYS**kind for kind, key in enumerate(keys)) == label


@pytest.mark.slow
def test_it_finds_the_keys_and_draws_its_rows(tmp_path):
    printed = run_toy("structured_attention", tmp_path)
    assert float(re.search(r"accuracy: ([\d.]+)", printed)[1]) >= 0.97
    assert is_png(tmp_path / "structured_attention.png")


def test_the_result_needs_several_rows():
    several = figure("structured_attention", "r = 8, penalty 0.1", "keys")
    assert several >= 97 and several >= figure("structured_attention", "r = 1", "keys") + 5


def test_the_result_shows_rows_that_the_penalty_parts():
    """With penalty 1 it learns the made task later than without: see the notes of the result."""
    name, free = "structured_attention", "r = 8, no penalty"
    assert figure(name, "r = 8, penalty 1", "overlap") <= figure(name, free, "overlap") / 3
    for task in ("keys", "TREC"):
        assert figure(name, "r = 8, penalty 0.1", task) >= figure(name, free, task) - 0.5


def test_the_result_is_close_to_the_convolutional_rival():
    rival = figure("structured_attention", "CNN-rand (Kim, 2014), ours", "TREC")
    assert figure("structured_attention", "r = 8, penalty 0.1", "TREC") >= rival - 1.5
