"""The SavedModel answers as Python does, where none of this program is."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from apps.chatbot import settings, store
from apps.chatbot.responder import Responder
from tests.apps.chatbot.conftest import KINDS
from tests.apps.chatbot.program import run

LINES = {
    "chat": ["Hello", "", "🙂 ❤️", "你好，你", "Good day! " * 9],
    "couplet": ["春风", "", "🙂春", "春"],
}

# A process that has TensorFlow, and tensorflow_text where it is asked for, and no code of ours.
LOAD = """
import sys
for name in ("keras_attention", "apps", "models"):
    sys.modules[name] = None
import json
import numpy as np
import tensorflow as tf
assert "tensorflow_text" not in sys.modules
for directory, lines, answers, *libraries in json.load(sys.stdin):
    for library in libraries:
        __import__(library)
    serve = tf.saved_model.load(directory).signatures["serving_default"]
    found = {name: value.numpy() for name, value in serve(text=tf.constant(lines)).items()}
    np.savez(answers, **{k: v.astype("S") if v.dtype == object else v for k, v in found.items()})
"""


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    """kind -> (the export, what Python answered); the model it came from is gone."""
    found = {}

    def export(kind):
        if kind not in found:
            folder = tmp_path_factory.mktemp("exported")
            directory = shutil.copytree(trained(kind)[0], folder / "model")
            stored = settings.load(directory, {})
            responder = Responder(*store.load_model(directory, stored), stored)
            answers = responder.serving_default(tf.constant(LINES[KINDS[kind][0]]))
            ran = run("--mode=export", f"--model_dir={directory}", f"--export_dir={folder}/made")
            assert ran.code == 0 and ran.err == "", ran.err
            assert "checked in a clean process" in ran.out
            shutil.rmtree(directory)
            shutil.move(folder / "made", folder / "moved")
            found[kind] = folder / "moved", {k: v.numpy() for k, v in answers.items()}
        return found[kind]

    return export


def assert_equal(found, expected):
    for name, value in expected.items():
        if value.dtype == object:
            assert (found[name] == value.astype("S")).all(), name
        else:
            np.testing.assert_allclose(found[name], value, 1e-5, 1e-5, err_msg=name)


def test_answers_are_pythons_loaded_in_a_clean_process(exported, tmp_path):
    jobs = []
    for kind in KINDS:  # the last needs tensorflow_text, which the others must not
        libraries = ["tensorflow_text"] if kind == "sentencepiece" else []
        jobs.append(
            [str(exported(kind)[0]), LINES[KINDS[kind][0]], f"{tmp_path}/{kind}.npz", *libraries]
        )
    subprocess.run(
        [sys.executable, "-I", "-c", LOAD],
        input=json.dumps(jobs),
        text=True,
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    for kind in KINDS:
        with np.load(tmp_path / f"{kind}.npz") as found:
            expected = exported(kind)[1]
            assert found.keys() == expected.keys()
            assert_equal(found, expected)


def test_answers_are_pythons_by_saved_model_cli(exported, tmp_path):
    directory, expected = exported("char")
    lines = LINES["chat"]
    arguments = (
        *("run", "--dir", str(directory), "--tag_set", "serve"),
        *("--signature_def", "serving_default", "--outdir", str(tmp_path)),
        *("--input_exprs", f"text={[line.encode() for line in lines]!r}"),
    )
    ran = subprocess.run(
        [sys.executable, "-m", "tensorflow.python.tools.saved_model_cli", *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": ""},
        capture_output=True,
    )
    assert ran.returncode == 0, ran.stderr.decode()[-2000:]
    found = {name: np.load(tmp_path / f"{name}.npy", allow_pickle=True) for name in expected}
    assert_equal({k: v.astype("S") if v.dtype == object else v for k, v in found.items()}, expected)


@pytest.mark.parametrize("kind", ["char", "word"])
def test_only_core_ops_are_in_the_graph(kind, exported):
    directory, _ = exported(kind)
    serve = tf.saved_model.load(str(directory)).signatures["serving_default"]
    graph = serve.graph.as_graph_def()
    nodes = [*graph.node, *(n for function in graph.library.function for n in function.node_def)]
    ops = {node.op for node in nodes}
    assert {"LookupTableFindV2", "While"} & ops
    assert not [op for op in ops if "Py" in op or not hasattr(tf.raw_ops, op)]


def test_only_the_vocabulary_travels_along(exported):
    assert os.listdir(exported("char")[0] / "assets") == ["characters.txt"]
    assert os.listdir(exported("word")[0] / "assets") == ["words.txt"]


def test_neighbours_do_not_change_an_answer(exported, kind):
    if kind == "sentencepiece":
        pytest.importorskip("tensorflow_text")
    directory, expected = exported(kind)
    serve = tf.saved_model.load(str(directory)).signatures["serving_default"]
    for row, line in enumerate(LINES[KINDS[kind][0]]):
        alone = serve(text=tf.constant([line]))
        assert alone["replies"][0].numpy().tolist() == expected["replies"][row].tolist()
        np.testing.assert_allclose(alone["scores"][0], expected["scores"][row], 1e-5, 1e-5)
    assert serve(text=tf.constant([], tf.string))["replies"].shape[0] == 0
