"""A run reports its data, and continues with the same data or reports the change."""

import json
import os
import re
import shutil

import numpy as np
import pytest

from apps.chatbot import progress, train
from tests.apps.chatbot.program import run
from tests.apps.chatbot.test_bad_input import assert_refused

TINY = (
    *("--units=8", "--attention=none", "--batch_size=8", "--beam_width=1"),
    *("--max_length=12", "--dropout=0.2"),
)
LINES = [f"say {word}\t{word}!\n" for word in "a b c d e f g h i j k l m n o p q r s t".split()]


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A folder with pairs.tsv and a model that learned from it for a step."""
    folder = tmp_path_factory.mktemp("begun")
    (folder / "pairs.tsv").write_text("".join(LINES))
    here = os.getcwd()
    os.chdir(folder)
    try:
        ran = run("--mode=train", "--data=./pairs.tsv", "--model_dir=model", "--steps=1", *TINY)
    finally:
        os.chdir(here)
    assert ran.code == 0, ran.err
    return folder, ran


@pytest.fixture
def folder(begun, tmp_path):
    """A copy of it, in which the data may be changed."""
    shutil.copytree(begun[0], tmp_path / "copy")
    return tmp_path / "copy"


def stored_data(folder) -> str:
    return json.loads((folder / "model/config.json").read_text())["data"]


@pytest.mark.full
def test_what_was_read_is_reported_first(begun, tmp_path):
    lines = begun[1].out.splitlines()
    assert lines[0] == "./pairs.tsv: 20 pairs from 20 lines (tab-separated)".replace(
        "./", f"{begun[0]}/"
    )
    assert lines[1:4] == ["  'say a' -> 'a!'", "  'say b' -> 'b!'", "  'say c' -> 'c!'"]
    (tmp_path / "x.tsv").write_text("".join(LINES[:9]) + "x\t\n\ny\tz\tmore\n")
    ran = run("--mode=eval", f"--model_dir={begun[0]}/model", f"--data={tmp_path}/x.tsv")
    assert ran.err.count("\n") == 1 and json.loads(ran.out)["pairs"] == 10
    for words in (
        "further columns of 1 line ignored",
        "1 skipped: no target (first: line 10)",
        "1 skipped: blank (first: line 11)",
    ):
        assert words in ran.err


@pytest.mark.full
def test_the_same_pairs_may_lie_elsewhere_in_another_form(folder, monkeypatch):
    os.remove(folder / "pairs.tsv")
    missing = run("--mode=train", f"--model_dir={folder}/model")
    # The copy's settings name the file of the first folder, which is there.
    assert missing.code == 0, missing.err
    (folder / "moved.tsv").write_bytes("".join(LINES).replace("\n", "\r\n").encode("utf-16"))
    monkeypatch.chdir(folder)
    ran = run("--mode=train", "--model_dir=model", "--data=moved.tsv", "--steps=2")
    assert ran.code == 0 and "Resuming after 1 steps" in ran.out, ran.err
    assert stored_data(folder) == f"{folder}/moved.tsv"
    os.remove(folder / "moved.tsv")
    for mode, word in (("train", "pass --data=NEW_PATH"), ("eval", "--data=FILE")):
        assert_refused(run(f"--mode={mode}", "--model_dir=model"), "does not exist any more", word)


@pytest.mark.parametrize(
    "lines",
    [LINES[:9], [line.replace("say", "привет") for line in LINES], LINES[::-1]],
    ids=["shrunk", "replaced", "reordered"],
)
def test_other_pairs_are_refused_with_what_changed(folder, lines):
    before = (folder / "model/config.json").read_bytes()
    (folder / "other.tsv").write_text("".join(lines))
    ran = run("--mode=train", f"--model_dir={folder}/model", f"--data={folder}/other.tsv")
    assert_refused(
        ran, "20 pairs of", f"Received: {len(lines)} pairs of", "Restore", "new training"
    )
    assert (folder / "model/config.json").read_bytes() == before
    ran = run("--mode=train", f"--model_dir={folder}/model", f"--dev_data={folder}/other.tsv")
    assert_refused(ran, "--dev_data must be the data", "expected none")


def test_a_directory_without_a_record_is_still_checked_for_its_length(folder):
    os.remove(folder / "model/data.json")
    settings = json.loads((folder / "model/config.json").read_text())
    path = f"{folder}/gone.tsv"
    (folder / "model/config.json").write_text(json.dumps({**settings, "data": path}))
    ran = run("--mode=train", f"--model_dir={folder}/model", f"--data={folder}/pairs.tsv")
    assert ran.code == 0, ran.err
    assert stored_data(folder) == f"{folder}/pairs.tsv" and (folder / "model/data.json").exists()
    os.remove(folder / "model/data.json")
    (folder / "other.tsv").write_text("".join(LINES))
    ran = run("--mode=train", f"--model_dir={folder}/model", f"--data={folder}/other.tsv")
    assert_refused(ran, "made with other settings: --data=")


def test_limits_of_the_data_are_flags(folder):
    data = f"--data={folder}/pairs.tsv"
    for limit in ("max_line_bytes=5", "max_data_bytes=50", "max_data_lines=5"):
        ran = run("--mode=train", data, f"--model_dir={folder}/new", f"--{limit}", *TINY)
        assert_refused(ran, limit, "raise")
        assert not (folder / "new").exists()
    ran = run(
        "--mode=infer", f"--model_dir={folder}/model", "--max_line_bytes=5", stdin=b"a\nsay abc\n"
    )
    assert_refused(ran, "the input, line 2", "max_line_bytes=5")


def test_what_a_machine_cannot_hold_is_refused_before_it_is_made(folder, monkeypatch):
    data = f"--data={folder}/pairs.tsv"
    big = ("--units=8192", "--layers=100")
    ran = run("--mode=train", data, f"--model_dir={folder}/new", *big)
    assert_refused(ran, "GB of memory or more", "--units=8192", "Lower one of")
    assert not (folder / "new").exists()
    ran = run("--mode=train", data, "--units=1000000")
    assert ran.code == 1 and "8192" in ran.err


@pytest.mark.full
def test_a_replaced_model_is_checked_before_it_is_used(folder):
    """A deleted one is written again; the run's last weights are still there."""
    os.remove(folder / "model/model.keras")
    ran = run("--mode=train", f"--model_dir={folder}/model")
    assert ran.code == 0 and "model.keras was missing: written again" in ran.out, ran.err
    again = run("--mode=train", f"--model_dir={folder}/model")
    assert again.code == 0 and "written again" not in again.out
    assert run("--mode=infer", f"--model_dir={folder}/model", stdin=b"say a\n").code == 0


