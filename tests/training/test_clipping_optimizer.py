import json
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_attention
from keras_attention.training import ClipByGlobalNorm

IDS = np.array([[1, 1, 2], [2, 2, 2], [3, 1, 1], [0, 6, 6]], np.int32)
GOALS = 50.0 * np.arange(4, dtype=np.float32)[:, None]


def embedding_model(optimizer):
    model = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            keras.layers.Embedding(7, 4, embeddings_initializer="ones"),
            keras.layers.GlobalAveragePooling1D(),
            keras.layers.Dense(1, kernel_initializer="ones"),
        ]
    )
    model.compile(optimizer, "mse")
    return model


def test_fit_never_moves_further_than_the_limit():
    model = embedding_model(ClipByGlobalNorm(keras.optimizers.SGD(1.0), 0.05))
    before = np.concatenate([w.ravel() for w in model.get_weights()])
    model.fit(IDS, GOALS, batch_size=4, verbose=0)
    after = np.concatenate([w.ravel() for w in model.get_weights()])
    np.testing.assert_allclose(np.linalg.norm(after - before), 0.05, rtol=1e-4)


def test_a_wide_limit_trains_as_the_optimizer_alone():
    ids = np.array([[1, 2, 3], [4, 5, 6]], np.int32)  # distinct, so that Keras adds nothing up late
    plain = embedding_model(keras.optimizers.Adam(0.1))
    wrapped = embedding_model(ClipByGlobalNorm(keras.optimizers.Adam(0.1), 1e9))
    for model in (plain, wrapped):
        model.fit(ids, GOALS[2:], epochs=3, verbose=0)
    for mine, other in zip(
        [*plain.variables, *plain.optimizer.variables],
        [*wrapped.variables, *wrapped.optimizer.variables],
        strict=True,
    ):
        np.testing.assert_allclose(mine.numpy(), other.numpy(), rtol=1e-6)
    assert int(wrapped.optimizer.iterations) == 3


def test_variables_without_gradients_are_passed_over():
    used, unused = keras.Variable([1.0]), keras.Variable([1.0])
    optimizer = ClipByGlobalNorm(keras.optimizers.SGD(1.0), 0.5)
    with pytest.warns(UserWarning, match="Gradients do not exist"):
        optimizer.apply_gradients([(None, unused), (np.array([4.0], "f"), used)])
    assert (float(used[0]), float(unused[0])) == (0.5, 1.0)


def test_weight_decay_exclusions_reach_the_optimizer_inside():
    kept, decayed = keras.Variable([1.0], name="bias"), keras.Variable([1.0], name="kernel")
    optimizer = ClipByGlobalNorm(keras.optimizers.SGD(0.5, weight_decay=0.5), 1.0)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    optimizer.apply([np.zeros([1], "f")] * 2, [kept, decayed])
    assert (float(kept[0]), float(decayed[0])) == (1.0, 0.75)


@pytest.mark.parametrize("limit", [0, -1.0, np.inf, np.nan])
def test_a_limit_that_is_not_positive_and_finite_is_refused(limit):
    with pytest.raises(ValueError, match="norm must be positive and finite"):
        ClipByGlobalNorm("sgd", limit)


def test_the_learning_rate_is_that_of_the_optimizer_inside():
    inner = keras.optimizers.SGD(0.5)
    outer = ClipByGlobalNorm(inner, 1.0)
    outer.learning_rate = 0.25
    assert float(inner.learning_rate) == float(outer.learning_rate) == 0.25


def test_callbacks_change_the_learning_rate():
    model = embedding_model(ClipByGlobalNorm(keras.optimizers.SGD(0.5), 1.0))
    schedule = keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.125)
    model.fit(IDS, GOALS, callbacks=[schedule], verbose=0)
    assert float(model.optimizer.inner_optimizer.learning_rate) == 0.125


def test_schedules_advance():
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([1, 2], [1.0, 0.5, 0.25])
    model = embedding_model(ClipByGlobalNorm(keras.optimizers.SGD(schedule), 1.0))
    model.fit(IDS, GOALS, batch_size=1, verbose=0)
    assert float(model.optimizer.learning_rate) == 0.25


def test_moving_averages_of_the_optimizer_inside_reach_the_model():
    inner = keras.optimizers.SGD(1.0, use_ema=True, ema_momentum=0.5)
    model = embedding_model(ClipByGlobalNorm(inner, 1.0))
    model.fit(IDS, GOALS, batch_size=1, verbose=0)
    averages = [v for v in inner.variables if "average" in v.path]
    for weight, average in zip(model.trainable_variables, averages, strict=True):
        np.testing.assert_array_equal(weight.numpy(), average.numpy())


