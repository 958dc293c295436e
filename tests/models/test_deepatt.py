import re

import keras
import numpy as np
import pytest

from keras_attention.training import token_objective
from models import DeepAtt
from models._propositions import IDS, LABELS, arrays, read_propositions, toy
from models._tagging import allowed_tags, arguments, span_f1
from models.deepatt import NONLINEAR
from tests import results
from tests.models.toy import check_exported, check_saved, is_png, run_toy

SIZES = dict(vocab_size=12, labels=["A0", "V"], layers=2, width=8, heads=2, ff_width=12)
WORDS = np.array([[5, 6, 7, 8], [9, 2, 0, 0]])
MARKS = np.array([[0, 1, 0, 0], [1, 0, 0, 0]])


@pytest.fixture(scope="module")
def models():
    """One model of each kind, whose biases and norms are not what they begin with."""
    made = {}
    for kind in NONLINEAR:
        made[kind] = DeepAtt(nonlinear=kind, **SIZES)
        made[kind].build()
        rng = np.random.default_rng(0)
        made[kind].set_weights([w + rng.normal(0, 0.3, w.shape) for w in made[kind].get_weights()])
    return made


def test_it_has_the_weights_of_the_paper():
    labels, words = [f"A{n}" for n in range(5)], 7
    model = DeepAtt(words, labels)
    model.build()
    layers = 10 * (4 * 200**2 + 4 * 200 + 2 * 200 * 800 + 800 + 200 + 4 * 200)
    assert layers == 4_826_000
    inputs, classifier = words * 100 + 2 * 100 + 200, 200 * 11 + 11
    assert model.count_params() == layers + inputs + classifier


# -- the same in NumPy


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def normalized(x, gamma, beta):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * gamma + beta


def multi_head(x, heads, kernels):
    (q, bq), (k, bk), (v, bv), (o, bo) = kernels

    def split(y):
        return y.reshape(len(y), heads, -1).transpose(1, 0, 2)

    q, k, v = split(x @ q + bq), split(x @ k + bk), split(x @ v + bv)
    context = softmax(q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[-1])) @ v
    return context.transpose(1, 0, 2).reshape(len(x), -1) @ o + bo


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm(x, kernel, recurrent, bias):
    h = c = np.zeros(recurrent.shape[0])
    out = []
    for row in x:
        i, f, g, o = np.split(row @ kernel + h @ recurrent + bias, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        out.append(h)
    return np.array(out)


def nonlinear(kind, x, weights):
    if kind == "ffn":
        return np.maximum(x @ weights[0] + weights[1], 0) @ weights[2] + weights[3]
    if kind == "rnn":
        return lstm(x, *weights[:3]) + lstm(x[::-1], *weights[3:])[::-1]
    padded = np.pad(x, [[1, 1], [0, 0]])
    both = sum(padded[i : i + len(x)] @ weights[0][i] for i in range(3)) + weights[1]
    return both[:, : x.shape[1]] * sigmoid(both[:, x.shape[1] :])


def in_numpy(model, kind, words, marks):
    def weights(layer):
        return [weight.numpy() for weight in layer.weights]

    width = 8
    place = np.arange(len(words))[:, None] * np.exp(-np.log(1e4) * np.arange(4) / 3)
    x = np.concatenate([weights(model.words)[0][words], weights(model.marks)[0][marks]], -1)
    x = (
        x * width**0.5
        + model.input_bias.numpy()
        + np.concatenate([np.sin(place), np.cos(place)], 1)
    )
    for number in range(2):
        first, second = (weights(layer) for layer in model.residual[2 * number : 2 * number + 2])
        x = normalized(x + nonlinear(kind, x, weights(model.nonlinear[number])), *first)
        heads = model.attention[number]
        kernels = [weights(each) for each in (heads.query, heads.key, heads.value)]
        x = normalized(x + multi_head(x, 2, [*kernels, weights(heads.output_layer)]), *second)
    kernel, bias = weights(model.output_layer)
    return x @ kernel + bias


@pytest.mark.parametrize("kind", NONLINEAR)
def test_it_computes_what_numpy_computes(models, kind):
    logits = models[kind]((WORDS, MARKS)).numpy()
    for row, length in ((0, 4), (1, 2)):  # padding changes nothing, too
        expected = in_numpy(models[kind], kind, WORDS[row, :length], MARKS[row, :length])
        np.testing.assert_allclose(logits[row, :length], expected, atol=2e-5)


def test_the_predicate_decides(models):
    other = models["ffn"]((WORDS, MARKS[:, ::-1])).numpy()
    assert np.abs(other - models["ffn"]((WORDS, MARKS)).numpy())[0].max() > 1e-3


def test_its_tags_are_the_best_valid_ones(models):
    model = models["cnn"]
    start, follow = allowed_tags(model.tag_names)
    logits, tags = model((WORDS, MARKS)).numpy(), model.tag((WORDS, MARKS)).numpy()
    assert not tags[1, 2:].any()
    for row, length in ((0, 4), (1, 2)):

        def value(path, row=row):
            valid = start[path[0]] and all(follow[pair] for pair in zip(path, path[1:]))
            return sum(logits[row, t, tag] for t, tag in enumerate(path)) if valid else -np.inf

        paths = np.ndindex(*[len(model.tag_names)] * length)
        assert tuple(tags[row, :length]) == max(paths, key=value)


@pytest.mark.parametrize("kind", NONLINEAR)
def test_it_is_saved_and_loaded(models, kind, tmp_path):
    check_saved(models[kind], (WORDS, MARKS), tmp_path)


@pytest.mark.full
@pytest.mark.parametrize("kind", NONLINEAR)
def test_it_is_exported(models, kind, tmp_path):
    check_exported(models[kind], (WORDS, MARKS), tmp_path)


@pytest.mark.full
@pytest.mark.parametrize("kind", NONLINEAR)
def test_it_is_trained(kind):
    model = DeepAtt(2 + len(IDS), LABELS, kind, layers=1, width=8, heads=2, ff_width=8)
    inputs, tags, weights = arrays(model, toy(16, np.random.default_rng(0)), IDS)
    model.compile(keras.optimizers.Adam(0.02), **token_objective(0.1))
    losses = model.fit(inputs, tags, sample_weight=weights, epochs=9, verbose=0).history["loss"]
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(nonlinear="lstm"), "nonlinear must be one of.*'lstm'"),
        (dict(labels=["V", "V"]), "different names of spans"),
        (dict(layers=0), "layers=0"),
    ],
)
def test_a_model_that_cannot_be_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        DeepAtt(**{**SIZES, **settings})


