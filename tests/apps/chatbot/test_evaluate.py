import sys

import pytest

from apps.chatbot.evaluate import distinct, overlap


def test_distinct_counts_words_and_chinese_characters():
    assert distinct(["yes yes", "yes no"], 1) == 2 / 4
    assert distinct(["好好", "你好"], 1) == 2 / 4
    assert distinct(["a b a b", "a b"], 2) == 2 / 4


@pytest.mark.parametrize("answers", [[], [""], ["", "  "], ["one"]])
def test_no_pairs_of_words_are_not_distinct(answers):
    assert distinct(answers, 2) == 0.0


def test_answers_that_are_the_targets_overlap_wholly():
    pytest.importorskip("sacrebleu")
    texts = ["The cat sat on the mat.", "It did not move at all."]
    scores = overlap(texts, texts, "13a")
    assert scores["bleu"] == pytest.approx(100) and scores["chrf"] == pytest.approx(100)
    assert "tok:13a" in scores["bleu_signature"]
    assert overlap(["春风吹绿江南岸"], ["春风吹绿江南岸"], "char")["bleu"] == pytest.approx(100)


def test_without_sacrebleu_the_report_goes_without_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    assert overlap(["a"], ["a"], "13a") == {}
