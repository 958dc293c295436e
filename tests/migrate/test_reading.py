"""Reading a checkpoint: all weights, no training state, or an error."""

import shutil

import h5py
import keras
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.migrate import migrate, read
from tests.migrate.paths import old

V1, V2 = tf.compat.v1.train.SaverDef.V1, tf.compat.v1.train.SaverDef.V2


def save_as_tf1(path, values, version=V2):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        for name, value in values.items():
            tf.compat.v1.get_variable(name, initializer=value)
        session.run(tf.compat.v1.global_variables_initializer())
        return tf.compat.v1.train.Saver(write_version=version).save(session, str(path))


def test_a_saver_leaves_out_adam_and_the_step_and_reports_it():
    weights, ignored = read(old("tf1_lstm"))
    assert len(weights) == 18
    assert len(ignored) == 2 * 18 + 3
    assert ignored["global_step"] == "int64, not a weight"
    assert ignored["beta1_power"] == ignored["beta2_power"] == "of the optimizer"
    assert {ignored[f"{name}/Adam"] for name in weights} == {"optimizer slot"}
    assert {ignored[f"{name}/Adam_1"] for name in weights} == {"optimizer slot"}


def test_a_training_checkpoint_leaves_out_its_optimizer_and_counter():
    weights, ignored = read(old("tfa_training-1"))
    assert {name.removeprefix("model/") for name in weights} == set(read(old("tfa_lstm")).weights)
    assert len(ignored) == 2 * len(weights) + 6
    assert ignored["save_counter"] == "int64, not a weight"
    assert ignored["optimizer/learning_rate"] == "of the optimizer"


def test_every_form_of_a_model_gives_the_same_numbers():
    def numbers(name):
        return sorted(
            (value.shape, value.ravel().tolist()) for value in read(old(name)).weights.values()
        )

    forms = ["tfa_lstm.h5", "tfa_lstm.weights.h5", "tfa_training-1"]
    assert all(numbers(form) == numbers("tfa_lstm") for form in forms)


def test_an_h5_file_names_the_projections_that_tfa_left_without_a_name():
    by_tracking, by_h5 = read(old("tfa_lstm")).weights, read(old("tfa_lstm.h5")).weights
    scope = "seq2_seq/basic_decoder/decoder/attention_wrapper/BahdanauAttention"
    for name, role in (
        (f"{scope}/query_layer/kernel", "query_layer"),
        ("seq2_seq/BahdanauAttention/memory_layer/kernel", "memory_layer"),
    ):
        np.testing.assert_array_equal(by_h5[name], by_tracking[f"mechanism/{role}/kernel"])


def test_two_layers_that_call_a_weight_the_same_keep_both(tmp_path):
    """A group a layer; what two groups share (a mechanism and its wrapper) is there once."""
    with h5py.File(tmp_path / "m.h5", "w") as file:
        for group, shared, own in (("a", 1.0, 2.0), ("b", 1.0, 3.0)):
            file.create_group(group).attrs["weight_names"] = [b"x/kernel:0", b"x/bias:0"]
            file[f"{group}/x/kernel:0"], file[f"{group}/x/bias:0"] = [shared], [own]
    found = read(str(tmp_path / "m.h5")).weights
    assert found == {"x/kernel": [1.0], "x/bias": [2.0], "b/x/bias": [3.0]}


@pytest.mark.parametrize("version", [V1, V2])
def test_both_formats_of_the_saver_are_read(version, tmp_path):
    values = {"a/kernel": np.ones([2, 3], np.float32), "b": np.zeros([2])}
    found = read(save_as_tf1(tmp_path / "old.ckpt", values, version)).weights
    assert {name: value.tolist() for name, value in found.items()} == {
        name: value.tolist() for name, value in values.items()
    }


def test_slots_of_any_optimizer_lie_below_their_variable(tmp_path):
    values = {name: np.ones([2]) for name in ("v", "v/LazyAdamax", "OptimizeLoss/v/Momentum")}
    found = read(save_as_tf1(tmp_path / "old.ckpt", values))
    assert set(found.weights) == {"v"}
    assert found.ignored == {
        "v/LazyAdamax": "slot of its variable",
        "OptimizeLoss/v/Momentum": "optimizer slot",
    }


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_other_float_types_fill_a_float32_model(dtype, tmp_path):
    """The forget bias is added after widening: 1/256 + 1 does not exist in bfloat16."""
    random = np.random.default_rng(0)
    kernel = random.normal(size=[5, 8]).astype(dtype)
    bias = np.full([8], 1 / 256, dtype)
    path = save_as_tf1(
        tmp_path / "old", {"rnn/lstm_cell/kernel": kernel, "rnn/lstm_cell/bias": bias}
    )
    cell = keras.layers.LSTMCell(2)
    cell.build((None, 3))
    migrate(path, cell)
    i, j, f, o = np.split(kernel.astype(np.float32), 4, -1)
    np.testing.assert_array_equal(
        np.concatenate([cell.kernel, cell.recurrent_kernel]), np.concatenate([i, f, j, o], -1)
    )
    one = 1 / 256
    assert cell.bias.numpy().tolist() == [one, one, 1 + one, 1 + one, one, one, one, one]


