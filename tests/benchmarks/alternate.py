"""Sides of a comparison, each a process in its own environment, timed in turn in one run.

Rounds alternate, so that noise hits all sides. A time is the median over the rounds, a ratio the
median over the rounds of the ratio inside a round. With one thread the clock is the CPU's, with two
it is the wall's.
"""

import contextlib
import json
import math
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
NAME = 42  # width of the column of names
CLOCKS = {1: "cpu", 2: "wall"}  # by the number of threads
MODES = {
    "graph": {"jit": False, "dtype": "float32"},
    "XLA": {"jit": True, "dtype": "float32"},
    "bfloat16": {"jit": False, "dtype": "bfloat16"},
}
FLAGS = ["avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "asimd", "bf16"]
HERE = pathlib.Path(__file__).resolve().parent


class Program(NamedTuple):
    """What a worker runs: a script of this directory.

    An `_ours.py` imports keras_attention from `tree`; Keras 3 uses `backend`.
    """

    python: str
    script: str
    backend: str = "tensorflow"
    tree: str = str(HERE.parents[1])


MACHINE = Program(sys.executable, "machine.py")


class Worker:
    """A process with its own environment, asked and answering in JSON lines."""

    def __init__(self, python, script, threads=1, backend="tensorflow", tree=HERE.parents[1]):
        variables = {
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "CUDA_VISIBLE_DEVICES": "-1",
            "OMP_NUM_THREADS": str(threads),
            "BENCHMARK_THREADS": str(threads),
            "KERAS_BACKEND": backend,
        }
        if script.endswith("_ours.py"):
            variables["PYTHONPATH"] = str(tree)
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            [python, str(HERE / script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env={**os.environ, **variables},
        )

    @classmethod
    def of(cls, program: Program, threads: int) -> "Worker":
        """A process that runs the program."""
        return cls(program.python, program.script, threads, program.backend, program.tree)

    def ask(self, **request):
        """Send a request, wait for its answer."""
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(request), file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            self.log.seek(0)
            raise RuntimeError(f"{self.process.args} died:\n{self.log.read()[-3000:]}")
        return json.loads(answer)

    def build(self, name, task, settings, arrays, repeats=0) -> dict:
        """Make a task, call it 1 + `repeats` times: `outcome` of each, `cpu` of the first."""
        with tempfile.NamedTemporaryFile(suffix=".npz") as file:
            np.savez(file, **arrays)
            file.flush()
            return self.ask(
                do="build",
                name=name,
                task=task,
                arrays=file.name,
                settings=settings,
                repeats=repeats,
            )

    def close(self):
        """Let it end."""
        self.process.stdin.close()
        self.process.wait()


class Side(NamedTuple):
    """Who does which task, and how."""

    name: str
    worker: Any  # a Worker, or the Program of one that `compare` starts
    task: str
    settings: dict = {}


class Timing(NamedTuple):
    """What a side gave, the CPU seconds of its first call, and the time of one call per round."""

    outcome: Any
    first: float
    times: list

    @property
    def median(self) -> float:
        return statistics.median(self.times)


def measure(sides, settings, arrays, rounds, seconds, repeats=0, clock="cpu") -> dict[str, Timing]:
    """Build every side on the same arrays and time them in turn, each about `seconds` a round."""
    built = {
        name: worker.build(name, task, {**settings, **extra}, arrays, repeats)
        for name, worker, task, extra in sides
    }
    steps, times = {}, {side.name: [] for side in sides}
    for side in sides:  # one call to settle, and one to see how many fill a round
        side.worker.ask(do="run", name=side.name, steps=1)
        once = side.worker.ask(do="run", name=side.name, steps=1)[clock]
        steps[side.name] = max(1, round(seconds / once))
    for _ in range(rounds):
        for side in sides:
            took = side.worker.ask(do="run", name=side.name, steps=steps[side.name])[clock]
            times[side.name].append(took / steps[side.name])
    for side in sides:
        side.worker.ask(do="forget", name=side.name)
    return {
        name: Timing(answer["outcome"], answer["cpu"], times[name])
        for name, answer in built.items()
    }


def compare(
    sides, settings, arrays, rounds, seconds, repeats=0, threads=CLOCKS
) -> dict[int, dict[str, Timing]]:
    """{threads: {name: timing}} of sides with programs, and of the large products.

    The processes with one thread have ended before those with two start.
    """
    sides, results = [*sides, *large_products()], {}
    for count in threads:
        programs = dict.fromkeys(side.worker for side in sides)
        with contextlib.ExitStack() as stack:
            for program in programs:
                programs[program] = Worker.of(program, count)
                stack.callback(programs[program].close)
            placed = [side._replace(worker=programs[side.worker]) for side in sides]
            results[count] = measure(
                placed, settings, arrays, rounds, seconds, repeats, CLOCKS[count]
            )
    return results


def peaks(sides, settings, arrays, steps=2, threads=2) -> dict[str, dict]:
    """{name: MB}: `before` the task, `resident` after its first call and `steps` more, `peak`.

    A process for each side, one after the other.
    """
    results = {}
    for name, program, task, extra in sides:
        worker = Worker.of(program, threads)
        before = worker.ask(do="memory")["resident"]
        outcome = worker.build(name, task, {**settings, **extra}, arrays)["outcome"]
        worker.ask(do="run", name=name, steps=steps)
        results[name] = {"before": before, **worker.ask(do="memory"), "outcome": outcome}
        worker.close()
    return results


def ratio(ours: Timing, peer: Timing) -> float:
    """Time of ours over time of the peer's, round by round."""
    return statistics.median(map(operator.truediv, ours.times, peer.times))


def same_losses(ours, theirs) -> str:
    """How far the losses of a few steps agree, in words."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    error = np.max(np.abs(ours - theirs) / np.abs(theirs))
    word = "same" if error < 1e-4 else "near" if error < 3e-2 else "DIFFERENT"
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


def our_sides(program, task, modes, products=None) -> list[Side]:
    """A side for each of these modes of ours, and with `products` their bare chain in the same.

    `modes` is {name: settings}.
    """
    sides = []
    for name, settings in modes.items():
        sides.append(Side(OURS + name, program, task, settings))
        if products:
            sides.append(Side(CHAIN + name, MACHINE, "chain", {**products, **settings}))
    return sides


LARGE = {dtype: f"product, {dtype}" for dtype in ("float32", "bfloat16")}


def large_products() -> list[Side]:
    """What the shares of the peak are shares of, and how much faster bfloat16 can be."""
    return [
        Side(name, MACHINE, "product", {"n": SQUARE, "dtype": dtype})
        for dtype, name in LARGE.items()
    ]


def processor() -> str:
    """The CPU's name, and which instructions for products it has."""
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    facts = dict(map(str.strip, line.split(":", 1)) for line in lines if ":" in line)
    has = facts.get("flags", facts.get("Features", "")).split()
    found = " ".join(flag for flag in FLAGS if flag in has)
    return f"{facts.get('model name', 'CPU without a name')} ({found or 'none of the flags'})"


def has_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 by an instruction."""
    return any(flag in processor() for flag in ("avx512_bf16", "amx_bf16"))


def rate(timing: Timing) -> float:
    """GFLOP/s of a large product."""
    return 2 * SQUARE**3 / timing.median / 1e9


def table(title, what, work, results, agree) -> None:
    """Print each side's time, and last each of the peers and the bare chain against ours.

    `results` are those of `compare`. `agree(ours, theirs)` says how far an outcome is that of the
    first peer.
    """
    results = {count: dict(timings) for count, timings in results.items()}
    rates = {
        dtype: [rate(timings.pop(name)) for timings in results.values()]
        for dtype, name in LARGE.items()
    }
    told = " and ".join(f"{n} thread{'s' * (n > 1)}" for n in results)
    print(f"\n{title}: {work / 1e9:.1f} GFLOP\n{processor()}")
    for dtype, each in rates.items():
        print(f"product of {SQUARE} x {SQUARE}, {dtype}, {told}: {slashed(each, '.0f')} GFLOP/s")
    head = "".join(f"{f'{n}T {CLOCKS[n]}, ms':>14}{'of peak':>9}" for n in results)
    print(f"\n{'':{NAME}}{what:>18}{'first, s':>10}{head}")
    first = next(iter(results.values()))
    peers = [name for name in first if not name.startswith((OURS, CHAIN))]
    modes = [name.removeprefix(OURS) for name in first if name.startswith(OURS)]
    reference = first[(peers or [OURS + modes[0]])[0]].outcome
    for name, timing in first.items():
        agrees = "" if name.startswith(CHAIN) else agree(timing.outcome, reference)
        print(f"{name:{NAME}}{agrees:>18}{timing.first:10.1f}", end="")
        for timings, peak in zip(results.values(), rates["float32"]):
            share = work / timings[name].median / 1e9 / peak
            print(f"{1000 * timings[name].median:14.1f}{share:9.1%}", end="")
        print()
    print(f"\ntime of peer/ours, {told}")
    columns = [*peers, *([CHAIN] if CHAIN + modes[0] in first else [])]
    widths = [2 + max(len(peer), len("1.00 / 1.00")) for peer in columns]
    names = (f"{peer.removesuffix(', '):>{width}}" for peer, width in zip(columns, widths))
    print(f"{'':{NAME}}" + "".join(names))
    for mode in modes:
        print(f"{mode:{NAME}}", end="")
        for peer, width in zip(columns, widths):
            theirs = peer + mode if peer == CHAIN else peer
            ratios = (
                1 / ratio(timings[OURS + mode], timings[theirs]) for timings in results.values()
            )
            print(f"{slashed(ratios):>{width}}", end="")
        print()
    sys.stdout.flush()


def slashed(numbers, form=".2f") -> str:
    """
    >>> slashed([1, 2.5])
    '1.00 / 2.50'
    """
    return " / ".join(f"{number:{form}}" for number in numbers)


class Figure(NamedTuple):
    """A number that was measured, and what it has to be."""

    what: str
    found: float
    relation: str
    bound: float


def speed_figures(results, ours, peers, bounds, what) -> list[Figure]:
    """Time of the fastest of `peers` over that of the fastest of `ours`, for {threads: bound}.

    Sides that were not measured are left out, and without a peer there is no figure.
    """
    figures = []
    for count, bound in bounds.items():
        timings = results.get(count, {})
        mine, theirs = (
            min((n for n in names if n in timings), key=lambda n: timings[n].median, default=None)
            for names in (ours, peers)
        )
        if mine and theirs:
            name = f"{what}, {count}T: {theirs} / {mine.removeprefix(OURS)}"
            found = 1 / ratio(timings[mine], timings[theirs])
            figures.append(Figure(name, found, ">=", bound))
    return figures


def share_figures(results, ours, work, bounds, what) -> list[Figure]:
    """Share of the rate of a large product of float32, by the fastest of `ours`."""
    figures = []
    for count, bound in bounds.items():
        timings = results.get(count, {})
        times = [timings[name].median for name in ours if name in timings]
        if times:
            share = work / min(times) / 1e9 / rate(timings[LARGE["float32"]])
            figures.append(Figure(f"{what}, {count}T: share of the peak", share, ">=", bound))
    return figures


def print_figures(figures) -> None:
    """What was to reach, and what was found."""
    print()
    for what, found, relation, bound in figures:
        holds = {"<=": operator.le, ">=": operator.ge}[relation](found, bound)
        word = "" if holds else "not measured" if math.isnan(found) else "MISSED"
        print(f"{what:76}{found:8.2f}  {relation} {bound:<5} {word}".rstrip())
    sys.stdout.flush()
