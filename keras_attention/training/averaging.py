"""Averages of saved weights: the mean of the last checkpoints is better than the last one.

Vaswani et al. (2017), section 6.1, average the last 5 to 20.
"""

import os
import tempfile
import zipfile
from collections.abc import Callable, Iterable

import h5py
import keras
import numpy as np
import tensorflow as tf

Path = str | os.PathLike


def average_weights(paths: Iterable[Path]) -> dict[str, np.ndarray]:
    """The mean of `.weights.h5` files, without building a model.

    Args:
        paths: files that `model.save_weights` wrote, of models with the same layers.

    Returns:
        Each weight by its path in the file ("layers/dense/vars/0"), in the dtype it was saved in;
        float weights are averaged in at least float32, others are those of the last file. The state
        of optimizers and metrics is left out, because its mean has no meaning.

    Raises:
        ValueError: no paths, a file that cannot be read, files with different weights, or
            quantized layers (8-bit integers) that differ.

    >>> import tempfile
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for number in (1.0, 3.0):
    ...         model.set_weights([np.full((1, 1), number), np.zeros(1)])
    ...         model.save_weights(f"{folder}/{number}.weights.h5")
    ...     mean = average_weights([f"{folder}/1.0.weights.h5", f"{folder}/3.0.weights.h5"])
    >>> float(mean["layers/dense/vars/0"][0, 0])
    2.0
    """
    return _mean(_listed(paths), _read)


def average_checkpoints(model: keras.Model, paths: Iterable[Path]) -> None:
    """Set the weights of `model` to the mean of several files.

    Args:
        model: any built model.
        paths: `.weights.h5` or `.keras` files of models with the same layers.

    Float variables are averaged in at least float32. Others (counters) come from the last file;
    variables that no file holds (the state of seed generators) are unchanged, and so are
    optimizers, also those of models inside `model`.

    Raises:
        ValueError: no paths, an unbuilt model, a file that cannot be read or does not fit (one
            that holds more weights than the model), or quantized layers (8-bit integers) that
            differ; the model is then unchanged.

    >>> import tempfile
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for number in (1.0, 3.0):
    ...         model.set_weights([np.full((1, 1), number), np.zeros(1)])
    ...         model.save_weights(f"{folder}/{number}.weights.h5")
    ...     average_checkpoints(model, [f"{folder}/1.0.weights.h5", f"{folder}/3.0.weights.h5"])
    >>> float(model.get_weights()[0][0, 0])
    2.0
    """
    paths = _listed(paths)
    if not model.built:
        raise ValueError("The model must be built. Received: unbuilt. Call it on a batch.")
    optimizer = getattr(model, "optimizer", None)
    owned = [*model.variables, *(optimizer.variables if optimizer else [])]
    before = [(variable, variable.numpy()) for variable in owned]
    with tempfile.TemporaryDirectory() as folder:
        own = os.path.join(folder, "own.weights.h5")
        model.save_weights(own)
        names = _names(own)
        try:
            mean = _mean(paths, lambda path: _loaded(model, path, names))
        finally:
            model.load_weights(own)  # restore the optimizers of models inside, if files have them
            for variable, value in before:
                variable.assign(value)
    for variable, value in zip(model.variables, mean.values(), strict=True):
        variable.assign(value)


def _listed(paths):
    listed = [] if isinstance(paths, str | os.PathLike) else list(paths)
    if not listed:
        raise ValueError(f"paths must be a list of one or more weight files. Received: {paths!r}.")
    return listed


def _loaded(model, path, own_names):
    try:
        model.load_weights(path)
        names = _names(path)
    except (ValueError, OSError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"Cannot load {path} into the model {model.name!r}: {error}\n"
            "Pass `.weights.h5` or `.keras` files of models with the same layers."
        ) from error
    if names is not None and len(names) != len(own_names):
        others = sorted(set(names) ^ set(own_names))
        raise ValueError(
            f"{path} does not fit the model {model.name!r}: expected {len(own_names)} weights. "
            f"Received: {len(names)}; only one of both has {', '.join(others[:8])}. Pass files of "
            "models with the same layers."
        )
    return {f"{v.path}#{place}": v.numpy() for place, v in enumerate(model.variables)}


def _names(path):
    """The names of the weights in a `.weights.h5` or `.keras` file; None for other files."""
    path = os.fspath(path)
    if path.endswith(".keras"):
        with zipfile.ZipFile(path) as archive, archive.open("model.weights.h5") as file:
            return _names_in(file)
    return _names_in(path) if path.endswith(".h5") else None


def _names_in(file):
    names = []
    with h5py.File(file, "r") as content:
        content.visititems(
            lambda name, node: names.append(name) if _is_weight(name, node) else None
        )
    return names


def _is_weight(name, node):
    """Whether it is not part of the state of an optimizer or a metric.

    A layer whose class has such a name is below `layers`.
    """
    parts = name.split("/")
    state = any(
        part in ("optimizer", "metrics") and before != "layers"
        for before, part in zip(["", *parts], parts)
    )
    return isinstance(node, h5py.Dataset) and not state


def _read(path):
    weights = {}

    def keep(name, node):
        if _is_weight(name, node):
            bfloat16 = node.attrs.get("dtype") == "bfloat16"  # which HDF5 does not have
            weights[name] = np.array(node, tf.bfloat16.as_numpy_dtype if bfloat16 else node.dtype)

    try:
        with h5py.File(path, "r") as file:
            file.visititems(keep)
    except OSError as error:
        raise ValueError(f"Expected a `.weights.h5` file. Received: {path} ({error}).") from error
    return weights


def _mean(paths, read: Callable[[Path], dict]):
    """The mean, with one file in memory at a time, summed in at least float32."""
    first = read(paths[0])
    total = {name: _widened(value) for name, value in first.items()}
    for path in paths[1:]:
        weights = read(path)
        _check_same(first, paths[0], weights, path)
        _check_quantized(first, paths[0], weights, path)
        for name, value in weights.items():
            total[name] = total[name] + value if _is_float(value) else value
    return {
        name: (total[name] / len(paths)).astype(value.dtype) if _is_float(value) else total[name]
        for name, value in first.items()
    }


def _check_same(first, first_path, other, other_path):
    shapes = {name: value.shape for name, value in first.items()}
    others = {name: value.shape for name, value in other.items()}
    for name in [*shapes, *others]:
        if shapes.get(name) != others.get(name):
            raise ValueError(
                f"The files must hold the same weights. Received: {name!r} with shape "
                f"{shapes.get(name)} in {first_path} and {others.get(name)} in {other_path} "
                "(None: absent). Average checkpoints of one model."
            )


def _check_quantized(first, first_path, other, other_path):
    """Raise for 8-bit integers that differ: they and their scales have no mean."""
    quantized = {_layer_of(name) for name, x in first.items() if x.dtype in (np.int8, np.uint8)}
    for name, value in first.items():
        if _layer_of(name) in quantized and not np.array_equal(value, other[name]):
            raise ValueError(
                f"Quantized weights cannot be averaged. Received: {name!r} of a layer with 8-bit "
                f"integers, which differs between {first_path} and {other_path}. Average before "
                "`model.quantize`."
            )


def _layer_of(name):
    """The layer of a name in a file, "layers/dense/vars/0", or a model, "model/dense/kernel#0"."""
    return name.rsplit("/vars/" if "/vars/" in name else "/", 1)[0]


def _widened(value):
    return value.astype(np.promote_types(value.dtype, np.float32)) if _is_float(value) else value


def _is_float(value):
    return tf.as_dtype(value.dtype).is_floating
