"""A training step of the Transformer against keras-hub, OpenNMT-tf and PyTorch, side by side.

    python tests/benchmarks/transformer_train.py --torch-python ENV/bin/python \
        --onmt-python ENV/bin/python [--keras-hub-python ENV/bin/python] [--quick] [--threads 1]

The first interpreter has PyTorch (`torch==2.13.0`, and a C++ compiler for torch.compile), the
second OpenNMT-tf 2.32; keras-hub is looked for in the one that runs this, or in --keras-hub-python.
A peer that is not named is left out. 6 + 6 layers of width 512, a batch of 32 pairs of 16 to 32
tokens, vocabulary 8000, plain SGD, no dropout; the same weights and pairs on every side, and the
losses of three steps are compared. CPU time with one thread, wall time with two. `of peak` counts
the products of real tokens only, as a share of the rate of a large product of float32 measured in
the same run.
"""

import argparse
import importlib.util
import sys

import numpy as np
import transformer_case as case
from alternate import (
    CLOCKS,
    MODES,
    OURS,
    Program,
    Side,
    compare,
    flops,
    has_bfloat16,
    our_sides,
    print_figures,
    same_losses,
    share_figures,
    speed_figures,
    table,
)

VOCABULARY, BATCH, STEPS = 8000, 32, 32


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--torch-python", help="has PyTorch")
    options.add_argument("--onmt-python", help="has OpenNMT-tf")
    options.add_argument("--keras-hub-python")
    options.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES), help="of ours")
    options.add_argument("--threads", nargs="+", type=int, choices=CLOCKS, default=list(CLOCKS))
    options.add_argument("--quick", action="store_true", help="few rounds")
    options = options.parse_args()
    if not options.keras_hub_python and importlib.util.find_spec("keras_hub"):
        options.keras_hub_python = sys.executable

    modes = {name: MODES[name] for name in options.modes}
    sides = peer_sides(options)
    sides += our_sides(Program(sys.executable, "transformer_ours.py"), "train", modes)
    random = np.random.default_rng(0)
    inputs = case.pairs(VOCABULARY, BATCH, STEPS, random)
    arrays = {**case.make_weights(VOCABULARY, random), **inputs}
    settings = {**case.SIZES, "rate": 3e-4}
    rounds = 3 if options.quick else 7
    results = compare(
        sides, settings, arrays, rounds, seconds=0.5, repeats=2, threads=options.threads
    )

    work = 3 * flops(np.count_nonzero(inputs["source"]), case.ENCODER + case.CROSS)
    work += 3 * flops(np.count_nonzero(inputs["target_in"]), case.step_products(VOCABULARY))
    what = f"V={VOCABULARY} B={BATCH} L={STEPS}"
    table(f"Training step, Transformer 6+6; {what}", "losses", work, results, same_losses)
    print_figures(figures(results, work, [side.name for side in sides], what))


def peer_sides(options) -> list[Side]:
    """Of the peers whose environments are named."""
    sides = []
    if options.keras_hub_python:
        program = Program(options.keras_hub_python, "transformer_keras_hub.py")
        sides.append(Side("keras-hub", program, "train", {"jit": False}))
        sides.append(Side("keras-hub, XLA", program, "train", {"jit": True}))
    if options.onmt_python:
        program = Program(options.onmt_python, "transformer_opennmt.py")
        sides.append(Side("OpenNMT-tf", program, "train"))
    if options.torch_python:
        program = Program(options.torch_python, "transformer_torch.py")
        for dtype in ("float32", "bfloat16"):
            for name, compiled in (("torch", False), ("torch.compile", True)):
                how = {"dtype": dtype, "compile": compiled}
                sides.append(Side(f"{name}, {dtype}", program, "train", how))
    return sides


def figures(results, work, names, what):
    """What is to be reached: 1.45 x keras-hub, 1.35 x torch, 85 % of the peak."""
    ours = [name for name in names if name.startswith(OURS)]
    exact = [name for name in ours if "bfloat16" not in name]
    low = [name for name in ours if name not in exact]
    keras_hub = [name for name in names if name.startswith("keras-hub")]
    torch = [name for name in names if name.startswith("torch")]
    torch_low = [name for name in torch if "bfloat16" in name]
    torch = [name for name in torch if name not in torch_low]
    found = speed_figures(results, exact, keras_hub, {1: 1.45, 2: 1.45}, what)
    found += speed_figures(results, exact, torch, {1: 1.35, 2: 1.35}, what)
    found += share_figures(results, exact, work, {1: 0.85}, what)
    if has_bfloat16():
        found += speed_figures(results, low, torch_low, {1: 1.35, 2: 1.35}, what + " bfloat16")
    return found


if __name__ == "__main__":
    main()
