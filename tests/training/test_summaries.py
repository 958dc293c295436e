"""Curves for TensorBoard: our callback and Keras' own write the same ones."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.training import Summaries


@pytest.fixture
def fit():
    def fit(callback):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse", metrics=["mae"])
        data = np.arange(4.0)[:, None], np.arange(4.0)[:, None]
        model.fit(*data, validation_data=data, epochs=2, verbose=0, callbacks=[callback])

    return fit


def curves(directory) -> dict:
    """(part, tag, step) -> value, of the curves over epochs."""
    found = {}
    for path in directory.rglob("events.out.tfevents.*"):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                if value.tag.startswith("epoch_"):
                    part = path.parent.name
                    found[part, value.tag, event.step] = float(tf.make_ndarray(value.tensor))
    return found


def test_each_epoch_has_the_loss_and_the_metrics_of_both_parts(fit, tmp_path):
    fit(Summaries(str(tmp_path)))
    found = curves(tmp_path)
    names = {(part, tag) for part, tag, _ in found}
    assert names >= {
        (part, tag) for part in ("train", "validation") for tag in ("epoch_loss", "epoch_mae")
    }
    assert {step for _, _, step in found} == {0, 1}


def test_the_curves_are_those_of_the_callback_of_keras(fit, tmp_path):
    pytest.importorskip("tensorboard", reason="the extra [tensorboard]")
    fit(Summaries(str(tmp_path / "ours")))
    fit(keras.callbacks.TensorBoard(str(tmp_path / "theirs"), write_graph=False))
    ours, theirs = curves(tmp_path / "ours"), curves(tmp_path / "theirs")
    theirs = {key: value for key, value in theirs.items() if key[1] != "epoch_learning_rate"}
    assert ours == pytest.approx(theirs)


def test_a_metric_of_several_values_is_a_curve_each_and_names_are_plain(tmp_path):
    Summaries(str(tmp_path)).on_epoch_end(3, {"f1": np.array([0.5, 0.25]), "a\x1b[2J": 1.0})
    found = {}
    for path in (tmp_path / "train").iterdir():
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                found[value.tag, event.step] = float(tf.make_ndarray(value.tensor))
    assert found == {("epoch_f1/0", 3): 0.5, ("epoch_f1/1", 3): 0.25, (r"epoch_a\x1b[2J", 3): 1.0}
