"""The SavedModel answers as Python does, where none of this program is."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tests.apps.chatbot.conftest import KINDS, LINES

pytestmark = pytest.mark.full  # the exports of tests/export are in the default run

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


# Every export takes half a minute of training and tracing.
@pytest.fixture(
    params=[
        "char",
        *(pytest.param(kind, marks=pytest.mark.full) for kind in ("word", "sentencepiece")),
    ]
)
def kind(request):
    return request.param


def assert_equal(found, expected):
    for name, value in expected.items():
        if value.dtype == object:
            assert (found[name] == value.astype("S")).all(), name
        else:
            np.testing.assert_allclose(found[name], value, 1e-5, 1e-5, err_msg=name)


@pytest.mark.full
def test_answers_are_pythons_loaded_in_a_clean_process(exported, kind, tmp_path):
    directory, expected = exported(kind)
    # Which the others must not need.
    libraries = ["tensorflow_text"] if kind == "sentencepiece" else []
    job = [str(directory), LINES[KINDS[kind][0]], f"{tmp_path}/found.npz", *libraries]
    subprocess.run(
        [sys.executable, "-I", "-c", LOAD],
        input=json.dumps([job]),
        text=True,
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    with np.load(tmp_path / "found.npz") as found:
        assert found.keys() == expected.keys()
        assert_equal(found, expected)


@pytest.mark.full
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


@pytest.mark.parametrize("kind", ["char", pytest.param("word", marks=pytest.mark.full)])
def test_only_core_ops_are_in_the_graph(kind, exported):
    directory, _ = exported(kind)
    serve = tf.saved_model.load(str(directory)).signatures["serving_default"]
    graph = serve.graph.as_graph_def()
    nodes = [*graph.node, *(n for function in graph.library.function for n in function.node_def)]
    ops = {node.op for node in nodes}
    assert {"LookupTableFindV2", "While"} & ops
    assert not [op for op in ops if "Py" in op or not hasattr(tf.raw_ops, op)]


def test_no_path_of_this_machine_travels_along(exported):
    directory = exported("char")[0]
    graph = (directory / "saved_model.pb").read_bytes()
    assert str(directory.parent).encode() not in graph and b".txt" not in graph


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
