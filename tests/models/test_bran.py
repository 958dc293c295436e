import re

import numpy as np
import pytest
import tensorflow as tf

from keras_attention.training import TokenCrossentropy
from models import BRAN
from models._aliases import documents, f1
from tests.models.toy import check_exported, check_saved, is_png, run_toy, with_random_weights
from tests.results import figure

SIZES = dict(vocab_size=11, relations=3, tags=4, width=4, blocks=2, heads=2, max_length=9)
TOKENS = np.array([[5, 6, 7, 8, 9], [4, 3, 2, 0, 0]])
HEADS = np.array([[[0, 2], [1, -1]], [[0, -1], [-1, -1]]])
TAILS = np.array([[[3, 4, -1], [0, 1, 2]], [[2, -1, -1], [-1, -1, -1]]])
INPUTS = TOKENS, HEADS, TAILS


def small(**settings):
    return with_random_weights(BRAN(**{**SIZES, **settings}))


@pytest.fixture(scope="module")
def model():
    return small()


def norm(x, scale, shift):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(
        x.var(-1, keepdims=True) + 1e-6
    ) * scale + shift


def softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def convolution(x, kernel, bias):
    """[S, D] -> [S, F], with zeros beyond the ends."""
    k = len(kernel)
    wide = np.pad(x, [[(k - 1) // 2, k // 2], [0, 0]])
    return np.array([np.einsum("kd,kdf->f", wide[t : t + k], kernel) for t in range(len(x))]) + bias


def encoded(model, ids):
    """The tokens b of a text by the equations."""
    arrays = lambda layer: [np.array(weight, np.float64) for weight in layer.weights]  # noqa: E731
    x = 2 * arrays(model.embedding)[0][ids] + arrays(model.positions)[0][: len(ids)]
    for attention, feed_forward, first, second in zip(
        model.sublayers[::2], model.sublayers[1::2], model.residuals[::2], model.residuals[1::2]
    ):
        w_q, w_k, w_v, w_o = arrays(attention)
        q, k, v = (np.split(x @ w.reshape(4, 4), 2, -1) for w in (w_q, w_k, w_v))
        heads = [softmax(a @ b.T / np.sqrt(2)) @ c for a, b, c in zip(q, k, v)]
        x = norm(x + np.concatenate(heads, -1) @ w_o.reshape(4, 4), *arrays(first))
        t = x
        for place, layer in enumerate((feed_forward.first, feed_forward.middle, feed_forward.last)):
            t = convolution(t, *arrays(layer))
            t = t if place == 2 else np.maximum(t, 0)
        x = norm(x + t, *arrays(second))
    return x


def projected(layer, b):
    w_0, bias_0, w_1, bias_1 = (np.array(weight) for weight in layer.weights)
    return np.maximum(b @ w_0 + bias_0, 0) @ w_1 + bias_1


def test_it_computes_the_equations_text_by_text(model):
    found, scores = model(INPUTS), model.mention_scores(INPUTS).numpy()
    biaffine = np.array(model.biaffine.kernel)
    for row, (ids, heads, tails) in enumerate(zip(*INPUTS)):
        b = encoded(model, ids[ids > 0])
        head, tail = (
            np.pad(projected(layer, b), [[0, 0], [0, 1]], constant_values=1)
            for layer in (model.head, model.tail)
        )
        for pair, (i, j) in enumerate(zip(heads, tails)):
            i, j = i[i >= 0], j[j >= 0]
            if not len(i):
                assert not np.any(found["relations"][row, pair])
                continue
            a = np.einsum("id,rde,je->rij", head[i], biaffine, tail[j])
            np.testing.assert_allclose(
                scores[row, pair, :, : len(i), : len(j)], a, rtol=1e-3, atol=1e-3
            )
            pooled = np.log(np.exp(a - a.max()).sum((1, 2))) + a.max()
            np.testing.assert_allclose(found["relations"][row, pair], pooled, rtol=1e-3, atol=1e-3)
        kernel, bias = model.tag_layer.get_weights()
        np.testing.assert_allclose(
            found["tags"][row, : len(b)], b @ kernel + bias, rtol=1e-3, atol=1e-3
        )


def test_a_single_mention_of_each_is_its_own_score_and_more_are_at_least_their_maximum(model):
    scores = model.mention_scores(INPUTS).numpy()
    found = model(INPUTS)["relations"].numpy()
    np.testing.assert_allclose(found[1, 0], scores[1, 0, :, 0, 0], rtol=1e-5)
    assert (found[0] >= scores[0].max((-2, -1)) - 1e-4).all()
    assert np.isneginf(scores[HEADS[..., None, :, None].repeat(3, 2).repeat(3, -1) < 0]).all()


@pytest.mark.parametrize("heads", [2, 0])
def test_padding_of_every_axis_changes_nothing(heads):
    model = small(heads=heads)
    more = [np.pad(TOKENS, [[0, 1], [0, 4]])]
    more += [np.pad(x, [[0, 1], [0, 1], [0, 2]], constant_values=-1) for x in (HEADS, TAILS)]
    found, expected = model(tuple(more)), model(INPUTS)
    np.testing.assert_allclose(found["relations"][:2, :2], expected["relations"], atol=1e-4)
    real = TOKENS > 0
    np.testing.assert_allclose(found["tags"][:2, :5][real], expected["tags"][real], atol=1e-4)
    assert np.isfinite(found["relations"]).all()


def test_the_ablations_leave_out_their_weights():
    full, no_width, cnn = (small(**x) for x in ({}, {"filter_width": 1}, {"heads": 0}))
    width, ff_width = 4, 16
    assert full.count_params() - no_width.count_params() == 2 * 4 * ff_width * ff_width
    assert full.count_params() - cnn.count_params() == 2 * (4 * width * width + 2 * width)


def test_without_attention_a_token_knows_its_neighbours_alone():
    for settings, reach in ({"heads": 0}, 4), ({"heads": 0, "filter_width": 1}, 0), ({}, 8):
        model, tokens = small(**settings), np.arange(2, 11)[None] % 11
        tokens[tokens == 0] = 1
        other = tokens.copy()
        other[0, 0] = 1
        places = np.zeros([1, 1, 1], int)
        both = [model((x, places, places))["tags"][0].numpy() for x in (tokens, other)]
        changed = np.abs(both[0] - both[1]).max(-1) > 1e-6
        assert changed[: reach + 1].any() and not changed[reach + 1 :].any()


def test_words_are_dropped_in_training_alone(model):
    dropped = small(word_dropout=0.99)
    np.testing.assert_array_equal(dropped(INPUTS)["tags"], model(INPUTS)["tags"])
    unknown = np.where(TOKENS > 0, BRAN.unknown_id, 0)
    expected = model((unknown, HEADS, TAILS))["relations"]
    np.testing.assert_allclose(dropped(INPUTS, training=True)["relations"], expected, atol=1e-4)


def fitted(**settings):
    model = small(dropout=0.1, word_dropout=0.1)
    both = {"relations": TokenCrossentropy(), "tags": TokenCrossentropy()}
    model.compile("adam", both, loss_weights={"relations": 1.0, "tags": 2.0}, **settings)
    targets = {"relations": np.array([[0, 2], [1, 0]]), "tags": np.where(TOKENS > 0, 1, 0)}
    weights = {"relations": np.array([[1.0, 1], [1, 0]]), "tags": (TOKENS > 0).astype("float32")}
    return model, model.fit(INPUTS, targets, sample_weight=weights, verbose=0).history


def test_it_is_trained_and_saved(tmp_path):
    model, history = fitted(run_eagerly=True)
    total = history["relations_loss"][0] + 2 * history["tags_loss"][0]
    np.testing.assert_allclose(history["loss"][0], total, rtol=1e-5)
    check_saved(model, INPUTS, tmp_path)


@pytest.mark.full
def test_it_is_trained_in_a_graph_and_exported(tmp_path):
    model, history = fitted()
    assert np.isfinite(history["loss"]).all()
    check_exported(model, INPUTS, tmp_path)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda model: small(relations=0), "relations must be at least 1"),
        (lambda model: small(word_dropout=1.0), "word_dropout must be"),
        (lambda model: model((TOKENS + 6, HEADS, TAILS)), "tokens must be ids of the vocabulary"),
        (lambda model: model((TOKENS, HEADS + 3, TAILS)), "heads must be positions.*-1 .. 4.*to 5"),
        (lambda model: model((TOKENS, HEADS, TAILS - 1)), "tails must be positions.*from -2"),
        (lambda model: model((TOKENS, HEADS[0], TAILS)), r"heads must be ids \[B, P, I\]"),
        (lambda model: model((np.tile(TOKENS, 2), HEADS, TAILS)), "Only 9 positions"),
    ],
)
def test_bad_input_is_refused_by_name(model, call, message):
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match=message):
        call(model)


