"""Training goes on where it was stopped, as if it never had been."""

import json
import re
import signal

import numpy as np
import pytest
import tensorflow as tf

from apps.chatbot import train
from tests.apps.chatbot.program import SMALL, run, start


def state(directory) -> dict:
    """Every number of the newest checkpoint: model, optimizer, seeds, progress."""
    newest = max((directory / "checkpoints").iterdir())
    reader = tf.train.load_checkpoint(str(newest / "state"))
    names = reader.get_variable_to_shape_map().keys() - {"_CHECKPOINTABLE_OBJECT_GRAPH"}
    return {name: reader.get_tensor(name) for name in names}


def assert_same(found: dict, expected: dict):
    assert found.keys() == expected.keys()
    for name in expected:
        assert np.array_equal(found[name], expected[name]), name


@pytest.fixture(scope="module")
def straight(tmp_path_factory, how):
    """Four epochs of five steps, at one go."""
    directory = tmp_path_factory.mktemp("straight")
    ran = run("--mode=train", f"--model_dir={directory}", *how["char"], "--epochs=4")
    assert ran.code == 0
    return state(directory)


@pytest.mark.full
def test_two_epochs_and_two_more_are_four(straight, model_dir, how):
    ran = run("--mode=train", f"--model_dir={model_dir}", *how["char"], "--epochs=4")
    assert ran.code == 0 and "Resuming after 10 steps, in epoch 3" in ran.out
    assert_same(state(model_dir), straight)


@pytest.mark.full
def test_a_run_stopped_anywhere_continues_to_the_same_end(straight, how, tmp_path, monkeypatch):
    """In the middle of an epoch, at its last step, while the last one is validated."""

    def ctrl_c_at(steps):
        def on_train_batch_begin(keeper, batch, logs=None):
            if keeper.resume.step + 1 == steps != 20:
                signal.raise_signal(signal.SIGINT)

        def on_test_begin(keeper, logs=None):
            if keeper.resume.step == steps == 20:
                signal.raise_signal(signal.SIGINT)

        monkeypatch.setattr(train._ProgressSaver, "on_train_batch_begin", on_train_batch_begin)
        monkeypatch.setattr(train._ProgressSaver, "on_test_begin", on_test_begin)

    command = ("--mode=train", f"--model_dir={tmp_path}", *how["char"], "--epochs=4")
    for steps in (7, 15, 20):
        ctrl_c_at(steps)
        ran = run(*command)
        assert ran.code == 130 and f"Stopped after {steps} steps" in ran.out
        assert ran.err.strip() == "Stopping after this step ..."
    ctrl_c_at(None)
    assert run(*command).code == 0
    assert_same(state(tmp_path), straight)


@pytest.mark.full  # four trainings
def test_a_run_that_ended_within_an_epoch_continues_within_it(how, tmp_path):
    command = ("--mode=train", f"--model_dir={tmp_path}", *how["char"], "--attention=none")
    assert "step 8 of at most 8" in run(*command, "--steps=8").out
    ran = run(*command, "--epochs=2")
    assert "Resuming after 8 steps, in epoch 2" in ran.out
    progress = json.loads(state(tmp_path)["progress/.ATTRIBUTES/VARIABLE_VALUE"])
    assert [progress[name] for name in ("step", "epoch", "batch")] == [10, 2, 0]


def test_a_finished_run_only_shows_its_replies_again(model_dir, how):
    before = state(model_dir)
    ran = run("--mode=train", f"--model_dir={model_dir}", *how["char"])
    assert ran.code == 0 and "epoch 1, " not in ran.out and "\n    -> " in ran.out
    assert_same(state(model_dir), before)


def test_flags_that_contradict_the_model_are_named(model_dir, how):
    before = state(model_dir)
    ran = run("--mode=train", f"--model_dir={model_dir}", *how["char"], "--units=32", "--seed=3")
    assert ran.code == 1 and ran.out == ""
    assert "--units=32 (stored: 16), --seed=3 (stored: 0)" in ran.err and ran.err.count("\n") == 1
    assert_same(state(model_dir), before)


@pytest.mark.full
def test_ctrl_c_and_kill_lose_nothing(tmp_path):
    """In processes of their own, from an empty folder, on the shipped couplets."""
    command = ("--mode=train", "--task=couplet", "--attention=none", *SMALL, "--batch_size=64")
    endless = (*command, "--epochs=10000", "--patience=0")

    stopped = start(*endless, cwd=tmp_path)
    await_line(stopped, "epoch 2, ")
    stopped.send_signal(signal.SIGINT)
    out, err = (stream.decode() for stream in stopped.communicate(timeout=60))
    assert stopped.returncode == 130
    assert "Run the same command again to continue" in out
    assert err.strip() == "Stopping after this step ..."
    steps = int(re.search(r"Stopped after (\d+) steps", out)[1])

    killed = start(*endless, cwd=tmp_path)
    resumed = await_line(killed, "Resuming after")
    assert f"Resuming after {steps} steps" in resumed
    await_line(killed, "epoch ")
    killed.kill()
    killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL

    ran = run(*command, f"--model_dir={tmp_path}/model", "--epochs=1")
    assert ran.code == 0 and ran.err == ""
    assert int(re.search(r"Resuming after (\d+) steps", ran.out)[1]) > steps


def await_line(process, beginning: str) -> str:
    for line in iter(process.stdout.readline, b""):
        if line.decode().startswith(beginning):
            return line.decode()
    raise AssertionError(process.stderr.read().decode())
