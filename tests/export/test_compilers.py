"""The ids of an export, compiled by others: LiteRT, OpenVINO (without TensorFlow) and XLA."""

import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

KINDS = ["rnn char", "rnn sentencepiece", "transformer char", "couplet"]

LITERT = """
import importlib.util, sys
import numpy as np
from ai_edge_litert.interpreter import Interpreter
assert importlib.util.find_spec("tensorflow") is None
model, asked, answered = sys.argv[1:]
run = Interpreter(model_path=model).get_signature_runner()
np.savez(answered, **run(ids=np.load(asked)))
"""

# Where the input has an output's name, OpenVINO calls the output `ids_1`.
OPENVINO = """
import importlib.util, sys
import numpy as np
import openvino
assert importlib.util.find_spec("tensorflow") is None
directory, asked, answered = sys.argv[1:]
core = openvino.Core()
model = core.read_model(directory)
run = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
found = run({0: np.load(asked)})
np.savez(answered, **{name.removesuffix("_1"): value
                      for output, value in found.items() for name in output.get_names()})
"""


def python_of(variable, packages):
    """The interpreter that an environment variable names."""
    if not os.environ.get(variable):
        pytest.skip(f"{variable} names no Python; make one with: pip install {packages}")
    return os.environ[variable]


def elsewhere(python, program, model, ids, folder):
    """The arrays that a program finds in an environment of its own."""
    np.save(folder / "ids.npy", ids)
    ran = subprocess.run(
        [python, "-I", "-c", program, str(model), f"{folder}/ids.npy", f"{folder}/found.npz"],
        capture_output=True,
        text=True,
        cwd=folder,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    with np.load(folder / "found.npz") as found:
        return dict(found)


def assert_same_n_best(found, expected, tolerance=1e-5):
    assert found.keys() == expected.keys()
    np.testing.assert_array_equal(found["ids"], expected["ids"])
    np.testing.assert_array_equal(found["lengths"], expected["lengths"])
    np.testing.assert_allclose(found["scores"], expected["scores"], tolerance, tolerance)
    np.testing.assert_allclose(found["alignments"], expected["alignments"], atol=10 * tolerance)


@pytest.fixture(
    params=[k if k == "rnn char" else pytest.param(k, marks=pytest.mark.full) for k in KINDS]
)
def model(request, exported):
    return exported(request.param)


@pytest.fixture(scope="module")
def recipes():
    """The functions that docs/serving.md gives."""
    page = Path(__file__).parents[2] / "docs" / "serving.md"
    section = page.read_text("utf-8").split("## LiteRT and OpenVINO")[1]
    (code,) = re.findall(r"```python\n(.*?)```", section.split("\n## ")[0], re.DOTALL)
    found = {}
    exec(compile(code, str(page), "exec"), found)
    return found


@pytest.mark.full
def test_litert_gives_the_same_n_best_by_its_own_ops(model, recipes, tmp_path):
    python = python_of("LITERT_PYTHON", "ai-edge-litert numpy")
    converted = recipes["to_litert"](model.responder, model.ids.shape)
    (tmp_path / "model.tflite").write_bytes(converted)
    found = elsewhere(python, LITERT, tmp_path / "model.tflite", model.ids, tmp_path)
    assert_same_n_best(found, model.by_ids)


@pytest.mark.full
def test_openvino_gives_the_same_n_best_without_tensorflow(model, recipes, tmp_path):
    python = python_of("OPENVINO_PYTHON", "openvino numpy")
    recipes["for_openvino"](model.directory, tmp_path / "copy")
    found = elsewhere(python, OPENVINO, tmp_path / "copy", model.ids, tmp_path)
    assert_same_n_best(found, model.by_ids, 1e-3)


@pytest.mark.full
def test_xla_gives_the_same_n_best(model):
    loaded = tf.saved_model.load(str(model.directory))
    generate = loaded.signatures["generate"]
    compiled = tf.function(lambda ids: generate(ids=ids), jit_compile=True, autograph=False)
    found = {name: value.numpy() for name, value in compiled(tf.constant(model.ids)).items()}
    assert_same_n_best(found, model.by_ids)


@pytest.mark.full
def test_no_op_of_strings_or_tables_is_in_what_takes_ids(model):
    graph = model.responder.generate.get_concrete_function().graph.as_graph_def()
    nodes = [*graph.node, *(node for f in graph.library.function for node in f.node_def)]
    ops = {node.op for node in nodes}
    assert "TopKV2" in ops
    assert not [op for op in ops if re.search("String|Lookup|Unicode|Sentencepiece|Regex", op)]
