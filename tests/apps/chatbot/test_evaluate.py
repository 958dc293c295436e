import sys

import pytest

from apps.chatbot.evaluate import bleu_tokenizer, distinct, overlap


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


def test_without_sacrebleu_there_are_no_scores(monkeypatch):
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    scores = overlap(["a"], ["a"], "13a")
    assert scores == {"bleu": None, "chrf": None, "bleu_signature": None}


@pytest.mark.parametrize(
    "targets, tokenizer",
    [
        (["How are you?", "Nice to meet you, 李."] * 9, "13a"),
        (["你好吗？", "我是 Python 写的。"], "zh"),
        (["Hello!"] * 3 + ["你好"], "zh"),
        (["元気ですか", "日本語"], "char"),
        (["สวัสดี"], "char"),
        (["བཀྲ་ཤིས་བདེ་ལེགས།"], "char"),
        (["ﾊﾛｰ"], "char"),
        (["안녕하세요 여러분"], "13a"),
        ([""], "13a"),
    ],
)
def test_bleu_counts_words_as_the_script_has_them(targets, tokenizer):
    if tokenizer == "13a" and len(targets) > 2:
        targets = targets + ["Fine."] * 90  # a few Chinese names are no Chinese
    assert bleu_tokenizer(targets) == tokenizer


def test_a_chinese_answer_that_is_nearly_right_has_a_bleu():
    pytest.importorskip("sacrebleu")
    answers, targets = ["我今天很高兴认识你们大家"], ["我今天非常高兴认识你们大家"]
    assert overlap(answers, targets, "13a")["bleu"] == 0
    scores = overlap(answers, targets, bleu_tokenizer(targets))
    assert scores["bleu"] > 50 and "tok:zh" in scores["bleu_signature"]
    with pytest.raises(ValueError, match="--bleu_tokenize=none-such"):
        overlap(answers, targets, "none-such")
