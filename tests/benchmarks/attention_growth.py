"""How time and memory of self-attention grow with the sequence, beside Keras' own.

    python tests/benchmarks/attention_growth.py [--quick]

A training step (forward, and the gradients of inputs and weights) of one layer: B=1, D=256, 4 heads
of 64, n steps. Every layer gets a process with one thread, in turn inside every round; a time is
the median CPU time, memory what the peak of resident memory has risen by since a step of n = 16.
Growth is the exponent of n in the time, fitted to all lengths. Five gigabytes must be free.
"""

import argparse
import statistics
import sys

import numpy as np
from alternate import Figure, Side, Worker, measure, print_figures

RADIUS, KERAS, WINDOW = 64, "keras", "keras, sliding_window"
NAMES = ["full", "memory-efficient", "restricted", "linear", "strided"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="up to n = 2048, few rounds")
    options = parser.parse_args()
    lengths = [2**i for i in range(9, 12 if options.quick else 14)]
    print(f"CPU time of a training step, ms (memory, MB); r = {2 * RADIUS}\n")
    print(f"{'n':24}" + "".join(f"{n:>16}" for n in lengths) + f"{'growth of time':>16}")
    names = [KERAS, WINDOW, *NAMES]
    sides = [
        Side(name, Worker(sys.executable, "attention_growth_ours.py"), "step", {"layer": name})
        for name in names
    ]
    results = {}
    for n in lengths:  # from the shortest, so that the peak is that of the longest
        arrays = {"x": np.random.default_rng(0).standard_normal((1, n, 256), np.float32)}
        rounds = 3 if options.quick or n > 4096 else 5
        timings = measure(sides, {"radius": RADIUS}, arrays, rounds, seconds=0.3, repeats=1)
        results |= {(name, n): timing for name, timing in timings.items()}
    for side in sides:
        side.worker.close()
    for name in names:
        cells = "".join(
            f"{f'{1000 * _time(results, name, n):.0f} ({_memory(results, name, n):.0f})':>16}"
            for n in lengths
        )
        print(f"{name:24}{cells}{_growth(results, name, lengths):16.2f}")
    _figures(results, lengths)


def _time(results, name, n):
    return results[name, n].median


def _memory(results, name, n):
    """The outcome of a step is what the peak has risen by, in MB."""
    return results[name, n].outcome[-1]


def _growth(results, name, lengths):
    times = [_time(results, name, n) for n in lengths]
    return np.polyfit(np.log(lengths), np.log(times), 1)[0]


def _figures(results, lengths):
    """What was promised, and what was found."""
    n = lengths[-1]

    def ratio(one, other):
        pairs = zip(results[one, n].times, results[other, n].times)
        return statistics.median(mine / theirs for mine, theirs in pairs)

    near = "memory-efficient"
    memory = _memory(results, near, n) / _memory(results, KERAS, n)
    figures = [
        Figure(f"growth of {name}", _growth(results, name, lengths), relation, bound)
        for name, relation, bound in (
            (KERAS, ">=", 1.7),
            ("full", ">=", 1.7),
            ("restricted", "<=", 1.3),
            ("linear", "<=", 1.3),
        )
    ]
    if n == 8192:
        figures += [
            Figure(f"memory of {near}/keras, n={n}", memory, "<=", 0.1),
            Figure(
                f"time of {near}/keras, n={n}",
                ratio(near, KERAS),
                "<=",
                1.3,
            ),
            Figure(f"time of keras/restricted, n={n}", ratio(KERAS, "restricted"), ">=", 8),
            Figure(f"time of window/restricted, n={n}", ratio(WINDOW, "restricted"), ">=", 8),
        ]
    print_figures(figures)


if __name__ == "__main__":
    main()
