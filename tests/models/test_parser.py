import re
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.data import batches
from keras_attention.training import token_objective
from models._trees import (
    bracket_f1,
    constituents,
    is_well_formed,
    linear,
    read_tree,
    repaired,
    words,
)
from models.parser import MODELS, Parser, grammar
from tests import results
from tests.models.decoders import check_export
from tests.models.toy import is_png, run_toy

SIZES = {
    "transformer": dict(layers=1, width=8, heads=2, ff_width=8),
    "lstm+attention": dict(units=8),
    "lstm": dict(units=8),
}
TREE = ("S", (("NP", ("the", "dog")), ("VP", ("saw", ("NP", ("mary",)))), "."))


@pytest.fixture(scope="module")
def trees():
    return grammar(300, np.random.default_rng(0))


# -- trees


def test_every_tree_comes_back_from_its_brackets(trees):
    for tree in [*trees, TREE, ("TOP", (TREE, TREE)), ("S", ("go",))]:
        assert repaired(linear(tree), words(tree)) == tree
        assert is_well_formed(linear(tree), len(words(tree)))


@pytest.mark.parametrize(
    "brackets, expected",
    [
        ("(S (NP XX XX )NP (VP XX", "(S (NP a b )NP (VP c )VP )S"),  # cut off
        ("(S (NP XX XX (VP XX )S", "(S (NP a b (VP c )VP )NP )S"),  # closed from outside
        ("(S (NP XX XX )VP XX )S", "(S (NP a b c )NP )S"),  # closed, but not open
        ("(S XX )S", "(TOP (S a )S b c )TOP"),  # words are missing
        ("(S XX XX XX XX XX )S", "(S a b c )S"),  # too many words
        ("(S (NP )NP XX XX XX )S", "(S a b c )S"),  # nothing inside
        ("(S XX )S (S XX XX )S", "(TOP (S a )S (S b c )S )TOP"),  # two trees
        ("", "(TOP a b c )TOP"),
        (")S )S", "(TOP a b c )TOP"),
    ],
)
def test_malformed_brackets_are_repaired(brackets, expected):
    tree = repaired(brackets.split(), ["a", "b", "c"])
    assert words(tree) == ["a", "b", "c"]
    letters = re.sub(r"(?<= )[abc](?= )", "XX", expected).split()
    assert linear(tree) == letters
    assert not is_well_formed(brackets.split(), 3)


def test_any_sequence_is_a_tree_of_the_words():
    rng = np.random.default_rng(0)
    for _ in range(300):
        brackets = rng.choice(["(A", "(B", ")A", ")B", "XX"], rng.integers(0, 12)).tolist()
        assert words(repaired(brackets, ["a", "b", "c"])) == ["a", "b", "c"]


def test_constituents_are_spans_without_punctuation():
    assert constituents(TREE) == {
        ("S", 0, 4): 1, ("NP", 0, 2): 1, ("VP", 2, 4): 1, ("NP", 3, 4): 1,
    }  # fmt: skip
    twice = ("TOP", (("NP", (("NP", ("it", ",")),)), ("X", (".",))))
    assert constituents(twice) == {("NP", 0, 1): 2}


@pytest.mark.parametrize(
    "found, right, claimed",
    [
        ("(S (NP the dog) (VP saw (NP (N mary))) .)", 4, 4),
        ("(S (NP the dog) (VP saw mary) .)", 3, 3),
        ("(S (NP the dog) (X saw (NP (N mary))) .)", 3, 4),
        ("(S (NP the dog saw) (NP (N mary)) .)", 2, 3),
        ("(S (S (NP the dog) (VP saw (NP (N mary)))) .)", 4, 5),  # one S too many
        ("(TOP the dog saw mary .)", 0, 0),
    ],
)
def test_f1_counts_labelled_spans(found, right, claimed):
    score = bracket_f1([TREE], [read_tree(found)])
    assert score["precision"] == pytest.approx(100 * right / (claimed or 1))
    assert score["recall"] == pytest.approx(25 * right)
    assert score["f1"] == pytest.approx(200 * right / (4 + claimed))


def test_trees_of_the_penn_treebank_are_read():
    text = "( (S (NP (DT the) (NN dog)) (VP (VBD saw) (NP (NNP mary))) (. .)) )"
    assert read_tree(text) == ("TOP", (TREE,))
    assert read_tree("(S (VB go))") == ("S", ("go",))


