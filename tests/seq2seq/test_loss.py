import json
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_attention
from keras_attention.backend.keras import KERAS_3
from keras_attention.seq2seq import SequenceLoss, sequence_loss
from tests import oracles
from tests.sampled import sampled

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


@pytest.mark.parametrize("batch, steps", CLEAR)
@pytest.mark.parametrize("shape", [(BATCH, 1), (1, STEPS)], ids=["rows", "steps"])
def test_one_weight_for_a_row_or_a_step_counts_as_often_as_it_is_used(shape, batch, steps):
    logits, targets = example()
    weights = np.random.uniform(0.5, 2, shape) * (np.arange(max(shape)).reshape(shape) != 1)
    found = sequence_loss(logits, targets, weights, **over(batch, steps))
    whole = np.broadcast_to(weights, (BATCH, STEPS))
    expected = expected_loss(logits, targets, whole, batch, steps)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_masked_values_have_no_gradient():
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


def test_a_custom_loss_is_used():
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
    with pytest.raises(ValueError, match="because of ambiguous order"):
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
    with pytest.raises(ValueError, match="must be"):
        sequence_loss(*arguments)
    logits, targets = example()
    with pytest.raises(ValueError, match="one-hot"):
        sequence_loss(logits, np.ones((BATCH, STEPS, VOCABULARY + 1)), WEIGHTS)


@pytest.mark.parametrize(
    "shapes, words, as_object",
    [
        (((2, 3, 5), (2, 5), (2, 3)), "Targets must be", False),
        (((2, 3, 5), (3, 2), (2, 3)), "Targets must be", True),
        (((2, 3, 5), (2, 2, 5), (2, 3)), "Targets must be", False),
        (((2, 3, 5), (2, 3), (3, 2)), "Weights must be", False),
        (((2, 3, 5), (2, 3), (2, 5)), "Weights must be", True),
    ],
    ids=str,
)
def test_shapes_that_do_not_fit_are_refused_in_the_same_words_eager_and_in_a_graph(
    shapes, words, as_object
):
    logits, targets, weights = (tf.zeros(shape) for shape in shapes)

    def loss(logits, targets, weights):
        if as_object:
            return SequenceLoss()(targets, logits, weights)
        return sequence_loss(logits, targets, weights)

    with pytest.raises(ValueError, match=words):
        loss(logits, targets, weights)
    with pytest.raises(ValueError, match=words):
        tf.function(loss)(logits, targets, weights)
    unknown = [tf.TensorSpec([None] * len(shape)) for shape in shapes]
    with pytest.raises(tf.errors.InvalidArgumentError, match=words):
        tf.function(loss, input_signature=unknown)(logits, targets, weights)


def test_where_sizes_are_unknown_the_loss_is_the_same():
    logits, targets = example()
    unknown = [
        tf.TensorSpec([None, None, None]),
        tf.TensorSpec([None, None], tf.int64),
        tf.TensorSpec([None, None]),
    ]
    for weights in (WEIGHTS, WEIGHTS[:, :1], WEIGHTS[:1]):
        np.testing.assert_allclose(
            tf.function(sequence_loss, input_signature=unknown)(logits, targets, weights),
            sequence_loss(logits, targets, weights),
            rtol=1e-6,
        )


def double(labels, logits):
    return 2 * tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)


@pytest.mark.parametrize("call", [lambda f: f, tf.function], ids=["eager", "graph"])
@pytest.mark.parametrize("kind", ["ids", "one-hot", "function"])
def test_positions_of_weight_zero_have_no_effect_on_loss_or_gradient(kind, call):
    logits, targets = example()
    hidden = WEIGHTS == 0
    spoilt = logits.copy()
    spoilt[0, 3, targets[0, 3]] = -np.inf  # the target's own logit
    spoilt[1, 2], spoilt[1, 3] = -np.inf, np.nan
    given, bad = targets, np.where(hidden, np.where(np.arange(STEPS) % 2, -100, -1), targets)
    if kind == "one-hot":
        given = np.eye(VOCABULARY, dtype="float32")[targets]
        bad = np.where(hidden[..., None], np.float32(np.nan), given)
    function = double if kind == "function" else None

    def loss_and_gradient(logits, targets):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            loss = sequence_loss(logits, targets, WEIGHTS, softmax_loss_function=function)
        return loss, tape.gradient(loss, logits)

    found = call(loss_and_gradient)(tf.constant(spoilt), tf.constant(bad))
    expected = loss_and_gradient(tf.constant(logits), tf.constant(given))
    for one, other in zip(found, expected):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


