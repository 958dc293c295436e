"""A training step of the attentional RNN against TFA, Keras and PyTorch, side by side.

    python tests/benchmarks/rnn_train.py --legacy-python ENV/bin/python \
        [--torch-python ENV/bin/python] [--size 512-8000-20] [--memory] [--quick] [--threads 1]

2 + 2 LSTMs, Bahdanau's attention, input feeding, plain SGD, a batch of 64 pairs of T/2 to T tokens.
The first environment has TensorFlow 2.15 and tensorflow-addons 0.23 (extra `[addons]`); its
interpreter may also be named in LEGACY_PYTHON. The second has PyTorch and Keras (`torch==2.13.0
keras==3.15.1`). Keras' RNN on TensorFlow runs in the environment of this command. The same weights
and inputs on every side, and the losses of three steps are compared with the first side's. `linear
loss` is `functional.linear_cross_entropy`, `fused=False` the loop over single steps. CPU time with
one thread, wall time with two. `of peak` counts the products of real tokens in the output
layer and of all steps in the recurrences, as a share of the rate of a large product of float32
measured in the same run. `--memory` prints the peak of resident memory instead.
"""

import argparse
import os
import sys

import numpy as np
from alternate import (
    CLOCKS,
    MODES,
    NAME,
    OURS,
    Figure,
    Program,
    Side,
    compare,
    has_bfloat16,
    our_sides,
    peaks,
    print_figures,
    processor,
    same_losses,
    share_figures,
    speed_figures,
    table,
)
from rnn_case import make_weights, train_flops, train_inputs

# Ours: how the recurrences run, and whether the loss forms the logits of all tokens.
FUSED = {"fused": "auto", "linear": False}
WAYS = {name: {**mode, **FUSED} for name, mode in MODES.items()}
WAYS |= {f"{name}, linear loss": {**way, "linear": True} for name, way in WAYS.items()}
WAYS |= {f"{name}, fused=False": {**WAYS[name], "fused": False} for name in ("graph", "XLA")}

# What is to be reached, for {threads: bound}: units-vocabulary-steps.
BOUNDS = {
    "512-8000-20": {
        "TFA": {1: 1.4, 2: 1.75},
        "torch": {2: 1.3},
        "share": {1: 0.75, 2: 0.78},
        "bfloat16": {1: 2.2, 2: 2.6},
    },
    "256-32000-40": {"TFA": {1: 1.75, 2: 2.1}, "torch": {2: 1.45}},
}
MEMORY = (512, 32000, 20)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--legacy-python", default=os.environ.get("LEGACY_PYTHON"))
    parser.add_argument("--torch-python", help="has PyTorch, and Keras 3")
    parser.add_argument("--modes", nargs="+", choices=WAYS, default=list(WAYS), help="of ours")
    parser.add_argument("--threads", nargs="+", type=int, choices=CLOCKS, default=list(CLOCKS))
    parser.add_argument(
        "--size", nargs="+", choices=BOUNDS, default=list(BOUNDS), help="units-vocabulary-steps"
    )
    parser.add_argument("--memory", action="store_true", help="peak memory instead of time")
    parser.add_argument("--quick", action="store_true", help="few rounds")
    options = parser.parse_args()
    if not options.legacy_python:
        parser.error("name the interpreter with TFA: --legacy-python, or LEGACY_PYTHON")
    modes = {name: WAYS[name] for name in options.modes}
    peers = peer_sides(options)
    ours = our_sides(Program(sys.executable, "rnn_ours.py"), "train", modes)
    if options.memory:
        memory([*peers["TFA"][:1], *peers["torch"], *ours])
        return
    figures = []
    for size in options.size:
        figures += train(size, peers, ours, 3 if options.quick else 11, options.threads)
    print_figures(figures)


