import numpy as np
import pytest
import tensorflow as tf

from keras_attention.seq2seq import allowed_at, force, prefix
from tests.decoding.processors.walks import END, STEPS, VOCABULARY, after, those, told, walk


def obeys(answer, forced):
    return all(p < len(answer) and answer[p] == token for p, token in forced.items())


@pytest.mark.parametrize(
    "forced", [{}, {0: 2}, {2: 3}, {0: 1, 1: 1}, {3: 2, 1: 3}, {4: 1}, {i: 2 for i in range(5)}]
)
def test_every_answer_has_the_forced_tokens(forced):
    found = walk(force(forced))
    assert found.answers == [those(obeys, forced)] and found.stuck == [set()]


@pytest.mark.parametrize("kind", [list, np.array, tf.constant])
def test_every_answer_begins_with_its_prefix(kind):
    prefixes = [[2, 3, 1], [3, 0, 0], [0, 0, 0], [1, 0, 2]]
    found = walk(prefix(kind(prefixes)), batch=4)
    for b, ids in enumerate(prefixes):  # an empty row is free, and so is a hole
        forced = {p: token for p, token in enumerate(ids) if token}
        assert found.answers[b] == those(obeys, forced)


def test_one_prefix_may_serve_all_sources_and_another_id_may_fill_it_up():
    found = walk(prefix([2, 1, 3], pad_id=3), batch=2)
    assert found.answers == [those(lambda a: obeys(a, {0: 2, 1: 1}))] * 2


def test_no_prefix_at_all_is_no_constraint():
    for ids in ([], np.zeros([2, 0]), np.zeros([2, 3])):
        assert walk(prefix(ids), batch=2).answers == [those(lambda a: True)] * 2


def test_a_prefix_given_at_run_time_may_end_the_answer():
    @tf.function(
        autograph=False, input_signature=[tf.TensorSpec([None, None], tf.int64, name="ids")]
    )
    def second(ids):
        processor = prefix(ids, pad_id=-1)
        return processor.apply(tf.zeros([1, VOCABULARY]), after(processor, 2))

    def allowed(*ids):
        return np.flatnonzero(np.isfinite(second(tf.constant([ids], tf.int64))[0])).tolist()

    assert allowed(2, END) == [END]
    assert allowed(2, 3) == [3]
    assert allowed(2) == [0, 1, 2, 3] == allowed(2, -1)
    assert allowed(2, 77) == []  # nothing to say is for the search to deal with


def masked(answer, mask):
    """Each token where the mask has it; after its last position the end token alone."""
    steps = len(mask)
    return all(mask[p][t] if p < steps else t == END for p, t in enumerate(answer))


@pytest.mark.parametrize("steps", [1, 3, STEPS, STEPS + 2])
def test_each_position_has_the_tokens_of_its_mask_and_after_the_last_comes_the_end(steps):
    for kind in (np.array, tf.constant, list):
        mask = np.random.random([steps, VOCABULARY]) < 0.6
        found = walk(allowed_at(kind(mask)))
        assert found.answers == [those(masked, mask)]


def test_every_source_has_its_own_mask():
    masks = np.random.random([4, 3, VOCABULARY]) < 0.7
    masks[1] = False
    masks[2] = True
    found = walk(allowed_at(masks), batch=4)
    for b, mask in enumerate(masks):
        assert found.answers[b] == those(masked, mask)
    assert found.stuck[1] == {()}


def test_a_mask_stays_with_its_source_through_all_hypotheses():
    processor = allowed_at(np.eye(VOCABULARY, dtype=bool)[:, None])  # source b says b
    state = processor.init(told(batch=4, width=3))
    state = processor.advance(state, tf.ones([12], tf.int32))
    left = processor.apply(tf.zeros([12, VOCABULARY]), state).numpy()
    assert np.argmax(left, 1).tolist() == np.repeat(range(4), 3).tolist()
    assert np.isfinite(left).sum() == 12


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: force({-1: 2}), "positions of force.*not be negative"),
        (lambda: force({0: -2}), "not be negative"),
        (lambda: force({0: 9}).init(told()), r"force\(\{0: 9\}\) needs ids below.*V = 4"),
        (lambda: force({0: END}).init(told()), "must not hold the end token"),
        (lambda: prefix([2, -3]), "not be negative"),
        (lambda: prefix([1.5]), "whole numbers"),
        (lambda: prefix(3), "Received: 0 axes"),
        (lambda: prefix([2, 4]).init(told()), "V = 4"),
        (lambda: prefix([2, END], pad_id=-1).init(told()), "must not hold the end token"),
        (lambda: prefix([[1], [2]]).init(told(batch=3)), "each of the B = 3 sources"),
        (lambda: allowed_at([True, False]), r"\[T, V\] or \[B, T, V\]"),
        (lambda: allowed_at(np.zeros([0, 4], bool)), r"\[T, V\]"),
        (lambda: allowed_at(np.ones([2, 3], bool)).init(told()), "each of the V = 4 tokens"),
        (lambda: allowed_at(np.ones([2, 2, 4], bool)).init(told(3)), r"B = 3 .*\(2, 2, 4\)"),
    ],
)
def test_positions_that_mean_nothing_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
