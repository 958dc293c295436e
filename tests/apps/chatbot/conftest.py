"""Small models, each trained once: tests that change a model directory copy it first."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from apps.chatbot import settings, store
from apps.chatbot.responder import Responder
from tests.apps.chatbot import untrained
from tests.apps.chatbot.program import SMALL, Ran, run, shipped
from tests.sampled import full

# Every tokenizer, task and attention, one and two layers.
KINDS = {
    "char": ("chat", "bahdanau", 1),
    "word": ("couplet", "luong", 2),
    "sentencepiece": ("chat", "none", 1),
}
# The full run has all.
SAMPLED = ["char", *full("word", "sentencepiece")]
LINES = {
    "chat": ["Hello", "", "🙂 ❤️", "你好，你", "Good day! " * 9],
    "couplet": ["春风", "", "🙂春", "春"],
}


@pytest.fixture(scope="session")
def pairs(once_for_all_workers):
    """task -> a file of forty pairs."""
    lines = {
        "chat": shipped("chat_en.tsv", 20, 30) + shipped("chat_zh.tsv", 20, 30),
        "couplet": shipped("couplets.tsv", 40),
    }

    def write(folder):
        for task in lines:
            (folder / task).write_text("\n".join(lines[task]), "utf-8")

    folder = once_for_all_workers("pairs", write)
    return {task: str(folder / task) for task in lines}


@pytest.fixture(scope="session")
def how(pairs):
    """kind -> the arguments that train it, but for --model_dir."""
    return {
        kind: (
            f"--data={pairs[task]}",
            f"--task={task}",
            f"--tokenizer={kind}",
            f"--attention={attention}",
            f"--layers={layers}",
            *SMALL,
        )
        for kind, (task, attention, layers) in KINDS.items()
    }


@pytest.fixture(scope="session")
def trained(once_for_all_workers, how):
    """kind -> the directory of a model, and what its training printed."""

    def model(kind):
        if kind == "sentencepiece":
            pytest.importorskip("sentencepiece")

        def train(folder):
            ran = run("--mode=train", f"--model_dir={folder}/{kind}", *how[kind])
            assert ran.code == 0, ran.err
            (folder / "ran.json").write_text(json.dumps(ran), "utf-8")

        folder = once_for_all_workers(f"trained_{kind}", train)
        return folder / kind, Ran(*json.loads((folder / "ran.json").read_text("utf-8")))

    return model


@pytest.fixture(scope="session")
def exported(once_for_all_workers, trained):
    """kind -> (the export, what Python answered); the model it came from is gone."""

    def export(kind):
        def make(folder):
            directory = shutil.copytree(trained(kind)[0], folder / "model")
            stored = settings.load(directory, {})
            responder = Responder(*store.load_model(directory, stored), stored)
            answers = responder.serving_default(tf.constant(LINES[KINDS[kind][0]]))
            np.savez(folder / "answers.npz", **{k: v.numpy() for k, v in answers.items()})
            ran = run("--mode=export", f"--model_dir={directory}", f"--export_dir={folder}/made")
            assert ran.code == 0 and ran.err == "", ran.err
            assert "checked in a clean process" in ran.out
            shutil.rmtree(directory)
            shutil.move(folder / "made", folder / "moved")

        folder = once_for_all_workers(f"exported_{kind}", make)
        with np.load(folder / "answers.npz", allow_pickle=True) as answers:
            return folder / "moved", dict(answers)

    return export


@pytest.fixture(params=SAMPLED)
def kind(request):
    return request.param


@pytest.fixture(scope="session")
def untrained_export(once_for_all_workers):
    """(name, settings) -> the directory of an export, and its Responder."""

    def export(name, **settings):
        folder = once_for_all_workers(name, lambda f: untrained.exported(f / "export", **settings))
        return str(folder / "export"), Responder(*untrained.made(**settings))

    return export


@pytest.fixture(scope="session")
def untrained_chat(untrained_export):
    """Of an export that reads a turn before a line."""
    return untrained_export("untrained_chat", context_turns=1)


@pytest.fixture(scope="session")
def untrained_couplets(untrained_export):
    """Of an export that does not attend."""
    return untrained_export("untrained_couplets", task="couplet", attention="none")


@pytest.fixture
def model_dir(trained, tmp_path):
    """A copy of the model of characters, to be spoiled."""
    return shutil.copytree(trained("char")[0], tmp_path / "model")
