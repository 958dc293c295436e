"""The loss of an output layer, with and without its logits: time and memory, side by side.

    python tests/benchmarks/linear_cross_entropy.py [--torch-python ENV/bin/python] [--quick]
        [--size 512-32000] [--threads 1] [--memory]

Loss, number of correct tokens, and gradients of hidden states, matrix and bias, of 64 sentences of
40 tokens without padding; `padded` has 30 on average. `functional.cross_entropy` computes from all
logits, by a gradient of its own; `TensorFlow` by that of TensorFlow's op. CPU time with one thread,
wall time with two. `--memory` prints what the peak of resident memory rises by instead, with the
gradients that are returned, for 20 to 128 tokens a sentence. The environment has PyTorch, whose
random numbers, and so losses, differ a little.
"""

import argparse
import sys

import numpy as np
from alternate import (
    CLOCKS,
    NAME,
    OURS,
    Figure,
    Program,
    Side,
    compare,
    flops,
    peaks,
    print_figures,
    processor,
    same_losses,
    speed_figures,
    table,
)

OF_TF = Program(sys.executable, "linear_cross_entropy_ours.py")
MODES = {"graph": {"jit": False}, "XLA": {"jit": True}}
PADDED = {"graph, padded": {"jit": False, "real": 0.75}}
PEERS = [
    Side("functional.cross_entropy", OF_TF, "own", {"jit": False}),
    Side("functional.cross_entropy, XLA", OF_TF, "own", {"jit": True}),
    Side("TensorFlow", OF_TF, "tensorflow", {"jit": False}),
    Side("TensorFlow, XLA", OF_TF, "tensorflow", {"jit": True}),
]
SIZES = ["512-32000", "512-128000"]
SMALL = ["512-300", "512-1000", "512-2000"]  # for functional.projection.LEAST_VOCABULARY
STEPS = [20, 40, 80, 128]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch-python")
    parser.add_argument("--threads", nargs="+", type=int, choices=CLOCKS, default=list(CLOCKS))
    parser.add_argument(
        "--size", nargs="+", choices=SIZES + SMALL, default=SIZES, help="width-vocabulary"
    )
    parser.add_argument("--memory", action="store_true", help="peak memory instead of time")
    parser.add_argument("--quick", action="store_true", help="few rounds")
    options = parser.parse_args()
    peers = list(PEERS)
    if options.torch_python:
        peers.append(
            Side("torch", Program(options.torch_python, "linear_cross_entropy_torch.py"), "torch")
        )
    measure, figures = memory if options.memory else time, []
    for size in options.size:
        width, vocabulary = map(int, size.split("-"))
        figures += measure(width, vocabulary, peers, options)
    print_figures(figures)


def time(width, vocabulary, peers, options) -> list[Figure]:
    """The table of one size, and its figures."""
    settings = {"tokens": 64 * 40, "width": width, "vocabulary": vocabulary}
    ways = {**MODES, **PADDED}
    sides = [*peers, *(Side(OURS + name, OF_TF, "chunks", how) for name, how in ways.items())]
    rounds = 3 if options.quick else 7
    results = compare(sides, settings, {}, rounds, seconds=1, threads=options.threads)
    work = 3 * flops(settings["tokens"], [(width, vocabulary)])
    what = f"D={width} V={vocabulary} N={settings['tokens']}"
    table(f"Loss of an output layer; {what}", "losses", work, results, same_losses)
    names = [side.name for side in peers]
    bounds = {count: round(1 / 1.05, 2) for count in options.threads}
    return speed_figures(results, [OURS + name for name in MODES], names, bounds, what)


def memory(width, vocabulary, peers, options) -> list[Figure]:
    """MB by the number of tokens."""
    modes = {"graph": {"jit": False}} if options.quick else MODES
    sides = [*peers, *(Side(OURS + name, OF_TF, "chunks", how) for name, how in modes.items())]
    what = f"D={width} V={vocabulary} B=64"
    # All logits of the larger vocabulary take 4 GB for 128 tokens a sentence, three times.
    steps = [t for t in STEPS if 64 * t * vocabulary <= 2**29]
    print(f"\nMemory of the loss of an output layer, MB; {what}\n{processor()}\n")
    print(f"{'':{NAME}}" + "".join(f"{f'T={t}':>10}" for t in steps))
    found = {}
    for side in sides:
        found[side.name] = []
        for t in steps:
            settings = {"tokens": 64 * t, "width": width, "vocabulary": vocabulary, "memory": True}
            (each,) = peaks([side], settings, {}).values()
            found[side.name].append(float(np.ravel(each["outcome"])[0]))
        print(f"{side.name:{NAME}}" + "".join(f"{mb:10.0f}" for mb in found[side.name]))
        sys.stdout.flush()
    ours = found[OURS + "graph"]
    least = min(found[side.name][-1] for side in peers if "XLA" not in side.name)
    return [
        Figure(
            f"{what}: memory at T={steps[-1]}, ours / least of the peers",
            ours[-1] / least,
            "<=",
            0.1,
        ),
        Figure(
            f"{what}: memory of ours, T={steps[-1]} / T={steps[0]}", ours[-1] / ours[0], "<=", 1.25
        ),
    ]


if __name__ == "__main__":
    main()
