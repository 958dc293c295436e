"""docs/results.md, and the program that measures it."""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

import models
from tests.benchmarks import results

ROOT = pathlib.Path(__file__).parent.parent
TINY = '''"""Learn a line."""
import keras, tensorflow as tf
from experiments import Experiment

class Slow(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        print("step", flush=True)
        tf.py_function(lambda: __import__("time").sleep(0.05), [], [])

def line(run):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x = keras.random.normal([40, 1], seed=run.seed)
    rows = tf.data.Dataset.from_tensor_slices((x, 2 * x)).batch(4)
    run.fit(model, lambda epoch, batch: rows.skip(batch), epochs=4, callbacks=[Slow()])
    (run.work / "line.png").write_text("a picture")
    return {"error": model.evaluate(x, 2 * x, verbose=0)}

experiment = Experiment(
    title="A line (Gauss, 1809)", task="y = 2 x", data=("x.txt",), runs={"line": line},
    seeds={"line": (3, 4)}, metrics={"error": "mean square"}, published="none", differs="not",
    files=("line.png",),
)
'''


def test_the_page_is_what_the_measurements_give():
    assert results.PAGE.read_text(encoding="utf-8") == results.page()


def test_every_model_is_in_the_list_of_models_with_links_that_lead_somewhere():
    page = ROOT / "docs" / "models.md"
    text = page.read_text(encoding="utf-8")
    assert [name for name in models.__all__ if f"`{name}`" not in text] == []
    links = re.findall(r"\]\(([^)#]+)", text)
    assert [link for link in links if not (page.parent / link).exists()] == []
    pages = {f"models/{path.name}" for path in (page.parent / "models").glob("*.md")}
    assert pages <= {*links}
    programs = re.findall(r"`models\.(\w+)`", text)
    assert [name for name in programs if not (ROOT / "models" / f"{name}.py").exists()] == []


def test_a_section_shows_means_and_spreads_of_each_run():
    outcome = {"figures": {"BLEU": 30.0}, "steps": 1000, "cpu_minutes": 2.0}
    other = {"figures": {"BLEU": 32.0}, "steps": 1000, "cpu_minutes": 3.0}
    lines = results.section(
        "tiny",
        {
            **dict.fromkeys("title task published differs notes signature commit".split(), "X"),
            "metrics": {"BLEU": "of n-grams", "loss": "of tokens"},
            "data": {},
            "versions": "TensorFlow 2",
            "runs": {"ours": {"0": outcome, "1": other}},
        },
    ).splitlines()
    assert "| run | BLEU | loss | seeds | steps | CPU minutes |" in lines
    assert "| ours | 31.00 ± 1.41 |  | 2 | 1,000 | 2.5 |" in lines


def runner(folder, *arguments, **settings):
    command = [sys.executable, str(folder / "tests/benchmarks/results.py"), "tiny"]
    return subprocess.Popen(
        command + [f"--data={folder}", f"--work={folder / 'work'}", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        **settings,
    )


@pytest.fixture
def tiny(tmp_path):
    """Makes a tree whose only experiment is TINY."""

    def make(name):
        tree = tmp_path / name
        benchmarks = tree / "tests" / "benchmarks"
        (benchmarks / "experiments").mkdir(parents=True)
        (tree / "docs").mkdir()
        (tree / "x.txt").write_text("1 2")
        for file in ("results.py", "experiments/__init__.py"):
            shutil.copy(ROOT / "tests" / "benchmarks" / file, benchmarks / file)
        (benchmarks / "experiments" / "tiny.py").write_text(TINY)
        return tree

    return make


def measured(tree):
    found = json.loads((tree / "docs" / "results" / "tiny.json").read_text())
    return {seed: run["figures"] for seed, run in found["runs"]["line"].items()}, found


@pytest.mark.full
def test_a_run_that_was_stopped_goes_on_and_gives_the_same_figures(tiny):
    whole, stopped = tiny("whole"), tiny("stopped")
    done = runner(whole, "--jobs=2")
    assert "| line |" in done.communicate()[0]
    first = runner(stopped)
    while "step" not in (line := first.stdout.readline()):
        assert line or first.poll() is None
    time.sleep(0.3)
    os.killpg(first.pid, signal.SIGTERM)
    first.communicate()
    assert not (stopped / "docs" / "results.md").exists()
    said = runner(stopped).communicate()[0]
    assert measured(stopped)[0] == measured(whole)[0], said
    page = (stopped / "docs" / "results.md").read_text()
    assert "## A line (Gauss, 1809)" in page and "| line |" in page
    assert (stopped / "docs" / "results" / "line.png").read_text() == "a picture"
    found = measured(stopped)[1]
    assert found["runs"]["line"]["3"]["steps"] == 40
    assert found["runs"]["line"]["3"]["cpu_minutes"] > 0
    again = runner(stopped)  # nothing is left to do
    assert "step" not in again.communicate()[0].replace("steps", "")


@pytest.mark.full
def test_what_does_not_fit_is_refused_by_name(tiny):
    tree = tiny("changed")
    (tree / "x.txt").unlink()
    assert "must hold ['x.txt']" in runner(tree).communicate()[0]
    (tree / "x.txt").write_text("1 2")
    begun = tree / "work" / "tiny" / "line-3"
    begun.mkdir(parents=True)
    (begun / "signature").write_text("of another time")
    assert "another version of the experiment" in runner(tree).communicate()[0]
