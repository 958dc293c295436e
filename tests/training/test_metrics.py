"""The loss and the metrics of tokens: means over tokens, whatever lies beside them."""

import json
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_attention
from keras_attention.training import (
    GuidedAlignment,
    Perplexity,
    TokenAccuracy,
    TokenCrossentropy,
    token_objective,
)
from tests import oracles

V = 9


def batch(rows, steps, seed=0):
    """ids, logits and weights (0 on a padding of its own for each row)."""
    random = np.random.default_rng(seed)
    real = np.arange(steps) < random.integers(1, steps + 1, (rows, 1))
    logits = random.normal(size=(rows, steps, V)).astype("f")
    return random.integers(0, V, (rows, steps)), logits, real.astype("f")


def expected_means(batches):
    """Perplexity and accuracy over all tokens of (ids, logits, weights)."""
    losses, hits, weights = [], [], []
    for ids, logits, weight in batches:
        losses.append((oracles.cross_entropy(logits, ids) * weight).sum())
        hits.append(((logits.argmax(-1) == ids) * weight).sum())
        weights.append(weight.sum())
    return np.exp(sum(losses) / sum(weights)), sum(hits) / sum(weights)


def measured(batches):
    metrics = Perplexity(), TokenAccuracy()
    for metric in metrics:
        for each in batches:
            metric.update_state(*each)
    return [float(metric.result()) for metric in metrics]


def test_short_and_long_batches_count_by_their_tokens():
    short, long = (np.zeros((4, steps, V), "f") for steps in (2, 40))
    short[..., 3] = 4.0
    seen = [(np.full(x.shape[:2], 3), x, np.ones(x.shape[:2], "f")) for x in (short, long)]
    perplexity, accuracy = measured(seen)
    p = np.exp(4.0) / (np.exp(4.0) + V - 1)
    np.testing.assert_allclose(perplexity, np.exp((8 * -np.log(p) + 160 * np.log(V)) / 168), 1e-5)
    np.testing.assert_allclose((perplexity, accuracy), expected_means(seen), 1e-5)
    assert round(perplexity, 3) == 8.159


@pytest.mark.parametrize("size", [1, 5, 8, 16])
def test_the_same_tokens_have_the_same_means_in_batches_of_every_size(size):
    ids, logits, weights = batch(16, 12)
    seen = []
    for begin in range(0, 16, size):  # each batch is as long as its longest row
        rows = slice(begin, begin + size)
        steps = int(weights[rows].sum(1).max())
        seen.append((ids[rows, :steps], logits[rows, :steps], weights[rows, :steps]))
    np.testing.assert_allclose(measured(seen), expected_means([(ids, logits, weights)]), 1e-5)


def test_no_token_is_never_the_best():
    nothing = (*batch(2, 3)[:2], np.zeros((2, 3), "f"))
    assert measured([]) == measured([nothing]) == [np.inf, 0.0]


def test_counts_stay_exact_under_a_low_floatx(low_floatx):
    """In bfloat16 a count of 300 tokens would be one of 256 or 304."""
    ids, logits, weights = batch(60, 7)
    weights[:] = 1
    found = measured([(ids[i : i + 1], logits[i : i + 1], weights[i : i + 1]) for i in range(60)])
    np.testing.assert_allclose(found, expected_means([(ids, logits, weights)]), 1e-5)


@pytest.fixture(params=["bfloat16", "float16"])
def low_floatx(request):
    keras.config.set_floatx(request.param)
    yield request.param
    keras.config.set_floatx("float32")


def test_labels_are_never_rounded(low_floatx):
    size = 4096
    ids = np.array([[301, 2049]])
    logits = 10.0 * tf.one_hot(ids, size)
    loss, perplexity, accuracy = TokenCrossentropy(), Perplexity(), TokenAccuracy()
    expected = oracles.cross_entropy(logits.numpy(), ids).mean()
    np.testing.assert_allclose(loss(ids, logits), expected, rtol=1e-3)
    for metric, value in ((perplexity, np.exp(expected)), (accuracy, 1.0)):
        metric.update_state(ids, logits)
        np.testing.assert_allclose(metric.result(), value, rtol=1e-5)
    with pytest.raises(ValueError, match=f"{low_floatx}, which represents whole numbers up to"):
        loss(tf.cast(ids, low_floatx), logits)