def test_a_saved_model_continues_where_it_stopped(tmp_path):
    model = embedding_model(ClipByGlobalNorm(keras.optimizers.Adam(0.1), 0.5))
    model.fit(IDS, GOALS, epochs=2, shuffle=False, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(again.optimizer, ClipByGlobalNorm) and again.optimizer.norm == 0.5
    for each in (model, again):
        each.fit(IDS, GOALS, epochs=2, shuffle=False, verbose=0)
    for mine, other in zip(
        [*model.variables, *model.optimizer.variables],
        [*again.variables, *again.optimizer.variables],
        strict=True,
    ):
        np.testing.assert_array_equal(mine.numpy(), other.numpy())


@pytest.fixture
def mixed_float16():
    keras.config.set_dtype_policy("mixed_float16")
    yield
    keras.config.set_dtype_policy("float32")


def test_float16_gradients_are_unscaled_before_they_are_clipped(mixed_float16, tmp_path):
    model = embedding_model(ClipByGlobalNorm(keras.optimizers.SGD(1.0), 0.05))
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    before = np.concatenate([w.ravel() for w in model.get_weights()])
    for _ in range(20):  # the first steps overflow and are skipped, until the scale fits
        model.fit(IDS, GOALS, batch_size=4, verbose=0)
        after = np.concatenate([w.ravel() for w in model.get_weights()])
        if (after != before).any():
            break
    np.testing.assert_allclose(np.linalg.norm(after - before), 0.05, rtol=1e-2)
    model.save(tmp_path / "half.keras")
    again = keras.models.load_model(tmp_path / "half.keras")
    assert isinstance(again.optimizer.inner_optimizer, ClipByGlobalNorm)
    for mine, other in zip(model.optimizer.variables, again.optimizer.variables, strict=True):
        np.testing.assert_array_equal(mine.numpy(), other.numpy())


@pytest.mark.parametrize(
    "rule",
    [
        {"clipnorm": 1.0},
        {"global_clipnorm": 1.0},
        {"clipvalue": 1.0},
        {"gradient_accumulation_steps": 2},
        {"loss_scale_factor": 2.0},
    ],
)
def test_an_optimizer_with_such_rules_of_its_own_is_refused(rule):
    with pytest.raises(ValueError, match=next(iter(rule))):
        ClipByGlobalNorm(keras.optimizers.SGD(1.0, **rule), 1.0)


def test_loss_scaling_belongs_outside():
    with pytest.raises(ValueError, match="Reverse the order"):
        ClipByGlobalNorm(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD()), 1.0)


# -- as the optimizer inside, to everybody


def test_values_that_replace_a_variable_are_neither_clipped_nor_counted():
    """The scales and histories of float8 training come where gradients do."""
    weight, scale = keras.Variable([0.0, 0.0]), keras.Variable(1.0)
    scale.overwrite_with_gradient = True
    optimizer = ClipByGlobalNorm(keras.optimizers.SGD(1.0), 1.0)
    for _ in range(2):
        optimizer.apply([np.array([3.0, 4.0], "f"), np.float32(0.2232)], [weight, scale])
    np.testing.assert_allclose(weight, [-1.2, -1.6], rtol=1e-6)
    np.testing.assert_allclose(scale, 0.2232)


def test_float8_trains_as_with_the_optimizer_alone():
    x, y = np.random.default_rng(0).normal(size=(2, 8, 16)).astype("f")
    found = []
    for wrap in (lambda inner: inner, lambda inner: ClipByGlobalNorm(inner, 1e9)):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((16,)), keras.layers.Dense(16)])
        model.quantize("float8")
        model.compile(wrap(keras.optimizers.SGD(0.1)), "mse", jit_compile=False)
        model.fit(x, y, epochs=2, verbose=0)
        found.append(model.get_weights())
    for alone, wrapped in zip(*found, strict=True):
        np.testing.assert_allclose(wrapped, alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_averaged_weights_are_swapped_in_for_evaluation(policy):
    keras.config.set_dtype_policy(policy)
    try:
        inner = keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5)
        model = embedding_model(ClipByGlobalNorm(inner, 0.05))
    finally:
        keras.config.set_dtype_policy("float32")
    assert model.optimizer.use_ema if policy == "float32" else True
    model.fit(IDS, GOALS, batch_size=1, epochs=1, verbose=0)
    for weight in model.trainable_variables:
        weight.assign_add(np.ones(weight.shape))
    swapped = [v.numpy() for v in inner.variables if "average" in v.path]
    seen = []
    watch = keras.callbacks.LambdaCallback()
    watch.on_test_batch_end = lambda batch, logs=None: seen.append(
        [v.numpy() for v in model.trainable_variables]
    )
    swap = keras.callbacks.SwapEMAWeights()
    model.evaluate(IDS, GOALS, batch_size=4, callbacks=[swap, watch], verbose=0)
    for found, average in zip(seen[0], swapped, strict=True):
        np.testing.assert_allclose(found, average, rtol=1e-3)


def two_optimizers(**rule):
    parts = {".*dense.*": keras.optimizers.SGD(0.5, **rule)}
    return keras.optimizers.MultiOptimizer(
        keras.optimizers.OptimizerMap(keras.optimizers.SGD(0.25), parts)
    )


