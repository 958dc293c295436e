"""A training step of the Transformer against keras-hub, OpenNMT-tf and PyTorch, side by side.

    python tests/benchmarks/transformer_train.py --torch-python ENV/bin/python \
        --onmt-python ENV/bin/python [--quick]

The first interpreter has PyTorch (`torch==2.13.0`), the second OpenNMT-tf 2.32; keras-hub is looked
for in the one that runs this, or in --keras-hub-python. A peer that is not named is left out. 6 + 6
layers of width 512, a batch of 32 pairs of 16 to 32 tokens, vocabulary 8000, plain SGD, no dropout;
the same weights and pairs on every side, and the losses of three steps are compared. One thread,
CPU time. `of peak` counts the products of real tokens only, as a share of the rate of a large
product of float32 measured in the same run.
"""

import argparse
import importlib.util
import sys

import numpy as np
import transformer_case as case
from alternate import (
    MODES,
    Side,
    Worker,
    flops,
    large_product,
    measure,
    our_sides,
    same_losses,
    table,
)

VOCABULARY, BATCH, STEPS = 8000, 32, 32


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--torch-python", help="has PyTorch")
    options.add_argument("--onmt-python", help="has OpenNMT-tf")
    options.add_argument("--keras-hub-python")
    options.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES), help="of ours")
    options.add_argument("--quick", action="store_true", help="few rounds")
    options = options.parse_args()
    if not options.keras_hub_python and importlib.util.find_spec("keras_hub"):
        options.keras_hub_python = sys.executable

    machine = Worker(sys.executable, "machine.py")
    sides = []
    if options.keras_hub_python:
        worker = Worker(options.keras_hub_python, "transformer_keras_hub.py")
        sides.append(Side("keras-hub", worker, "train", {"jit": False}))
        sides.append(Side("keras-hub, XLA", worker, "train", {"jit": True}))
    if options.onmt_python:
        worker = Worker(options.onmt_python, "transformer_opennmt.py")
        sides.append(Side("OpenNMT-tf", worker, "train"))
    if options.torch_python:
        worker = Worker(options.torch_python, "transformer_torch.py")
        for dtype in ("float32", "bfloat16"):
            sides.append(Side(f"torch, {dtype}", worker, "train", {"dtype": dtype}))
    sides += our_sides(Worker(sys.executable, "transformer_ours.py"), "train", options.modes)
    sides.append(large_product(machine))

    random = np.random.default_rng(0)
    inputs = case.pairs(VOCABULARY, BATCH, STEPS, random)
    arrays = {**case.make_weights(VOCABULARY, random), **inputs}
    settings = {**case.SIZES, "rate": 3e-4}
    rounds = 3 if options.quick else 7
    timings = measure(sides, settings, arrays, rounds, seconds=0.5, repeats=2)

    work = 3 * flops(np.count_nonzero(inputs["source"]), case.ENCODER + case.CROSS)
    work += 3 * flops(np.count_nonzero(inputs["target_in"]), case.step_products(VOCABULARY))
    title = f"Training step, Transformer 6+6; V={VOCABULARY} B={BATCH} L={STEPS}"
    table(title, "losses", work, timings, same_losses)
    for worker in {side.worker for side in sides}:
        worker.close()


if __name__ == "__main__":
    main()
