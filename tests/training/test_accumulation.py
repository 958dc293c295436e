"""Accumulated gradients are those of a larger batch."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.training import (
    AccumulateGradients,
    ClipByGlobalNorm,
    LossScaleOptimizer,
    OverwriteWithAverage,
)

X = np.random.default_rng(0).normal(size=(24, 3)).astype("float32")
Y = X[:, :2] * 2


def fitted(optimizer, batch_size, callbacks=(), epochs=3):
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(4, "tanh"), keras.layers.Dense(2)]
    )
    model.compile(optimizer, "mse")
    model.fit(X, Y, batch_size=batch_size, epochs=epochs, shuffle=False, verbose=0,
              callbacks=list(callbacks))  # fmt: skip
    return model


@pytest.mark.parametrize(("inner", "steps"), [("Adam", 2), ("SGD", 3)])
def test_steps_of_small_batches_are_one_of_a_large_batch(steps, inner):
    optimizer = getattr(keras.optimizers, inner)
    small = fitted(AccumulateGradients(optimizer(0.01), steps), 4)
    large = fitted(optimizer(0.01), 4 * steps)
    for one, other in zip(small.get_weights(), large.get_weights()):
        np.testing.assert_allclose(one, other, atol=1e-6)
    assert int(small.optimizer.iterations) == int(large.optimizer.iterations) == 18 // steps


def test_the_accumulated_gradient_is_clipped():
    small = fitted(AccumulateGradients(ClipByGlobalNorm("sgd", 0.1), 3), 4)
    large = fitted(ClipByGlobalNorm("sgd", 0.1), 12)
    for one, other in zip(small.get_weights(), large.get_weights()):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_the_rows_of_sparse_gradients_are_added_without_a_dense_gradient():
    weight = keras.Variable(tf.ones([5, 2]))
    optimizer = AccumulateGradients(keras.optimizers.SGD(1.0), 2)
    optimizer.build([weight])

    @tf.function
    def step(indices, values):
        optimizer.apply([tf.IndexedSlices(values, indices, tf.constant([5, 2]))], [weight])

    step(tf.constant([1, 1, 3]), tf.ones([3, 2]))
    step(tf.constant([3, 0, 3]), 2 * tf.ones([3, 2]))
    np.testing.assert_array_equal(weight[:, 0], [0.0, 0.0, 1.0, -1.5, 1.0])
    kinds = {node.type for node in step.get_concrete_function(
        tf.constant([1, 1, 3]), tf.ones([3, 2])).graph.get_operations()}  # fmt: skip
    assert "ResourceScatterAdd" in kinds and "UnsortedSegmentSum" not in kinds


def test_sparse_gradients_and_variables_without_a_gradient():
    used, unused = keras.Variable(np.zeros([3, 2], "f")), keras.Variable(np.ones(2, "f"))
    optimizer = AccumulateGradients(keras.optimizers.SGD(1.0), 2)
    rows = tf.IndexedSlices(tf.ones([2, 2]), tf.constant([1, 1]), tf.constant([3, 2]))
    optimizer.apply([rows, None], [used, unused])
    np.testing.assert_array_equal(used.numpy(), 0)
    optimizer.apply([rows, None], [used, unused])
    np.testing.assert_array_equal(used.numpy(), [[0, 0], [-2, -2], [0, 0]])
    np.testing.assert_array_equal(unused.numpy(), 1)


def test_a_saved_model_goes_on_within_an_accumulation(tmp_path):
    def make():
        return AccumulateGradients(ClipByGlobalNorm(keras.optimizers.Adam(0.01), 1.0), 4)

    whole = fitted(make(), 4, epochs=2)  # 12 steps
    part = fitted(make(), 4, epochs=1)  # 6 steps: 2 of 4 in the sum
    part.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.optimizer.steps == 4 and loaded.optimizer.inner_optimizer.norm == 1.0
    loaded.fit(X, Y, batch_size=4, shuffle=False, verbose=0)
    for one, other in zip(loaded.get_weights(), whole.get_weights()):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_a_learning_rate_set_later_is_that_of_the_inner_optimizer():
    inner = keras.optimizers.SGD(1.0)
    optimizer = AccumulateGradients(inner, 2)
    optimizer.learning_rate = 0.25
    assert float(inner.learning_rate) == float(optimizer.learning_rate) == 0.25


def test_loss_scaling_skips_an_overflow_and_goes_on():
    optimizer = LossScaleOptimizer(
        AccumulateGradients(keras.optimizers.SGD(1.0), 2), initial_scale=2.0
    )
    weight = keras.Variable([0.0])
    for gradient in (2.0, np.inf, 3.0):  # scaled by 2, 2, 1
        optimizer.apply([tf.constant([gradient])], [weight])
    assert float(weight.numpy()[0]) == -2.0


@pytest.mark.parametrize("steps", [0, -1, 1.5, True, "2"])
def test_steps_must_be_a_whole_number(steps):
    with pytest.raises(ValueError, match="at least 1. Received"):
        AccumulateGradients("sgd", steps)
    with pytest.raises(ValueError, match="at least 1. Received"):
        OverwriteWithAverage(steps)


def test_wrappers_in_another_order_are_refused_with_the_right_one():
    with pytest.raises(ValueError, match=r"LossScaleOptimizer\(AccumulateGradients"):
        AccumulateGradients(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD()), 2)
    with pytest.raises(ValueError, match="must not accumulate itself.*with 3 steps"):
        AccumulateGradients(keras.optimizers.SGD(gradient_accumulation_steps=3), 2)
    with pytest.raises(ValueError, match="must not accumulate itself.*with 5 steps"):
        AccumulateGradients(AccumulateGradients("sgd", 5), 2)
    with pytest.raises(ValueError, match=r"AccumulateGradients\(ClipByGlobalNorm"):
        ClipByGlobalNorm(AccumulateGradients("sgd", 5), 1.0)


def test_weights_are_overwritten_with_their_average_as_by_keras():
    def adam(**kwargs):
        return keras.optimizers.Adam(0.01, use_ema=True, ema_momentum=0.8, **kwargs)

    ours = fitted(adam(), 4, [OverwriteWithAverage(4)])
    keras_own = fitted(adam(ema_overwrite_frequency=4), 4)
    for one, other in zip(ours.get_weights(), keras_own.get_weights()):
        np.testing.assert_allclose(one, other, atol=1e-7)
    plain = fitted(adam(), 4)
    assert not np.allclose(plain.get_weights()[0], ours.get_weights()[0])


def test_what_is_no_optimizer_or_scale_is_refused():
    for wrong in (None, [], "sgd", keras.optimizers.SGD):
        with pytest.raises(ValueError, match="LossScaleOptimizer needs an optimizer"):
            LossScaleOptimizer(wrong)
    with pytest.raises(ValueError, match="does not scale the loss itself"):
        LossScaleOptimizer(LossScaleOptimizer(keras.optimizers.SGD()))
    with pytest.raises(ValueError, match="initial_scale must be above 0"):
        LossScaleOptimizer(keras.optimizers.SGD(), initial_scale=-1.0)
    with pytest.raises(ValueError, match="needs a keras.optimizers.Optimizer.* Received: None"):
        AccumulateGradients(None, 2)
    assert type(AccumulateGradients("sgd", np.int64(2)).steps) is int


def test_an_optimizer_without_averages_is_refused():
    with pytest.raises(ValueError, match="use_ema=True"):
        fitted("sgd", 4, [OverwriteWithAverage(4)])
