"""Contradictions are refused before a search begins."""

import numpy as np
import pytest
import tensorflow as tf

from keras_attention.decoding.processors import check
from keras_attention.seq2seq import (
    LogitsProcessor,
    allowed_at,
    ban,
    ban_phrases,
    combine,
    exact_length,
    force,
    length_between,
    must_contain,
    no_repeat_ngram,
    prefix,
    relative_length,
    repetition_pattern,
    top_k,
)
from tests.decoding.processors.walks import END, those, told, walk

ADDS = [-1, -1, 1, 1, 3]


def masks(sources, steps, without):
    """All tokens for all sources but one, which the last source may not say."""
    mask = np.ones([sources, steps, 3], bool)
    mask[-1, :, without] = False
    return allowed_at(mask)


CONTRADICTIONS = [
    (lambda: [length_between(5)], 4, "length_between(minimum=5)", "max_length=4"),
    (
        lambda: [length_between(0, 3), length_between(5)],
        9,
        "length_between(minimum=5)",
        "maximum=3)",
    ),
    (
        lambda: [length_between(maximum=[3, 4]), length_between([1, 5])],
        9,
        "minimum=[1, 5]",
        "for source 1",
    ),
    (
        lambda: [length_between(maximum=[2, 3, 4]), length_between([2, 3])],
        9,
        "minimum",
        "2 and 3 lengths",
    ),
    (lambda: [length_between([1, 5])], 4, "length_between(minimum=[1, 5])", "max_length=4"),
    (lambda: [ban([7, 5]), force({0: 5})], 9, "force({0: 5})", "ban([7, 5])"),
    (lambda: [force({4: 5})], 4, "force({4: 5})", "max_length=4"),
    (
        lambda: [length_between(maximum=5), force({4: 5})],
        9,
        "force({4: 5})",
        "length_between(maximum=5)",
    ),
    (lambda: [prefix([1, 2, 3])], 2, "prefix([1, 2, 3])", "max_length=2"),
    (lambda: [prefix([[1, 0, 0], [1, 2, 3]])], 2, "prefix", "max_length=2"),
    (lambda: [ban([2]), prefix([[1, 0], [1, 2]])], 9, "prefix", "ban([2])"),
    (lambda: [must_contain([[1, 2, 3]])], 2, "must_contain([[1, 2, 3]])", "max_length=2"),
    (lambda: [length_between(maximum=2), must_contain([[1, 2]])], 9, "must_contain", "(maximum=2)"),
    (lambda: [ban([3]), must_contain([[1, 2], [3]])], 9, "must_contain([[1, 2], [3]])", "ban([3])"),
    (
        lambda: [allowed_at([[True, True, False]]), must_contain([[2]])],
        9,
        "must_contain",
        "1x3 mask",
    ),
    (
        lambda: [exact_length([2], END, ADDS), must_contain([[1]])],
        9,
        "must_contain",
        "exact_length([2])",
    ),
    (
        lambda: [exact_length([3], END, ADDS), length_between(5)],
        9,
        "minimum=5",
        "exact_length([3])",
    ),
    (
        lambda: [length_between(maximum=3), exact_length([7], END, ADDS)],
        9,
        "exact_length([7])",
        "maximum=3",
    ),
    (lambda: [allowed_at(np.ones([2, 4], bool)), length_between(4)], 9, "minimum=4", "2x4 mask"),
    (lambda: [prefix([1, 2]), force({1: 5})], 9, "force({1: 5})", "position 1"),
    (lambda: [force({1: 2}), prefix([[1, 2], [3, 4]])], 9, "prefix", "position 1"),
    (lambda: [ban_phrases([[3, 4]]), prefix([3, 4])], 9, "prefix([3, 4])", "ban_phrases([[3, 4]])"),
    (
        lambda: [ban_phrases([[9], [3, 4]]), force({1: 3, 2: 4})],
        9,
        "force",
        "both concern the tokens [3, 4] of [-1, 3, 4]",
    ),
    (
        lambda: [ban_phrases([[3, 4]]), must_contain([[5, 3, 4]])],
        9,
        "must_contain",
        "ban_phrases([[3, 4]])",
    ),
    (
        lambda: [no_repeat_ngram(1), must_contain([[3, 3]])],
        9,
        "must_contain([[3, 3]])",
        "no_repeat_ngram(1)",
    ),
    (
        lambda: [no_repeat_ngram(1), force({0: 3, 2: 3})],
        9,
        "force({0: 3, 2: 3})",
        "no_repeat_ngram(1)",
    ),
    (
        lambda: [no_repeat_ngram(2), prefix([1, 2, 1, 2])],
        9,
        "prefix([1, 2, 1, 2])",
        "no_repeat_ngram(2)",
    ),
    (
        lambda: [repetition_pattern([-1, 0]), force({0: 3, 1: 4})],
        9,
        "force",
        "repetition_pattern([-1, 0])",
    ),
    (lambda: [repetition_pattern([-1, 0]), prefix([[1, 1], [1, 2]])], 9, "prefix", "position 1"),
    (
        lambda: [allowed_at([[True] * 2, [False, True]]), force({1: 0})],
        9,
        "force({1: 0})",
        "2x2 mask",
    ),
    (lambda: [masks(2, 1, without=1), force({0: 1})], 9, "force({0: 1})", "2x1x3 mask"),
    (lambda: [allowed_at(np.ones([3, 1, 3], bool)), prefix([[1], [2]])], 9, "3x1x3", "2 rows"),
    (
        lambda: [must_contain([[3, 4]]), must_contain([[1, 2]])],
        3,
        "must_contain([[1, 2]])",
        "[[3, 4]]",
    ),
    (
        lambda: [prefix([3, 3]), must_contain([[1, 2]])],
        3,
        "must_contain([[1, 2]])",
        "prefix([3, 3])",
    ),
    (lambda: [force({1: 3}), must_contain([[1, 2]])], 3, "must_contain([[1, 2]])", "force({1: 3})"),
]


