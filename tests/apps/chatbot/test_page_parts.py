"""The n best of an export in the words and the HTML of the page; no browser."""

import json
import re

import numpy as np
import pytest
import tensorflow as tf

from apps.chatbot.page_parts import (
    choices,
    conversation,
    looked_at,
    n_best,
    problem,
    question,
)
from keras_attention.export.server import Servable, load

WRONG = {
    "temperature": (0.0, "Expected temperature above 0. Received: 0"),
    "top_k": (2.5, "Expected 'top_k' as int32. Received: 2.5, with float"),
    "top_p": (1.5, "Expected top_p above 0 and at most 1. Received: 1.5"),
    "max_length": (99, "Expected max_length 1 to 13, the exported one. Received: 99"),
    "seed": (10**12, "Expected 'seed' as int32. Received: 1000000000000"),
    "length_penalty": (None, "Expected a number as length_penalty. Received: nothing."),
}


@pytest.fixture(scope="module")
def chat(untrained_chat):
    return load(untrained_chat[0]), untrained_chat[1]


@pytest.fixture(scope="module")
def couplets(untrained_couplets):
    return load(untrained_couplets[0]), untrained_couplets[1]


def ask(model, turns, settings, couplet=False):
    signature, inputs = question(model, turns, settings)
    return n_best(signature(inputs), turns[-1], couplet)


@pytest.mark.full
def test_the_n_best_are_those_of_the_export(chat):
    model, responder = chat
    for line in ("Hello", "你好，你"):
        best = ask(model, [line], responder.settings)
        expected = {
            name: value.numpy()[0]
            for name, value in responder.serving_default(tf.constant([line])).items()
        }
        assert [reply["reply"].encode() for reply in best["replies"]] == list(expected["replies"])
        scores = [reply["score"] for reply in best["replies"]]
        np.testing.assert_allclose(scores, expected["scores"], 1e-5)
        assert best["source"] == [*line, "</s>"]
        for reply, length, looked in zip(
            best["replies"], expected["lengths"], expected["alignments"]
        ):
            assert len(reply["tokens"]) == length
            np.testing.assert_allclose(reply["looked"], looked[:length], atol=1e-4)
        assert json.loads(json.dumps(best)) == best  # the browser keeps it


@pytest.mark.full
def test_the_turns_before_a_line_are_read_with_it(chat):
    model, responder = chat
    alone = ask(model, ["你好"], responder.settings)
    assert alone["source"] == ["你", "好", "</s>"]
    after = ask(model, ["，", "你好"], responder.settings)
    assert after["source"] == ["，", "<unk>", "你", "好", "</s>"]
    assert [[reply["reply"] for reply in after["replies"]]] == responder.replies(["，\t你好"])


@pytest.mark.parametrize("name", WRONG)
def test_a_setting_out_of_its_range_is_reported_in_words(chat, name):
    model, responder = chat
    value, words = WRONG[name]
    with pytest.raises(ValueError) as error:
        ask(model, ["Hello"], responder.settings._replace(**{name: value}))
    assert words in problem(error.value).replace("&#x27;", "'")
    assert "assertion" not in problem(error.value)


@pytest.mark.parametrize("line", ["", " \u3000", "🙂", "\ud800"])
def test_a_line_without_an_answer_is_reported_in_words(chat, line):
    model, responder = chat
    with pytest.raises(ValueError) as error:
        ask(model, [line], responder.settings)
    shown = problem(error.value)
    shown.encode()  # half of a surrogate pair could not be sent
    assert re.search("No reply|Received", shown) and "couplet" not in shown


def test_an_export_without_settings_is_reported_what_it_lacks(chat):
    model, responder = chat
    fewer = {name: model.signatures[name] for name in ("serving_default", "score")}
    with pytest.raises(ValueError, match="generate_with_settings.*Export the model again"):
        ask(Servable(1, fewer, {}, None), ["Hello"], responder.settings)


@pytest.mark.full
def test_a_couplet_too_long_to_be_matched_is_reported_in_words(couplets):
    model, responder = couplets
    best = ask(model, ["春风"], responder.settings, couplet=True)
    assert {len(reply["reply"]) for reply in best["replies"]} == {2}
    with pytest.raises(ValueError, match="more characters than this model's couplets"):
        ask(model, ["春" * 13], responder.settings, couplet=True)


@pytest.mark.full
def test_a_model_without_attention_reports_it(couplets):
    model, responder = couplets
    best = ask(model, ["春风"], responder.settings, couplet=True)
    assert "no attention" in looked_at(best, 0)
    with pytest.raises(ValueError, match="no attention"):
        ask(model, ["春风"], responder.settings._replace(coverage_penalty=1.0))


def test_each_reply_has_its_own_heat_map(chat):
    model, responder = chat
    best = ask(model, ["你好<b>"], responder.settings)
    shown = [looked_at(best, place) for place, _ in enumerate(best["replies"])]
    assert len(set(shown)) == len(shown) == 3
    for reply, table in zip(best["replies"], shown):
        assert table.count("<tr>") == 1 + len(reply["tokens"])
        assert table.count("<td ") == len(reply["tokens"]) * len(best["source"])
    assert [place for _, place in choices(best)] == [0, 1, 2]


def test_turns_are_escaped_in_html():
    line = "<img src='http://a/b.png'> & {{x}} ${y}"
    for shown in (conversation([line, line]), problem(ValueError(line))):
        assert "<img" not in shown and "&lt;img" in shown
