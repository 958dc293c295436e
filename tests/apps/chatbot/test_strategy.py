"""`--strategy`: the program trains with several replicas what it trains with one."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from apps.chatbot import settings, store
from tests.apps.chatbot.program import HOME, SMALL, run


def train(directory, how, workers=1, *more):
    """Run the program, as the launcher starts it if there are several workers."""
    program = [sys.executable, "-m", "apps.chatbot", "--mode=train", f"--model_dir={directory}"]
    launch = [sys.executable, "-m", "keras_attention.training.launch", f"--workers={workers}", "--"]
    command = program if workers == 1 else [*launch, *program, "--strategy=multi_worker"]
    return subprocess.run(
        [*command, *how, *more], cwd=HOME, capture_output=True, text=True, timeout=400,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip


def weights(directory):
    model, _ = store.load_model(str(directory), settings.load(str(directory), {}))
    keras.config.set_dtype_policy("float32")
    return model.get_weights()


@pytest.mark.slow
def test_two_workers_train_the_model_of_one_and_one_goes_on(how, tmp_path):
    arguments = (*how["char"], "--average=2", "--dropout=0.3")
    alone = train(tmp_path / "one", arguments)
    together = train(tmp_path / "two", arguments, 2)
    assert alone.returncode == together.returncode == 0, together.stderr[-3000:]
    for one, two in zip(weights(tmp_path / "one"), weights(tmp_path / "two"), strict=True):
        np.testing.assert_allclose(two, one, atol=1e-6)
    # The chief alone tells, the same but for the replicas.
    said = together.stdout.replace(", 2 replicas", "").splitlines()
    assert len(said) == len(alone.stdout.splitlines())
    more = ("--epochs=3",)
    for directory, workers in (("one", 2), ("two", 1)):
        ran = train(tmp_path / directory, arguments, workers, *more)
        assert ran.returncode == 0 and "Resuming after 10 steps" in ran.stdout, ran.stderr[-3000:]
    for one, two in zip(weights(tmp_path / "one"), weights(tmp_path / "two"), strict=True):
        np.testing.assert_allclose(two, one, atol=1e-6)


@pytest.mark.slow
def test_workers_with_other_flags_are_refused_by_name(how, tmp_path):
    program = (
        'more=; grep -q \'index": 1\' <<< "$TF_CONFIG" && more=--seed=7\n'
        f'exec "{sys.executable}" -m apps.chatbot --mode=train --strategy=multi_worker '
        f'--model_dir={tmp_path}/model "$@" $more'
    )
    launch = [sys.executable, "-m", "keras_attention.training.launch", "--workers=2", "--"]
    ran = subprocess.run(
        [*launch, "bash", "-c", program, "bash", *how["char"]],
        cwd=HOME, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert ran.returncode == 1
    assert "All workers must run the same code on the same data. Received: " in ran.stderr
    assert "flags: " in ran.stderr and "(worker 1)" in ran.stderr
    assert not (tmp_path / "model" / "config.json").exists()


def test_a_malformed_tf_config_is_one_line_and_nothing_is_written(monkeypatch, tmp_path):
    monkeypatch.setenv("TF_CONFIG", '{"cluster": {"worker": ["a"]}, "task": {}}')
    ran = run("--mode=train", f"--model_dir={tmp_path}/model", "--strategy=multi_worker", *SMALL)
    assert ran.code == 1 and not ran.out
    assert ran.err.startswith("train: TF_CONFIG must be like ") and ran.err.count("\n") == 1
    assert not (tmp_path / "model").exists()
