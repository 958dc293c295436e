"""Several controls as one, and the contradictions which are refused before a search begins."""

import numpy as np
import pytest
import tensorflow as tf

from keras_attention.seq2seq import (
    Control,
    allowed_at,
    ban,
    combine,
    exact_length,
    force,
    length_between,
    must_contain,
    no_repeat_ngram,
    prefix,
    relative_length,
    temperature,
    top_k,
)
from keras_attention.seq2seq.controls import check
from tests.seq2seq.controls.walks import END, STEPS, says, those, told, walk


def test_together_they_leave_what_each_of_them_leaves():
    parts = [ban([3]), no_repeat_ngram(3), length_between(2, 4)]
    expected = set.intersection(*(walk(part).answers[0] for part in parts))
    assert walk(combine(*parts)).answers == [expected] and expected
    assert walk(combine(*parts[::-1])).answers == [expected]


def test_none_at_all_changes_nothing():
    assert walk(combine()).answers == [those(lambda a: True)]


def test_one_within_another_is_as_if_side_by_side():
    inner = combine(length_between(maximum=4), ban([3]))
    nested = combine(must_contain([(1, 2)]), combine(inner))
    assert [part.name for part in nested.parts] == [
        "must_contain([[1, 2]])",
        "length_between(maximum=4)",
        "ban([3])",
    ]
    assert nested.name == " + ".join(part.name for part in nested.parts)
    expected = those(lambda a: says(a, (1, 2)) and 3 not in a and a[-1] == END and len(a) <= 4)
    assert walk(nested).answers == [expected]


def test_they_change_log_p_in_the_order_given():
    log_p = tf.math.log([[0.5, 0.3, 0.2]])
    warm_first = combine(temperature(0.5), top_k(1)).apply(log_p, ((), ()))
    np.testing.assert_allclose(tf.exp(warm_first), [[25 / 38, 0, 0]], rtol=1e-5)
    cut_first = combine(top_k(1), temperature(0.5)).apply(log_p, ((), ()))
    np.testing.assert_allclose(tf.exp(cut_first), [[1, 0, 0]], rtol=1e-5)


def test_what_is_known_of_the_parts_is_known_of_the_whole():
    whole = combine(ban([9]), force({1: 5}), length_between(maximum=[7, 8]), length_between(4))
    assert (whole.shortest, whole.longest) == (4, 8)
    assert whole.banned == {9} and whole.needed == {5}
    assert whole.ends_by(told(batch=2)).numpy().tolist() == [7, 8]


ADDS = [-1, -1, 1, 1, 3]
CONTRADICTIONS = [
    (length_between(5), None, 4, "length_between(minimum=5)", "max_length=4"),
    (length_between(5), length_between(0, 3), 9, "length_between(minimum=5)", "maximum=3)"),
    (length_between([1, 5]), length_between(maximum=[3, 4]), 9, "minimum=[1, 5]", "for source 1"),
    (length_between([2, 3]), length_between(maximum=[2, 3, 4]), 9, "minimum", "2 and 3 lengths"),
    (length_between([1, 5]), None, 4, "length_between(minimum=[1, 5])", "max_length=4"),
    (force({0: 5}), ban([7, 5]), 9, "force({0: 5})", "ban([7, 5])"),
    (force({4: 5}), None, 4, "force({4: 5})", "max_length=4"),
    (force({4: 5}), length_between(maximum=5), 9, "force({4: 5})", "length_between(maximum=5)"),
    (prefix([1, 2, 3]), None, 2, "prefix([1, 2, 3])", "max_length=2"),
    (prefix([[1, 0, 0], [1, 2, 3]]), None, 2, "prefix", "max_length=2"),
    (prefix([[1, 0], [1, 2]]), ban([2]), 9, "prefix", "ban([2])"),
    (must_contain([[1, 2, 3]]), None, 2, "must_contain([[1, 2, 3]])", "max_length=2"),
    (must_contain([[1, 2]]), length_between(maximum=2), 9, "must_contain", "(maximum=2)"),
    (must_contain([[1, 2], [3]]), ban([3]), 9, "must_contain([[1, 2], [3]])", "ban([3])"),
    (must_contain([[2]]), allowed_at([[True, True, False]]), 9, "must_contain", "1x3 mask"),
    (must_contain([[1]]), exact_length([2], END, ADDS), 9, "must_contain", "exact_length([2])"),
    (length_between(5), exact_length([3], END, ADDS), 9, "minimum=5", "exact_length([3])"),
    (exact_length([7], END, ADDS), length_between(maximum=3), 9, "exact_length([7])", "maximum=3"),
    (length_between(4), allowed_at(np.ones([2, 4], bool)), 9, "minimum=4", "2x4 mask"),
    (force({1: 5}), prefix([1, 2]), 9, "force({1: 5})", "position 1"),
    (prefix([[1, 2], [3, 4]]), force({1: 2}), 9, "prefix", "position 1"),
]


@pytest.mark.parametrize("one, other, limit, first, second", CONTRADICTIONS)
def test_a_contradiction_is_refused_by_the_names_of_both(one, other, limit, first, second):
    both = [one] if other is None else [other, one]
    with pytest.raises(ValueError) as refusal:
        check(both, limit)
    message = str(refusal.value)
    assert first in message and second in message and "Received: " in message
    with pytest.raises(ValueError) as again:  # also of one that was combined, by the same names
        check([combine(top_k(3), *both)], limit)
    assert str(again.value) == message


@pytest.mark.parametrize(
    "controls, limit",
    [
        ([], 1),
        ([length_between(5, 5)], 5),
        ([prefix([1, 2])], 2),
        ([must_contain([[1, 2], [2, 3]])], 3),  # they overlap; the answer is cut off
        ([must_contain([[1, 2], [2, 3]]), length_between(maximum=4)], 3),
        ([length_between([1, 5]), length_between(maximum=[1, 6])], 9),
        ([length_between(50)], tf.constant(60)),
        ([relative_length(0.5, 1.5), length_between(3)], 9),
        ([exact_length([3, 4], END, ADDS), length_between([2, 3], [4, 5])], 9),
        ([force({0: 5}), ban([4]), must_contain([[5]])], 9),
        ([force({0: 1, 3: 4}), prefix([[0, 2], [1, 2]])], 9),
        ([Control(None, None, None)], 9),  # nothing is known of it
    ],
)
def test_what_does_not_contradict_itself_is_let_through(controls, limit):
    check(controls, limit)


def test_a_limit_that_is_known_at_run_time_alone_is_taken_on_trust():
    @tf.function(autograph=False)
    def trace(limit):
        check([length_between(5), length_between(maximum=limit)], limit)
        return limit

    assert trace(tf.constant(3)) == 3


def test_an_unsatisfiable_pair_that_nobody_could_foresee_leaves_nothing_and_ends():
    found = walk(combine(force({2: 2}), no_repeat_ngram(1), length_between(STEPS)))
    assert all(a[2] == 2 for a in found.answers[0])
    assert (2,) not in {path[:1] for path in found.answers[0]}
    assert found.stuck[0]
