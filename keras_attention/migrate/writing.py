"""Fill a model from an old checkpoint; write it whole, read back, or not at all."""

import os
import tempfile

import keras
import numpy as np

from keras_attention.migrate.checkpoints import read
from keras_attention.migrate.matching import Plan, Rules, plan
from keras_attention.migrate.places import places_of_model

ENDINGS = (".weights.h5", ".keras")


def migrate(source: str, model: keras.layers.Layer, rules: Rules | None = None) -> Plan:
    """Give a built model or cell the weights of an old checkpoint.

    Args:
        source: see `read`.
        model: any built Keras layer; every one of its weights is filled.
        rules: what names and shapes cannot tell; see `Rules`.

    Returns what was done. Raises what `read` and `plan` raise, before anything is assigned.
    """
    planned = plan(read(source), model, rules)
    for assignment in planned.assignments:
        assignment.variable.assign(assignment.value)
    return planned


def write(model: keras.layers.Layer, path: str) -> None:
    """Save to `.weights.h5` or `.keras`; the file takes its name when it reads back equal.

    Raises:
        ValueError: another ending, or a layer that is no model for `.keras`.
        RuntimeError: what is read back differs.
        OSError: it could not be written. What was there is as it was.
    """
    check_ending(model, path)
    path = os.path.abspath(path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    values = _values(model)
    with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=os.path.dirname(path)) as folder:
        new = os.path.join(folder, os.path.basename(path))
        if path.endswith(".keras"):
            model.save(new)
            _compare(values, _values(keras.saving.load_model(new, compile=False)), path)
        else:
            keras.saving.save_weights(model, new)
            _compare(values, _values_of_weights(model, new), path)
        os.replace(new, path)


def check_ending(model: keras.layers.Layer, path: str) -> None:
    """Whether `model` can be saved under that name, known before any work is done."""
    if not path.endswith(ENDINGS):
        raise ValueError(f"Expected a file name ending in {' or '.join(ENDINGS)}. Received: {path}")
    if path.endswith(".keras") and not isinstance(model, keras.Model):
        raise ValueError(
            f"Only a model goes into a .keras file. Received: {type(model).__name__}, {path}. "
            "Write a .weights.h5 file."
        )


def _values(model) -> dict[str, np.ndarray]:
    places = places_of_model(model)
    return {p.names[leaf]: np.asarray(v) for p in places for leaf, v in p.weights.items()}


def _values_of_weights(model, path) -> dict[str, np.ndarray]:
    """What the file gives to the model, whose own values come back afterwards."""
    own = [np.asarray(variable) for variable in model.weights]
    try:
        for variable, value in zip(model.weights, own):
            variable.assign(np.full_like(value, -1))  # what the file does not fill shows
        keras.saving.load_weights(model, path)
        return _values(model)
    finally:
        for variable, value in zip(model.weights, own):
            variable.assign(value)


def _compare(expected, found, path) -> None:
    other = [
        name
        for name, value in expected.items()
        if name not in found or not np.array_equal(value, found[name])
    ]
    if other or len(expected) != len(found):
        raise RuntimeError(
            f"Expected {path} to read back equal; it does not, and was not written. Received other "
            f"values of {', '.join(other[:3]) or 'more weights'}. Are all layers made in __init__?"
        )