def peer_sides(options) -> dict[str, list[Side]]:
    """{peer: its sides}; without its environment, none."""
    tfa = Program(options.legacy_python, "rnn_tfa.py")
    ways = {
        "TFA": {"autograph": False},
        "TFA, autograph": {"autograph": True},
        "TFA, output in loop": {"autograph": False, "output_in_loop": True},
    }
    keras = Program(sys.executable, "rnn_keras.py")
    peers = {
        "TFA": [Side(name, tfa, "train", how) for name, how in ways.items()],
        "Keras": [
            Side("Keras", keras, "train", {"jit": False}),
            Side("Keras, XLA", keras, "train", {"jit": True}),
        ],
        "torch": [],
    }
    if options.torch_python:
        keras = Program(options.torch_python, "rnn_keras.py", backend="torch")
        peers["Keras"].append(Side("Keras on torch", keras, "train", {"jit": False}))
        peers["torch"].append(Side("torch", Program(options.torch_python, "rnn_torch.py"), "train"))
    return peers


def case(units, vocabulary, steps):
    """-> settings, arrays, FLOPs of a step."""
    random = np.random.default_rng(0)
    inputs = train_inputs(vocabulary, random, steps=steps)
    settings = {"units": units, "vocabulary": vocabulary, "inputs": list(inputs)}
    arrays = {**make_weights(units, vocabulary, random), **inputs}
    return settings, arrays, train_flops(units, vocabulary, inputs)


def train(size, peers, ours, rounds, threads) -> list[Figure]:
    """The table of one size, and its figures."""
    units, vocabulary, steps = map(int, size.split("-"))
    settings, arrays, work = case(units, vocabulary, steps)
    sides = [*(side for group in peers.values() for side in group), *ours]
    results = compare(sides, settings, arrays, rounds, seconds=0.5, repeats=2, threads=threads)
    what = f"H={units} V={vocabulary} B=64 S=T={steps}"
    title = f"Training step, 2+2 LSTM, Bahdanau, input feeding; {what}"
    table(title, "losses", work, results, same_losses)
    peer_names = {peer: [side.name for side in group] for peer, group in peers.items()}
    exact = [side.name for side in ours if side.settings["dtype"] == "float32"]
    low = [side.name for side in ours if side.name not in exact]
    bounds, figures = BOUNDS[size], []
    for peer in ("TFA", "torch"):
        figures += speed_figures(results, exact, peer_names[peer], bounds[peer], what)
    figures += share_figures(results, exact, work, bounds.get("share", {}), what)
    if has_bfloat16():
        figures += speed_figures(
            results, low, peer_names["TFA"], bounds.get("bfloat16", {}), what + " bfloat16"
        )
    return figures


def memory(sides) -> None:
    """Peak of resident memory of each side, in a process of its own."""
    units, vocabulary, steps = MEMORY
    settings, arrays, _ = case(units, vocabulary, steps)
    found = peaks(sides, settings, arrays)
    reference = next(iter(found.values()))["outcome"]
    title = f"Memory of training, 2+2 LSTM, Bahdanau; H={units} V={vocabulary} B=64 S=T={steps}"
    print(f"{title}\n{processor()}\n")
    print(f"{'resident, MB':{NAME}}{'loss':>18}{'before':>10}{'after':>10}{'peak':>10}")
    for name, each in found.items():
        agrees = same_losses(each["outcome"], reference)
        numbers = (each["before"], each["resident"], each["peak"])
        print(f"{name:{NAME}}{agrees:>18}" + "".join(f"{number:10.0f}" for number in numbers))
    ours = {name: each for name, each in found.items() if name.startswith(OURS)}
    least = min(ours, key=lambda name: ours[name]["peak"])
    tfa, best = next(iter(found.values())), ours[least]
    what = f"{least.removeprefix(OURS)} / TFA"
    added = (best["peak"] - best["before"]) / (tfa["peak"] - tfa["before"])
    print_figures(
        [
            Figure(f"peak memory, {what}", best["peak"] / tfa["peak"], "<=", 0.4),
            Figure(f"peak memory beyond the imports, {what}", added, "<=", 0.4),
        ]
    )


if __name__ == "__main__":
    main()