@pytest.mark.parametrize("make, limit, first, second", CONTRADICTIONS)
def test_a_contradiction_is_refused_by_the_names_of_both(make, limit, first, second):
    both = make()
    with pytest.raises(ValueError) as refusal:
        check(both, limit)
    message = str(refusal.value)
    assert first in message and second in message and "Received: " in message
    with pytest.raises(ValueError) as again:  # also of one that was combined, by the same names
        check([combine(top_k(3), *both)], limit)
    assert str(again.value) == message


@pytest.mark.parametrize(
    "make, limit",
    [
        (lambda: [], 1),
        (lambda: [length_between(5, 5)], 5),
        (lambda: [prefix([1, 2])], 2),
        (lambda: [must_contain([[1, 2], [2, 3]])], 3),  # they overlap; the answer is cut off
        (lambda: [must_contain([[1, 2], [2, 3]]), length_between(maximum=4)], 3),
        (lambda: [length_between([1, 5]), length_between(maximum=[1, 6])], 9),
        (lambda: [length_between(50)], lambda: tf.constant(60)),
        (lambda: [relative_length(0.5, 1.5), length_between(3)], 9),
        (lambda: [exact_length([3, 4], END, ADDS), length_between([2, 3], [4, 5])], 9),
        (lambda: [force({0: 5}), ban([4]), must_contain([[5]])], 9),
        (lambda: [force({0: 1, 3: 4}), prefix([[0, 2], [1, 2]])], 9),
        (lambda: [must_contain([[1, 2]]), must_contain([[2, 3]])], 3),  # they overlap, too
        (lambda: [must_contain([[1, 2]]), prefix([3, 1])], 3),  # the prefix begins the phrase
        (
            lambda: [must_contain([[1, 2]]), prefix([[3, 3], [1, 2]])],
            3,
        ),  # known to whom it may concern
        (lambda: [force({0: 3, 2: 4}), ban_phrases([[3, 4], [4, 3]])], 9),
        (lambda: [force({0: 3, 2: 4, 3: 4}), no_repeat_ngram(2)], 9),
        (lambda: [force({0: 3, 3: 3}), repetition_pattern([-1, 0, -1, 0])], 9),
        (lambda: [prefix([[1], [2]]), masks(2, 1, without=1)], 9),  # no word on the other
        (lambda: [ban([END])], 9),  # all answers are cut off
        (lambda: [LogitsProcessor(None, None, None)], 9),  # nothing is known of it
    ],
)
def test_what_does_not_contradict_itself_is_let_through(make, limit):
    check(make(), limit() if callable(limit) else limit)


def test_a_limit_that_is_known_at_run_time_alone_is_taken_on_trust():
    @tf.function(autograph=False)
    def trace(limit):
        check([length_between(5), length_between(maximum=limit)], limit)
        return limit

    assert trace(tf.constant(3)) == 3


@pytest.mark.parametrize(
    "make",
    [
        lambda: combine(ban([3, END]), length_between(maximum=3)),
        lambda: combine(ban_phrases([[END]]), relative_length(0.5, 1.0)),
        lambda: combine(ban([END]), exact_length([2, 2], END, ADDS)),
        lambda: combine(ban([END]), allowed_at(np.ones([2, 5], bool))),
    ],
)
def test_an_end_that_is_banned_and_needed_is_refused_as_soon_as_it_is_known(make):
    both = make()
    with pytest.raises(ValueError) as refusal:
        both.init(told(batch=2, vocabulary=5, source_lengths=[1, 2]))
    assert all(part.name in str(refusal.value) for part in both.parts)


def test_a_mask_may_leave_the_end_to_the_position_after_its_last():
    mask = np.ones([2, 4], bool)
    mask[:, END] = False
    found = walk(combine(allowed_at(mask), length_between(maximum=5)))
    assert found.answers == [those(lambda a: len(a) == 3 and a[-1] == END)]
