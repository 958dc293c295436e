import numpy as np
import pytest
import tensorflow as tf

from keras_attention.seq2seq import exact_length, length_between, relative_length
from tests.decoding.processors.walks import (
    END,
    START,
    STEPS,
    after,
    open_tokens,
    those,
    told,
    walk,
    words,
)


def between(answer, low, high):
    """An answer that may be longer than there is room for may be cut off."""
    return low <= len(answer) <= high and (answer[-1] == END or high > STEPS)


@pytest.mark.parametrize(
    "minimum, maximum",
    [(0, None), (4, None), (0, 1), (1, 1), (0, 4), (2, 4), (4, 5), (5, 5), (2, 9)],
)
def test_the_answers_are_all_between_minimum_and_maximum(minimum, maximum):
    found = walk(length_between(minimum, maximum))
    assert found.answers == [those(between, minimum, maximum or STEPS + 1)]
    assert found.stuck == [set()]


@pytest.mark.parametrize("kind", [list, np.array, tf.constant])
def test_every_source_has_its_own_limits(kind):
    found = walk(length_between(kind([0, 2, 3]), kind([1, 4, 3])), batch=3)
    for b, (low, high) in enumerate([(0, 1), (2, 4), (3, 3)]):
        assert found.answers[b] == those(between, low, high)


def test_limits_may_be_scalars_that_are_known_at_run_time_alone():
    @tf.function(autograph=False)
    def after_two(minimum, maximum):
        processor = length_between(minimum, maximum)
        return processor.apply(tf.zeros([1, 4]), after(processor, 2, 3))

    def allowed(low, high):
        left = after_two(tf.constant(low), tf.constant(high))
        return np.flatnonzero(np.isfinite(left[0])).tolist()

    assert allowed(0, 9) == [0, 1, 2, 3]
    assert allowed(4, 9) == [1, 2, 3]
    assert allowed(0, 3) == [0] == allowed(0, 2)  # also beyond the last


def test_hypotheses_of_a_source_share_its_limits():
    state = length_between([3, 0]).init(told(batch=2, width=3))
    assert state.extra[0].numpy().tolist() == [3, 3, 3, 0, 0, 0]


@pytest.mark.parametrize(
    "settings", [(0.5, 1.0, 0), (0.0, 0.5, 1), (1.0, 1.0, 0), (0.1, 2.0, 2), (0.0, 0.0, 0)]
)
def test_a_length_as_a_function_of_the_source(settings):
    low, high, extra = settings

    def fits(answer, source):
        said, most = len(words(answer)), high * source + extra
        if answer[-1] != END:  # cut off: there was no room for the end of a longer one
            return most >= STEPS
        return low * source <= said <= most

    found = walk(relative_length(*settings), batch=6, source_lengths=np.arange(6))
    for source, answers in enumerate(found.answers):
        assert answers == those(fits, source)


def test_products_that_should_be_whole_are_whole():
    lengths = np.arange(0, 200, 10)
    processor = relative_length(0.1, 0.3)
    state = processor.init(told(batch=20, source_lengths=lengths))
    np.testing.assert_array_equal(state.extra[0], lengths // 10 + 1)
    np.testing.assert_array_equal(state.extra[1], 3 * (lengths // 10) + 1)


def test_where_no_whole_number_lies_between_it_is_the_one_above():
    state = relative_length(0.9, 0.95).init(told(source_lengths=[3]))
    assert state.extra[0].numpy().tolist() == [4] == state.extra[1].numpy().tolist()


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: length_between(-1), "at least 0"),
        (lambda: length_between(0, 0), "at least 1"),
        (lambda: length_between(2.5), "whole numbers as its minimum"),
        (lambda: length_between(maximum=[2.5]), "whole numbers as its maximum"),
        (lambda: length_between(float("nan")), "whole numbers"),
        (lambda: length_between(maximum=float("inf")), "whole numbers"),
        (lambda: relative_length(0.5, float("inf")), "high >= low"),
        (lambda: relative_length(0.5, float("nan")), "high >= low"),
        (lambda: length_between([[1, 2]]), r"one or \[B\]"),
        (lambda: length_between(4, 3), r"length_between\(minimum=4, maximum=3\).*4 > 3"),
        (lambda: length_between([1, 4], 3), "minimum above its maximum"),
        (lambda: relative_length(-0.1, 1), "low >= 0"),
        (lambda: relative_length(2.0, 1.0), r"relative_length\(2.0, 1.0\) needs high >= low"),
        (lambda: relative_length(0.0, 1.0, -1), "extra >= 0"),
        (lambda: relative_length(0.0, 1.0).init(told()), "source_lengths=None"),
        (lambda: length_between([1, 2]).init(told(batch=3)), "each of the B = 3 sources"),
    ],
)
def test_lengths_that_mean_nothing_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# -- exactly so long, in what a token adds