@pytest.mark.full  # three trainings
def test_steps_in_two_runs_are_those_of_one(begun, tmp_path):
    """Also within an epoch: validating there changes nothing of what follows."""
    from tests.apps.chatbot.test_resume import assert_same, state

    data = f"--data={begun[0]}/pairs.tsv"
    flags = [flag for flag in TINY if "attention" not in flag]
    for name, stops in (("one", [7]), ("two", [4, 7])):
        for steps in stops:
            directory = f"--model_dir={tmp_path / name}"
            ran = run("--mode=train", data, directory, *flags, "--average=2", f"--steps={steps}")
            assert ran.code == 0, ran.err
    one, two = (state(tmp_path / name) for name in ("one", "two"))
    progress = "progress/.ATTRIBUTES/VARIABLE_VALUE"
    del one[progress], two[progress]  # when the model was kept may differ
    assert_same(two, one)
    epochs = [sorted(os.listdir(tmp_path / name / "epochs")) for name in ("one", "two")]
    assert epochs[0] == epochs[1]


@pytest.mark.full
def test_a_dev_loss_beyond_perplexity_keeps_a_model(begun, tmp_path, monkeypatch):
    data = f"--data={begun[0]}/pairs.tsv"
    usual = train._ProgressSaver.on_epoch_end

    def overflown(value):
        def on_epoch_end(keeper, epoch, logs=None):
            usual(keeper, epoch, {**logs, "val_perplexity": np.inf, "val_loss": value})

        return on_epoch_end

    monkeypatch.setattr(train._ProgressSaver, "on_epoch_end", overflown(99.0))
    ran = run("--mode=train", data, f"--model_dir={tmp_path}/m", "--steps=1", *TINY)
    assert ran.code == 0 and "dev loss 99.0000, perplexity inf" in ran.out
    assert (tmp_path / "m/model.keras").exists()
    monkeypatch.setattr(train._ProgressSaver, "on_epoch_end", overflown(np.nan))
    ran = run("--mode=train", data, f"--model_dir={tmp_path}/n", "--steps=1", *TINY)
    assert_refused(ran, "The dev loss became nan at step 1", "--learning_rate")


@pytest.mark.full
def test_progress_within_an_epoch_is_reported_where_there_is_no_terminal(
    begun, tmp_path, monkeypatch
):
    monkeypatch.setattr(progress, "TELL_EVERY", 0.0)
    data = f"--data={begun[0]}/pairs.tsv"
    ran = run("--mode=train", data, f"--model_dir={tmp_path}/m", "--steps=4", *TINY)
    assert re.search(r"\n  step 2 of at most 4, in epoch 1: loss [\d.]+, [\d.]+ steps/s\n", ran.out)
    losses = re.findall(r"dev loss ([\d.]+)", ran.out)
    assert ran.out.count("epoch 1, step 3 of at most 4") == 1 and len(losses) == 2
    assert "Epoch" not in ran.out and "val_loss" not in ran.out
