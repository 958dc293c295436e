"""Write a SavedModel whole or not at all, and run it where none of our code is."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

_OF_A_SAVED_MODEL = {"saved_model.pb", "fingerprint.pb", "variables", "assets", "assets.extra"}

# What a server does, and `saved_model_cli run`: load the graph into a session and run a signature.
# (`tf.saved_model.load` alone would also accept a graph whose variables a session cannot find.)
_RUN = """
import sys
import numpy as np
import tensorflow as tf
directory, lines, answers, *libraries = sys.argv[1:]
for library in libraries:
    __import__(library)
text = [line.encode() for line in np.load(lines)]
with tf.compat.v1.Session(graph=tf.Graph()) as session:
    loaded = tf.compat.v1.saved_model.load(session, ["serve"], directory)
    signature = loaded.signature_def["serving_default"]
    (given,) = signature.inputs.values()
    wanted = {name: info.name for name, info in signature.outputs.items()}
    found = session.run(wanted, {given.name: text})
np.savez(answers, **{k: v.astype("S") if v.dtype == object else v for k, v in found.items()})
"""


def save(
    directory: str,
    module: tf.Module,
    signatures: Mapping[str, tf.types.experimental.PolymorphicFunction],
    check: Callable[[str], None] | None = None,
) -> None:
    """Write `module` with its signatures to `directory`, replacing a SavedModel that is there.

    Args:
        directory: where to; the SavedModel takes this name only when it is complete.
        module: holds the variables, tables and assets that the signatures use.
        signatures: name -> `tf.function` with an input signature, giving a dict of tensors.
        check: called with the folder of the new SavedModel before it takes its name; what it
            raises leaves all as it was. See `check_in_clean_process`.

    Raises:
        ValueError: `directory` is a file, or holds something that is no SavedModel's.
        OSError: it could not be written; what was there is as it was.

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
    directory = os.path.realpath(directory)
    _refuse_to_lose(directory)
    os.makedirs(os.path.dirname(directory), exist_ok=True)
    with tempfile.TemporaryDirectory(
        prefix=".unfinished-", dir=os.path.dirname(directory), ignore_cleanup_errors=True
    ) as unfinished:
        new, old = os.path.join(unfinished, "new"), os.path.join(unfinished, "old")
        try:
            tf.saved_model.save(module, new, dict(signatures))
        except tf.errors.OpError as error:
            reason = re.sub(r"\{\{.*?\}\} | \[Op:\w+\]", "", str(error).splitlines()[0])
            raise OSError(f"Could not write {directory}: {reason}") from error
        if check is not None:
            check(new)
        if os.path.exists(directory):
            os.rename(directory, old)
        os.rename(new, directory)


def _refuse_to_lose(directory: str) -> None:
    if not os.path.exists(directory):
        return
    if not os.path.isdir(directory):
        raise ValueError(
            f"Expected a directory. Received: {directory}, a file. Choose another name."
        )
    others = sorted(set(os.listdir(directory)) - _OF_A_SAVED_MODEL)
    if others:
        raise ValueError(
            f"{directory} holds {', '.join(others[:3])}, which would be lost. Choose another "
            "directory, or empty this one."
        )


def check_in_clean_process(
    directory: str,
    lines: Sequence[str],
    expected: Mapping[str, np.ndarray],
    libraries: Sequence[str] = (),
) -> None:
    """Run `serving_default` on `lines` in a process without our code; compare all it returns.

    Args:
        directory: a SavedModel.
        lines: the strings to ask.
        expected: what this process answered: name -> array; floats may differ by 1e-5.
        libraries: what has to be imported first, `tensorflow_text` for its tokenizers.

    Raises:
        RuntimeError: the process failed, or answered something else.
    """
    with tempfile.TemporaryDirectory() as folder:
        asked, answered = os.path.join(folder, "lines.npy"), os.path.join(folder, "answers.npz")
        np.save(asked, np.array(lines, dtype=str))
        process = subprocess.run(
            [sys.executable, "-I", "-c", _RUN, os.path.abspath(directory), asked, answered]
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
        with np.load(answered) as found:
            for name, value in expected.items():
                _compare(name, value, found[name])


def _compare(name: str, expected: np.ndarray, found: np.ndarray) -> None:
    expected = np.asarray(expected)
    if expected.dtype.kind in "OSU":
        same = expected.shape == found.shape and np.all(expected.astype("S") == found)
    else:
        same = expected.shape == found.shape and np.allclose(expected, found, rtol=1e-5, atol=1e-5)
    if not same:
        raise RuntimeError(
            f"The exported model gives other {name} in a clean process. Expected: "
            f"{expected.ravel()[:4]} {expected.shape}. Received: {found.ravel()[:4]} {found.shape}"
        )
