"""Speed of the attentional RNN against TensorFlow Addons and PyTorch, side by side.

    python tests/benchmarks/rnn_against_tfa.py --legacy-python ENV/bin/python \
        [--torch-python ENV/bin/python] [--quick]

The first environment has TensorFlow 2.15 and tensorflow-addons 0.23 (extra `[addons]`); its
interpreter may also be named in LEGACY_PYTHON. The second has PyTorch (`torch==2.13.0`), for the
training step. Each gets one process with one thread and the same weights and inputs; losses
and answers are compared with the first side's, all K of every source. `of peak` is the share of the
rate of a large product of float32, and `bare chain` the search's matrix products alone, in the same
library and mode: both measured in the same run.
"""

import argparse
import os
import sys

import numpy as np
from alternate import (
    MODES,
    Side,
    Worker,
    flops,
    large_product,
    measure,
    our_sides,
    same_answers,
    same_losses,
    table,
)
from rnn_case import beam_inputs, decoder_products, make_weights, train_flops, train_inputs

TRAIN = [(256, 8000), (512, 8000)]  # units, vocabulary
BEAM = [(32000, 1, 40, 10), (32000, 32, 20, 5), (8000, 32, 40, 10), (8000, 1, 20, 5)]  # V, B, L, K
END = 2


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--legacy-python", default=os.environ.get("LEGACY_PYTHON"))
    parser.add_argument("--torch-python", help="has PyTorch")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES), help="of ours")
    parser.add_argument("--quick", action="store_true", help="one size of each, few rounds")
    parser.add_argument("--only", choices=["train", "beam"])
    options = parser.parse_args()
    if not options.legacy_python:
        parser.error("name the interpreter with TFA: --legacy-python, or LEGACY_PYTHON")
    rounds = 5 if options.quick else 11
    workers = {
        "ours": Worker(sys.executable, "rnn_ours.py"),
        "machine": Worker(sys.executable, "machine.py"),
        "TFA": Worker(options.legacy_python, "rnn_tfa.py"),
    }
    if options.torch_python:
        workers["torch"] = Worker(options.torch_python, "rnn_torch.py")
    print("CPU time, one thread; `first` is the first call, tracing and compiling included.")
    if options.only != "beam":
        for units, vocabulary in TRAIN[: 1 if options.quick else None]:
            train(units, vocabulary, workers, options.modes, rounds)
    if options.only != "train":
        for size in BEAM[: 1 if options.quick else None]:
            beam(*size, workers, options.modes, rounds)
    for worker in workers.values():
        worker.close()


def train(units, vocabulary, workers, modes, rounds):
    """A training step."""
    random = np.random.default_rng(0)
    inputs = train_inputs(vocabulary, random)
    settings = {"units": units, "vocabulary": vocabulary, "inputs": list(inputs)}
    peers = {
        "TFA, autograph=False": {"autograph": False},
        "TFA, autograph as by default": {"autograph": True},
        "TFA, output layer in its loop": {"autograph": False, "output_in_loop": True},
    }
    sides = [Side(name, workers["TFA"], "train", how) for name, how in peers.items()]
    if "torch" in workers:
        sides.append(Side("torch", workers["torch"], "train"))
    modes = [mode for mode in modes if mode != "bfloat16"]
    sides += [*our_sides(workers["ours"], "train", modes), large_product(workers["machine"])]
    arrays = {**make_weights(units, vocabulary, random), **inputs}
    timings = measure(sides, settings, arrays, rounds, seconds=0.5, repeats=2)
    title = (
        f"Training step, 2+2 LSTM, Bahdanau, input feeding; H={units} V={vocabulary} B=64 S=T=20"
    )

    table(title, "losses", train_flops(units, vocabulary, inputs), timings, same_losses)


def beam(vocabulary, batch, steps, width, workers, modes, rounds):
    """A beam search of which no hypothesis ends early."""
    units, random = 512, np.random.default_rng(0)
    inputs = beam_inputs(units, batch, random)
    arrays = {**make_weights(units, vocabulary, random), **inputs}
    arrays["output_bias"][END] = -1e9
    settings = {
        "units": units,
        "vocabulary": vocabulary,
        "inputs": list(inputs),
        "beam_width": width,
        "steps": steps,
        "end_id": END,
    }
    products = {
        "encoder": [(units, units)],
        "encoder_rows": inputs["encoded"].shape[0] * inputs["encoded"].shape[1],
        "step": [*decoder_products(units), (units, vocabulary)],
        "rows": batch * width,
        "width": units,
    }
    peers = {
        "TFA, autograph=False": {"autograph": False},
        "TFA, autograph as by default": {"autograph": True},
    }
    sides = [Side(name, workers["TFA"], "beam", how) for name, how in peers.items()]
    sides += our_sides(workers["ours"], "beam", modes, workers["machine"], products)
    sides.append(large_product(workers["machine"]))
    timings = measure(sides, settings, arrays, rounds, seconds=0.3)
    work = flops(products["encoder_rows"], products["encoder"])
    work += steps * flops(batch * width, products["step"])
    title = f"Beam search, 2 LSTM, Bahdanau; H={units} V={vocabulary} B={batch} L={steps} K={width}"

    table(title, "answers", work, timings, same_answers)


if __name__ == "__main__":
    main()
