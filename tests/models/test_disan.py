"""DiSAN, the encoder with a distance mask, and ReSAN: labels of sentences and of pairs."""

import re

import numpy as np
import pytest
import tensorflow as tf

from keras_attention.training import TokenCrossentropy
from models import DiSANClassifier, DistanceSANClassifier, ReSANClassifier
from models._sentences import NOT, facts
from models.resan import _ATTRIBUTE, log_likelihood, share
from tests.models.toy import check_exported, check_saved, is_png, run_toy, with_random_weights
from tests.results import figure

SIZES = dict(vocab_size=11, labels=3, embedding_width=4, hidden_units=5)
MORE = {
    DiSANClassifier: {"units": 3},
    DistanceSANClassifier: {"heads": 2, "ff_width": 3},
    ReSANClassifier: {"units": 3},
}
TOKENS = np.array([[5, 6, 7, 8], [9, 2, 0, 0], [3, 0, 0, 0]])
OTHERS = np.array([[5, 1], [4, 0], [2, 9]])
every_model = pytest.mark.parametrize("kind", MORE)


def small(kind, **settings):
    model = with_random_weights(kind(**{**SIZES, **MORE[kind], **settings}))
    if kind is ReSANClassifier:
        model.selects.assign(0.0)
    return model


def elu(x):
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x, axis=0):
    x = np.exp(x - x.max(axis, keepdims=True))
    return x / x.sum(axis, keepdims=True)


def dense(layer, x):
    kernel, *bias = layer.get_weights()
    return x @ kernel + (bias[0] if bias else 0)


def directional(layer, x, heads=None, dependents=None):
    """u [S, D] by the equations, step by step."""
    h = elu(dense(layer.project, x))
    found = []
    for j in range(len(x)):
        before = [i for i in range(len(x)) if (i > j if layer.backward else i < j)]
        if heads is not None and heads[j]:
            before = [i for i in before if dependents[i]]
        s = np.zeros(h.shape[1])
        if before:
            f = 5 * np.tanh((dense(layer.seen, h[before]) + dense(layer.looking, h[j])) / 5)
            f = f * 0 if heads is not None and not heads[j] else f
            s = (softmax(f) * h[before]).sum(0)
        gate = sigmoid(dense(layer.gate, np.concatenate([s, h[j]])))
        found.append(gate * h[j] + (1 - gate) * s)
    return np.array(found)


def source2token(layer, x):
    return (softmax(dense(layer.score, elu(dense(layer.hidden, x)))) * x).sum(0)


def labelled(model, vector):
    return dense(model.output_layer, elu(dense(model.hidden, vector)))


def test_disan_computes_its_equations_sentence_by_sentence():
    model = small(DiSANClassifier)
    for ids, logits in zip(TOKENS, model(TOKENS)):
        x = np.array(model.embedding.embeddings)[ids[ids > 0]]
        ways = [directional(way, x) for way in (model.encoder.forward, model.encoder.backward)]
        vector = source2token(model.encoder.pool, np.concatenate(ways, -1))
        np.testing.assert_allclose(logits, labelled(model, vector), rtol=1e-3, atol=1e-4)


def test_the_weights_to_show_sum_to_one_on_the_side_of_their_direction():
    forward, backward = (np.array(part) for part in small(DiSANClassifier).attention(TOKENS))
    for weights, first in (forward, 1), (backward, 0):
        for row, length in zip(weights, (TOKENS > 0).sum(1)):
            queries = range(first, length - 1 + first)
            np.testing.assert_allclose(row[list(queries)].sum(-1), 1, atol=1e-5)
            assert not row[:, length:].any()
    assert not np.triu(forward).any() and not np.tril(backward).any()


@pytest.mark.parametrize("selects", [False, True])
def test_resan_attends_between_selected_words(selects):
    model = small(ReSANClassifier)
    if selects:
        model.select_words()
    chosen = [np.array(part) for part in model.selected(TOKENS)]
    if not selects:
        assert all((part == (TOKENS > 0)).all() for part in chosen)
    logits = model(TOKENS)
    for row, ids in enumerate(TOKENS):
        x = np.array(model.embedding.embeddings)[ids[ids > 0]]
        heads, dependents = (part[row, : len(x)] for part in chosen)
        ways = [directional(way, x, heads, dependents) for way in (model.encoder, model.backward)]
        vector = source2token(model.pool, np.concatenate(ways, -1))
        np.testing.assert_allclose(logits[row], labelled(model, vector), rtol=1e-3, atol=1e-4)