def test_inputs_that_do_not_fit_are_refused(models):
    with pytest.raises(ValueError, match=r"marks must be 1 .* Received: \[.*3"):
        models["ffn"]((WORDS, MARKS * 3))
    with pytest.raises(ValueError, match=r"marks must be \[B, T\]"):
        models["ffn"]((WORDS, MARKS[:, :2]))
    with pytest.raises(ValueError, match=r"one of this model's.*Received: \['B-A7'\]"):
        models["ffn"].encode_tags(["O", "B-A7"])


# -- spans, their score, their files


@pytest.mark.parametrize(
    "tags, expected",
    [
        ("O O", []),
        ("B-X I-X I-X O", [("X", ((0, 3),))]),
        ("B-X B-X I-X", [("X", ((0, 1),)), ("X", ((1, 3),))]),
        ("I-X I-X B-Y", [("X", ((0, 2),)), ("Y", ((2, 3),))]),
        ("B-X I-Y", [("X", ((0, 1),)), ("Y", ((1, 2),))]),
        ("B-X O I-X", [("X", ((0, 1),)), ("X", ((2, 3),))]),
        ("B-X B-V B-C-X I-C-X", [("X", ((0, 1), (2, 4))), ("V", ((1, 2),))]),
        ("B-C-X B-V", [("X", ((0, 1),)), ("V", ((1, 2),))]),
    ],
)
def test_spans_are_read_from_tags(tags, expected):
    assert arguments(tags.split()) == expected


@pytest.mark.parametrize(
    "gold, found, precision, recall",
    [
        ("B-A I-A B-V", "B-A I-A B-V", 100, 100),
        ("B-A I-A B-V", "B-A O B-V", 0, 0),  # a part of a span is wrong
        ("B-A I-A B-V", "B-B I-B B-V", 0, 0),  # and so is another label
        ("B-A B-V B-B", "B-A O O", 100, 50),  # the predicate does not count
        ("B-A B-V O", "B-A B-V B-B", 50, 100),
        ("B-A B-V B-C-A", "B-A B-V O", 0, 0),  # all parts or none
        ("B-A B-V B-C-A", "B-A B-V B-C-A", 100, 100),
        ("O B-V", "O O", 0, 0),
    ],
)
def test_whole_arguments_are_scored(gold, found, precision, recall):
    score = span_f1([gold.split()], [found.split()])
    f1 = 2 * precision * recall / (precision + recall or 1)
    assert (score["precision"], score["recall"]) == (precision, recall)
    assert score["f1"] == pytest.approx(f1)


