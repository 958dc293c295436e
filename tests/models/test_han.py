import re

import numpy as np
import pytest

from keras_attention.training import TokenAccuracy, TokenCrossentropy
from models import HAN
from models.han import KEYS, NOT, needles
from tests.models.toy import check_exported, check_saved, is_png, run_toy, with_random_weights
from tests.results import figure

SIZES = dict(vocab_size=11, labels=3, embedding_width=5, units=2, attention_units=4)
DOCUMENTS = np.array([[[5, 6, 7], [8, 9, 0]], [[4, 0, 0], [0, 0, 0]]])


def small(**settings):
    return with_random_weights(HAN(**{**SIZES, **settings}))


@pytest.fixture(scope="module")
def model():
    return small()


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gru(cell, steps):
    """A GRU with reset_after, as Keras has it: [T, D] -> [T, U]."""
    kernel, recurrent, (bias, inner_bias) = (np.array(weight) for weight in cell.weights)
    h, found = np.zeros(cell.units), []
    for x in steps:
        z, r, n = np.split(x @ kernel + bias, 3)
        z_h, r_h, n_h = np.split(h @ recurrent + inner_bias, 3)
        z, r = sigmoid(z + z_h), sigmoid(r + r_h)
        h = z * h + (1 - z) * np.tanh(n + r * n_h)
        found.append(h)
    return np.array(found)


def level(encoder, pooling, steps):
    """Both GRUs and the attention, by the equations -> vector, weights."""
    forward = gru(encoder.forward_layer.cell, steps)
    backward = gru(encoder.backward_layer.cell, steps[::-1])[::-1]
    h = np.concatenate([forward, backward], -1)
    kernel, bias = pooling.hidden.get_weights()
    scores = np.tanh(h @ kernel + bias) @ pooling.query.get_weights()[0][:, 0]
    weights = np.exp(scores) / np.exp(scores).sum()
    return weights @ h, weights


def test_it_computes_the_equations_sentence_by_sentence(model):
    logits = model(DOCUMENTS)
    on_sentences, on_words = model.attention(DOCUMENTS)
    vectors, parts = np.array(model.embedding.embeddings), model.document
    for row, document in enumerate(DOCUMENTS):
        sentences = []
        for place, ids in enumerate(document):
            if ids.any():
                found = level(parts.word_encoder, parts.word_pooling, vectors[ids[ids > 0]])
                sentences.append(found[0])
                np.testing.assert_allclose(on_words[row, place][ids > 0], found[1], atol=1e-5)
        found = level(parts.sentence_encoder, parts.sentence_pooling, np.array(sentences))
        np.testing.assert_allclose(on_sentences[row, : len(sentences)], found[1], atol=1e-5)
        kernel, bias = model.output_layer.get_weights()
        np.testing.assert_allclose(logits[row], found[0] @ kernel + bias, atol=1e-5)
    assert not np.any(on_sentences[1, 1:]) and not np.any(np.array(on_words)[DOCUMENTS == 0])


def test_padding_of_both_axes_changes_nothing_and_no_document_is_finite(model):
    more = np.pad(DOCUMENTS, [[0, 1], [0, 2], [0, 3]])
    logits = model(more)
    np.testing.assert_allclose(logits[:2], model(DOCUMENTS), atol=1e-6)
    assert np.isfinite(logits).all()


def test_the_parameters_are_those_of_the_equations():
    v, d, u, a, c = 11, 5, 2, 4, 3
    gru = lambda inputs: 3 * u * (inputs + u + 2)  # noqa: E731  two biases
    attention = 2 * u * a + a + a
    expected = v * d + 2 * gru(d) + attention + 2 * gru(2 * u) + attention + 2 * u * c + c
    assert small().count_params() == expected
    assert small(pooling="mean").count_params() == expected - 2 * attention


