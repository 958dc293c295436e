"""Small models, each trained once: tests that change a model directory copy it first."""

import shutil

import pytest

from tests.apps.chatbot import untrained
from tests.apps.chatbot.program import SMALL, run, shipped

# Every tokenizer, task and attention, one and two layers.
KINDS = {
    "char": ("chat", "bahdanau", 1),
    "word": ("couplet", "luong", 2),
    "sentencepiece": ("chat", "none", 1),
}


@pytest.fixture(scope="session")
def pairs(tmp_path_factory):
    """task -> a file of forty pairs."""
    folder = tmp_path_factory.mktemp("pairs")
    lines = {
        "chat": shipped("chat_en.tsv", 20, 30) + shipped("chat_zh.tsv", 20, 30),
        "couplet": shipped("couplets.tsv", 40),
    }
    for task in lines:
        (folder / task).write_text("\n".join(lines[task]), "utf-8")
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
def trained(tmp_path_factory, how):
    """kind -> the directory of a model, and what its training printed."""
    found = {}

    def model(kind):
        if kind == "sentencepiece":
            pytest.importorskip("sentencepiece")
        if kind not in found:
            directory = tmp_path_factory.mktemp("models") / kind
            ran = run("--mode=train", f"--model_dir={directory}", *how[kind])
            assert ran.code == 0, ran.err
            found[kind] = directory, ran
        return found[kind]

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