def test_tags_that_are_none_and_other_tokens_are_refused():
    with pytest.raises(ValueError, match="'X' at 1"):
        arguments(["O", "X"])
    with pytest.raises(ValueError, match="2 gold tags and 1 found ones in sentence 0"):
        span_f1([["O", "O"]], [["O"]])


FILE = """# a comment
He\tPRP\t-\t-\t(A0*)\t(A0*
came\tVBD\tcome\tcome.01\t(V*)\t*)
,\t,\t-\t-\t*\t*
saw\tVBD\tsee\tsee.01\t*\t(V*)

Yes\tUH\t-\t-
"""


def test_predicates_are_read_from_a_file(tmp_path):
    path = tmp_path / "some.conll"
    path.write_text(FILE)
    first, second = read_propositions(path)
    assert first.words == second.words == ["He", "came", ",", "saw"]
    assert (first.lemma, first.predicate, second.predicate) == ("come", 1, 3)
    assert first.tags == ["B-A0", "B-V", "O", "O"]
    assert second.tags == ["B-A0", "I-A0", "O", "B-V"]


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("(A0*)\t(A0*", "(A0*)", "Received: 6 columns in .*some.conll, line 3"),
        ("(A0*)\t(A0*", "(A0*)\t(A0", r"Received: '\(A0' .*some.conll"),
        ("*\t(V*)", "*\t(A1(V*))", "not nested"),
        ("see.01", "-", "1 rolesets, 2 columns before .*line 6"),
    ],
)
def test_a_malformed_file_is_named(old, new, message, tmp_path):
    path = tmp_path / "some.conll"
    path.write_text(FILE.replace(old, new))
    with pytest.raises(ValueError, match=message):
        list(read_propositions(path))


def test_the_toy_has_both_voices():
    roles = {"active": set(), "passive": set()}
    for each in toy(200, np.random.default_rng(0)):
        assert each.words[each.predicate] == each.lemma and each.tags[each.predicate] == "B-V"
        voice = "passive" if each.words[each.predicate - 1] == "was" else "active"
        roles[voice].add(next(tag for tag in each.tags if tag[-4:] in ("ARG0", "ARG1")))
    assert roles == {"active": {"B-ARG0"}, "passive": {"B-ARG1"}}


def test_the_result_meets_its_bar():
    f1 = {run: results.figure("deepatt", run, "f1") for run in ("DEEPATT-FFN", "DEEPATT-RNN")}
    majority = results.figure("deepatt", "majority of lemma and distance", "f1")
    assert f1["DEEPATT-FFN"] >= f1["DEEPATT-RNN"] and f1["DEEPATT-FFN"] >= majority + 10
    toys = [
        results.figure("deepatt", f"DEEPATT-{kind}", "toy F1")
        for kind in ("FFN", "CNN", "RNN", "FFN without marks")
    ]
    assert min(toys[:3]) >= 97 and toys[3] <= toys[0] - 20


@pytest.mark.slow
@pytest.mark.parametrize("name", ["deepatt", "bilstm_crf"])
def test_it_learns_who_did_it(name, tmp_path):
    printed = run_toy(name, tmp_path)
    assert float(re.search(r"F1 of the arguments: ([\d.]+)", printed)[1]) >= 97
    assert is_png(tmp_path / f"{name}.png")


@pytest.mark.parametrize("kind", ["rnn", "cnn", "ffn"])
def test_the_kernels_of_the_sublayers_begin_orthogonal(kind):
    model = DeepAtt(**SIZES, nonlinear=kind)
    model.build()
    for layer in (*model.nonlinear, *model.attention):
        for weight in layer.weights:
            if len(weight.shape) > 1:
                kernel = np.reshape(weight, [-1, weight.shape[-1]])
                kernel = kernel if kernel.shape[0] >= kernel.shape[1] else kernel.T
                np.testing.assert_allclose(kernel.T @ kernel, np.eye(kernel.shape[1]), atol=1e-5)
