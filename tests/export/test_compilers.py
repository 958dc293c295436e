"""The ids of an export, compiled by others: LiteRT, OpenVINO (without TensorFlow) and XLA."""

import os
import re
import shutil
import subprocess

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

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

# Where the input has an output's name, OpenVINO calls the output `ids_1`. Left to itself it may
# compute in bfloat16.
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


@pytest.fixture(params=KINDS)
def model(request, exported):
    return exported(request.param)


def test_litert_gives_the_same_n_best_by_its_own_ops(model, tmp_path):
    """Its arrays are of known size: the function is traced again for as many ids."""
    python = python_of("LITERT_PYTHON", "ai-edge-litert numpy")
    generate = tf.function(
        model.responder.generate.python_function,
        input_signature=[tf.TensorSpec(model.ids.shape, tf.int32, name="ids")],
        autograph=False,
    )
    holder = tf.Module()  # of the weights alone: the tokenizer's tables stay behind
    holder.weights = model.responder.variables
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [generate.get_concrete_function()], holder
    )
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    (tmp_path / "model.tflite").write_bytes(converter.convert())
    found = elsewhere(python, LITERT, tmp_path / "model.tflite", model.ids, tmp_path)
    assert_same_n_best(found, model.by_ids)


def test_openvino_gives_the_same_n_best_without_tensorflow(model, tmp_path):
    """It takes no signature but `serving_default`: in a copy that one is `generate`'s."""
    python = python_of("OPENVINO_PYTHON", "openvino numpy")
    copy = shutil.copytree(model.directory, tmp_path / "copy")
    saved = saved_model_pb2.SavedModel.FromString((copy / "saved_model.pb").read_bytes())
    signatures = saved.meta_graphs[0].signature_def
    signatures["serving_default"].CopyFrom(signatures["generate"])
    (copy / "saved_model.pb").write_bytes(saved.SerializeToString())
    found = elsewhere(python, OPENVINO, copy, model.ids, tmp_path)
    assert_same_n_best(found, model.by_ids, 1e-3)


def test_xla_gives_the_same_n_best(model):
    loaded = tf.saved_model.load(str(model.directory))
    generate = loaded.signatures["generate"]
    compiled = tf.function(lambda ids: generate(ids=ids), jit_compile=True, autograph=False)
    found = {name: value.numpy() for name, value in compiled(tf.constant(model.ids)).items()}
    assert_same_n_best(found, model.by_ids)


def test_no_op_of_strings_or_tables_is_in_what_takes_ids(model):
    graph = model.responder.generate.get_concrete_function().graph.as_graph_def()
    nodes = [*graph.node, *(node for f in graph.library.function for node in f.node_def)]
    ops = {node.op for node in nodes}
    assert "TopKV2" in ops
    assert not [op for op in ops if re.search("String|Lookup|Unicode|Sentencepiece|Regex", op)]