def test_an_id_out_of_range_that_counts_is_refused_by_name():
    logits, targets = example()
    for bad in (-1, VOCABULARY):
        targets[0, 0] = bad
        with pytest.raises(ValueError, match="must be an id from 0 to V - 1"):
            sequence_loss(logits, targets, WEIGHTS)
        with pytest.raises(tf.errors.InvalidArgumentError, match="must be an id from 0 to V - 1"):
            tf.function(sequence_loss)(logits, targets, WEIGHTS)


# -- the same as a Keras loss


def masked(logits, mask):
    """Logits as a layer gives them whose input was padded."""
    logits = tf.constant(logits)
    logits._keras_mask = tf.constant(mask)
    return logits


def test_by_default_the_loss_is_summed_and_divided_by_the_number_of_real_tokens():
    logits, targets = example()
    loss = SequenceLoss()(targets, logits, WEIGHTS)
    assert loss.shape == ()
    np.testing.assert_allclose(
        loss, expected_loss(logits, targets, WEIGHTS, "sum", "sum"), rtol=1e-5
    )


@pytest.mark.parametrize(
    "call", [lambda f: f, tf.function, lambda f: tf.function(f, jit_compile=True)]
)
@pytest.mark.parametrize("batch, steps", CLEAR)
def test_every_setting_is_that_of_the_function(batch, steps, call):
    logits, targets = example()
    loss = SequenceLoss(**over(batch, steps))
    np.testing.assert_allclose(
        call(lambda: loss(targets, logits, WEIGHTS))(),
        expected_loss(logits, targets, WEIGHTS, batch, steps),
        rtol=1e-5,
    )


@pytest.mark.parametrize("batch, steps", CLEAR)
def test_without_weights_every_step_counts_once(batch, steps):
    logits, targets = example()
    loss, ones = SequenceLoss(**over(batch, steps)), np.ones_like(WEIGHTS)
    expected = expected_loss(logits, targets, ones, batch, steps)
    np.testing.assert_allclose(loss(targets, logits), expected, rtol=1e-5)
    np.testing.assert_allclose(loss(targets.tolist(), logits.tolist()), expected, rtol=1e-5)


def test_without_weights_the_mask_of_the_logits_selects_the_steps():
    logits, targets = example()
    found = SequenceLoss()(targets, masked(logits, WEIGHTS > 0))
    expected = expected_loss(logits, targets, (WEIGHTS > 0).astype(float), "sum", "sum")
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert SequenceLoss()(targets, masked(logits, np.zeros(WEIGHTS.shape, bool))) == 0


@pytest.mark.parametrize("weights", [2 * np.ones_like(WEIGHTS), [[2.0], [0.0], [1.0]]])
def test_masked_positions_have_no_weight_whatever_its_weight(weights):
    logits, targets = example()
    loss = SequenceLoss(**over("average", "average"))
    expected = expected_loss(logits, targets, weights * (WEIGHTS > 0), "average", "average")
    found = loss(targets, masked(logits, WEIGHTS > 0), weights)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("batch, steps", [mode for mode in MODES if mode not in CLEAR])
def test_ambiguous_settings_are_refused_when_the_loss_is_called(batch, steps):
    loss = SequenceLoss(**over(batch, steps))
    with pytest.raises(ValueError, match="because of ambiguous order"):
        loss(*reversed(example()), WEIGHTS)


def test_weights_of_rows_alone_are_refused():
    logits, targets = example()
    for given in (logits, masked(logits, WEIGHTS > 0)):
        with pytest.raises(ValueError, match="Weights must be"):
            SequenceLoss()(targets, given, np.ones(BATCH))


@keras.saving.register_keras_serializable("tests")
def twice(labels, logits):
    return 2 * tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)


