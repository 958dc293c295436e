import keras
import numpy as np
import pytest

from keras_attention.training import average_checkpoints, average_weights


def build(units=2, dtype="float32"):
    return keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(units, name="dense", dtype=dtype),
            keras.layers.Dropout(0.5),
            keras.layers.BatchNormalization(name="normal"),
        ]
    )


def fill(model, number):
    for variable in model.variables:
        if "seed" not in variable.path:
            variable.assign(np.full(variable.shape, number))
    return model


def saved(folder, *numbers, model=None):
    model = model or build()
    paths = [folder / f"{index}.weights.h5" for index, _ in enumerate(numbers)]
    for path, number in zip(paths, numbers):
        fill(model, number).save_weights(path)
    return paths


def test_the_model_gets_the_mean_of_the_files(tmp_path):
    model = build()
    average_checkpoints(model, saved(tmp_path, 1.0, 2.0, 6.0))
    for variable in model.trainable_variables:
        np.testing.assert_array_equal(variable.numpy(), 3.0)


def test_moving_statistics_are_averaged_too(tmp_path):
    model = build()
    average_checkpoints(model, saved(tmp_path, 1.0, 3.0))
    np.testing.assert_array_equal(model.get_layer("normal").moving_variance, 2.0)


def test_the_mean_of_one_file_is_that_file_bit_for_bit(tmp_path):
    source, model = build(), build()
    source.save_weights(tmp_path / "one.weights.h5")
    average_checkpoints(model, [str(tmp_path / "one.weights.h5")])
    for mine, other in zip(source.trainable_variables, model.trainable_variables):
        np.testing.assert_array_equal(mine.numpy(), other.numpy())


def test_whole_keras_files_will_do(tmp_path):
    for number in (1.0, 2.0):
        fill(build(), number).save(tmp_path / f"{number}.keras")
    model = build()
    average_checkpoints(model, [tmp_path / "1.0.keras", tmp_path / "2.0.keras"])
    np.testing.assert_array_equal(model.get_layer("dense").kernel, 1.5)


def test_the_state_of_seed_generators_is_left_alone(tmp_path):
    paths = saved(tmp_path, 1.0, 3.0)
    model = build()
    seed = next(v for v in model.variables if "seed" in v.path)
    before = seed.numpy()
    average_checkpoints(model, paths)
    np.testing.assert_array_equal(seed.numpy(), before)


def test_the_optimizer_is_left_alone(tmp_path):
    model = build()
    model.compile("adam", "mse")
    model.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0)
    model.save_weights(tmp_path / "0.weights.h5")
    model.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0)
    before = [v.numpy() for v in model.optimizer.variables]
    average_checkpoints(model, [tmp_path / "0.weights.h5"])
    for value, variable in zip(before, model.optimizer.variables):
        np.testing.assert_array_equal(value, variable.numpy())


def test_half_precision_weights_are_summed_in_float32(tmp_path):
    model = build(dtype="bfloat16")
    paths = saved(tmp_path, 256.0, 1.0, 1.0, 2.0, model=model)  # 256 + 1 is 256 in bfloat16
    mean = average_weights(paths)["layers/dense/vars/0"]
    average_checkpoints(model, paths)
    for kernel in (mean, model.get_layer("dense").kernel.numpy()):
        assert kernel.dtype.name == "bfloat16"
        np.testing.assert_array_equal(kernel.astype(np.float32), 65.0)


def test_files_are_averaged_without_a_model(tmp_path):
    model = build()
    model.compile("adam", "mse")
    model.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0)
    mean = average_weights(saved(tmp_path, 1.0, 3.0, model=model))
    assert not any(name.startswith("optimizer") for name in mean)
    assert mean["layers/dense/vars/0"].dtype == np.float32
    assert all((value == 2.0).all() for value in mean.values())


