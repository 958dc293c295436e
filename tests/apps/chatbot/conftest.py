"""Small models, each trained once: tests that change a model directory copy it first."""

import json
import shutil

import pytest

from tests.apps.chatbot import untrained
from tests.apps.chatbot.program import SMALL, Ran, run, shipped

# Every tokenizer, task and attention, one and two layers.
KINDS = {
    "char": ("chat", "bahdanau", 1),
    "word": ("couplet", "luong", 2),
    "sentencepiece": ("chat", "none", 1),
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


@pytest.fixture(params=list(KINDS))
def kind(request):
    return request.param


@pytest.fixture(scope="session")
def untrained_chat(tmp_path_factory):
    """The directory of an export that reads a turn before a line, and its Responder."""
    return untrained.exported(tmp_path_factory.mktemp("untrained") / "chat", context_turns=1)


@pytest.fixture(scope="session")
def untrained_couplets(tmp_path_factory):
    """Those of an export that does not attend."""
    folder = tmp_path_factory.mktemp("untrained") / "couplets"
    return untrained.exported(folder, task="couplet", attention="none")


@pytest.fixture
def model_dir(trained, tmp_path):
    """A copy of the model of characters, to be spoiled."""
    return shutil.copytree(trained("char")[0], tmp_path / "model")
