"""The toy tasks of the models, as programs; and what a saved or exported model must be."""

import os
import subprocess
import sys

import keras
import numpy as np
import tensorflow as tf

from tests.models.test_transformer import ROOT


def with_random_weights(model, scale=1.0):
    """The model, built, with weights that are large enough to tell its parts apart."""
    model.build()
    draw = np.random.default_rng(0).normal
    model.set_weights([draw(size=weight.shape, scale=scale) for weight in model.weights])
    return model


def run_toy(name, folder) -> str:
    """What `python -m models.NAME` prints when it runs in this folder."""
    done = subprocess.run(
        [sys.executable, "-m", f"models.{name}"], cwd=folder, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def is_png(path) -> bool:
    return path.read_bytes()[1:4] == b"PNG"


def check_saved(model, inputs, folder):
    """A model that is saved and loaded computes the same."""
    model.save(folder / "model.keras")
    copy = keras.saving.load_model(folder / "model.keras")
    tf.nest.map_structure(np.testing.assert_array_equal, copy(inputs), model(inputs))
    return copy


def check_exported(model, inputs, folder, **tolerance):
    """The default export computes the same, for ids of int32."""
    model.export(folder / "exported", verbose=False)
    loaded = tf.saved_model.load(str(folder / "exported"))
    ids = tf.nest.map_structure(lambda x: tf.constant(x, tf.int32), inputs)
    found = loaded.serve(ids)
    tolerance = {"atol": 1e-5, "rtol": 1e-5, **tolerance}
    tf.nest.map_structure(
        lambda a, b: np.testing.assert_allclose(a, b, **tolerance), found, model(inputs)
    )