def test_narrow_logits_have_a_wide_loss_and_the_accuracy_of_their_ids():
    ids = np.array([[301]])
    logits = tf.cast(20 * tf.one_hot(ids, 1000), "bfloat16")
    assert TokenCrossentropy()(ids, logits).dtype == tf.float32
    assert measured([(ids, logits)])[1] == 1.0


# -- weights


def oracle_loss(ids, logits, weights):
    return (oracles.cross_entropy(logits, ids) * weights).sum() / weights.sum()


@pytest.mark.parametrize("shape", [(4, 1), (4, 6), (1, 6), (4, 6, 1), ()], ids=str)
def test_weights_count_sentences_or_tokens(shape):
    ids, logits, _ = batch(4, 6)
    weights = np.random.default_rng(1).uniform(0.5, 2, shape).astype("f")
    whole = np.broadcast_to(weights[..., 0] if len(shape) == 3 else weights, (4, 6))
    expected = oracle_loss(ids, logits, whole)
    np.testing.assert_allclose(TokenCrossentropy()(ids, logits, weights), expected, rtol=1e-5)
    found = measured([(ids, logits, weights)])
    np.testing.assert_allclose(found, expected_means([(ids, logits, whole)]), rtol=1e-5)


def test_one_number_a_sentence_is_no_number_of_steps():
    """The mean of losses 1.5 and 3 at weights 1 and 1 is 2.25, not 6 times that."""
    probabilities = np.exp([-1.5, -3.0])
    logits = np.log(np.stack([probabilities, 1 - probabilities], -1))[:, None]
    logits = np.repeat(logits, 6, 1).astype("f")
    loss = TokenCrossentropy()(np.zeros((2, 6), int), logits, np.ones((2, 1), "f"))
    np.testing.assert_allclose(loss, 2.25, rtol=1e-5)


OBJECTIVES = ["loss", "perplexity", "accuracy", "alignment"]


def objectives():
    return {
        "loss": TokenCrossentropy(),
        "perplexity": Perplexity().update_state,
        "accuracy": TokenAccuracy().update_state,
        "alignment": GuidedAlignment(),
    }


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("shape", [(6,), (4,), (4, 3), (6, 4), (2, 6), (4, 6, 2)], ids=str)
def test_weights_that_could_mean_something_else_are_refused_by_name(name, shape):
    ids, logits, _ = batch(4, 6)
    y_true = tf.nn.softmax(logits) if name == "alignment" else ids
    with pytest.raises(ValueError, match=r"sample_weight must .*\[B, 1\].*Received: shapes"):
        objectives()[name](y_true, tf.nn.softmax(logits), np.ones(shape, "f"))


@pytest.mark.parametrize("rows, steps", [(4, 6), (6, 6)])
def test_class_weight_is_refused_by_name(rows, steps):
    """Keras takes the ids of a sentence for a one-hot row, and weighs by where the largest is."""
    model, ids = tagger(), batch(rows, steps)[0]
    with pytest.raises(ValueError, match="class_weight cannot weight tokens"):
        model.fit(ids, ids, class_weight={1: 2.0}, verbose=0)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_shapes_that_do_not_fit_are_refused_eager_and_in_a_graph(name):
    ids, logits, _ = batch(4, 6)
    function = objectives()[name]
    y_true, y_pred = (logits if name == "alignment" else ids)[:, :4], tf.constant(logits)
    words = "reference" if name == "alignment" else "Targets must be ids"
    with pytest.raises(ValueError, match=words):
        function(y_true, y_pred)
    unknown = [tf.TensorSpec([None] * x.ndim, x.dtype) for x in (y_true, logits)]
    with pytest.raises(tf.errors.InvalidArgumentError, match=words):
        tf.function(lambda *x: function(*x), input_signature=unknown)(y_true, y_pred)


def test_ids_of_single_tokens_and_with_a_last_axis_of_one():
    ids, logits, weights = batch(4, 6)
    expected = TokenCrossentropy()(ids, logits, weights)
    same = TokenCrossentropy()(ids[..., None], logits, weights)
    flat = TokenCrossentropy()(ids.ravel(), logits.reshape(-1, V), weights.ravel())
    np.testing.assert_allclose((same, flat), (expected, expected), rtol=1e-6)