@pytest.mark.parametrize("function", [None, twice])
def test_a_loss_comes_back_from_its_config(function):
    loss = SequenceLoss(**over("average", None), softmax_loss_function=function, name="tokens")
    saved = json.loads(json.dumps(keras.saving.serialize_keras_object(loss)))
    copy = keras.saving.deserialize_keras_object(saved)
    assert copy.get_config() == loss.get_config() and copy.name == "tokens"
    logits, targets = example()
    np.testing.assert_array_equal(copy(targets, logits, WEIGHTS), loss(targets, logits, WEIGHTS))
    np.testing.assert_allclose(
        copy(targets, logits, WEIGHTS),
        (2 if function else 1) * expected_loss(logits, targets, WEIGHTS, "average", None),
        rtol=1e-5,
    )


def tagger(vocabulary=VOCABULARY):
    """A model whose logits carry a mask: id 0 is padding."""
    tokens = keras.Input([None], dtype="int32")
    x = keras.layers.Embedding(vocabulary, 8, mask_zero=True)(tokens)
    return keras.Model(tokens, keras.layers.Dense(vocabulary)(x))


def sentences(rows=12):
    tokens = np.random.randint(1, VOCABULARY, (rows, STEPS))
    tokens *= oracles.padding(np.random.randint(1, STEPS + 1, rows), STEPS)
    return tokens, (2 * tokens) % VOCABULARY


@pytest.mark.parametrize("jit, weighted", sampled([False, True], [True, False], together=0))
def test_a_model_is_trained_on_it_evaluated_and_loaded_with_it(weighted, jit, tmp_path):
    model, (tokens, targets) = tagger(), sentences()
    model.compile(keras.optimizers.Adam(0.05), loss=SequenceLoss(), jit_compile=jit)
    weights = np.random.uniform(0.5, 2, tokens.shape) * (np.arange(STEPS) < 2)
    given = {"sample_weight": weights} if weighted else {}
    whole = weights * (tokens > 0) if weighted else (tokens > 0).astype(float)
    expected = expected_loss(model(tokens).numpy(), targets, whole, "sum", "sum")
    first = model.evaluate(tokens, targets, batch_size=12, verbose=0, **given)
    np.testing.assert_allclose(first, expected, rtol=1e-5)
    history = model.fit(tokens, targets, 5, epochs=8, verbose=0, **given).history["loss"]
    assert history[-1] < 0.5 * first
    model.save(tmp_path / "tagger.keras")
    copy = keras.saving.load_model(tmp_path / "tagger.keras")
    assert isinstance(copy.loss, SequenceLoss)
    np.testing.assert_allclose(
        *(m.evaluate(tokens, targets, verbose=0, **given) for m in (model, copy)), rtol=1e-5
    )


TWO_DEVICES = """
import json
import numpy as np, keras, tensorflow as tf
from keras_attention.seq2seq import SequenceLoss

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
# Another number of real tokens on each device, and a last batch of three rows.
tokens = np.array([[1, 2, 3, 2], [3, 1, 2, 0], [2, 0, 0, 0], [3, 0, 0, 0],
                   [1, 3, 1, 0], [2, 2, 0, 0], [3, 0, 0, 0]])

def run(strategy):
    with strategy.scope():
        model = keras.Sequential([
            keras.Input((None,), dtype="int32"),
            keras.layers.Embedding(4, 4, "ones", mask_zero=True),
            keras.layers.Dense(4, kernel_initializer="ones"),
        ])
        model.compile(keras.optimizers.SGD(1.0), SequenceLoss(), jit_compile=False)
    loss = model.fit(tokens, tokens, 4, epochs=3, shuffle=False, verbose=0).history["loss"]
    return [loss, np.concatenate([w.ravel() for w in model.get_weights()]).tolist()]

print(json.dumps([
    run(tf.distribute.OneDeviceStrategy("CPU:0")),
    run(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])),
]))
"""


@pytest.mark.full
def test_two_devices_lose_and_learn_as_one():
    run = subprocess.run(
        [sys.executable, "-c", TWO_DEVICES],
        cwd=pathlib.Path(keras_attention.__file__).parents[1],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    (one_loss, one), (two_loss, two) = json.loads(run.stdout.splitlines()[-1])
    shares = 1 if KERAS_3 else 2  # Keras 2 reports the share of one device
    np.testing.assert_allclose(np.multiply(two_loss, shares), one_loss, rtol=1e-5)
    np.testing.assert_allclose(two, one, rtol=1e-5, atol=1e-6)
    assert one_loss[-1] < one_loss[0]
