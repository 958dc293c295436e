import numpy as np
import pytest
import tensorflow as tf

from keras_attention.seq2seq import exact_length

END = 0
ADDS = [-1, -1, 1, 1, 2]  # the end token, the start token, two characters, a pair of them


def allowed(control, state):
    """Which tokens may come next: [N] lists of ids."""
    log_probs = control.apply(tf.zeros([len(state), len(ADDS)]), state)
    return [np.flatnonzero(np.isfinite(row)).tolist() for row in log_probs]


def test_a_token_is_allowed_while_it_fits_and_the_end_when_nothing_is_left():
    control = exact_length([0, 1, 2, 3], END, ADDS)
    state = control.init(1)
    assert allowed(control, state) == [[END], [2, 3], [2, 3, 4], [2, 3, 4]]
    state = control.advance(state, tf.constant([END, 2, 4, 4]))
    assert allowed(control, state) == [[END], [END], [END], [2, 3]]


def test_every_hypothesis_of_a_source_begins_with_its_length():
    control = exact_length([2, 0], END, ADDS)
    assert allowed(control, control.init(2)) == [[2, 3, 4]] * 2 + [[END]] * 2


def test_the_start_and_the_end_token_take_nothing_away():
    control = exact_length([2], END, ADDS)
    for token in (1, END):
        assert control.advance(control.init(1), tf.constant([token])).numpy().tolist() == [2]


def test_what_is_allowed_keeps_its_log_p():
    control = exact_length([1], END, ADDS)
    log_probs = np.log([[0.1, 0.2, 0.3, 0.15, 0.25]])
    found = control.apply(tf.constant(log_probs), control.init(1)).numpy()
    np.testing.assert_array_equal(found[0, 2:4], log_probs[0, 2:4])
    assert (found[0, [0, 1, 4]] == -np.inf).all()


@pytest.mark.parametrize("adds", [[-1, 2, 2], [-1, -1], [0, 0]])
def test_lengths_that_no_tokens_could_make_up_are_refused(adds):
    with pytest.raises(ValueError, match="at least one token that adds 1"):
        exact_length([3], END, adds)


def test_token_lengths_may_be_computed_in_the_graph():
    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32)])
    def first(adds):
        control = exact_length([1], END, adds)
        return control.apply(tf.zeros([1, 5]), control.init(1))

    assert np.isfinite(first(ADDS)).tolist() == [[False, False, True, True, False]]
