"""Banned and needed phrases against the enumeration of all answers."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from keras_attention.seq2seq import ban, ban_phrases, combine, length_between, must_contain, prefix
from keras_attention.seq2seq.controls._automaton import automaton, needful, tokens_needed
from tests.seq2seq.controls.walks import END, STEPS, after, open_tokens, says, those, told, walk

WORDS = (1, 2, 3)


def some_phrases(most, longest):
    """Up to `most` phrases of words, drawn so that they often overlap and repeat themselves."""
    sizes = np.random.randint(1, longest + 1, np.random.randint(1, most + 1))
    words = np.random.choice(WORDS, np.random.randint(1, 4), replace=False)
    return [tuple(np.random.choice(words, size).tolist()) for size in sizes]


def test_banned_tokens_are_never_said_and_all_else_is():
    for tokens in ([], [2], [1, 3, 1], [END], range(4)):
        expected = those(set(tokens).isdisjoint)
        assert walk(ban(tokens)).answers == [expected]


def test_banned_phrases_are_never_said_and_all_else_is():
    given = [[], [(1, 2)], [(1, 1)], [(3, END)], [(2,), (1, 3, 1)], [(1, 2, 3, 1, 2, 3)]]
    for phrases in given + [some_phrases(4, 4) for _ in range(15)]:
        expected = those(says_none, phrases)
        assert walk(ban_phrases(phrases)).answers == [expected]


def test_the_start_token_begins_no_phrase():
    control = ban_phrases([(1, 2)])
    assert open_tokens(control, after(control)) == [[0, 1, 2, 3]]
    needed = must_contain([(1, 2)])
    state = after(needed)
    assert state.node.numpy().tolist() == [0]


def says_all(text, phrases):
    return all(says(text, phrase) for phrase in phrases)


def says_none(text, phrases):
    return not any(says(text, phrase) for phrase in phrases)


CRUEL = [
    [],
    [(2,)],
    [(1, 1)],
    [(1, 2), (2, 3)],  # one overlaps the other
    [(1, 2), (2, 1)],  # in either order
    [(1, 2, 1, 2)],  # and itself
    [(1, 2), (1, 2)],  # given twice
    [(1, 2, 3), (2,), (2, 3)],  # one inside the other
    [(1, 1, 2), (1, 2)],
    [(1,), (2,), (3,)],
    [(1, 2, 3, 1, 2)],  # all there is room for
    [(1, 2, 1), (1, 3, 1)],
]


@pytest.mark.parametrize("phrases", CRUEL, ids=str)
def test_exactly_the_answers_that_say_all_phrases_are_left(phrases):
    found = walk(must_contain(phrases))
    assert found.answers == [those(says_all, phrases)]
    assert found.answers[0] and found.stuck == [set()]  # whatever is taken, it is met


def test_the_same_for_phrases_at_random():
    possible = 0
    for _ in range(40):
        phrases = some_phrases(3, 3)
        control = must_contain(phrases)
        expected = those(says_all, phrases)
        shortest = next(n for n in range(10) if some_text_says(n, phrases))
        assert control.cut_off == shortest and control.shortest == shortest + 1
        found = walk(control)
        assert found.answers == [expected]
        assert bool(expected) == (shortest <= STEPS) == (found.stuck == [set()])
        possible += bool(expected)
    assert possible > 20


def some_text_says(n, phrases):
    """By trying all texts of n words."""
    words = {token for phrase in phrases for token in phrase}
    return any(says_all(text, phrases) for text in itertools.product(words, repeat=n))


def test_room_is_made_before_a_maximum_that_is_sooner_than_the_limit():
    phrases = [(1, 2), (2, 3)]
    control = combine(must_contain(phrases), length_between(maximum=[4, 5, 9]))
    found, everything = walk(control, batch=3), those(says_all, phrases)
    for b, most in enumerate([4, 5, 9]):
        within = {a for a in everything if most > STEPS or len(a) <= most and a[-1] == END}
        assert found.answers[b] == within and within
    assert found.stuck == [set()] * 3


def test_a_prefix_counts_for_the_phrases_and_for_the_room():
    control = combine(prefix([2, 1]), must_contain([(1, 3), (2, 2)]))
    found = walk(control)
    expected = those(lambda a: a[:2] == (2, 1) and says(a, (1, 3)) and says(a, (2, 2)))
    assert found.answers == [expected] and expected


def test_a_phrase_that_a_prefix_leaves_no_room_for_leaves_nothing_and_never_hangs():
    found = walk(combine(prefix([2, 2, 2]), must_contain([(1, 2, 3)])))
    assert found.answers == [set()] and found.stuck[0]


def test_the_limit_may_be_a_tensor():
    control = must_contain([(1, 2, 3)])

    @tf.function(autograph=False)
    def first(limit):
        return control.apply(tf.zeros([1, 4]), after(control, steps=limit))

    assert np.flatnonzero(np.isfinite(first(tf.constant(3))[0])).tolist() == [1]
    assert np.flatnonzero(np.isfinite(first(tf.constant(4))[0])).tolist() == [1, 2, 3]
    assert np.isinf(first(tf.constant(2))).all()


def test_the_way_left_is_the_shortest_text_that_says_all():
    """The shortest common superstring, over all orders of the phrases."""

    def joined(one, other):
        size = next(s for s in range(len(other), -1, -1) if one[len(one) - s :] == other[:s])
        return one + other[size:]

    for _ in range(10):
        words = np.random.randint(1, 5, [8, 3])
        phrases = needful([tuple(phrase.tolist()) for phrase in words])[:5]
        texts = []
        for order in itertools.permutations(phrases):
            text = ()
            for phrase in order:
                text = joined(text, phrase)
            texts.append(len(text))
        assert tokens_needed(automaton(phrases), len(phrases))[0, 0] == min(texts)


def test_ten_phrases_may_be_asked_for_and_eleven_not():
    phrases = [tuple(range(5 * i + 1, 5 * i + 6)) for i in range(10)]
    assert must_contain(phrases).shortest == 51
    with pytest.raises(ValueError, match="10 different phrases at most. Received: 11"):
        must_contain([*phrases, (77,)])


@pytest.mark.parametrize("of", [ban_phrases, must_contain])
@pytest.mark.parametrize(
    "phrases, message",
    [
        ([[]], "one id at least"),
        ([[1], []], "one id at least"),
        ([1, 2], "lists of ids"),
        ([[1, -2]], "not be negative"),
        ([[1.5]], "whole numbers"),
    ],
)
def test_phrases_that_are_none_are_refused(of, phrases, message):
    with pytest.raises(ValueError, match=message):
        of(phrases)


@pytest.mark.parametrize("control", [ban([2, 4]), ban_phrases([[1, 4]]), must_contain([[4]])])
def test_ids_that_the_vocabulary_does_not_have_are_refused_by_name(control):
    with pytest.raises(ValueError) as refusal:
        control.init(told())
    assert str(refusal.value).startswith(f"{control.name} needs ids below") and "4" in control.name
    state = control.init(told(vocabulary=None))  # nothing is known of it before the first step
    with pytest.raises(ValueError) as again:
        control.apply(tf.zeros([1, 4]), state)
    assert str(again.value) == str(refusal.value)


def test_nothing_can_be_said_after_the_end():
    with pytest.raises(ValueError, match="must not hold the end token.*Received: end_id=0"):
        must_contain([[1, END]]).init(told())
    with pytest.raises(ValueError, match="not be negative"):
        ban([-1])
