"""CPU seconds of the first call of a train step under a plain `tf.function`: ours against TFA.

    python tests/benchmarks/first_step.py --legacy-python ENV/bin/python [--rounds 5] [--quick]

The environment has TensorFlow 2.15 and tensorflow-addons 0.23 (extra `[addons]`); its interpreter
may also be named in LEGACY_PYTHON. The step of `rnn_train.py` (2+2 LSTM, Bahdanau, input feeding),
with autograph, as users write it: conversion, tracing, gradients, compiling, and one run of a small
size (H=64 V=1000 B=8 S=T=20), so that the run itself is small. Imports and the making of the model
do not count. A fresh process for every call, one thread; rounds alternate; medians, and ratios
round by round.
"""

import argparse
import os
import statistics
import sys

import numpy as np
from alternate import (
    NAME,
    OURS,
    Figure,
    Program,
    Side,
    Timing,
    Worker,
    our_sides,
    print_figures,
    processor,
    ratio,
    same_losses,
)
from rnn_case import make_weights, train_inputs
from rnn_train import WAYS

UNITS, VOCABULARY, BATCH, STEPS = 64, 1000, 8, 20
PEER = "TFA, autograph"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--legacy-python", default=os.environ.get("LEGACY_PYTHON"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one round")
    options = parser.parse_args()
    if not options.legacy_python:
        parser.error("name the interpreter with TFA: --legacy-python, or LEGACY_PYTHON")
    tfa = Program(options.legacy_python, "rnn_tfa.py")
    sides = [
        Side(PEER, tfa, "train", {"autograph": True}),
        Side("TFA, autograph=False", tfa, "train", {"autograph": False}),
        *our_sides(Program(sys.executable, "rnn_ours.py"), "train", WAYS),
    ]
    random = np.random.default_rng(0)
    inputs = train_inputs(VOCABULARY, random, BATCH, STEPS)
    arrays = {**make_weights(UNITS, VOCABULARY, random), **inputs}
    settings = {"units": UNITS, "vocabulary": VOCABULARY, "inputs": list(inputs)}
    timings = first_calls(sides, settings, arrays, 1 if options.quick else options.rounds)
    title = f"First call of a train step; H={UNITS} V={VOCABULARY} B={BATCH} S=T={STEPS}"
    print(f"{title}\n{processor()}\n\n{'':{NAME}}{'loss':>18}{'CPU, s':>10}")
    for name, (outcome, median, _) in timings.items():
        agrees = same_losses(outcome, timings[PEER].outcome)
        print(f"{name:{NAME}}{agrees:>18}{median:10.2f}")
    graph = OURS + "graph"
    print_figures([Figure(f"{graph} / {PEER}", ratio(timings[graph], timings[PEER]), "<=", 0.2)])


def first_calls(sides, settings, arrays, rounds) -> dict[str, Timing]:
    """Of each side the CPU seconds of the first call, in a fresh process each."""
    times, outcomes = {side.name: [] for side in sides}, {}
    for _ in range(rounds):
        for name, program, task, extra in sides:
            worker = Worker.of(program, 1)
            answer = worker.build(name, task, {**settings, **extra}, arrays)
            times[name].append(answer["cpu"])
            outcomes[name] = answer["outcome"]
            worker.close()
    return {name: Timing(outcomes[name], statistics.median(t), t) for name, t in times.items()}


if __name__ == "__main__":
    main()
