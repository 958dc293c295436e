"""Write a SavedModel atomically, and run it in a process without this library."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from keras_attention.export.audit import meta_graphs
from keras_attention.export.warm_up import FILE as WARM_UP

# An export is not trained. Gradient functions would make it larger, and `tf.saved_model.load` keeps
# them, and with them the graph, until the process ends.
_OPTIONS = tf.saved_model.SaveOptions(experimental_custom_gradients=False)

# As a server and `saved_model_cli run` do: load the graph into a session and run a signature.
# (`tf.saved_model.load` alone would also accept a graph whose variables a session cannot find.)
_RUN = """
import sys
import numpy as np
import tensorflow as tf
directory, inputs, outputs, *libraries = sys.argv[1:]
for library in libraries:
    __import__(library)
inputs = np.load(inputs, allow_pickle=True)
with tf.compat.v1.Session(graph=tf.Graph()) as session:
    loaded = tf.compat.v1.saved_model.load(session, ["serve"], directory)
    signature = loaded.signature_def["serving_default"]
    (given,) = signature.inputs.values()
    wanted = {name: info.name for name, info in signature.outputs.items()}
    found = session.run(wanted, {given.name: inputs})
np.savez(outputs, **found)
"""


def save(
    directory: str,
    module: tf.Module,
    signatures: Mapping[str, tf.types.experimental.PolymorphicFunction],
    check: Callable[[str], None] | None = None,
) -> None:
    """Write `module` with its signatures to `directory`, replacing a SavedModel that is there.

    Args:
        directory: the path; the SavedModel gets this name only when it is complete.
        module: holds the tables and assets of the signatures; variables are found without it.
        signatures: name -> `tf.function` with an input signature, returning a dict of tensors.
        check: called with the path of the new SavedModel before it gets its name; if it raises,
            nothing is changed. See `check_in_clean_process`.

    Raises:
        ValueError: `directory` is remote, is a file, or holds other files than those of a
            SavedModel; or a table of a signature is not in `module`.
        OSError: it could not be written; an existing SavedModel is unchanged.

    >>> class Double(tf.Module):
    ...     @tf.function(input_signature=[tf.TensorSpec([None], name="x")])
    ...     def __call__(self, x):
    ...         return {"doubled": 2 * x}
    >>> double = Double()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(folder, double, {"serving_default": double.__call__})
    ...     served = tf.saved_model.load(folder).signatures["serving_default"]
    ...     served(x=tf.constant([21.0]))["doubled"].numpy().tolist()
    [42.0]
    """
    if not directory or "://" in directory:
        raise ValueError(
            f"Expected a local directory. Received: {directory!r}. Export to a local one, and copy "
            "it to the target."
        )
    directory = os.path.realpath(directory)
    _check_no_other_files(directory)
    os.makedirs(os.path.dirname(directory), exist_ok=True)
    with tempfile.TemporaryDirectory(
        prefix=".unfinished-", dir=os.path.dirname(directory), ignore_cleanup_errors=True
    ) as unfinished:
        new = os.path.join(unfinished, "new")
        _write(module, new, signatures, directory)
        if check is not None:
            check(new)
        _replace(directory, new, f"{unfinished}-old")


def _write(module, new, signatures, directory) -> None:
    traced = [function.get_concrete_function() for function in signatures.values()]
    whole = tf.Module()
    whole.module = module
    # A session does not search Keras' layers, or other objects, for tables.
    used = {weight.ref(): weight for function in traced for weight in function.variables}
    whole.weights = list(used.values())
    try:
        tf.saved_model.save(whole, new, dict(signatures), _OPTIONS)
    except tf.errors.OpError as error:
        reason = re.sub(r"\{\{.*?\}\} | \[Op:\w+\]", "", str(error).splitlines()[0])
        raise OSError(f"Could not write {directory}: {reason}") from error
    except AssertionError as error:
        raise ValueError(
            "Expected tables and assets to be attributes of the saved module. "
            f"Received: {str(error).splitlines()[0]}"
        ) from error


def _replace(directory, new, aside) -> None:
    """Rename `new` to `directory`; if that fails, the old one is restored or at least kept."""
    replaces = os.path.exists(directory)
    if replaces:
        os.rename(directory, aside)
    try:
        os.rename(new, directory)
    except BaseException:
        if replaces:
            os.rename(aside, directory)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _check_no_other_files(directory: str) -> None:
    if os.path.exists(directory) and not os.path.isdir(directory):
        raise ValueError(
            f"Expected a directory. Received: {directory}, a file. Choose another name."
        )
    found = {
        path.relative_to(directory).as_posix()
        for path in Path(directory).rglob("*")
        if path.is_symlink() or not path.is_dir()
    }
    others = sorted(found - _own_files(directory, found))
    if others:
        raise ValueError(
            f"{directory} holds other files that would be lost: {', '.join(others[:3])}. Choose "
            "another directory, or empty this one."
        )


def _own_files(directory, found) -> set[str]:
    """The files that belong to the SavedModel."""
    if "saved_model.pb" not in found:
        return set()
    assets = {
        f"assets/{asset.filename}"
        for graph in meta_graphs(directory)
        for asset in graph.asset_file_def
    }
    variables = {name for name in found if name.startswith("variables/variables.")}
    return {"saved_model.pb", "fingerprint.pb", WARM_UP} | assets | variables


def check_in_clean_process(
    directory: str,
    inputs: Any,
    expected: Mapping[str, np.ndarray],
    libraries: Sequence[str] = (),
) -> None:
    """Run `serving_default` in a process without our code, and compare the outputs.

    Args:
        directory: a SavedModel, whose `serving_default` has one input.
        inputs: the values of that input: str, bytes or numbers, in lists, an array or a tensor.
        expected: the outputs in this process: name -> array; floats may differ by 1e-5.
        libraries: modules to import first, `tensorflow_text` for its tokenizers.

    Raises:
        RuntimeError: the process failed, or its outputs differ.
    """
    with tempfile.TemporaryDirectory() as folder:
        given, found_at = os.path.join(folder, "inputs.npy"), os.path.join(folder, "outputs.npz")
        np.save(given, tf.convert_to_tensor(inputs).numpy())
        process = subprocess.run(
            [sys.executable, "-I", "-c", _RUN, os.path.abspath(directory), given, found_at]
            + list(libraries),
            cwd=folder,
            capture_output=True,
            text=True,
        )
        if process.returncode:
            raise RuntimeError(
                f"{directory} does not run in a clean process: "
                f"{(process.stderr.strip().splitlines() or ['no message'])[-1]}"
            )
        with np.load(found_at, allow_pickle=True) as found:
            for name, value in expected.items():
                _compare(name, value, found[name])


def _compare(name: str, expected: np.ndarray, found: np.ndarray) -> None:
    if found.dtype == object:  # bytes
        same = np.array_equal(expected, found)
    else:
        same = expected.shape == found.shape and np.allclose(expected, found, rtol=1e-5, atol=1e-5)
    if not same:
        raise RuntimeError(
            f"The exported model returns other {name} in a clean process. Expected: "
            f"{expected.ravel()[:4]} {expected.shape}. Received: {found.ravel()[:4]} {found.shape}"
        )