def test_a_selected_word_is_one_that_is_likelier_than_not():
    model = small(ReSANClassifier)
    model.select_words()
    heads, dependents = model.selected(TOKENS)
    words = model.embedding(TOKENS)
    for found, selector in (heads, model.head_selector), (dependents, model.dependent_selector):
        probability = selector(words, mask=TOKENS > 0).probability
        np.testing.assert_array_equal(found, np.array(probability) > 0.5)
    lengths = (TOKENS > 0).sum(1)
    expected = np.mean(
        [h.sum() * d.sum() / n**2 for h, d, n in zip(*map(np.array, (heads, dependents)), lengths)]
    )
    np.testing.assert_allclose(share(model, TOKENS), 100 * expected)


@every_model
@pytest.mark.parametrize("pairs", [False, True])
def test_padding_changes_nothing(kind, pairs):
    model = small(kind, pairs=pairs)
    if kind is ReSANClassifier:
        model.select_words()
    pads = [[0, 1], [0, 2]]
    more = np.pad(TOKENS, pads)
    inputs = (TOKENS, OTHERS) if pairs else TOKENS
    wider = (more, np.pad(OTHERS, pads)) if pairs else more
    logits = model(wider)
    np.testing.assert_allclose(logits[:3], model(inputs), rtol=1e-4, atol=1e-4)
    assert np.isfinite(logits).all()


@every_model
def test_a_pair_is_labelled_by_its_two_vectors(kind):
    model = small(kind, pairs=True)
    s, t = model.encode(TOKENS, "first"), model.encode(OTHERS, "second")
    joined = np.concatenate([s, t, s - t, s * t], -1)
    np.testing.assert_allclose(
        model((TOKENS, OTHERS)), labelled(model, joined), rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize(
    "kind, settings, sees_order",
    [
        (DiSANClassifier, {}, True),
        (DiSANClassifier, {"directed": False}, False),
        (DistanceSANClassifier, {}, True),
        (DistanceSANClassifier, {"alpha": 0.0}, True),
        (ReSANClassifier, {}, True),
    ],
)
def test_only_masks_of_direction_see_the_order_of_words(kind, settings, sees_order):
    model = small(kind, **settings)
    found, turned = (model(tokens).numpy() for tokens in (TOKENS[:1], TOKENS[:1, ::-1]))
    assert (np.abs(found - turned).max() > 1e-4) == sees_order


def test_the_parameters_are_those_of_the_equations():
    v, c, m, d, u = 11, 3, 5, 4, 3
    way = d * u + u + u * u + u * u + u + 2 * u * u + u
    pool = 2 * (4 * u * u + 2 * u)
    head = 2 * u * m + m + m * c + c
    assert small(DiSANClassifier).count_params() == v * d + 2 * way + pool + head
    selector = 3 * d * d + d + d + 1
    whole = v * d + 2 * way + pool + head + 2 * selector + 1
    assert small(ReSANClassifier).count_params() == whole
    assert (
        small(DiSANClassifier, pairs=True).count_params() - (v * d + 2 * way + pool + head)
        == 6 * u * m
    )


def test_selectors_learn_by_reinforce_alone_and_only_when_words_are_selected():
    model = small(ReSANClassifier, cost=0.5)
    model.compile("sgd", TokenCrossentropy())
    labels = tf.constant([0, 2, 1])

    def gradients():
        with tf.GradientTape() as tape:
            logits = model(TOKENS, training=True)
            loss = model.compute_loss(TOKENS, labels, logits)
        return tape.gradient(loss, model.trainable_variables), logits, loss

    found, logits, loss = gradients()
    of_selectors = model.head_selector.trainable_variables
    at = [id(v) for v in model.trainable_variables]
    assert not any(np.any(found[at.index(id(v))]) for v in of_selectors)
    np.testing.assert_allclose(loss, TokenCrossentropy()(labels, logits), rtol=1e-6)

    model.select_words()
    found, logits, loss = gradients()
    assert any(np.any(found[at.index(id(v))]) for v in of_selectors)
    (heads, dependents) = getattr(logits, _ATTRIBUTE)[0]
    reward = log_likelihood(labels, logits) - 0.5 * heads.fraction * dependents.fraction
    advantage = np.array(reward) - np.mean(reward)
    expected = -np.mean(advantage * np.array(heads.log_prob + dependents.log_prob))
    error = TokenCrossentropy()(labels, logits)
    np.testing.assert_allclose(loss - error, expected, rtol=1e-3, atol=1e-5)


def test_the_likelihood_is_that_of_labels_or_of_shares():
    logits = tf.constant([[1.0, 2.0, 0.5], [0.0, 0.0, 3.0]])
    expected = np.log(softmax(np.array(logits), 1))[[0, 1], [1, 2]]
    for labels in ([1, 2], [[1], [2]], np.eye(3)[[1, 2]]):
        found = log_likelihood(tf.constant(labels), logits)
        np.testing.assert_allclose(found, expected, rtol=1e-5)


@every_model
def test_it_is_saved(kind, tmp_path):
    model = small(kind, pairs=True, dropout=0.1)
    if kind is ReSANClassifier:
        model.select_words()
    copy = check_saved(model, (TOKENS, OTHERS), tmp_path)
    if kind is ReSANClassifier:
        assert float(copy.selects) == 1


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(DiSANClassifier, marks=pytest.mark.full),
        pytest.param(DistanceSANClassifier, marks=pytest.mark.full),
        ReSANClassifier,
    ],
)
def test_it_is_trained(kind):
    model = small(kind, pairs=True, dropout=0.1)
    if kind is ReSANClassifier:
        model.select_words()
    model.compile("adam", TokenCrossentropy(), run_eagerly=True)
    before = model.get_weights()
    model.fit((TOKENS, OTHERS), np.array([0, 2, 1]), verbose=0)
    assert sum((a != b).any() for a, b in zip(before, model.get_weights())) > len(before) / 2


