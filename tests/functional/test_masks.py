import numpy as np
import pytest
import tensorflow as tf

from keras_attention.functional import (
    atrous,
    block,
    causal,
    chosen,
    directional,
    fixed,
    padding,
    strided,
    window,
)

QUERY, SLOT = np.indices((11, 11))
BY_RULE = {  # the papers' words, for every query i and slot j
    "causal": (causal, SLOT <= QUERY),
    "forward": (directional, SLOT < QUERY),
    "backward": (lambda n: directional(n, forward=False), SLOT > QUERY),
    "window": (lambda n: window(n, 2), abs(QUERY - SLOT) <= 2),
    "atrous": (lambda n: atrous(n, 3), abs(QUERY - SLOT) % 3 == 0),
    "block": (lambda n: block(n, 4), QUERY // 4 == SLOT // 4),
    "strided 1": (lambda n: strided(n, 3, hop=1), (SLOT <= QUERY) & (SLOT >= QUERY - 3)),
    "strided 2": (lambda n: strided(n, 3, hop=2), (SLOT <= QUERY) & ((QUERY - SLOT) % 3 == 0)),
    "fixed 1": (lambda n: fixed(n, 4, 2, hop=1), (SLOT <= QUERY) & (QUERY // 4 == SLOT // 4)),
    "fixed 2": (lambda n: fixed(n, 4, 2, hop=2), (SLOT <= QUERY) & np.isin(SLOT % 4, [2, 3])),
}
each = pytest.mark.parametrize("name", BY_RULE)


@each
def test_a_mask_is_the_rule_of_its_paper(name):
    mask, expected = BY_RULE[name]
    found = mask(11)
    assert found.dtype == tf.bool and found.shape == (1, 11, 11)
    np.testing.assert_array_equal(found[0], expected)


@each
def test_a_mask_of_a_length_that_only_the_graph_knows(name):
    mask, expected = BY_RULE[name]
    call = tf.function(lambda n: mask(n), input_signature=[tf.TensorSpec([], tf.int32)])
    for length in (0, 1, 7):
        np.testing.assert_array_equal(call(length)[0], expected[:length, :length])


@pytest.mark.parametrize(
    "mask",
    [
        causal,
        lambda n, offset=0: window(n, 2, offset),
        lambda n, offset=0: atrous(n, 3, offset),
        lambda n, offset=0: block(n, 4, offset),
        lambda n, offset=0: strided(n, 3, offset=offset),
        lambda n, offset=0: fixed(n, 4, offset=offset),
    ],
)
def test_an_offset_gives_the_last_rows_of_the_whole_mask(mask):
    np.testing.assert_array_equal(mask(3, offset=5), mask(8)[:, 5:])
    np.testing.assert_array_equal(mask(1, offset=tf.constant(7)), mask(8)[:, 7:])


def test_masks_are_joined_with_and():
    joined = causal(3) & padding([3, 1], 3)[:, None]
    assert joined.numpy().astype(int).tolist() == [
        [[1, 0, 0], [1, 1, 0], [1, 1, 1]],
        [[1, 0, 0], [1, 0, 0], [1, 0, 0]],
    ]


def test_two_hops_of_strided_reach_all_that_came_before():
    for length, stride in ((11, 3), (16, 4), (7, 1), (5, 9)):
        first, second = (strided(length, stride, hop=hop)[0].numpy() for hop in (1, 2))
        np.testing.assert_array_equal(first @ second, causal(length)[0])


def test_two_hops_of_fixed_reach_all_that_came_before():
    for length, stride, summary in ((11, 3, 1), (16, 4, 2)):
        both = fixed(length, stride, summary)[0].numpy()
        np.testing.assert_array_equal(both @ both, causal(length)[0])


def test_strided_sees_few_and_with_a_long_stride_everything():
    for root in (2, 4, 9):
        seen = tf.reduce_sum(tf.cast(strided(root**2, root), tf.int32))
        assert int(seen) <= root**2 * (2 * root + 2)
    np.testing.assert_array_equal(strided(6, 6), causal(6))
    np.testing.assert_array_equal(fixed(6, 6), causal(6))


def test_a_window_as_wide_as_the_sequence_hides_nothing():
    assert window(5, 4).numpy().all() and not window(5, 3).numpy().all()
    np.testing.assert_array_equal(window(5, 0)[0], np.eye(5, dtype=bool))


def test_chosen_joins_two_selected_tokens_that_differ():
    queries = np.array([[True, False, True, True]])
    slots = np.array([[True, True, False, True]])
    found = chosen(queries, slots)[0].numpy()
    for i, j in np.ndindex(4, 4):
        assert found[i, j] == (queries[0, i] and slots[0, j] and i != j)


@pytest.mark.parametrize(
    "wrong, message",
    [
        (lambda: window(3, -1), "radius must be at least 0. Received: radius=-1"),
        (lambda: atrous(3, 0), "rate must be at least 1. Received: rate=0"),
        (lambda: block(3, 0), "size must be at least 1. Received: size=0"),
        (lambda: strided(3, 0), "radius|rate"),
        (lambda: fixed(3, 2, 0), "summary must be at least 1"),
        (lambda: strided(3, 2, hop=3), "hop must be 1, 2, or None .* Received: hop=3"),
    ],
)
def test_a_size_that_makes_no_sense_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()