ADDS = [-1, -1, 1, 1, 2]  # the end token, the start token, two characters, a pair of them


def asked(batch=1, width=1):
    return told(batch, width, vocabulary=len(ADDS))


def begun(processor, *sizes):
    state = processor.init(asked(*sizes))
    return processor.advance(state, tf.fill([state.length.shape[0]], START))


def allowed(processor, state):
    return open_tokens(processor, state, len(ADDS))


def test_a_token_is_allowed_while_it_fits_and_the_end_when_nothing_is_left():
    processor = exact_length([0, 1, 2, 3], END, ADDS)
    state = begun(processor, 4)
    assert allowed(processor, state) == [[END], [2, 3], [2, 3, 4], [2, 3, 4]]
    state = processor.advance(state, tf.constant([END, 2, 4, 4]))
    assert allowed(processor, state) == [[END], [END], [END], [2, 3]]


def test_the_answers_are_all_that_add_up_to_it():
    def fits(answer, length):
        adds = sum(ADDS[token] for token in words(answer))
        return answer[-1] == END and 1 not in answer and adds == length

    found = walk(exact_length([0, 2, 3], END, ADDS), batch=3, vocabulary=len(ADDS))
    for b, length in enumerate([0, 2, 3]):
        assert found.answers[b] == those(fits, length, vocabulary=len(ADDS))


def test_every_hypothesis_of_a_source_begins_with_its_length():
    processor = exact_length([2, 0], END, ADDS)
    assert allowed(processor, begun(processor, 2, 2)) == [[2, 3, 4]] * 2 + [[END]] * 2


def test_the_start_token_takes_nothing_away_whatever_it_would_add():
    adds = [-1, 1, 1]
    found = walk(exact_length([2], END, adds), vocabulary=3)
    assert found.answers == [{(a, b, END) for a in (START, 2) for b in (START, 2)}]


def test_what_is_allowed_keeps_its_log_p():
    processor = exact_length([1], END, ADDS)
    log_probs = np.log([[0.1, 0.2, 0.3, 0.15, 0.25]])
    found = processor.apply(tf.constant(log_probs), begun(processor)).numpy()
    np.testing.assert_array_equal(found[0, 2:4], log_probs[0, 2:4])
    assert (found[0, [0, 1, 4]] == -np.inf).all()


@pytest.mark.parametrize("adds", [[-1, 2, 2], [-1, -1], [0, 0]])
def test_lengths_that_no_tokens_could_make_up_are_refused(adds):
    with pytest.raises(ValueError, match="at least one token that adds 1"):
        exact_length([3], END, adds)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: exact_length([-1, 2], END, ADDS), "whole numbers as lengths, at least 0"),
        (lambda: exact_length([1.5], END, ADDS), "whole numbers as lengths"),
        (lambda: exact_length([[1]], END, ADDS), r"one or \[B\]"),
        (lambda: exact_length([1], END, [ADDS]), r"token_lengths \[V\].*shape \(1, 5\)"),
        (
            lambda: exact_length([1], END, ADDS).init(told()),
            "token_lengths must have V = 4 entries.*5 entries",
        ),
        (
            lambda: exact_length([1], 4, ADDS).init(asked()),
            "end_token must equal model.end_id = 0.*end_token=4",
        ),
    ],
)
def test_lengths_for_another_vocabulary_are_rejected(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_another_width_of_the_vocabulary_is_refused_at_the_latest_when_it_is_seen():
    processor = exact_length([1], END, ADDS)
    state = processor.init(told(vocabulary=None))
    with pytest.raises(ValueError, match="token_lengths must have V = 6 entries"):
        processor.apply(tf.zeros([1, 6]), state)


def test_token_lengths_may_be_computed_in_the_graph():
    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32)])
    def first(adds):
        processor = exact_length([1], END, adds)
        return processor.apply(tf.zeros([1, 5]), begun(processor))

    assert np.isfinite(first(ADDS)).tolist() == [[False, False, True, True, False]]
