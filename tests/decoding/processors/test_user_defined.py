"""A user-defined processor that breaks the contract is refused by its name."""

import numpy as np
import pytest
import tensorflow as tf

from keras_attention.decoding import LogitsProcessor, combine, generate, stream, temperature
from tests.decoding.table_model import TableModel
from tests.seq2seq.cells import Table

VOCABULARY = 8


def stateless(apply):
    return LogitsProcessor(lambda info: (), apply, lambda state, tokens: (), "mine()")


def counting(init, advance=lambda count, tokens: count + 1):
    return LogitsProcessor(init, lambda log_probs, count: log_probs, advance, "mine()")


def search(processor, width=2):
    model = TableModel(Table.random(2, 4, VOCABULARY))
    return generate(
        model,
        np.arange(2),
        beam_width=width,
        max_length=4,
        processors=[temperature(1.0), processor],
    )


@pytest.mark.parametrize(
    "apply",
    [
        lambda log_probs, state: log_probs[:, :5],
        lambda log_probs, state: log_probs[:1],
        lambda log_probs, state: log_probs[0],
        lambda log_probs, state: None,
    ],
    ids=["narrow", "one row", "rank 1", "nothing"],
)
def test_log_probs_of_another_shape_are_refused(apply):
    rule = r"LogitsProcessor mine\(\): apply must return log p \[N, V\] = \(4, 8\).*Received: "
    with pytest.raises(ValueError, match=rule):
        search(stateless(apply))


def test_too_few_columns_are_refused_in_a_graph_of_any_batch():
    bad = stateless(lambda log_probs, state: log_probs[:, :5])
    with pytest.raises(ValueError, match=r"mine\(\): apply .*8\), .*Received: shape \(.*5\)"):
        tf.function(search, autograph=False)(bad)


def test_a_state_without_a_row_for_each_hypothesis_is_refused():
    rule = r"mine\(\): its state must have N = B\*K = 4 rows.*shape \(2,\).*info.batch_size \* info"
    per_source = counting(lambda info: tf.zeros([info.batch_size], tf.int32))
    for run in (search, tf.function(search, autograph=False)):
        with pytest.raises(ValueError, match=rule):
            run(per_source)
    assert search(per_source, width=1).ids.shape[:2] == (2, 1)


@pytest.mark.parametrize(
    "advance",
    [
        lambda count, tokens: tf.concat([count, count], 0),
        lambda count, tokens: (count, count),
        lambda count, tokens: count[:, None],
    ],
    ids=["rows", "structure", "rank"],
)
def test_a_state_that_changes_its_shape_is_refused(advance):
    bad = counting(lambda info: tf.zeros([info.batch_size * info.beam_width], tf.int32), advance)
    rule = r"mine\(\): advance must return a state with the structure and shapes.*Received: "
    for run in (search, tf.function(search, autograph=False)):
        with pytest.raises(ValueError, match=rule):
            run(bad)
    with pytest.raises(ValueError, match=rule):
        list(stream(TableModel(Table.random(2, 4, VOCABULARY)), np.arange(2), processors=bad))


@pytest.mark.parametrize("field", ["init", "apply", "advance"])
def test_a_field_that_is_not_a_function_is_refused(field):
    bad = stateless(lambda log_probs, state: log_probs)._replace(**{field: None})
    rule = rf"mine\(\): {field} must be a function.*init=lambda info: \(\).*Received: {field}=None"
    with pytest.raises(ValueError, match=rule):
        search(bad)
    with pytest.raises(ValueError, match=rule):
        combine(bad)


def test_a_state_may_be_one_number_for_all_hypotheses():
    def init(info):
        return tf.constant(-1)

    def apply(log_probs, count):  # token 3 first, then any but it
        only = tf.range(VOCABULARY) == 3
        return tf.where(only == (count == 0), log_probs, -np.inf)

    found = search(LogitsProcessor(init, apply, lambda count, tokens: count + 1, "mine()"))
    assert (found.ids[..., 0].numpy() == 3)[np.isfinite(found.scores)].all()