@pytest.mark.parametrize("text", ["", "(S (NP a)", "(S a))", "(S a) (S b)", "word", "(S (NP) a)"])
def test_text_that_is_no_tree_is_refused(text):
    with pytest.raises(ValueError, match=re.escape(f": {text!r}")):
        read_tree(text)


def test_trees_of_other_words_are_refused():
    with pytest.raises(ValueError, match=r"as trees 0"):
        bracket_f1([TREE], [("S", ("a",))])


# -- parsers


@pytest.fixture(scope="module", params=MODELS)
def parser(request, trees):
    return Parser(request.param, Parser.tokens_of(trees), **SIZES[request.param])


def test_a_parser_gives_a_tree_for_any_sentence(parser):
    sentences = [["mary", "saw", "the", "unicorn"], ["john"]]
    found = parser.parse(sentences, beam_width=2, max_length=8)
    assert [words(tree) for tree in found.trees] == sentences
    for brackets, good, sentence in zip(found.brackets, found.well_formed, sentences):
        assert not good or is_well_formed(brackets, len(sentence))
    if parser.kind != "lstm":
        maps = parser.parse(sentences, alignments=True, max_length=8).alignments
        assert [each.shape[1] for each in maps] == [5, 2]
        np.testing.assert_allclose(maps[1].sum(1), 1, atol=1e-5)


def test_an_answer_that_is_a_tree_is_taken_as_it_is(parser, monkeypatch):
    """The ids of the right brackets, as if the model had written them."""
    trees = [("S", ("mary", ("VP", ("saw",)))), ("S", ("john",))]
    _, targets = parser.ids(trees)
    ids, lengths = np.zeros([2, 1, 9], np.int32), np.zeros([2, 1], np.int32)
    for row, brackets in enumerate(targets):
        ids[row, 0, : len(brackets) + 1] = [*brackets, 2]
        lengths[row] = len(brackets) + 1
    written = types.SimpleNamespace(ids=tf.constant(ids), lengths=tf.constant(lengths))
    monkeypatch.setattr(parser.model, "generate", lambda *_, **__: written)
    found = parser.parse([["mary", "saw"], ["john"]])
    assert found.trees == trees and found.well_formed == [True, True]
    assert parser.parse([["mary"], ["john"]]).well_formed == [False, True]


def test_lstms_read_backwards(parser):
    sources, targets = parser.ids([TREE[:1] + (TREE[1][:2],)])
    forwards = [parser.tokens[i] for i in sources[0]][:: 1 if parser.kind == "transformer" else -1]
    assert forwards == ["the", "dog", "saw", "mary"]
    assert [parser.tokens[i] for i in targets[0]] == linear(("S", TREE[1][:2]))


def test_what_cannot_be_is_refused(parser):
    with pytest.raises(ValueError, match="kind must be one of.*'gru'"):
        Parser("gru", [])
    with pytest.raises(ValueError, match=r"a token of this parser. Received: \['\(QP', '\)QP'\]"):
        parser.ids([("QP", ("mary",))])


@pytest.mark.full
def test_a_clean_process_answers_the_same(parser, tmp_path):
    check_export(parser.model, tmp_path, return_alignments=parser.kind != "lstm")


@pytest.mark.full
def test_parsers_are_trained(parser, trees):
    parser.model.compile(keras.optimizers.Adam(0.02), **token_objective())
    data = batches(*parser.ids(trees), 50)
    losses = parser.model.fit(data, epochs=3, shuffle=False, verbose=0).history["loss"]
    assert losses[-1] < 0.9 * losses[0]


def test_the_result_meets_its_bar():
    runs = ("Transformer", "LSTM with attention", "LSTM")
    f1 = {run: results.figure("parser", run, "f1") for run in runs}
    assert f1["Transformer"] >= 98 and f1["LSTM with attention"] >= f1["LSTM"] + 10
    assert results.figure("parser", "Transformer", "well-formed") >= 99


@pytest.mark.slow
def test_it_learns_a_small_grammar(tmp_path):
    printed = run_toy("parser", tmp_path)
    assert float(re.search(r"F1 of the constituents: ([\d.]+)", printed)[1]) >= 95
    assert is_png(tmp_path / "parser.png")
