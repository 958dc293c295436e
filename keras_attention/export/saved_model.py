"""Write a SavedModel whole or not at all, and run it where none of our code is."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

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


def save(directory: str, module: tf.Module, signatures: Mapping[str, tf.types.experimental.PolymorphicFunction]) -> None:
    """Write `module` with its signatures to `directory`, replacing a SavedModel that is there.

    Args:
        directory: where to; the SavedModel takes this name only when it is complete.
        module: holds the variables, tables and assets that the signatures use.
        signatures: name -> `tf.function` with an input signature, giving a dict of tensors.

    Raises:
        ValueError: `directory` holds something that is no SavedModel.
        OSError: it could not be written.
    """
    directory = os.path.abspath(directory)
    if os.path.exists(directory) and os.path.isdir(directory) and os.listdir(directory):
        if not os.path.exists(os.path.join(directory, "saved_model.pb")):
            raise ValueError(
                f"{directory} holds something that is no SavedModel, and would be lost. Choose "
                "another directory, or empty this one."
            )
    elif os.path.exists(directory) and not os.path.isdir(directory):
        raise ValueError(f"Expected a directory. Received: {directory}, a file.")
    os.makedirs(os.path.dirname(directory), exist_ok=True)
    part = tempfile.mkdtemp(prefix=".unfinished-", dir=os.path.dirname(directory))
    try:
        tf.saved_model.save(module, part, dict(signatures))
        os.chmod(part, 0o755)  # a server runs as another user
        shutil.rmtree(directory, ignore_errors=True)
        os.rename(part, directory)
    except tf.errors.OpError as error:
        raise OSError(f"Could not write {directory}: {str(error).splitlines()[0]}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


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
