import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.seq2seq import sequence_loss
from tests import oracles

BATCH, STEPS, VOCABULARY = 3, 4, 5
WEIGHTS = np.array([[1, 1, 1, 0], [0.5, 2, 0, 0], [1, 0, 0, 0]], np.float32)


def example():
    logits = np.random.normal(size=(BATCH, STEPS, VOCABULARY)).astype(np.float32)
    return logits, np.random.randint(VOCABULARY, size=(BATCH, STEPS))


def over(batch, steps):
    """The arguments for "average", "sum" or None over each axis."""
    return {
        "average_across_batch": batch == "average",
        "average_across_timesteps": steps == "average",
        "sum_over_batch": batch == "sum",
        "sum_over_timesteps": steps == "sum",
    }


def expected_loss(logits, targets, weights, batch, steps):
    weighted = oracles.cross_entropy(logits, targets) * weights
    axes = tuple(axis for axis, wanted in enumerate((batch, steps)) if wanted)
    if not axes:
        return weighted
    averages = "average" in (batch, steps)
    count = (weights if averages else (weights != 0).astype(float)).sum(axes)
    return np.where(count > 0, weighted.sum(axes) / np.where(count > 0, count, 1), 0)


MODES = [(b, t) for b in (None, "average", "sum") for t in (None, "average", "sum")]
CLEAR = [mode for mode in MODES if set(mode) != {"average", "sum"}]


@pytest.mark.parametrize("batch, steps", CLEAR)
@pytest.mark.parametrize("one_hot", [False, True])
def test_every_denominator_is_that_of_the_oracle(batch, steps, one_hot):
    logits, targets = example()
    given = np.eye(VOCABULARY, dtype="float32")[targets] if one_hot else targets
    found = sequence_loss(logits, given, WEIGHTS, **over(batch, steps))
    expected = expected_loss(logits, targets, WEIGHTS, batch, steps)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("batch, steps", CLEAR)
def test_where_nothing_counts_the_loss_is_zero(batch, steps):
    logits, targets = example()
    found = sequence_loss(logits, targets, np.zeros_like(WEIGHTS), **over(batch, steps))
    assert not found.numpy().any()


def test_full_weights_are_the_mean_cross_entropy():
    logits, targets = example()
    found = sequence_loss(logits, targets, np.ones_like(WEIGHTS))
    expected = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(targets, logits)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_what_is_masked_has_no_gradient():
    logits, targets = example()
    logits = tf.Variable(logits)
    with tf.GradientTape() as tape:
        loss = sequence_loss(logits, targets, WEIGHTS)
    gradient = tape.gradient(loss, logits).numpy()
    assert (gradient[WEIGHTS == 0] == 0).all() and (gradient[WEIGHTS > 0] != 0).all()


def test_what_lies_under_the_mask_changes_nothing():
    logits, targets = example()
    other = np.where(WEIGHTS[..., None] > 0, logits, 50.0)
    np.testing.assert_array_equal(
        sequence_loss(logits, targets, WEIGHTS), sequence_loss(other, targets, WEIGHTS)
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_narrow_logits_lose_in_float32(dtype):
    logits, targets = example()
    narrow = tf.cast(100 * logits, dtype)
    loss = sequence_loss(narrow, targets, WEIGHTS)
    assert loss.dtype == tf.float32
    expected = sequence_loss(tf.cast(narrow, tf.float32), targets, WEIGHTS)
    np.testing.assert_array_equal(loss, expected)


def test_a_loss_of_ones_own_is_used():
    def constant(labels, logits):
        assert labels.shape == (BATCH * STEPS,) and logits.shape == (BATCH * STEPS, VOCABULARY)
        return 3 * tf.ones([BATCH * STEPS])

    assert float(sequence_loss(*example(), WEIGHTS, softmax_loss_function=constant)) == 3


def test_targets_may_be_floats_as_keras_makes_them():
    logits, targets = example()
    np.testing.assert_array_equal(
        sequence_loss(logits, targets.astype("float32"), WEIGHTS),
        sequence_loss(logits, targets, WEIGHTS),
    )


@pytest.mark.parametrize("batch, steps", [mode for mode in MODES if mode not in CLEAR])
def test_an_average_of_sums_is_refused_as_ambiguous(batch, steps):
    with pytest.raises(ValueError, match="ambiguous"):
        sequence_loss(*example(), WEIGHTS, **over(batch, steps))


@pytest.mark.parametrize("axis", ["timesteps", "batch"])
def test_one_axis_is_either_averaged_or_summed(axis):
    with pytest.raises(ValueError, match="same time"):
        arguments = {f"average_across_{axis}": True, f"sum_over_{axis}": True}
        sequence_loss(*example(), WEIGHTS, **arguments)


@pytest.mark.parametrize("position", [0, 1, 2])
def test_tensors_of_another_rank_are_refused(position):
    arguments = [*example(), WEIGHTS]
    arguments[position] = arguments[position][0]
    with pytest.raises(ValueError, match="must be a"):
        sequence_loss(*arguments)
    logits, targets = example()
    with pytest.raises(ValueError, match="one-hot"):
        sequence_loss(logits, np.ones((BATCH, STEPS, VOCABULARY + 1)), WEIGHTS)
