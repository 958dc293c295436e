"""Both kinds of model through the program; what older directories lack; averages; context."""

import json
import re

import pytest

from apps.chatbot import infer, settings
from keras_attention import text
from keras_attention.data import read_pairs
from tests.apps.chatbot.program import SMALL, run

TRANSFORMER = ("--model=transformer", "--heads=2", "--ff_units=24", "--warmup_steps=5")


@pytest.fixture(scope="module")
def transformer(tmp_path_factory, pairs):
    """A Transformer with context, smoothing and an average, and what its training printed."""
    folder = tmp_path_factory.mktemp("transformer")
    turns = [line.split("\t") for line in open(pairs["chat"], encoding="utf-8").read().split("\n")]
    lines = ["\t".join(sum(turns[i : i + 3], [])) for i in range(len(turns) - 3)]
    (folder / "turns.tsv").write_text("\n".join(lines), "utf-8")
    ran = run(
        "--mode=train", f"--model_dir={folder}/model", f"--data={folder}/turns.tsv", *SMALL,
        *TRANSFORMER, "--label_smoothing=0.1", "--average=2", "--context_turns=2",
        "--max_length=60", "--batch_size=32",
    )  # fmt: skip
    assert ran.code == 0 and ran.err == "", ran.err
    return folder / "model", ran


@pytest.mark.full
def test_a_transformer_trains_and_answers(transformer):
    directory, ran = transformer
    assert re.search(r"\n  .+\n    -> ", ran.out)
    answered = run("--mode=infer", f"--model_dir={directory}", "--n_best=2", stdin=b"Hello\nHi\n")
    assert answered.code == 0 and [line.count("\t") for line in answered.out.splitlines()] == [1, 1]


@pytest.mark.full
def test_a_transformer_that_draws_is_exported(transformer, tmp_path):
    directory, _ = transformer
    sampled = (f"--model_dir={directory}", "--sampling=sample", "--top_k=5")
    exported = run("--mode=export", *sampled, f"--export_dir={tmp_path}/served")
    assert exported.code == 0 and "checked in a clean process" in exported.out, exported.err


@pytest.mark.full
def test_the_average_is_the_model_if_it_is_better(transformer):
    directory, ran = transformer
    losses = [float(loss) for loss in re.findall(r"dev loss ([\d.]+)", ran.out)]
    assert "mean of the last 2 epochs" in ran.out and len(losses) == 3
    assert ("kept" in ran.out) == (losses[2] < min(losses[:2]))
    assert len(list((directory / "epochs").iterdir())) == 2
    report = json.loads(run("--mode=eval", f"--model_dir={directory}").out)
    assert report["loss"] == pytest.approx(min(losses), abs=1e-3)


@pytest.mark.full
def test_the_run_continues_from_its_last_step_and_not_from_the_average(transformer):
    directory, _ = transformer
    again = run("--mode=train", f"--model_dir={directory}")
    assert again.code == 0 and "mean of" not in again.out, again.err


def test_flags_of_another_kind_of_model_are_refused(tmp_path):
    train = ("--mode=train", f"--model_dir={tmp_path}/m")
    for flags, words in (
        (["--heads=2"], ["--heads=2", "--model=transformer"]),
        (["--model=transformer", "--attention=luong"], ["--attention=luong", "--model=rnn"]),
        (["--model=transformer", "--units=9", "--heads=2"], ["--heads=2", "--units=9"]),
        (["--task=couplet", "--context_turns=1"], ["--context_turns=1", "--task=couplet"]),
    ):
        ran = run(*train, *flags)
        assert ran.code == 1 and all(word in ran.err for word in words), ran.err
        assert not (tmp_path / "m").exists()


@pytest.mark.full
def test_a_directory_that_lacks_the_newer_settings_is_used_as_before(model_dir, how):
    path = model_dir / "config.json"
    whole = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in whole.items() if k not in settings.ADDED}))
    assert settings.load(str(model_dir), {}).keys() == whole.keys() - {"version"}
    answered = run("--mode=infer", f"--model_dir={model_dir}", stdin=b"Hello\n")
    assert answered.code == 0 and answered.out.count("\n") == 1, answered.err
    goes_on = run("--mode=train", f"--model_dir={model_dir}", *how["char"], "--epochs=3")
    assert goes_on.code == 0 and "Resuming after 10 steps" in goes_on.out


class Echo:
    """A responder that knows some characters, and replies with what it was asked."""

    streams = False

    def __init__(self):
        self.tokenizer = text.Characters.train(["abcz<>␞"])

    def replies(self, lines):
        return [[f"<{line}>"] for line in lines]


CHAT = {"task": "chat", "max_length": 20, "context_turns": 2, "n_best": None}


def asked(line, before=(), **changes):
    return infer.read(Echo(), {**CHAT, **changes}, line.encode(), before)


def test_a_line_is_read_with_the_turns_before_it():
    assert asked("c", ["z", "a", "b"]) == ("a␞b␞c", None)
    assert asked("c", ["b"]) == ("b␞c", None)
    assert asked("z\ta\tb\tc") == ("a␞b␞c", None)  # columns are turns
    assert asked("a\tb", context_turns=0) == ("a\tb", None)
    assert asked("a\t ") == ("", None)


def test_the_oldest_turns_make_room_and_never_the_line_itself():
    assert asked("c", ["a" * 9, "b" * 9]) == ("b" * 9 + "␞c", None)
    assert asked("c" * 20, ["a", "b"]) == ("c" * 20, None)
    source, problem = asked("c" * 21, ["a", "b"])
    assert source == "c" * 21 and "only the first 20" in problem


def test_a_chat_keeps_its_turns_until_it_is_cleared(monkeypatch, capsys):
    lines = iter(["a", "b", "/reset", "c"])

    def say(prompt):
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("builtins.input", say)
    monkeypatch.setattr("sys.stdin", type("Terminal", (), {"reconfigure": lambda *_, **__: None}))
    infer._chat(Echo(), CHAT)
    assert capsys.readouterr().out.splitlines()[1:] == ["<a>", "<a␞<a>␞b>", "<c>", ""]


def test_each_turn_of_a_conversation_is_a_reply_to_those_before_it(tmp_path):
    path = tmp_path / "turns.tsv"
    path.write_text("a\tb\tc\td\t\ne\tf\ng\t\n")
    assert read_pairs(path) == [("a", "b"), ("e", "f")]
    assert read_pairs(path, 1) == [("a", "b"), ("a␞b", "c"), ("b␞c", "d"), ("e", "f")]
    assert read_pairs(path, 5)[2] == ("a␞b␞c", "d")
