"""Several processors as one: their order, and the facts that they exchange."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from keras_attention.seq2seq import (
    LogitsProcessor,
    allowed_at,
    ban,
    ban_phrases,
    combine,
    exact_length,
    force,
    length_between,
    min_p,
    must_contain,
    no_repeat_ngram,
    prefix,
    repetition_pattern,
    repetition_penalty,
    temperature,
    top_k,
    top_p,
    typical,
)
from tests.decoding.processors.walks import END, START, STEPS, after, says, those, told, walk


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


def by_hugging_face(p, said, penalty, heat, k=None):
    """What its `generate` draws from: RepetitionPenalty-, Temperature-, TopKLogits in turn."""
    scores = np.log(np.array(p))
    scores[said] = np.where(scores < 0, scores * penalty, scores / penalty)[said]
    scores /= heat
    if k is not None:
        scores[scores < np.sort(scores)[-k]] = -np.inf
    return np.exp(scores) / np.exp(scores).sum()


@pytest.mark.parametrize("k", [4, 2])
def test_penalty_temperature_and_tail_act_in_the_order_of_hugging_face(k):
    p, said = [0.6, 0.3, 0.08, 0.02], [0]
    parts = [top_k(k), temperature(2.0), repetition_penalty(1.5)]
    for given in itertools.permutations(parts):
        processor = combine(*given)
        state = processor.init(told(vocabulary=4))
        for token in (START, *said):
            state = processor.advance(state, tf.constant([token]))
        left = tf.nn.softmax(processor.apply(tf.math.log([p]), state))
        np.testing.assert_allclose(left[0], by_hugging_face(p, said, 1.5, 2.0, k), rtol=1e-5)
    if k == 4:
        np.testing.assert_allclose(left[0, 0], 0.412, atol=5e-4)


def test_the_temperature_acts_before_a_tail_whatever_the_order():
    log_p = tf.math.log([[0.5, 0.3, 0.2]])
    for parts in ([temperature(0.5), top_k(1)], [top_k(1), temperature(0.5)]):
        found = combine(*parts).apply(log_p, ((), ()))
        np.testing.assert_allclose(tf.exp(found), [[25 / 38, 0, 0]], rtol=1e-5)


def test_tails_are_cut_in_the_order_of_hugging_face_whatever_the_order():
    """Of 0.5, 0.2, 0.19, 0.11 the two likeliest are 0.71 and 0.29: 0.7 of that is the first."""
    log_p = tf.math.log([[0.5, 0.2, 0.19, 0.11]])
    for given in itertools.permutations([top_k(2), top_p(0.7)]):
        found = combine(*given).apply(log_p, ((), ()))
        np.testing.assert_allclose(tf.exp(found), [[0.5, 0, 0, 0]], rtol=1e-6)
    own = LogitsProcessor(lambda search: (), lambda x, _: x, lambda x, _: x, "own", "tail")
    turns = [own, typical(0.5), min_p(0.1), top_p(0.9), top_k(3)]
    assert combine(*turns).parts == tuple(reversed(turns))


def test_together_they_end_an_answer_when_the_first_of_them_does():
    whole = combine(ban([9]), length_between(maximum=[7, 8]), length_between(4, 7))
    assert whole.ends_by(told(batch=2)).numpy().tolist() == [7, 7]


RULES = [  # made in the test
    lambda: length_between(maximum=2),
    lambda: ban([1]),
    lambda: ban_phrases([[1]]),
    lambda: must_contain([[3]]),
    lambda: force({1: 3}),
    lambda: prefix([1, 3]),
    lambda: allowed_at([[False, True, False, True]] * 2),
    lambda: repetition_pattern([-1, 0]),
    lambda: no_repeat_ngram(1),
    lambda: repetition_penalty(2.0),
    lambda: exact_length(1, END, [-1, 1, 1, 1]),
]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("tail", [top_k(1), top_p(0.5), min_p(0.9), typical(0.5)])
def test_a_tail_is_cut_from_what_the_rules_have_left_whatever_the_order(rule, tail):
    rule = rule()
    log_p = tf.math.log([[0.1, 0.6, 0.1, 0.2]])
    expected = tail.apply(rule.apply(log_p, after(rule, 1)), ())
    for both in (combine(rule, tail), combine(tail, rule)):
        assert [part.name for part in both.parts] == [rule.name, tail.name]
        np.testing.assert_array_equal(both.apply(log_p, after(both, 1)), expected)


def test_the_order_of_all_that_shapes_a_draw_is_kept_and_so_is_that_of_the_rules():
    given = [temperature(2.0), ban([1]), top_k(3), temperature(0.5), prefix([2]), min_p(0.1)]
    names = [part.name for part in combine(*given).parts]
    assert names == [given[i].name for i in (0, 1, 3, 4, 2, 5)]
    again = combine(combine(*given), no_repeat_ngram(2))
    assert [part.name for part in again.parts] == [*names[:4], "no_repeat_ngram(2)", *names[4:]]


def test_what_rules_out_after_a_temperature_raises_nothing():
    log_p = tf.math.log([[0.5, 0.3, 0.2]])
    processor = combine(temperature(0.5), ban([0]))
    found = tf.exp(processor.apply(log_p, ((), ())))
    np.testing.assert_allclose(found, [[0, 9 / 38, 4 / 38]], rtol=1e-5)


def test_several_that_are_required_are_one():
    phrases = [[(1, 2)], [(2, 3), (1, 2)], [(3,)]]
    apart = combine(*(must_contain(some) for some in phrases), length_between(maximum=4))
    together = combine(must_contain(sum(phrases, [])), length_between(maximum=4))
    found = walk(apart)
    assert found == walk(together) and found.answers[0] and found.stuck == [set()]
    assert apart.name.startswith("must_contain([[1, 2]]) + must_contain([[2, 3], [1, 2]]) + ")
    tf.nest.assert_same_structure(apart.init(told()), together.init(told()))


def test_an_unsatisfiable_pair_that_nobody_could_foresee_leaves_nothing_and_ends():
    found = walk(combine(force({2: 2}), no_repeat_ngram(1), length_between(STEPS)))
    assert all(a[2] == 2 for a in found.answers[0])
    assert (2,) not in {path[:1] for path in found.answers[0]}
    assert found.stuck[0]
