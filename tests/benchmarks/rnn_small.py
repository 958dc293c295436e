"""Small sizes: is `fused="auto"` ever slower than the loop over single steps?

    python tests/benchmarks/rnn_small.py [--quick] [--threads 1] [--modes graph XLA] [--forced]

Forward and all gradients of an `RNN` (encoder) and of a `BasicDecoder` with Bahdanau's attention
and input feeding, LSTM and GRU, without embedding and output layer: units H, steps T (and S), batch
B. `--forced` shows `fused=True`, too. CPU time with one thread, wall time with two; a ratio is the
median over the rounds of the ratio inside a round. A ratio above the bound is measured again with
more rounds, and the second one counts. The figure is the largest ratio.
"""

import argparse
import itertools
import sys

import numpy as np
from alternate import (
    CLOCKS,
    MODES,
    Figure,
    Program,
    Side,
    Worker,
    measure,
    print_figures,
    processor,
    ratio,
    same_losses,
)

UNITS, STEPS, BATCHES = [16, 32, 64, 128, 256], [5, 10, 20], [1, 8, 64]
PROGRAM, BOUND = Program(sys.executable, "rnn_small_ours.py"), 1.05
WAYS = {"auto": "auto", "stepwise": False, "forced": True}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--modes", nargs="+", choices=["graph", "XLA"], default=["graph"])
    parser.add_argument("--threads", nargs="+", type=int, choices=CLOCKS, default=[1])
    parser.add_argument("--forced", action="store_true", help="with fused=True")
    parser.add_argument("--quick", action="store_true", help="the extreme sizes")
    options = parser.parse_args()
    ways = list(WAYS)[: 3 if options.forced else 2]
    ends = slice(None, None, 2 if options.quick else 1)  # of five sizes, and of three
    sizes = itertools.product(UNITS[ends][:: 2 if options.quick else 1], STEPS[ends], BATCHES[ends])
    cases = list(itertools.product(("encoder", "decoder"), ("LSTM", "GRU"), options.modes, sizes))
    print(
        f"{processor()}\n\n{'':30}{'losses':>18}" + "".join(f"{w + ', ms':>14}" for w in ways),
        end="",
    )
    print("".join(f"{f'{way}/stepwise':>18}" for way in ways if way != "stepwise"))
    figures = []
    for threads in options.threads:
        print(f"{threads} thread{'s' * (threads > 1)}, {CLOCKS[threads]} time", flush=True)
        worker = Worker.of(PROGRAM, threads)
        ratios = {case: compared(worker, case, ways, threads) for case in cases}
        worker.close()
        worst = max(ratios, key=ratios.get)
        figures.append(
            Figure(f"{threads}T, worst of {len(cases)}: {told(worst)}", ratios[worst], "<=", BOUND)
        )
    print_figures(figures)


def compared(worker, case, ways, threads) -> float:
    """Print a line, and give the time of auto over that of the loop."""
    for rounds in (9, 31):
        timings = timed(worker, case, ways, threads, rounds)
        found = ratio(timings["auto"], timings["stepwise"])
        if found <= BOUND:
            break
    agrees = same_losses(timings["auto"].outcome, timings["stepwise"].outcome)
    print(f"{told(case):30}{agrees:>18}", end="")
    print("".join(f"{1000 * timings[way].median:14.3f}" for way in ways), end="")
    others = [way for way in ways if way != "stepwise"]
    print("".join(f"{ratio(timings[w], timings['stepwise']):18.2f}" for w in others), flush=True)
    return found


def timed(worker, case, ways, threads, rounds):
    """{way: timing} of one case."""
    task, cell, mode, (units, steps, batch) = case
    random = np.random.default_rng(0)
    lengths = np.append(random.integers(steps // 2, steps + 1, batch - 1), steps)
    arrays = {
        "inputs": random.standard_normal((batch, steps, units), np.float32),
        "lengths": lengths.astype(np.int32),
    }
    settings = {"cell": cell, "units": units, "jit": MODES[mode]["jit"]}
    sides = [Side(way, worker, task, {"fused": WAYS[way]}) for way in ways]
    return measure(sides, settings, arrays, rounds, seconds=0.05, clock=CLOCKS[threads])


def told(case) -> str:
    """
    >>> told(("encoder", "LSTM", "graph", (16, 5, 1)))
    'encoder LSTM graph H16 T5 B1'
    """
    task, cell, mode, (units, steps, batch) = case
    return f"{task} {cell} {mode} H{units} T{steps} B{batch}"


if __name__ == "__main__":
    main()
