"""Load an old checkpoint into a model, and write it atomically."""

import os
import tempfile

import keras
import numpy as np

from keras_attention.migrate.checkpoints import read
from keras_attention.migrate.matching import Plan, Rules, plan
from keras_attention.migrate.places import places_of_model

ENDINGS = (".weights.h5", ".keras")


def migrate(source: str, model: keras.layers.Layer, rules: Rules | None = None) -> Plan:
    """Set the weights of a built model or cell from an old checkpoint.

    Args:
        source: see `read`.
        model: any built Keras layer; every one of its weights is filled.
        rules: what cannot be inferred from names and shapes; see `Rules`.

    Returns the assignments. Raises the errors of `read` and `plan` before anything is assigned.
    """
    planned = plan(read(source), model, rules)
    for assignment in planned.assignments:
        assignment.variable.assign(assignment.value)
    return planned


def write(model: keras.layers.Layer, path: str) -> None:
    """Save to `.weights.h5` or `.keras`; the file gets its name after it was read back and equal.

    Raises:
        ValueError: another suffix, or a layer that is not a model for `.keras`.
        RuntimeError: the values that are read back differ.
        OSError: it could not be written. An existing file is unchanged.
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
    """Check whether `model` can be saved under that name, before any work is done."""
    if not path.endswith(ENDINGS):
        raise ValueError(f"Expected a file name ending in {' or '.join(ENDINGS)}. Received: {path}")
    if path.endswith(".keras") and not isinstance(model, keras.Model):
        raise ValueError(
            f"Only models can be saved in .keras files. Received: {type(model).__name__}, {path}. "
            "Write a .weights.h5 file."
        )


def _values(model) -> dict[str, np.ndarray]:
    places = places_of_model(model)
    return {p.names[leaf]: np.asarray(v) for p in places for leaf, v in p.weights.items()}


def _values_of_weights(model, path) -> dict[str, np.ndarray]:
    """The values that the file gives to the model, whose own values are restored afterwards."""
    own = [np.asarray(variable) for variable in model.weights]
    try:
        for variable, value in zip(model.weights, own):
            variable.assign(np.full_like(value, -1))  # to detect weights that the file lacks
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
            f"Expected {path} to read back equal; it differs, and was not written. Received other "
            f"values of {', '.join(other[:3]) or 'more weights'}. Are all layers made in __init__?"
        )
