"""Speed of the attentional RNN against TensorFlow Addons, side by side on this machine.

    python tests/benchmarks/rnn_against_tfa.py --legacy-python ENV/bin/python [--quick]

The other environment has TensorFlow 2.15 and tensorflow-addons 0.23 (extra `[addons]`); its
interpreter may also be named in LEGACY_PYTHON. Each environment gets one process with one thread;
the same weights and inputs go to both, and they must agree before they are timed. Rounds
alternate, so that noise hits both. A time is the median CPU time of a step over the rounds, a ratio
the median over the rounds of the ratio inside a round.
"""

import argparse
import contextlib
import json
import operator
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
TRAIN = [(256, 8000), (512, 8000)]  # units, vocabulary
BEAM = [(8000, 1, 20, 5), (32000, 1, 40, 10), (8000, 32, 20, 5)]  # vocabulary, batch, steps, width
END = 2


class Worker:
    """A process with its own environment, asked and answering in JSON lines."""

    def __init__(self, python, script):
        quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
        paths = {"PYTHONPATH": str(HERE.parents[1])} if script == "rnn_ours.py" else {}
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            [python, str(HERE / script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env={**os.environ, **quiet, **paths},
        )

    def ask(self, **request):
        """Send a request, wait for its answer."""
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(request), file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            self.log.seek(0)
            raise RuntimeError(f"{self.process.args} died:\n{self.log.read()[-3000:]}")
        return json.loads(answer)

    def close(self):
        """Let it end."""
        self.process.stdin.close()
        self.process.wait()


def make_weights(units, vocabulary, random):
    """One array per weight, by the names that both sides load."""

    def draw(*shape, scale=1.0):
        return (random.standard_normal(shape) * scale).astype(np.float32)

    weights = {
        "source_embedding": draw(vocabulary, units),
        "target_embedding": draw(vocabulary, units),
        "query": draw(units, units, scale=units**-0.5),
        "memory": draw(units, units, scale=units**-0.5),
        "v": draw(units, scale=units**-0.5),
        "attention": draw(2 * units, units, scale=units**-0.5),
        "output_kernel": draw(units, vocabulary, scale=4 * units**-0.5),  # few near ties
        "output_bias": draw(vocabulary),
    }
    for role, widths in (("encoder", (units, units)), ("decoder", (2 * units, units))):
        for i, width in enumerate(widths):
            weights[f"{role}_{i}_kernel"] = draw(width, 4 * units, scale=width**-0.5)
            weights[f"{role}_{i}_recurrent"] = draw(units, 4 * units, scale=units**-0.5)
            weights[f"{role}_{i}_bias"] = draw(4 * units)
    return weights


def train_inputs(vocabulary, random, batch=64, steps=20):
    """Ids and lengths of a padded batch, lengths uniform from half to full."""

    def lengths():
        return np.append(random.integers(steps // 2, steps + 1, batch - 1), steps).astype(np.int32)

    def ids():
        return random.integers(3, vocabulary, (batch, steps), dtype=np.int32)

    return {
        "source": ids(),
        "source_lengths": lengths(),
        "target_in": ids(),
        "target_out": ids(),
        "target_lengths": lengths(),
    }


def beam_inputs(units, batch, random, steps=20):
    """What an encoder would have given."""
    return {
        "encoded": np.tanh(random.standard_normal((batch, steps, units))).astype(np.float32),
        "source_lengths": random.integers(steps // 2, steps + 1, batch).astype(np.int32),
        "state": np.tanh(random.standard_normal((2, batch, units))).astype(np.float32),
    }


def compare(title, task, settings, arrays, sides, rounds, seconds):
    """Build one task on every side, check that they agree, and time them in turn.

    `sides` is [(name, worker, extra settings)]; the last one is what the others are divided by.
    """
    with tempfile.NamedTemporaryFile(suffix=".npz") as file:
        np.savez(file, **arrays)
        file.flush()
        built = {
            name: worker.ask(
                do="build",
                name=name,
                task=task,
                arrays=file.name,
                settings={**settings, **extra},
                repeats=2 if task == "train" else 0,
            )
            for name, worker, extra in sides
        }
    steps, times = {}, {name: [] for name in built}
    for name, worker, _ in sides:  # one step to settle, and one to see how many fill a round
        worker.ask(do="run", name=name, steps=1)
        once = worker.ask(do="run", name=name, steps=1)["cpu"]
        steps[name] = max(1, round(seconds / once))
    for _ in range(rounds):
        for name, worker, _ in sides:
            cpu = worker.ask(do="run", name=name, steps=steps[name])["cpu"]
            times[name].append(cpu / steps[name])
    reference = sides[-1][0]
    for name, worker, _ in sides:
        worker.ask(do="forget", name=name)
        agrees = agreement(task, built[name]["outcome"], built[reference]["outcome"])
        first, median = built[name]["cpu"], 1000 * statistics.median(times[name])
        ratio = statistics.median(map(operator.truediv, times[name], times[reference]))
        print(f"{title:18}{name:32}{agrees:>18}{first:10.1f}{median:10.1f}{ratio:10.2f}")
    sys.stdout.flush()


def agreement(task, ours, theirs):
    """How far two sides agree, in words."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    if task == "train":
        error = np.max(np.abs(ours - theirs) / np.abs(theirs))
        return f"{'same' if error < 1e-4 else 'DIFFERENT'} ({error:.0e})"
    same = float(np.mean(ours == theirs))
    return "same" if same == 1.0 else f"{same:.1%} same"


def header(title, what):
    """The title of a table and of its columns."""
    print(f"\n{title}\n\n{'':50}{what:>18}{'first, s':>10}{'step, ms':>10}{'ours/TFA':>10}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--legacy-python", default=os.environ.get("LEGACY_PYTHON"))
    parser.add_argument("--quick", action="store_true", help="small sizes, few rounds")
    parser.add_argument("--only", choices=["train", "beam"])
    options = parser.parse_args()
    if not options.legacy_python:
        parser.error("name the interpreter with TFA: --legacy-python, or LEGACY_PYTHON")
    rounds, seconds = (9, 0.3) if options.quick else (15, 0.5)
    ours = Worker(sys.executable, "rnn_ours.py")
    tfa = Worker(options.legacy_python, "rnn_tfa.py")
    print("CPU time, one thread; `first` is the first call, tracing and compiling included.")

    in_loop = ("TFA, output layer in its loop", tfa, {"autograph": False, "output_in_loop": True})
    sides = [
        ("keras_attention", ours, {"jit": False}),
        ("keras_attention, jit_compile", ours, {"jit": True}),
        ("TFA, autograph as by default", tfa, {"autograph": True}),
        ("TFA, autograph=False", tfa, {"autograph": False}),
    ]

    if options.only != "beam":
        header("Training step: 2 + 2 LSTM, Bahdanau, input feeding; B=64, S=T=20", "losses")
        for units, vocabulary in TRAIN[: 1 if options.quick else None]:
            random = np.random.default_rng(0)
            inputs = train_inputs(vocabulary, random)
            settings = {"units": units, "vocabulary": vocabulary, "inputs": list(inputs)}
            arrays = {**make_weights(units, vocabulary, random), **inputs}
            title = f"H{units} V{vocabulary}"
            compare(title, "train", settings, arrays, [in_loop, *sides], rounds, seconds)
    if options.only != "train":
        header("Beam search: 2 LSTM, H512, Bahdanau; L steps, none ends early", "ids")
        for vocabulary, batch, steps, width in BEAM:
            random = np.random.default_rng(0)
            inputs = beam_inputs(512, batch, random)
            arrays = {**make_weights(512, vocabulary, random), **inputs}
            arrays["output_bias"][END] = -1e9
            settings = {
                "units": 512,
                "vocabulary": vocabulary,
                "inputs": list(inputs),
                "beam_width": width,
                "steps": steps,
                "end_id": END,
            }
            title = f"V{vocabulary} B{batch} L{steps} K{width}"
            compare(title, "beam", settings, arrays, sides, rounds, seconds)
    ours.close()
    tfa.close()


if __name__ == "__main__":
    main()
