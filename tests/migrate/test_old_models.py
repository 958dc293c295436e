"""A model of TF 1 or TFA, migrated by the command, gives the same logits and the same beams."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_attention.migrate import migrate
from keras_attention.migrate.__main__ import main
from models import RNNSeq2Seq
from tests.migrate import targets
from tests.migrate.paths import ROOT, old
from tests.sampled import full


def arguments(source, model, out):
    return [old(source), "--model", f"tests.migrate.targets:{model}", "--out", str(out)]


def answers(source):
    return np.load(old(f"{source}.npz"))


def assert_answers_as(model, expected):
    logits = model((expected["source"], expected["target"]))
    targets.assert_same_logits(logits, expected["logits"])
    ids, log_probs, lengths = model.search(expected["source"])
    np.testing.assert_array_equal(ids, expected["ids"])
    np.testing.assert_array_equal(lengths, expected["lengths"])
    np.testing.assert_allclose(log_probs, expected["log_probs"], rtol=1e-5)


@pytest.mark.parametrize(
    "source, model, ending",
    [
        ("tf1_lstm", "tf1_lstm", ".weights.h5"),
        ("tf1_lstm", "tf1_lstm", ".keras"),
        ("tf1_gru", "tf1_gru", ".weights.h5"),
        ("tf1_basic", "tf1_basic", ".keras"),
        ("tfa_lstm", "tfa_lstm", ".weights.h5"),
        ("tfa_lstm", "tfa_lstm", ".keras"),
        ("tfa_lstm.h5", "tfa_lstm", ".weights.h5"),
        ("tfa_lstm.h5", "tfa_lstm", ".keras"),
        ("tfa_lstm.weights.h5", "tfa_lstm", ".weights.h5"),
        ("tfa_training-1", "tfa_lstm", ".keras"),
    ],
)
def test_a_migrated_model_answers_as_the_old_one(source, model, ending, tmp_path, capsys):
    out = tmp_path / f"new{ending}"
    main(arguments(source, model, out))
    assert capsys.readouterr().out.splitlines()[-1] == f"{out}: written and verified"
    assert os.listdir(tmp_path) == [out.name]
    if ending == ".keras":
        migrated = keras.saving.load_model(out)
    else:
        migrated = getattr(targets, model)()
        migrated.load_weights(out)
    assert_answers_as(migrated, answers(model))


@pytest.mark.full
def test_a_shell_migrates_as_well(tmp_path):
    out = tmp_path / "new.keras"
    process = subprocess.run(
        [sys.executable, "-m", "keras_attention.migrate", *arguments("tf1_lstm", "tf1_lstm", out)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    assert process.stdout.splitlines()[-1] == f"{out}: written and verified"
    assert_answers_as(keras.saving.load_model(out), answers("tf1_lstm"))


@pytest.mark.parametrize("source", ["tf1_lstm", *full("tf1_gru", "tf1_basic"), "tfa_lstm"])
@pytest.mark.full
def test_the_expected_answers_depend_on_every_weight(source):
    """Or a weight that went elsewhere would not show."""
    model, expected = getattr(targets, source)(), answers(source)
    migrate(old(source), model)
    for variable in model.weights:
        value = np.asarray(variable)
        variable.assign(value + 0.1 * np.random.default_rng(0).normal(size=value.shape))
        logits = model((expected["source"], expected["target"]))
        assert np.max(np.abs(logits - expected["logits"])) > 1e-4, variable.path
        variable.assign(value)


def test_the_ready_model_takes_the_weights_of_a_tfa_model():
    model = RNNSeq2Seq(
        11,
        12,
        units=6,
        layers=2,
        cell="lstm",
        bidirectional=False,
        bridge="pass",
        embedding_width=5,
    )
    model.build()
    migrate(old("tfa_rnn"), model)
    expected = answers("tfa_rnn")
    logits = model((expected["source"], expected["target"]))
    targets.assert_same_logits(logits, expected["logits"])
    found = model.generate(expected["source"], beam_width=3, max_length=7)
    # Not the same search: finished answers hold no places here, so that the best is no worse.
    assert np.all(found.scores[:, 0] >= expected["log_probs"][:, 0] - 1e-5)