def test_callbacks_reach_every_part_of_a_multi_optimizer():
    model = embedding_model(ClipByGlobalNorm(two_optimizers(), 0.05))
    schedule = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2)
    plateau = keras.callbacks.ReduceLROnPlateau(monitor="loss", factor=0.5, patience=0, min_lr=0.1)
    before = np.concatenate([w.ravel() for w in model.get_weights()])
    model.fit(IDS, GOALS, batch_size=4, callbacks=[schedule, plateau], verbose=0)
    rates = sorted(float(part.learning_rate) for part in model.optimizer.optimizers)
    assert rates == [0.125, 0.25]
    moved = np.concatenate([w.ravel() for w in model.get_weights()]) - before
    assert 0 < np.linalg.norm(moved) <= 0.05 * 0.25 * 1.001
    with pytest.raises(AttributeError, match="on a MultiOptimizer"):
        _ = model.optimizer.learning_rate


def test_parts_that_clip_are_refused_as_soon_as_they_are_known():
    with pytest.raises(ValueError, match="global_clipnorm"):
        ClipByGlobalNorm(two_optimizers(global_clipnorm=1.0), 1.0)
    clips = keras.optimizers.SGD(1.0, clipnorm=1.0)
    chosen = ClipByGlobalNorm(keras.optimizers.MultiOptimizer(lambda variable: clips), 1.0)
    with pytest.raises(ValueError, match="clipnorm"):
        chosen.build([keras.Variable([1.0])])
    with pytest.raises(ValueError, match="norm=2.0"):
        ClipByGlobalNorm(ClipByGlobalNorm("sgd", 2.0), 1.0)


def test_attributes_are_those_of_the_optimizer_inside():
    inner = keras.optimizers.SGD(0.5, momentum=0.5, weight_decay=0.25)
    outer = ClipByGlobalNorm(inner, 1.0)
    assert (outer.momentum, outer.weight_decay, outer.nesterov) == (0.5, 0.25, False)
    outer.weight_decay, outer.momentum = 0.125, 0.75
    assert (inner.weight_decay, inner.momentum) == (0.125, 0.75)
    with pytest.raises(ValueError, match="loss_scale_factor=2.0"):
        outer.loss_scale_factor = 2.0
    with pytest.raises(AttributeError, match="no_such"):
        _ = outer.no_such
    assert int(outer.apply_gradients([(np.ones(1, "f"), keras.Variable([1.0]))])) == 1


def test_gradients_alone_do_for_an_optimizer_that_is_built():
    weight = keras.Variable([0.0, 0.0])
    optimizer = ClipByGlobalNorm(keras.optimizers.SGD(1.0), 1.0)
    optimizer.build([weight])
    optimizer.apply([np.array([3.0, 4.0], "f")])
    np.testing.assert_allclose(weight, [-0.6, -0.8], rtol=1e-6)


TWO_DEVICES = """
import json, sys
import numpy as np, keras, tensorflow as tf
from keras_attention.training import ClipByGlobalNorm

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
ids, goals = np.array(json.loads(sys.argv[1]), np.int32), np.array(json.loads(sys.argv[2]), "f")

def weights(strategy, inner, policy):
    keras.config.set_dtype_policy(policy)
    with strategy.scope():
        model = keras.Sequential([
            keras.Input((None,), dtype="int32"),
            keras.layers.Embedding(7, 4, embeddings_initializer="ones"),
            keras.layers.GlobalAveragePooling1D(),
            keras.layers.Dense(1, kernel_initializer="ones"),
        ])
        optimizer = ClipByGlobalNorm(inner(0.1), 0.5)
        if policy == "mixed_float16":  # a scale at which nothing overflows
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=8.0)
        model.compile(optimizer, "mse")
    model.fit(ids, goals, batch_size=4, epochs=3, shuffle=False, verbose=0)
    return np.concatenate([w.ravel() for w in model.get_weights()]).tolist()

found = []
for inner in (keras.optimizers.SGD, keras.optimizers.Adam):
    for policy in ("float32", "mixed_float16"):
        strategies = tf.distribute.OneDeviceStrategy("CPU:0"), tf.distribute.MirroredStrategy(
            ["CPU:0", "CPU:1"])
        found.append([weights(strategy, inner, policy) for strategy in strategies])
print(json.dumps(found))
"""


@pytest.mark.full
def test_two_devices_train_as_one():
    run = subprocess.run(
        [sys.executable, "-c", TWO_DEVICES, json.dumps(IDS.tolist()), json.dumps(GOALS.tolist())],
        cwd=pathlib.Path(keras_attention.__file__).parents[1],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    sgd, sgd_half, adam, adam_half = json.loads(run.stdout.splitlines()[-1])
    for one, two in (sgd, adam):
        np.testing.assert_allclose(two, one, rtol=1e-6)
    for one, two in (sgd_half, adam_half):
        np.testing.assert_allclose(two, one, rtol=2e-3)
    assert not np.allclose(sgd[0], 1.0)
