"""Strings in, strings out, where nothing of ours is: by the command line tool, and from C."""

import glob
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from tests.export.made import CRUEL, KINDS, beside_cruel

SERVED = ("replies", "scores", "lengths")
UNREADABLE = [i for i, line in enumerate(CRUEL) if line in ("", " \t", b"\xff\xfe")]

# The tool's own entry point, in a process that may not import us.
CLI = """
import sys
for name in ("keras_attention", "apps", "models"):
    sys.modules[name] = None
libraries = sys.argv.pop(1).split()
for library in libraries:
    __import__(library)
assert "tensorflow_text" in libraries or "tensorflow_text" not in sys.modules
from tensorflow.python.tools import saved_model_cli
saved_model_cli.main()
"""


def encoded(lines):
    return [line if isinstance(line, bytes) else line.encode() for line in lines]


def needs_text(kind):
    return "sentencepiece" in kind


def by_command_line(exported, kind, lines, folder):
    """`saved_model_cli run`, alone in a folder."""
    np.save(folder / "text.npy", np.array(encoded(lines), object))
    subprocess.run(
        [sys.executable, "-I", "-c", CLI, "tensorflow_text" if needs_text(kind) else ""]
        + ["run", "--dir", str(exported.directory), "--tag_set", "serve"]
        + ["--signature_def", "serving_default", "--outdir", str(folder)]
        + ["--inputs", f"text={folder}/text.npy"],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    return {name: np.load(folder / f"{name}.npy", allow_pickle=True) for name in SERVED}


@pytest.fixture(scope="session")
def program(tmp_path_factory):
    """serve.c, compiled against the library that is in TensorFlow's wheel."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is absent: apt-get install gcc libc6-dev")
    home, made = tf.sysconfig.get_lib(), tmp_path_factory.mktemp("program") / "serve"
    subprocess.run(
        ["gcc", "-Wall", "-Werror", "-I", tf.sysconfig.get_include(), "-o", str(made)]
        + [str(Path(__file__).with_name("serve.c"))]
        + glob.glob(f"{home}/libtensorflow_cc.so.2")
        + glob.glob(f"{home}/libtensorflow_framework.so.2")
        + [f"-Wl,-rpath,{home}"],
        check=True,
    )
    return str(made)


def by_c(program, exported, kind, lines):
    names = tensor_names(exported.directory)
    given = b"".join(struct.pack("I", len(line)) + line for line in encoded(lines))
    ran = subprocess.run(
        [program, str(exported.directory), *names, *(op_libraries() if needs_text(kind) else [])],
        input=struct.pack("I", len(lines)) + given,
        capture_output=True,
        cwd="/",
        env={"PATH": os.environ["PATH"], "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert ran.returncode == 0, ran.stderr.decode()[-2000:]
    return read_answers(ran.stdout)


def tensor_names(directory):
    """Of the input and of `SERVED`, as the signature says."""
    content = Path(directory, "saved_model.pb").read_bytes()
    saved = saved_model_pb2.SavedModel.FromString(content)
    signature = saved.meta_graphs[0].signature_def["serving_default"]
    return [signature.inputs["text"].name, *(signature.outputs[name].name for name in SERVED)]


def op_libraries():
    import tensorflow_text

    return sorted(glob.glob(f"{os.path.dirname(tensorflow_text.__file__)}/python/ops/_*.so"))


def read_answers(content):
    batch, beams = struct.unpack_from("II", content)
    place, found = 8, np.zeros([batch * beams], list(zip(SERVED, ("O", "f4", "i4"))))
    for row in found:
        row["scores"], row["lengths"], size = struct.unpack_from("fiI", content, place)
        place += 12 + size
        row["replies"] = content[place - size : place]
    assert place == len(content)
    return {name: found[name].reshape(batch, beams) for name in SERVED}


def assert_good_lines_get_their_answers_and_bad_ones_none(found, exported):
    """The good lines stand at even places, each before a cruel one."""
    alone = [place % len(exported.good) for place in range(len(CRUEL))]
    good = {name: found[name][::2] for name in SERVED}
    assert (good["replies"] == exported.answers["replies"][alone]).all()
    np.testing.assert_array_equal(good["lengths"], exported.answers["lengths"][alone])
    np.testing.assert_allclose(good["scores"], exported.answers["scores"][alone], 1e-5, 1e-5)
    bad = {name: found[name][1::2][UNREADABLE] for name in SERVED}
    assert (bad["replies"] == b"").all() and not bad["lengths"].any()
    assert (bad["scores"] == -np.inf).all()


# Of core ops alone; the full run has the others, some with ops of TF-Text.
SAMPLED = ("rnn char",)


@pytest.fixture(
    params=[k if k in SAMPLED else pytest.param(k, marks=pytest.mark.full) for k in KINDS]
)
def kind(request):
    if needs_text(request.param):
        pytest.importorskip("tensorflow_text")
    return request.param


# Four times as slow as C, which loads all kinds in the same way.
@pytest.mark.parametrize(
    "kind",
    [
        "rnn char",
        *(pytest.param(kind, marks=pytest.mark.full) for kind in ("rnn word", "rnn sentencepiece")),
        *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("transformer char", "couplet")),
    ],
)
@pytest.mark.full
def test_the_command_line_tool_gives_pythons_answers(exported, kind, tmp_path):
    if needs_text(kind):
        pytest.importorskip("tensorflow_text")
    model = exported(kind)
    found = by_command_line(model, kind, beside_cruel(model.good), tmp_path)
    assert_good_lines_get_their_answers_and_bad_ones_none(found, model)


@pytest.mark.full
def test_c_gives_pythons_answers(exported, kind, program):
    model = exported(kind)
    found = by_c(program, model, kind, beside_cruel(model.good))
    assert_good_lines_get_their_answers_and_bad_ones_none(found, model)
    nobody = by_c(program, model, kind, [])
    assert nobody["replies"].shape == (0, model.answers["replies"].shape[1])


@pytest.mark.full
def test_the_n_best_differ_by_more_than_rounding(exported, kind):
    """So that these proofs compare an order, not luck."""
    scores = exported(kind).answers["scores"]
    assert np.isfinite(scores).all() and (np.diff(scores) < -1e-3).all()


@pytest.mark.full
def test_without_its_library_a_text_op_is_what_c_stumbles_over(exported, program):
    """As a server without TF-Text would: the other tests could not pass by luck."""
    pytest.importorskip("tensorflow_text")
    model = exported("rnn sentencepiece")
    ran = subprocess.run(
        [program, str(model.directory), *tensor_names(model.directory)],
        input=struct.pack("I", 0),
        capture_output=True,
    )
    assert ran.returncode == 1 and b"Sentencepiece" in ran.stderr
