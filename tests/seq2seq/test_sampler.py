import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.seq2seq import GreedyEmbeddingSampler, TrainingSampler, sampler
from tests import oracles

INPUTS = np.arange(24, dtype="float32").reshape(2, 4, 3)


def fed(sampler, *args, **kwargs):
    """All inputs that a sampler feeds, and when each row has finished."""
    finished, inputs = sampler.initialize(*args, **kwargs)
    seen, ends = [inputs.numpy()], [finished.numpy()]
    for time in range(10):
        if finished.numpy().all():
            break
        finished, inputs, _ = sampler.next_inputs(tf.constant(time), None, None, None)
        seen.append(inputs.numpy())
        ends.append(finished.numpy())
    return np.stack(seen, 1), np.stack(ends, 1)


@pytest.mark.parametrize("time_major", [False, True])
def test_teacher_forcing_feeds_the_given_inputs_until_each_length(time_major):
    inputs = INPUTS.swapaxes(0, 1) if time_major else INPUTS
    seen, ends = fed(TrainingSampler(time_major), inputs, sequence_length=[3, 1])
    np.testing.assert_array_equal(seen[:, :3], INPUTS[:, :3])
    assert ends.tolist() == [[False, False, False, True], [False, True, True, True]]


@pytest.mark.parametrize("time_major", [False, True])
def test_a_right_padded_mask_says_the_lengths(time_major):
    mask = oracles.padding([3, 1], 4)
    inputs = INPUTS.swapaxes(0, 1) if time_major else INPUTS
    by_mask = TrainingSampler(time_major)
    by_mask.initialize(inputs, mask=mask.T if time_major else mask)
    assert by_mask.sequence_length.numpy().tolist() == [3, 1]
    assert int(by_mask.batch_size) == 2


def test_without_lengths_every_row_has_all_steps():
    seen, _ = fed(TrainingSampler(), INPUTS)
    np.testing.assert_array_equal(seen[:, :4], INPUTS)


def test_inputs_may_be_a_nest():
    finished, first = TrainingSampler().initialize({"a": INPUTS, "b": INPUTS[..., 0]}, [3, 0])
    np.testing.assert_array_equal(first["a"], INPUTS[:, 0])
    np.testing.assert_array_equal(first["b"], INPUTS[:, 0, 0])
    assert finished.numpy().tolist() == [False, True]


def test_inputs_without_steps_are_finished_at_once():
    finished, first = TrainingSampler().initialize(INPUTS[:, :0])
    assert finished.numpy().all() and first.shape == (2, 3)


@pytest.mark.parametrize("graph", [False, True])
def test_a_mask_with_a_hole_is_refused_at_run_time(graph):
    def initialize(mask):
        return TrainingSampler().initialize(INPUTS, mask=mask)[0]

    initialize = tf.function(initialize) if graph else initialize
    with pytest.raises(tf.errors.InvalidArgumentError, match="right padded"):
        initialize(tf.constant([[True, False, True, False]] * 2))
    with pytest.raises(tf.errors.InvalidArgumentError):
        sampler._check_sequence_is_right_padded(tf.constant([[False], [True]]), True)


@pytest.mark.parametrize(
    "given",
    [
        {"mask": np.ones([2, 4])},
        {"mask": np.ones([2, 4, 1], bool)},
        {"sequence_length": 3},
        {"sequence_length": [[3, 1]]},
    ],
)
def test_masks_and_lengths_of_another_kind_are_refused(given):
    with pytest.raises(ValueError, match="Received"):
        TrainingSampler().initialize(INPUTS, **given)


@pytest.mark.parametrize("kind", [TrainingSampler, GreedyEmbeddingSampler])
def test_the_batch_size_is_known_after_initialize(kind):
    with pytest.raises(ValueError, match="before initialize"):
        _ = kind().batch_size


def test_greedy_takes_the_likeliest_and_feeds_its_embedding():
    greedy, table = GreedyEmbeddingSampler(), np.random.normal(size=(4, 3))
    finished, first = greedy.initialize(table, start_tokens=[3, 1], end_token=2)
    np.testing.assert_array_equal(first, table[[3, 1]])
    assert not finished.numpy().any()
    ids = greedy.sample(0, tf.constant([[0.0, 1, 3, 2], [5, 1, 3, 2]]), None)
    assert ids.numpy().tolist() == [2, 0]
    finished, inputs, state = greedy.next_inputs(0, None, "state", ids)
    np.testing.assert_array_equal(inputs, table[[2, 0]])
    assert finished.numpy().tolist() == [True, False] and state == "state"


def test_greedy_never_remembers_an_embedding_of_an_earlier_call():
    greedy = GreedyEmbeddingSampler()
    for table in (np.zeros([4, 3]), np.ones([4, 3])):
        _, first = greedy.initialize(table, start_tokens=[3], end_token=2)
        np.testing.assert_array_equal(first, table[[3]])


def test_greedy_may_embed_by_a_layer():
    layer = keras.layers.Embedding(4, 3)
    _, first = GreedyEmbeddingSampler(layer).initialize(None, start_tokens=[3, 0], end_token=2)
    np.testing.assert_array_equal(first, layer(np.array([3, 0])))


def test_greedy_refuses_what_are_no_tokens():
    table = np.eye(3)
    with pytest.raises(ValueError, match="start_tokens must be a vector"):
        GreedyEmbeddingSampler().initialize(table, start_tokens=1, end_token=2)
    with pytest.raises(ValueError, match="end_token must be a scalar"):
        GreedyEmbeddingSampler().initialize(table, start_tokens=[1], end_token=[2])
    with pytest.raises(ValueError, match="embedding_fn must be callable"):
        GreedyEmbeddingSampler(table)
    greedy = GreedyEmbeddingSampler()
    greedy.initialize(table, start_tokens=[1], end_token=2)
    with pytest.raises(TypeError, match="single Tensor"):
        greedy.sample(0, (table, table), None)
