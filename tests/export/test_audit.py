"""The audit finds and names the ops that a server without Python cannot run."""

import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from keras_attention.export.__main__ import main
from keras_attention.export.audit import audit, check_servable
from keras_attention.export.op_ages import in_order, op_ages


def save(function, directory, **inputs):
    """A SavedModel of one signature."""
    module = tf.Module()
    module.weight = tf.Variable(2.0)
    specs = [tf.TensorSpec([None], dtype, name=name) for name, dtype in inputs.items()]
    module.run = tf.function(
        lambda *given: {"found": function(module, *given)}, input_signature=specs, autograph=False
    )
    tf.saved_model.save(module, str(directory), {"serving_default": module.run})
    return str(directory)


def doubled(module, x):
    return module.weight * x


def edited(directory, change):
    """The same directory, its graph changed by hand."""
    path = os.path.join(directory, "saved_model.pb")
    with open(path, "rb") as file:
        saved = saved_model_pb2.SavedModel.FromString(file.read())
    change(saved.meta_graphs[0].graph_def)
    with open(path, "wb") as file:
        file.write(saved.SerializeToString())
    return directory


def test_every_node_is_counted_also_those_of_functions(tmp_path):
    def loop(module, x):
        return tf.while_loop(lambda x: tf.reduce_sum(x) < 9, lambda x: [tf.math.erfc(x) + 1], [x])[
            0
        ]

    found = audit(save(loop, tmp_path, x=tf.float32))
    (place,) = found.ops["Erfc"]
    assert ":" in place and "while_body" in place  # a function of a function
    assert {"VarHandleOp", "Placeholder"} <= found.ops.keys()
    assert not found.outside and not found.forbidden
    assert not [op for op in found.ops if op.startswith("__inference")]


def test_versions_are_those_of_the_graph(tmp_path):
    found = audit(save(doubled, tmp_path, x=tf.float32))
    assert found.producer == tf.version.GRAPH_DEF_VERSION
    assert 0 < found.min_consumer <= found.producer


def test_what_every_release_has_runs_on_the_oldest(tmp_path):
    found = audit(save(doubled, tmp_path, x=tf.float32))
    assert found.oldest_serving == "2.12" and "2.12.1 has all of it" in found.reason


@pytest.mark.parametrize(
    "function, op, serving",
    [
        (lambda module, x: tf.raw_ops.RFFTND(
            input=x, fft_length=[4], axes=[0], Tcomplex=tf.complex64), "RFFTND", "2.15"),
        (lambda module, x: tf.raw_ops.TopKV2(
            input=x, k=1, index_type=tf.int16)[1], "TopKV2.index_type", "2.13"),
    ],
    ids=["an op", "an attribute"],
)  # fmt: skip
def test_the_youngest_op_or_attribute_gives_the_oldest_server(function, op, serving, tmp_path):
    found = audit(save(function, tmp_path, x=tf.float32))
    assert found.oldest_serving == serving and op in found.reason


def test_a_graph_for_newer_readers_needs_a_newer_server(tmp_path):
    directory = save(doubled, tmp_path, x=tf.float32)
    versions = op_ages().graphs
    oldest, *_, newest = in_order(versions)

    def demand(version):
        def change(graph):
            graph.versions.min_consumer = version

        return audit(edited(directory, change))

    found = demand(versions[oldest] + 1)
    assert found.oldest_serving == "2.13" and "graphs of version" in found.reason
    assert demand(versions[newest] + 1).oldest_serving is None


@pytest.mark.parametrize("function", [tf.py_function, tf.numpy_function])
def test_python_is_refused_and_its_place_named(function, tmp_path):
    def call(module, x):
        with tf.name_scope("here"):
            return function(np.negative, [x], tf.float32)

    directory = save(call, tmp_path, x=tf.float32)
    found = audit(directory)
    assert len(found.forbidden) == 1 and found.oldest_serving is None
    with pytest.raises(ValueError, match="PyFunc.*:here/.*Compute this outside"):
        check_servable(directory)


def test_an_op_that_no_release_has_is_refused(tmp_path):
    def change(graph):
        graph.node.add(name="mine", op="MyBeamSearch")

    directory = edited(save(doubled, tmp_path, x=tf.float32), change)
    with pytest.raises(ValueError, match="MyBeamSearch at mine"):
        check_servable(directory)


def test_text_ops_are_outside_of_the_core_for_any_registration(tmp_path):
    """They are in this process' registry from here on, which must not matter."""
    text = pytest.importorskip("tensorflow_text")
    directory = save(lambda module, x: text.case_fold_utf8(x), tmp_path, x=tf.string)
    found = audit(directory)
    assert list(found.outside) == ["CaseFoldUTF8"] and not found.forbidden
    check_servable(directory)


def test_a_text_op_younger_than_what_servers_had_is_refused(tmp_path):
    younger = [op for op, release in op_ages().text.items() if release != "2.12.1"]
    assert younger

    def change(graph):
        graph.node.add(name="young", op=younger[0])

    directory = edited(save(doubled, tmp_path, x=tf.float32), change)
    with pytest.raises(ValueError, match=f"{younger[0]} at young"):
        check_servable(directory)


@pytest.mark.full
def test_the_core_is_that_of_a_process_that_knows_only_tensorflow():
    """Every op of the table is registered there, and those of TF-Text are not."""
    ask = (
        "import sys; sys.modules['tensorflow_text'] = None\n"
        "import tensorflow\n"
        "from tensorflow.python.framework import op_def_registry as registry\n"
        "print(*[name for name in sys.stdin.read().split() if registry.get(name)])"
    )
    ages = op_ages()
    releases = in_order(ages.graphs)
    # What the newest release dropped is in the table, too: a server of an older one has it.
    asked = [name for name in [*ages.core, *ages.text] if "." not in name]
    ran = subprocess.run(
        [sys.executable, "-I", "-c", ask],
        input="\n".join(asked),
        capture_output=True,
        text=True,
        check=True,
    )
    here = set(ran.stdout.split())
    assert not here & set(ages.text)
    assert {op for op, release in ages.core.items() if release == releases[-1]} & here
    assert len(here) > 1300 and {"While", "TopKV2", "LookupTableFindV2"} <= here


def test_the_command_prints_a_report_and_sets_its_status(tmp_path, capsys):
    good = save(doubled, tmp_path / "good", x=tf.float32)
    assert main(["audit", good]) == 0
    out = capsys.readouterr().out
    assert "ops in" in out and "forbidden: none" in out and "oldest TF Serving" in out
    bad = save(
        lambda module, x: tf.numpy_function(np.negative, [x], tf.float32),
        tmp_path / "bad",
        x=tf.float32,
    )
    assert main(["audit", bad]) == 1
    assert "forbidden: PyFunc, at" in capsys.readouterr().out


@pytest.mark.parametrize("content", [None, b"", b"no protobuf"])
def test_anything_but_a_saved_model_is_reported_in_one_line(content, tmp_path, capsys):
    if content is not None:
        (tmp_path / "saved_model.pb").write_bytes(content)
    assert main(["audit", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("Expected a SavedModel") and error.count("\n") == 1
    with pytest.raises(ValueError, match="Expected a SavedModel"):
        check_servable(str(tmp_path))
