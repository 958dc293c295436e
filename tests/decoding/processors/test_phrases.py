"""Banned phrases, against the enumeration of all answers, and invalid phrases."""

import pytest
import tensorflow as tf

from keras_attention.seq2seq import ban, ban_phrases, must_contain
from tests.decoding.processors.walks import (
    END,
    after,
    open_tokens,
    says,
    some_phrases,
    those,
    told,
    walk,
)


def test_banned_tokens_are_never_generated_and_all_else_is():
    for tokens in ([], [2], [1, 3, 1], [END], range(4)):
        expected = those(set(tokens).isdisjoint)
        assert walk(ban(tokens)).answers == [expected]


def test_banned_phrases_are_never_generated_and_all_else_is():
    given = [[], [(1, 2)], [(1, 1)], [(3, END)], [(2,), (1, 3, 1)], [(1, 2, 3, 1, 2, 3)]]
    for phrases in given + [some_phrases(4, 4) for _ in range(15)]:
        expected = those(says_none, phrases)
        assert walk(ban_phrases(phrases)).answers == [expected]


def test_the_start_token_begins_no_phrase():
    processor = ban_phrases([(1, 2)])
    assert open_tokens(processor, after(processor)) == [[0, 1, 2, 3]]


def says_none(text, phrases):
    return not any(says(text, phrase) for phrase in phrases)


@pytest.mark.parametrize("of", [ban_phrases, must_contain])
@pytest.mark.parametrize(
    "phrases, message",
    [
        ([[]], "at least one id"),
        ([[1], []], "at least one id"),
        ([1, 2], "lists of at least one id"),
        ([[1, -2]], "not be negative"),
        ([[1.5]], "whole numbers"),
    ],
)
def test_invalid_phrases_are_refused(of, phrases, message):
    with pytest.raises(ValueError, match=message):
        of(phrases)


@pytest.mark.parametrize("processor", [ban([2, 4]), ban_phrases([[1, 4]]), must_contain([[4]])])
def test_ids_that_the_vocabulary_does_not_have_are_refused_by_name(processor):
    with pytest.raises(ValueError) as refusal:
        processor.init(told())
    assert (
        str(refusal.value).startswith(f"{processor.name} needs ids below") and "4" in processor.name
    )
    state = processor.init(told(vocabulary=None))  # nothing is known of it before the first step
    with pytest.raises(ValueError) as again:
        processor.apply(tf.zeros([1, 4]), state)
    assert str(again.value) == str(refusal.value)


def test_ids_below_0_are_none():
    with pytest.raises(ValueError, match="not be negative"):
        ban([-1])
