"""A SavedModel that holds a tokenizer needs neither this package nor the vocabulary file."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import tensorflow as tf

from keras_attention.text import load

# Runs alone: without this package, without tensorflow_text, and in a session as TF 1 loaded it.
ELSEWHERE = """
import json, sys
for name in ("keras_attention", "tensorflow_text"):
    sys.modules[name] = None
import tensorflow as tf
answers = []
for line in sys.stdin:
    directory, texts = json.loads(line)
    model = tf.saved_model.load(directory)
    modern = model.signatures["serving_default"](text=tf.constant(texts))
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        loaded = tf.compat.v1.saved_model.loader.load(session, ["serve"], directory)
        signature = loaded.signature_def["serving_default"]
        names = {key: info.name for key, info in signature.outputs.items()}
        old = session.run(names, {signature.inputs["text"].name: texts})
    tokens, back = ([x.numpy() for x in (modern["tokens"], modern["text"])])
    assert (old["tokens"] == tokens).all() and (old["text"] == back).all()
    answers.append([[x.decode() for x in tokens.reshape(-1)], [x.decode() for x in back]])
print(json.dumps(answers))
"""


class Echo(tf.Module):
    """Text -> its tokens and itself, through ids."""

    def __init__(self, tokenizer):
        super().__init__()
        self.tokenizer = tokenizer

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def __call__(self, text):
        ids = self.tokenizer.encode(text)
        beams = self.tokenizer.decode(tf.stack([ids.to_tensor()] * 2, axis=1))  # [B, 2]
        return {"tokens": self.tokenizer.tokens(ids.to_tensor()), "text": beams[:, 1]}


def export(tokenizer, directory):
    """Save the tokenizer, export what was loaded from it, delete the one and move the other."""
    tokenizer.save(f"{directory}/vocabulary")
    echo = Echo(load(f"{directory}/vocabulary"))
    tf.saved_model.save(echo, f"{directory}/exported", signatures=echo.__call__)
    shutil.rmtree(f"{directory}/vocabulary")
    return shutil.move(f"{directory}/exported", f"{directory}/moved")


def expected(tokenizer, texts):
    answer = Echo(tokenizer)(tf.constant(texts))
    return [[x.decode() for x in answer[key].numpy().reshape(-1)] for key in ("tokens", "text")]


@pytest.mark.full
def test_characters_and_words_run_in_a_process_that_knows_only_tensorflow(
    characters, words, cruel, tmp_path
):
    texts = [*cruel, "the dog 你好", "☃ unseen ⛄"]
    # Without NUL: the NumPy arrays that a session is fed with end there.
    texts = [text.replace("\x00", "")[:200] for text in texts]
    jobs = [[export(kind, tmp_path / kind.KIND), texts] for kind in (characters, words)]
    process = subprocess.run(
        [sys.executable, "-c", ELSEWHERE],
        input="\n".join(map(json.dumps, jobs)),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": ""},
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert json.loads(process.stdout) == [expected(kind, texts) for kind in (characters, words)]


def test_an_empty_batch_passes_through_a_signature(tokenizer, tmp_path):
    exported = tf.saved_model.load(export(tokenizer, tmp_path))
    answer = exported.signatures["serving_default"](text=tf.constant([], tf.string))
    assert answer["text"].shape == (0,)
    assert answer["tokens"].shape[0] == 0


def test_subwords_are_exported_with_their_model(subwords, cruel, tmp_path):
    exported = tf.saved_model.load(export(subwords, tmp_path))
    answer = exported.signatures["serving_default"](text=tf.constant(cruel))
    assert [text.decode() for text in answer["text"].numpy()] == cruel


def test_an_unsaved_tokenizer_can_be_exported(characters, tmp_path):
    tf.saved_model.save(Echo(characters), str(tmp_path))
    assert tf.saved_model.load(str(tmp_path))(tf.constant(["the"]))["text"].numpy() == [b"the"]


@pytest.mark.parametrize("kind", ["characters", "words"])
def test_no_op_of_another_library_and_no_python_is_in_the_graph(kind, request):
    echo = Echo(request.getfixturevalue(kind))
    graph = echo.__call__.get_concrete_function().graph.as_graph_def()
    nodes = [
        *graph.node,
        *(node for function in graph.library.function for node in function.node_def),
    ]
    ops = {node.op for node in nodes}
    assert not [op for op in ops if "PyFunc" in op or not hasattr(tf.raw_ops, op)]
