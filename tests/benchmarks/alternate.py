"""Sides of a comparison, each a process in its own environment, timed in turn in one run.

Rounds alternate, so that noise hits all sides. A time is the median CPU time over the rounds, a
ratio the median over the rounds of the ratio inside a round.
"""

import contextlib
import json
import operator
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
from typing import Any, NamedTuple

import numpy as np

OURS, CHAIN, SQUARE = "keras_attention, ", "bare chain, ", 2048
MODES = {
    "graph": {"jit": False, "dtype": "float32"},
    "XLA": {"jit": True, "dtype": "float32"},
    "bfloat16": {"jit": False, "dtype": "bfloat16"},
}
HERE = pathlib.Path(__file__).resolve().parent


class Worker:
    """A process with its own environment, asked and answering in JSON lines."""

    def __init__(self, python, script, threads=1):
        quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1", "OMP_NUM_THREADS": "1"}
        quiet["BENCHMARK_THREADS"] = str(threads)
        paths = {"PYTHONPATH": str(HERE.parents[1])} if script.endswith("_ours.py") else {}
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


class Side(NamedTuple):
    """Who does which task, and how."""

    name: str
    worker: Worker
    task: str
    settings: dict = {}


class Timing(NamedTuple):
    """What a side gave, the CPU seconds of its first call, and of one call in each round."""

    outcome: Any
    first: float
    times: list

    @property
    def median(self) -> float:
        return statistics.median(self.times)


def measure(sides, settings, arrays, rounds, seconds, repeats=0) -> dict[str, Timing]:
    """Build every side on the same arrays and time them in turn, each about `seconds` a round."""
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
                repeats=repeats,
            )
            for name, worker, task, extra in sides
        }
    steps, times = {}, {side.name: [] for side in sides}
    for side in sides:  # one call to settle, and one to see how many fill a round
        side.worker.ask(do="run", name=side.name, steps=1)
        once = side.worker.ask(do="run", name=side.name, steps=1)["cpu"]
        steps[side.name] = max(1, round(seconds / once))
    for _ in range(rounds):
        for side in sides:
            cpu = side.worker.ask(do="run", name=side.name, steps=steps[side.name])["cpu"]
            times[side.name].append(cpu / steps[side.name])
    for side in sides:
        side.worker.ask(do="forget", name=side.name)
    return {
        name: Timing(answer["outcome"], answer["cpu"], times[name])
        for name, answer in built.items()
    }


def ratio(ours: Timing, peer: Timing) -> float:
    """Time of ours over time of the peer's, round by round."""
    return statistics.median(map(operator.truediv, ours.times, peer.times))


def same_losses(ours, theirs) -> str:
    """How far the losses of a few steps agree, in words."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    error = np.max(np.abs(ours - theirs) / np.abs(theirs))
    word = "same" if error < 1e-4 else "near" if error < 1e-2 else "DIFFERENT"
    return f"{word} ({error:.0e})"


def same_answers(ours, theirs) -> str:
    """How far [(ids, scores)] of a search agree, in words."""
    (ids, scores), (peer_ids, peer_scores) = ours[0], theirs[0]
    same = float(np.mean(np.asarray(ids) == np.asarray(peer_ids)))
    peer_scores = np.asarray(peer_scores)
    error = np.max(np.abs(np.asarray(scores) - peer_scores) / np.abs(peer_scores))
    return f"{'same' if same == 1.0 else f'{same:.1%}'} ({error:.0e})"


def flops(rows, products):
    """Of multiplying so many rows by matrices of (in, out)."""
    return 2 * rows * sum(a * b for a, b in products)


def our_sides(worker, task, modes, machine=None, products=None) -> list[Side]:
    """A side for each of these modes of ours, and with `products` their bare chain in the same."""
    sides = []
    for name in modes:
        sides.append(Side(OURS + name, worker, task, MODES[name]))
        if products:
            sides.append(Side(CHAIN + name, machine, "chain", {**products, **MODES[name]}))
    return sides


def large_product(machine) -> Side:
    """What the shares of the peak are shares of."""
    return Side("large product", machine, "product", {"n": SQUARE})


def table(title, what, work, timings, agree) -> None:
    """Print each side's time, and last ours against each of the peers and the bare chain.

    `agree(ours, theirs)` says how far an outcome is that of the first peer.
    """
    timings = dict(timings)
    peak = 2 * SQUARE**3 / timings.pop("large product").median / 1e9
    peers = [name for name in timings if not name.startswith((OURS, CHAIN))]
    modes = [name.removeprefix(OURS) for name in timings if name.startswith(OURS)]
    print(
        f"\n{title}: {work / 1e9:.1f} GFLOP; peak {peak:.0f} GFLOP/s\n\n"
        f"{'':34}{what:>18}{'first, s':>10}{'ms':>10}{'of peak':>9}"
    )
    reference = timings[(peers or [OURS + modes[0]])[0]].outcome
    for name, (outcome, first, times) in timings.items():
        agrees = "" if name.startswith(CHAIN) else agree(outcome, reference)
        median = statistics.median(times)
        share = work / median / 1e9 / peak
        print(f"{name:34}{agrees:>18}{first:10.1f}{1000 * median:10.1f}{share:9.1%}")
    print(f"\n{'time of ours/peer (peer/ours)':34}" + "".join(f"{mode:>16}" for mode in modes))
    for peer in [*peers, CHAIN]:
        pairs = [
            (timings[OURS + m], timings.get(peer + m if peer == CHAIN else peer)) for m in modes
        ]
        if all(theirs for _, theirs in pairs):
            ratios = [ratio(*pair) for pair in pairs]
            row = "".join(f"{f'{r:.2f} ({1 / r:.2f})':>16}" for r in ratios)
            print(f"{peer.rstrip(', '):34}{row}")
    sys.stdout.flush()