def test_a_query_of_zeros_is_the_mean(model):
    copy, mean = small(), small(pooling="mean")
    for pooling in (copy.document.word_pooling, copy.document.sentence_pooling):
        pooling.query.set_weights([np.zeros_like(pooling.query.get_weights()[0])])
    for part in ("embedding", "output_layer"):
        getattr(mean, part).set_weights(getattr(copy, part).get_weights())
    for part in ("word_encoder", "sentence_encoder"):
        getattr(mean.document, part).set_weights(getattr(copy.document, part).get_weights())
    np.testing.assert_allclose(mean(DOCUMENTS), copy(DOCUMENTS), atol=1e-5)
    for found, expected in zip(mean.attention(DOCUMENTS), copy.attention(DOCUMENTS)):
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_maximum_has_no_weights_to_show():
    model = small(pooling="max")
    np.testing.assert_allclose(model(np.pad(DOCUMENTS, [[0, 0], [0, 1], [0, 1]])),
                               model(DOCUMENTS), atol=1e-6)  # fmt: skip
    with pytest.raises(ValueError, match="no weights"):
        model.attention(DOCUMENTS)


def test_it_is_trained_and_saved(tmp_path):
    model = small(dropout=0.1)
    model.compile(
        "adam", TokenCrossentropy(), weighted_metrics=[TokenAccuracy("accuracy")], run_eagerly=True
    )
    before = model.get_weights()
    history = model.fit(DOCUMENTS, np.array([0, 2]), verbose=0).history
    assert np.isfinite(history["loss"]).all() and 0 <= history["accuracy"][0] <= 1
    assert all((a != b).any() for a, b in zip(before, model.get_weights()))
    check_saved(model, DOCUMENTS, tmp_path)


@pytest.mark.full
def test_it_is_trained_in_a_graph_and_exported(model, tmp_path):
    model = small(dropout=0.1)
    model.compile("adam", TokenCrossentropy(), weighted_metrics=[TokenAccuracy("accuracy")])
    history = model.fit(DOCUMENTS, np.array([0, 2]), epochs=20, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    check_exported(model, DOCUMENTS, tmp_path)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda model: small(labels=0), "labels must be at least 1"),
        (lambda model: small(dropout=1), "dropout must be"),
        (lambda model: small(pooling="sum"), "pooling='sum'"),
        (lambda model: model(DOCUMENTS[0]), r"documents must be ids \[B, L, S\]"),
        (
            lambda model: model(DOCUMENTS + 4),
            "documents must be ids of the vocabulary, 0 .. 10.*13",
        ),
        (lambda model: model(DOCUMENTS - 1), "ids from -1"),
        (lambda model: model(DOCUMENTS + 0.5), "whole numbers"),
        (lambda model: TokenCrossentropy()(np.array([0, 3]), model(DOCUMENTS)), "3"),
    ],
)
def test_bad_input_is_refused_by_name(model, call, message):
    with pytest.raises(ValueError, match=message):
        call(model)


def test_a_needle_decides_its_document():
    documents, labels, deciding = needles(200, np.random.default_rng(1))
    for document, label, place in zip(documents, labels, deciding):
        alone = [sentence for sentence in document if NOT not in sentence]
        assert len(alone) == 1 and (alone[0] == document[place]).all()
        assert all(((0 < sentence) & (sentence < NOT)).sum() == 1 for sentence in document)
        key = alone[0][alone[0] < NOT]
        assert len(key) == 1 and label == (key[0] > KEYS // 2)


@pytest.mark.slow
def test_it_learns_needles_and_draws_one(tmp_path):
    printed = run_toy("han", tmp_path)
    assert float(re.search(r"accuracy: ([\d.]+)", printed)[1]) >= 0.97
    assert is_png(tmp_path / "han.png")


def test_the_result_meets_its_bar():
    attention, mean, most = (figure("han", run, "accuracy") for run in ("HAN", "HN-AVE", "HN-MAX"))
    assert attention >= figure("han", "TF-IDF + logistic regression", "accuracy") - 1
    assert attention > max(mean, most)


def test_the_result_finds_needles():
    found = figure("han", "HAN", "needles")
    assert found >= 97 and found >= figure("han", "HN-AVE", "needles") + 3