def test_pairs_of_one_alias_have_the_relation_of_its_verb():
    (tokens, heads, tails), targets = documents(50, np.random.default_rng(0))
    for row, pairs in zip(tokens, zip(heads, tails, targets["relations"])):
        after = {row[n]: row[n + 2] for n in range(len(row) - 2) if row[n + 1] == 30}
        for head, tail, relation in zip(*pairs):
            alias = after[row[head[0]]]
            (verb,) = {row[n + 1] - 31 for n in np.flatnonzero(row[:-1] == alias)} & {0, 1}
            assert relation == (1 + verb if alias == after[row[tail[0]]] else 0)


def test_f1_counts_relations_alone():
    assert f1(np.array([0, 1, 2, 0]), np.array([0, 1, 1, 2])) == 200 * 1 / (2 + 3)


@pytest.mark.slow
def test_it_learns_relations_by_alias_and_draws_them(tmp_path):
    printed = run_toy("bran", tmp_path)
    assert float(re.search(r"F1: ([\d.]+)", printed)[1]) >= 90
    assert is_png(tmp_path / "bran.png")


@pytest.mark.parametrize("ablation", ["CNN only", "no width-5", "no NER"])
def test_the_result_needs_all_parts(ablation):
    assert figure("bran", "BRAN", "F1") > figure("bran", ablation, "F1")


def test_the_result_needs_attention_for_relations_by_alias():
    found = figure("bran", "BRAN", "alias F1")
    assert found >= 90 and found >= figure("bran", "CNN only", "alias F1") + 10
    assert found >= figure("bran", "no width-5", "alias F1")