@pytest.mark.parametrize("call", [lambda f: f, tf.function], ids=["eager", "graph"])
def test_positions_of_weight_zero_have_no_effect(call):
    ids, logits, weights = batch(4, 6)
    hidden = weights == 0
    bad_ids = np.where(hidden, np.where(np.arange(6) % 2, -1, -100), ids)
    bad = np.where(hidden[..., None], np.array([-np.inf] + [np.nan] * (V - 1), "f"), logits)

    @call
    def loss_and_gradient(ids, logits):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            loss = TokenCrossentropy(0.1)(ids, logits, weights)
        return loss, tape.gradient(loss, logits)

    found = loss_and_gradient(tf.constant(bad_ids), tf.constant(bad))
    expected = loss_and_gradient(tf.constant(ids), tf.constant(logits))
    for one, other in zip(found, expected):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(
        measured([(bad_ids, bad, weights)]), expected_means([(ids, logits, weights)]), 1e-5
    )
    bad_ids[:] = -1
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match="must be an id from 0"):
        loss_and_gradient(tf.constant(bad_ids), tf.constant(logits))


def test_guided_alignment_weighs_sentences_as_every_loss_does():
    reference = np.zeros((2, 4, 3), "f")
    reference[..., 0] = 1
    reference[1, 2:] = 0
    alignments = tf.nn.softmax(np.random.default_rng(0).normal(size=(2, 4, 3)).astype("f"))
    losses = -np.log(alignments[..., 0]) * reference[..., 0]
    weights = np.array([[2.0], [0.5]], "f")
    whole = weights * reference[..., 0]
    found = GuidedAlignment()(reference, alignments, weights)
    np.testing.assert_allclose(found, (losses * whole).sum() / whole.sum(), rtol=1e-5)
    spoilt = np.where(whole[..., None] > 0, alignments, np.nan)
    np.testing.assert_allclose(GuidedAlignment()(reference, spoilt, weights), found, rtol=1e-6)


@pytest.mark.parametrize("reduction", ["sum", "mean", "sum_over_batch_size", "none", None])
@pytest.mark.parametrize("masked", [False, True])
def test_the_other_reductions_are_those_of_keras(reduction, masked):
    ids, logits, weights = batch(4, 6)
    logits = tf.constant(logits)
    if masked:
        logits._keras_mask = tf.constant(np.arange(6) < [[3], [6], [1], [2]])
    theirs = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=reduction)
    found = TokenCrossentropy(reduction=reduction)(ids, logits, weights)
    expected = theirs(ids, logits, weights)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


# -- in `fit`


def tagger(**settings):
    model = keras.Sequential(
        [
            keras.layers.Embedding(V, 4, "ones", mask_zero=True),
            keras.layers.Dense(V, kernel_initializer=keras.initializers.GlorotUniform(1)),
        ]
    )
    model.compile(keras.optimizers.SGD(0.0), **token_objective(), **settings)
    return model


@pytest.mark.parametrize("weighted", [False, True])
def test_the_mask_of_keras_hides_from_all_three(weighted):
    ids, _, real = batch(6, 5)
    tokens = (ids * real).astype("int32")
    weights = np.random.default_rng(2).uniform(0.5, 2, tokens.shape).astype("f")
    model = tagger()
    given = {"sample_weight": weights} if weighted else {}
    found = model.evaluate(tokens, ids, batch_size=6, verbose=0, return_dict=True, **given)
    counted = (tokens > 0) * (weights if weighted else 1)
    perplexity, accuracy = expected_means([(ids, model(tokens).numpy(), counted)])
    np.testing.assert_allclose(found["perplexity"], perplexity, rtol=1e-5)
    np.testing.assert_allclose(found["token_accuracy"], accuracy, rtol=1e-5)
    np.testing.assert_allclose(found["loss"], np.log(perplexity), rtol=1e-5)