def test_a_file_of_another_model_is_named_and_changes_nothing(tmp_path):
    (good,) = saved(tmp_path, 1.0)
    build(units=5).save_weights(tmp_path / "other.weights.h5")
    model = fill(build(), 7.0)
    with pytest.raises(ValueError, match=r"other\.weights\.h5"):
        average_checkpoints(model, [good, tmp_path / "other.weights.h5"])
    np.testing.assert_array_equal(model.get_layer("dense").kernel, 7.0)
    with pytest.raises(ValueError, match=r"\(2,\) in .*\(5,\) in .*other\.weights\.h5"):
        average_weights([good, tmp_path / "other.weights.h5"])


@pytest.mark.parametrize("name", ["gone.weights.h5", "broken.weights.h5", "broken.keras"])
def test_an_unreadable_file_is_named(tmp_path, name):
    if "gone" not in name:
        (tmp_path / name).write_bytes(b"not a weight file")
    with pytest.raises(ValueError, match=name):
        average_checkpoints(build(), [tmp_path / name])
    with pytest.raises(ValueError, match=name):
        average_weights([tmp_path / name])


@pytest.mark.parametrize("paths", [[], "one.weights.h5"])
def test_paths_must_be_a_list_with_something_in_it(paths):
    with pytest.raises(ValueError, match="list of one or more"):
        average_checkpoints(build(), paths)
    with pytest.raises(ValueError, match="list of one or more"):
        average_weights(paths)


def test_an_unbuilt_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match="must be built"):
        average_checkpoints(keras.Sequential([keras.layers.Dense(2)]), saved(tmp_path, 1.0))


def test_a_file_with_more_layers_than_the_model_does_not_fit(tmp_path):
    (good,) = saved(tmp_path, 1.0)
    more = build()
    more.add(keras.layers.Dense(2))
    paths = tmp_path / "more.weights.h5", tmp_path / "more.keras"
    more.save_weights(paths[0])
    more.save(paths[1])
    model = fill(build(), 7.0)
    for path in paths:
        with pytest.raises(ValueError, match="more.*does not fit.*expected 6 weights. Received: 8"):
            average_checkpoints(model, [good, path])
    np.testing.assert_array_equal(model.get_layer("dense").kernel, 7.0)


def test_paths_may_come_from_a_generator(tmp_path):
    saved(tmp_path, 1.0, 3.0)
    model = build()
    average_checkpoints(model, tmp_path.glob("*.weights.h5"))
    np.testing.assert_array_equal(model.get_layer("dense").kernel, 2.0)
    mean = average_weights(tmp_path.glob("*.weights.h5"))
    np.testing.assert_array_equal(mean["layers/dense/vars/0"], 2.0)
    with pytest.raises(ValueError, match="one or more"):
        average_weights(tmp_path.glob("nothing"))


def test_quantized_layers_are_averaged_only_where_they_are_equal(tmp_path):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="dense")])
    paths = [tmp_path / f"{number}.weights.h5" for number in range(2)]
    kernel = np.array([[1, 2], [3, -4], [5, 6]], "f")
    model.set_weights([kernel, np.zeros(2)])
    model.quantize("int8")
    model.save_weights(paths[0])
    before = [v.numpy() for v in model.variables]
    average_checkpoints(model, [paths[0], paths[0]])
    for value, variable in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(value, variable.numpy())
    scale = model.variables[-1]
    scale.assign(2 * scale)  # of equal integers, another kernel
    model.save_weights(paths[1])
    for average in (average_weights, lambda paths: average_checkpoints(model, paths)):
        with pytest.raises(ValueError, match="Quantized weights cannot be averaged"):
            average(paths)


def test_the_optimizer_of_a_model_inside_is_left_alone_and_left_out(tmp_path):
    inner = build()
    inner.compile("adam", "mse")
    inner.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0)
    outer = keras.Sequential([keras.Input((3,)), inner])
    outer.compile("sgd", "mse", metrics=["mae"])
    outer.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0)
    path = tmp_path / "outer.weights.h5"
    outer.save_weights(path)
    assert not any("optimizer" in name or "metrics" in name for name in average_weights([path]))
    inner.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0)
    before = [v.numpy() for v in inner.optimizer.variables]
    average_checkpoints(outer, [path])
    for value, variable in zip(before, inner.optimizer.variables, strict=True):
        np.testing.assert_array_equal(value, variable.numpy())