def test_a_directory_means_its_latest_checkpoint(tmp_path):
    scale = tf.Variable(1.0)
    manager = tf.train.CheckpointManager(tf.train.Checkpoint(scale=scale), tmp_path, 2)
    manager.save()
    scale.assign(2.0)
    manager.save()
    assert read(str(tmp_path)).weights == {"scale": 2.0}


def test_a_saved_model_is_read_by_its_directory(tmp_path):
    module = tf.Module()
    module.scale = tf.Variable([3.0])
    tf.saved_model.save(module, str(tmp_path))
    assert read(str(tmp_path)).weights == {"scale": [3.0]}


def test_the_name_of_one_of_the_files_is_as_good_as_the_prefix():
    assert set(read(old("tf1_gru.index")).weights) == set(read(old("tf1_gru")).weights)


def test_weights_inside_of_a_whole_h5_model_are_found(tmp_path):
    with h5py.File(old("tfa_lstm.h5")) as weights, h5py.File(tmp_path / "m.h5", "w") as whole:
        weights.copy(weights["/"], whole, "model_weights")
        whole["optimizer_weights/Adam/iter"] = 3
    expected = read(old("tfa_lstm.h5")).weights
    assert set(read(str(tmp_path / "m.h5")).weights) == set(expected)


@pytest.mark.parametrize("name", ["nothing", "nothing.index", "."])
def test_without_a_checkpoint_the_error_shows_a_valid_path(name, tmp_path):
    with pytest.raises(FileNotFoundError, match="prefix of a TensorFlow checkpoint.*Received: "):
        read(str(tmp_path / name))


def test_a_checkpoint_without_its_data_is_an_error_that_names_it(tmp_path):
    shutil.copy(old("tf1_gru.index"), tmp_path)
    with pytest.raises(ValueError, match="every .data file.*Received: .*tf1_gru"):
        read(str(tmp_path / "tf1_gru"))


def test_a_file_of_something_else_is_an_error(tmp_path):
    (tmp_path / "notes").write_text("no checkpoint\n" * 100)
    with pytest.raises(ValueError, match="Expected a complete TensorFlow checkpoint"):
        read(str(tmp_path / "notes"))


def of_groups(path, groups):
    """An .h5 file of Keras 2: group -> {name of a weight: value}."""
    with h5py.File(path, "w") as file:
        for group, weights in groups.items():
            names = [name + ":0" for name in weights]
            file.create_group(group).attrs["weight_names"] = [name.encode() for name in names]
            for name, value in zip(names, weights.values()):
                file[f"{group}/{name}"] = value
    return str(path)


def test_the_query_of_a_mechanism_whose_memory_was_set_up_before_has_the_kernel_without_a_role(
    tmp_path,
):
    """setup_memory builds the memory's projection in a scope, the decoder the query's without."""
    scope = "m/basic_decoder/decoder/while/attention_wrapper/BahdanauAttention"
    mechanism = {
        f"{scope}/attention_v": np.ones([2]),
        f"{scope}/kernel": np.full([2, 2], 2.0),
        "m/BahdanauAttention/memory_layer/kernel": np.full([2, 2], 3.0),
    }
    groups = {"BahdanauAttention": mechanism, "attention_wrapper": mechanism}
    found = read(of_groups(tmp_path / "m.h5", groups)).weights
    assert {name: value.max() for name, value in found.items()} == {
        f"{scope}/attention_v": 1.0,
        f"{scope}/query_layer/kernel": 2.0,
        "m/BahdanauAttention/memory_layer/kernel": 3.0,
    }


def test_the_metrics_of_a_compiled_model_are_no_weights(tmp_path):
    with h5py.File(tmp_path / "m.weights.h5", "w") as file:
        for name in (
            "metrics/mean/vars/0",
            "metrics/mean_metric_wrapper/vars/1",
            "layers/d/vars/0",
        ):
            file[name] = np.ones([2], np.float32)
    weights, ignored = read(str(tmp_path / "m.weights.h5"))
    assert set(weights) == {"layers/d/vars/0"}
    assert set(ignored.values()) == {"metric"}


def save_as_functional(folder, names):
    """The keys of a functional model of Keras 2: its weights are counted."""
    variables = [tf.Variable(tf.fill([2], float(i)), name=name) for i, name in enumerate(names)]
    dense = tf.train.Checkpoint(kernel=tf.Variable(tf.ones([3, 2]), name="out/kernel"))
    keys = {"variables": variables, "layer_with_weights-4": dense}
    return tf.train.Checkpoint(**keys).save(str(folder / "old"))


def test_weights_that_are_only_counted_have_the_names_of_their_variables(tmp_path):
    path = save_as_functional(tmp_path, ["enc/lstm_cell/bias", "dec/lstm_cell/bias"])
    assert set(read(path).weights) == {"enc/lstm_cell/bias", "dec/lstm_cell/bias", "out/kernel"}


def test_a_name_that_two_variables_had_is_not_used(tmp_path):
    path = save_as_functional(tmp_path, ["bias", "bias"])
    assert set(read(path).weights) == {"variables/0", "variables/1", "out/kernel"}
