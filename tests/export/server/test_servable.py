import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from keras_attention.export.server import load


def test_a_signature_is_a_function_of_arrays(parrot):
    signatures = load(parrot).signatures
    assert signatures["total"]({"ids": np.array([[1, 2], [3, 4]])})["total"].tolist() == [3, 7]
    said = signatures["serving_default"]({"text": np.array(["好".encode(), b"\xff"], object)})
    assert said["replies"][:, 0].tolist() == ["好!".encode(), b"\xff!"]


def test_what_the_graph_refuses_is_said_in_its_own_words(parrot):
    repeat = load(parrot).signatures["repeat"]
    with pytest.raises(ValueError, match=r"refuses the inputs: .*times 0 or more.*\[-1\]$"):
        repeat({"text": np.array([b"a"], object), "times": np.array(-1)})


def test_the_signatures_are_told_as_the_file_has_them(parrot):
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


def test_a_damaged_saved_model_is_refused(parrot, tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"\xff\xff not a graph")
    with pytest.raises((OSError, RuntimeError)):
        load(str(tmp_path))


def test_a_saved_model_without_signatures_is_refused(tmp_path):
    tf.saved_model.save(tf.Module(), str(tmp_path))
    with pytest.raises(ValueError, match="no signature"):
        load(str(tmp_path))


_FOLD = """
import sys
import tensorflow as tf
import tensorflow_text
class Fold(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def __call__(self, text):
        return {"folded": tensorflow_text.case_fold_utf8(text)}
fold = Fold()
tf.saved_model.save(fold, sys.argv[1], {"serving_default": fold.__call__})
"""
_LOAD = """
import sys
if sys.argv[2] == "absent":
    sys.modules["tensorflow_text"] = None
import numpy as np
from keras_attention.export.server import load
fold = load(sys.argv[1]).signatures["serving_default"]
print(fold({"text": np.array([b"ABC"], object)})["folded"])
"""


def test_ops_of_tensorflow_text_are_imported_where_a_graph_needs_them(tmp_path):
    pytest.importorskip("tensorflow_text")
    subprocess.run([sys.executable, "-c", _FOLD, str(tmp_path)], check=True, capture_output=True)
    ran = {
        there: subprocess.run(
            [sys.executable, "-c", _LOAD, str(tmp_path), there], capture_output=True, text=True
        )
        for there in ("present", "absent")
    }
    assert ran["present"].stdout.strip() == "[b'abc']", ran["present"].stderr
    said = ran["absent"].stderr.strip().splitlines()[-1]
    assert said.startswith("ImportError") and "CaseFoldUTF8" in said
    assert "pip install tensorflow-text" in said
