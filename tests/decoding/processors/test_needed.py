"""Required phrases, against the enumeration of all answers."""

import itertools
import time

import numpy as np
import pytest
import tensorflow as tf

from keras_attention.decoding.processors._automaton import automaton, minimal_phrases, tokens_needed
from keras_attention.seq2seq import (
    ban,
    ban_phrases,
    combine,
    force,
    length_between,
    must_contain,
    prefix,
)
from tests.decoding.processors.walks import END, STEPS, after, says, some_phrases, those, told, walk


def test_the_start_token_begins_no_phrase():
    assert after(must_contain([(1, 2)])).extra.node.numpy().tolist() == [0]


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
def test_exactly_the_answers_with_all_phrases_are_left(phrases):
    found = walk(must_contain(phrases))
    assert found.answers == [those(says_all, phrases)]
    assert found.answers[0] and found.stuck == [set()]  # whatever is taken, it is met


def test_the_same_for_phrases_at_random():
    possible = 0
    for _ in range(40):
        phrases = some_phrases(3, 3)
        processor = must_contain(phrases)
        expected = those(says_all, phrases)
        shortest = next(n for n in range(10) if some_text_says(n, phrases))
        assert processor.cut_off == shortest and processor.shortest == shortest + 1
        found = walk(processor)
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
    processor = combine(must_contain(phrases), length_between(maximum=[4, 5, 9]))
    found, everything = walk(processor, batch=3), those(says_all, phrases)
    for b, most in enumerate([4, 5, 9]):
        within = {a for a in everything if most > STEPS or len(a) <= most and a[-1] == END}
        assert found.answers[b] == within and within
    assert found.stuck == [set()] * 3


def test_a_prefix_counts_for_the_phrases_and_for_the_room():
    processor = combine(prefix([2, 1]), must_contain([(1, 3), (2, 2)]))
    found = walk(processor)
    expected = those(lambda a: a[:2] == (2, 1) and says(a, (1, 3)) and says(a, (2, 2)))
    assert found.answers == [expected] and expected


def test_a_phrase_that_a_prefix_leaves_no_room_for_leaves_nothing_and_never_hangs():
    found = walk(combine(prefix([2, 2, 2]), must_contain([(1, 2, 3)])))
    assert found.answers == [set()] and found.stuck[0]


AROUND = [
    ([force({2: 1})], lambda a: len(a) > 2 and a[2] == 1),
    ([force({1: 2, 3: 3})], lambda a: len(a) > 3 and (a[1], a[3]) == (2, 3)),
    ([force({0: 2}), prefix([0, 0, 1])], lambda a: a[:1] == (2,) and a[2:3] == (1,)),
    ([ban_phrases([(1, 1), (3, 1)])], lambda a: not says(a, (1, 1)) and not says(a, (3, 1))),
    ([ban_phrases([(2, END), (3, 3)])], lambda a: not says(a, (2, END)) and not says(a, (3, 3))),
    ([ban([3])], lambda a: 3 not in a),
    (
        [ban_phrases([(2, 2, 1), (1, 2, 3)]), force({1: 2})],
        lambda a: not says(a, (2, 2, 1)) and not says(a, (1, 2, 3)) and a[1:2] == (2,),
    ),
    ([length_between(maximum=4), force({1: 2})], lambda a: len(a) < 5 and a[1:2] == (2,)),
]


@pytest.mark.parametrize("others, holds", AROUND)
def test_a_way_is_kept_open_around_what_others_ban_and_force(others, holds):
    """No beginning leads to nothing: so even the narrowest search satisfies them all."""
    possible = 0
    for phrases in [[(1, 2)], [(2, 1)], [(2, 1), (1, 2)], [(3, 1)], [(1, 1)], [(1, 3), (2, 2)]]:
        expected = those(lambda a: holds(a) and says_all(a, phrases))  # noqa: B023
        try:
            processor = combine(*others, *(must_contain([p]) for p in phrases))
        except ValueError:  # known beforehand
            assert not expected
            continue
        found = walk(processor)
        assert found.answers == [expected]
        ends_late = any(phrase[-1] == END for part in others for phrase in part.banned)
        assert not expected or found.stuck == [set()] or ends_late
        possible += bool(expected)
    assert possible


def test_the_way_left_around_what_is_banned_and_forced_is_the_shortest():
    """By trying all texts, of the words and one that no phrase has."""

    def fewest(phrases, banned, forced, begin):
        for n in range(9):
            for rest in itertools.product((1, 2, 3, 9), repeat=n):
                text = begin + rest
                places = zip(text[len(begin) :], forced[len(begin) :])
                if all(f in (-1, t) for t, f in places) and says_all(text, phrases):
                    if says_none(text, banned):
                        return n
        return 9

    for _ in range(12):
        phrases = minimal_phrases(some_phrases(2, 2))
        banned = [b for b in some_phrases(2, 3) if not any(says(p, b) for p in phrases)]
        forced = np.random.choice([-1, -1, 1, 2], np.random.randint(4)).tolist()
        machine = automaton(phrases, banned)
        need = tokens_needed(machine, len(phrases), forced)
        found, wanted = need[0, 0, 0], fewest(phrases, banned, forced, ())
        assert min(found, 9) == wanted


def test_the_limit_may_be_a_tensor():
    processor = must_contain([(1, 2, 3)])

    @tf.function(autograph=False)
    def first(limit):
        return processor.apply(tf.zeros([1, 4]), after(processor, steps=limit))

    assert np.flatnonzero(np.isfinite(first(tf.constant(3))[0])).tolist() == [1]
    assert np.flatnonzero(np.isfinite(first(tf.constant(4))[0])).tolist() == [1, 2, 3]
    assert np.isinf(first(tf.constant(2))).all()


def test_the_remaining_length_is_that_of_the_shortest_text_with_all_phrases():
    """The shortest common superstring, over all orders of the phrases."""

    def joined(one, other):
        size = next(s for s in range(len(other), -1, -1) if one[len(one) - s :] == other[:s])
        return one + other[size:]

    for _ in range(10):
        words = np.random.randint(1, 5, [8, 3])
        phrases = minimal_phrases([tuple(phrase.tolist()) for phrase in words])[:5]
        texts = []
        for order in itertools.permutations(phrases):
            text = ()
            for phrase in order:
                text = joined(text, phrase)
            texts.append(len(text))
        assert tokens_needed(automaton(phrases), len(phrases))[0, 0, 0] == min(texts)


def test_ten_phrases_are_allowed_and_eleven_not():
    phrases = [tuple(range(10 * i + 1, 10 * i + 11)) for i in range(10)]
    begin = time.process_time()
    assert must_contain(phrases).shortest == 101
    assert time.process_time() - begin < 2
    with pytest.raises(ValueError, match="at most 10 different phrases.*Received: 11 phrases"):
        must_contain([*phrases, (777,)])
    with pytest.raises(ValueError, match="at most 10 different phrases.*Received: 11 phrases"):
        combine(must_contain(phrases), must_contain([(777,)]))
    with pytest.raises(ValueError, match="1000 tokens.*of 1001 tokens"):
        must_contain([range(1001)])


def test_no_token_is_possible_after_the_end():
    with pytest.raises(ValueError, match="must not hold the end token.*Received: end_id=0"):
        must_contain([[1, END]]).init(told())