def test_save_best_only_passes_over_an_epoch_without_tokens(tmp_path):
    model, ids = tagger(), batch(4, 5)[0]
    checkpoint = keras.callbacks.ModelCheckpoint(
        tmp_path / "{epoch}.keras", monitor="val_perplexity", save_best_only=True
    )
    weights = np.zeros(ids.shape, "f")
    for epoch in range(2):
        validation = (np.maximum(ids, 1), ids, weights + epoch)
        model.fit(
            ids,
            ids,
            validation_data=validation,
            callbacks=[checkpoint],
            initial_epoch=epoch,
            epochs=epoch + 1,
            verbose=0,
        )
    assert (tmp_path / "2.keras").exists() and np.isfinite(float(checkpoint.best))


def test_loss_and_metrics_come_back_from_their_config():
    for each in (Perplexity("p"), TokenAccuracy("a"), TokenCrossentropy(0.1, name="l")):
        saved = json.loads(json.dumps(keras.saving.serialize_keras_object(each)))
        copy = keras.saving.deserialize_keras_object(saved)
        assert type(copy) is type(each) and copy.get_config() == each.get_config()


TWO_REPLICAS = """
import json
import numpy as np, keras, tensorflow as tf
from keras_attention.functional import projection
from keras_attention.layers import LinearCrossEntropy
from keras_attention.training import token_objective

projection.LEAST_VOCABULARY = 9
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
random = np.random.default_rng(0)
tokens = random.integers(1, 9, (7, 6)).astype("int32")
weights = (np.arange(6) < np.array([[6], [1], [5], [4], [2], [1], [6]])).astype("f")

def batches():
    for rows in (slice(0, 4), slice(4, 7)):  # the last one is uneven, and of other lengths
        steps = int(weights[rows].sum(1).max())
        found = tokens[rows, :steps], tokens[rows, :steps] % 8, weights[rows, :steps]
        yield tuple(np.array(x) for x in found)  # TensorFlow may write into what it is given

ids = tf.TensorSpec([None, None], tf.int32)
signature = (ids, ids, tf.TensorSpec([None, None]))
data = tf.data.Dataset.from_generator(batches, output_signature=signature)
data = data.apply(tf.data.experimental.assert_cardinality(2))

def run(strategy, steps):
    with strategy.scope():
        model = keras.Sequential([
            keras.Input((None,), dtype="int32"),
            keras.layers.Embedding(9, 4, keras.initializers.RandomUniform(seed=1)),
            LAYER(9, kernel_initializer=keras.initializers.GlorotUniform(2)),
        ])
        model.compile(keras.optimizers.SGD(1.0), **token_objective(), steps_per_execution=steps)
    first = model.evaluate(data, verbose=0, return_dict=True)
    logs = model.fit(data, epochs=2, shuffle=False, verbose=0).history
    return {
        "evaluate": first,
        "fit": {name: values[-1] for name, values in logs.items()},
        "weights": np.concatenate([w.ravel() for w in model.get_weights()]).tolist(),
    }

devices = ["CPU:0", "CPU:1"]
one, two = tf.distribute.OneDeviceStrategy("CPU:0"), tf.distribute.MirroredStrategy(devices)
# The default all-reduce of TensorFlow fails in a loop of steps, with any loss: see docs/keras.md.
looped = tf.distribute.MirroredStrategy(devices, tf.distribute.ReductionToOneDevice())
print(json.dumps([run(one, 1), run(one, 2), run(two, 1), run(looped, 2)]))
"""


@pytest.mark.full
@pytest.mark.parametrize("layer", ["keras.layers.Dense", "LinearCrossEntropy"])
def test_two_replicas_and_several_steps_at_once_measure_and_learn_as_one(layer):
    run = subprocess.run(
        [sys.executable, "-c", TWO_REPLICAS.replace("LAYER", layer)],
        cwd=pathlib.Path(keras_attention.__file__).parents[1],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    single, *others = json.loads(run.stdout.splitlines()[-1])
    for other in others:
        np.testing.assert_allclose(other["weights"], single["weights"], rtol=1e-5, atol=1e-6)
        for when in ("evaluate", "fit"):
            for name in ("perplexity", "token_accuracy", "loss"):
                np.testing.assert_allclose(other[when][name], single[when][name], rtol=1e-5)
