import shutil
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
    with pytest.raises(ValueError, match=r"refuses the inputs: .*times 0 or more.*-1$"):
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
