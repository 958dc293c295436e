import gc
import resource
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from keras_attention.export.server import load


def test_a_signature_is_a_function_of_arrays(parrot):
    signatures = load(parrot).signatures
    assert signatures["total"]({"ids": np.array([[1, 2], [3, 4]])})["total"].tolist() == [3, 7]
    said = signatures["serving_default"]({"text": np.array(["好".encode(), b"\xff"], object)})
    assert said["replies"][:, 0].tolist() == ["好!".encode(), b"\xff!"]


def test_an_error_of_the_graph_has_its_message(parrot):
    repeat = load(parrot).signatures["repeat"]
    with pytest.raises(ValueError, match=r"rejects the inputs: .*times 0 or more.*-1$"):
        repeat({"text": np.array([b"a"], object), "times": np.array(-1)})


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ([["Expected k 0 or more. Received: ", "n"]], "Expected k 0 or more. Received: 3"),
        ([["Expected one. Received: ", "n", "n"]], "Expected one. Received: 3 3"),
        ([["Received: ", "list"]], "Received: 3 4"),
    ],
)
def test_the_message_of_an_assertion_has_no_brackets(said, shown, tmp_path):
    class Never(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.int32, name="n")])
        def __call__(self, n):
            values = {"n": n[0], "list": tf.stack([n[0], n[0] + 1])}
            data = [values.get(part, part) for part in said[0]]
            with tf.control_dependencies([tf.debugging.Assert(n[0] < 0, data)]):
                return {"n": tf.identity(n)}

    never = Never()
    tf.saved_model.save(never, str(tmp_path), {"serving_default": never.__call__})
    with pytest.raises(ValueError) as error:
        load(str(tmp_path)).signature()({"n": np.array([3], np.int32)})
    assert str(error.value) == f"The model rejects the inputs: {shown}"


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({}, r"Expected the inputs \['ids'\] of 'total'. Received: \[\]"),
        (
            {"ids": np.array([1], np.int32)},
            r"'ids' of shape \(None, None\).*Received: shape \(1,\)",
        ),
        ({"ids": np.array([[b"a"]], object)}, r"'ids' of shape .* as int32. Received: .*object"),
    ],
)
def test_inputs_that_are_not_as_specified_are_refused(inputs, says, parrot):
    with pytest.raises(ValueError, match=says):
        load(parrot).signature("total")(inputs)


def test_the_signatures_are_those_of_the_file(parrot):
    told = load(parrot).signature_def
    assert {"serving_default", "total"} < told.keys()
    assert told["total"]["inputs"]["ids"]["dtype"] == "DT_INT32"
    sizes = [axis["size"] for axis in told["total"]["inputs"]["ids"]["tensor_shape"]["dim"]]
    assert sizes == ["-1", "-1"]
    assert told["total"]["method_name"] == "tensorflow/serving/predict"


def test_a_directory_that_is_no_saved_model_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(ValueError, match="Expected a SavedModel.*Received: .*Export"):
        load(str(tmp_path))


@pytest.mark.parametrize(
    "cut", ["saved_model.pb", "variables/variables.data-*", "variables/*.index"]
)
def test_a_damaged_saved_model_is_refused(cut, parrot, tmp_path):
    directory = shutil.copytree(parrot, tmp_path / "damaged")
    (file,) = directory.glob(cut)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(OSError, match="damaged"):
        load(str(directory))


def test_a_saved_model_without_signatures_is_refused(tmp_path):
    tf.saved_model.save(tf.Module(), str(tmp_path))
    with pytest.raises(ValueError, match="no signature"):
        load(str(tmp_path))


def test_a_saved_model_with_another_tag_is_refused(parrot, tmp_path):
    directory = shutil.copytree(parrot, tmp_path / "training")
    file = directory / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    model.meta_graphs[0].meta_info_def.tags[:] = ["train"]
    file.write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match="'serve'.*Received: tags=.*train"):
        load(str(directory))


_LOAD = """
import sys
import numpy as np
from keras_attention.export.server import load
sys.modules["tensorflow_text"] = None
try:
    load(sys.argv[1])
except ImportError as error:
    print(error)
del sys.modules["tensorflow_text"]
fold = load(sys.argv[1]).signatures["serving_default"]
print(fold({"text": np.array([b"ABC"], object)})["folded"])
"""


@pytest.mark.full
def test_ops_of_tensorflow_text_are_imported_where_a_graph_needs_them(tmp_path):
    tensorflow_text = pytest.importorskip("tensorflow_text")

    class Fold(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
        def __call__(self, text):
            return {"folded": tensorflow_text.case_fold_utf8(text)}

    fold = Fold()
    tf.saved_model.save(fold, str(tmp_path), {"serving_default": fold.__call__})
    ran = subprocess.run(
        [sys.executable, "-c", _LOAD, str(tmp_path)], capture_output=True, text=True
    )
    absent, present = ran.stdout.splitlines()
    assert "CaseFoldUTF8" in absent and absent.endswith("pip install tensorflow-text")
    assert present == "[b'abc']", ran.stderr


class Trained(tf.Module):
    """A signature with a gradient of its own and a constant of 4 MB, saved as Keras saves."""

    @tf.function(input_signature=[tf.TensorSpec([None], name="x")])
    def __call__(self, x):
        large = np.random.default_rng(0).normal(size=1_000_000).astype("float32")

        @tf.custom_gradient
        def double(x):
            return 2 * x + 0 * large[0], lambda d: d * tf.reduce_sum(tf.constant(large))

        return {"doubled": double(x)}


def _graphs():
    gc.collect()
    return sum(isinstance(found, tf.Graph) for found in gc.get_objects())


def _memory():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


@pytest.mark.full
def test_a_replaced_version_is_freed_for_any_writer(tmp_path):
    module = Trained()
    tf.saved_model.save(module, str(tmp_path), {"serving_default": module.__call__})
    for _ in range(3):  # what TensorFlow itself keeps, it has then
        _doubled(load(str(tmp_path)))
    graphs, memory = _graphs(), _memory()
    for _ in range(10):  # `tf.saved_model.load` keeps 25 MB of each: copies of two constants
        _doubled(load(str(tmp_path)))
    assert _graphs() == graphs
    assert _memory() - memory < 100 << 20


def _doubled(servable):
    answer = servable.signatures["serving_default"]({"x": np.array([21.0], "float32")})
    assert answer["doubled"].tolist() == [42.0]


def test_a_call_ends_when_its_time_is_over_and_the_signature_serves_on(parrot, tmp_path):
    wait = load(parrot).signatures["wait"]
    asked = {"file": np.array([str(tmp_path / "go").encode()], object)}
    began = time.monotonic()
    with pytest.raises(TimeoutError, match="'wait' took longer than 0.2 seconds"):
        wait(asked, 0.2)
    assert time.monotonic() - began < 20
    (tmp_path / "go").touch()
    assert wait(asked, 60)["file"].tolist() == asked["file"].tolist()
    assert wait(asked)["looks"].tolist() == [0]