@pytest.mark.full
@every_model
def test_it_is_trained_in_a_graph_and_exported(kind, tmp_path):
    model = small(kind)
    if kind is ReSANClassifier:
        model.select_words()
    model.compile("adam", TokenCrossentropy())
    history = model.fit(TOKENS, np.array([0, 2, 1]), epochs=20, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    check_exported(model, TOKENS, tmp_path)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: small(DiSANClassifier, units=0), "units must be at least 1"),
        (lambda: small(DistanceSANClassifier, heads=0), "heads must be at least 1"),
        (lambda: small(ReSANClassifier, cost=-1.0), "cost must be at least 0"),
        (lambda: small(DiSANClassifier, dropout=1.0), "dropout must be"),
        (lambda: small(DiSANClassifier)(TOKENS[0]), r"tokens must be ids \[B, S\]"),
        (lambda: small(ReSANClassifier)(TOKENS + 3), "tokens must be ids of the vocabulary.*to 12"),
        (
            lambda: small(DistanceSANClassifier, pairs=True)((TOKENS, OTHERS + 3)),
            "second must be ids of the vocabulary",
        ),
    ],
)
def test_bad_input_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_label_of_a_pair_follows_from_its_facts():
    (premises, hypotheses), labels = facts(200, np.random.default_rng(1))
    for premise, hypothesis, label in zip(premises, hypotheses, labels):
        said = {tuple(premise[n : n + 3]) for n in range(len(premise) - 2)}
        subject, verb, other = hypothesis[:3]
        assert (hypothesis[3] == NOT) == (label == 1)
        assert ((subject, verb, other) in said) == (label in (0, 1))
        assert ((other, verb, subject) in said) == (label == 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["disan", "resan"])
def test_it_learns_facts(name, tmp_path):
    printed = run_toy(name, tmp_path)
    assert float(re.search(r"accuracy: ([\d.]+)", printed)[1]) >= 0.9
    assert name == "resan" or is_png(tmp_path / "disan.png")


@pytest.mark.parametrize("run", ["DiSAN", "distance mask", "ReSAN"])
def test_the_result_labels_facts_and_relatedness(run):
    assert figure("disan", run, "facts") >= 90
    assert figure("disan", run, "SICK-R") >= 0.7


def test_the_result_needs_direction_to_see_order():
    assert figure("disan", "DiSAN", "order") >= 90
    assert figure("disan", "DiSAN without direction, facts alone", "order") <= 60


def test_the_result_of_the_distance_mask_holds_for_long_sentences():
    assert figure("disan", "distance mask", "long") >= figure("disan", "DiSAN", "long")


def test_the_result_of_selected_words_is_close_to_that_of_all():
    assert figure("disan", "ReSAN", "SICK-E") >= figure("disan", "DiSAN", "SICK-E") - 2
    assert figure("disan", "ReSAN", "selected") <= 60
