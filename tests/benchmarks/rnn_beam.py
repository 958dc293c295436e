"""Beam search of the attentional RNN against TensorFlow Addons, side by side.

    python tests/benchmarks/rnn_beam.py --legacy-python ENV/bin/python [--quick] [--threads 1]

The environment has TensorFlow 2.15 and tensorflow-addons 0.23 (extra `[addons]`); its interpreter
may also be named in LEGACY_PYTHON. Every side gets the same weights and inputs and no hypothesis
ends early; the answers are compared with the first side's, all K of every source. CPU time with
one thread, wall time with two. `of peak` is the share of the rate of a large product of float32,
and `bare chain` the search's matrix products alone, in the same library and mode: both measured in
the same run.
"""

import argparse
import os
import sys

import numpy as np
from alternate import (
    CLOCKS,
    MODES,
    Program,
    Side,
    compare,
    flops,
    our_sides,
    print_figures,
    same_answers,
    speed_figures,
    table,
)
from rnn_case import beam_inputs, decoder_products, make_weights

UNITS, END = 512, 2
SIZES = [(32000, 1, 40, 10), (32000, 32, 20, 5), (8000, 32, 40, 10), (8000, 1, 20, 5)]  # V, B, L, K


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--legacy-python", default=os.environ.get("LEGACY_PYTHON"))
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES), help="of ours")
    parser.add_argument("--threads", nargs="+", type=int, choices=CLOCKS, default=list(CLOCKS))
    parser.add_argument("--quick", action="store_true", help="one size, few rounds")
    options = parser.parse_args()
    if not options.legacy_python:
        parser.error("name the interpreter with TFA: --legacy-python, or LEGACY_PYTHON")
    tfa = Program(options.legacy_python, "rnn_tfa.py")
    peers = [
        Side("TFA, autograph=False", tfa, "beam", {"autograph": False}),
        Side("TFA, autograph as by default", tfa, "beam", {"autograph": True}),
    ]
    modes = {name: MODES[name] for name in options.modes}
    figures = []
    for size in SIZES[: 1 if options.quick else None]:
        settings, arrays, products, work = case(*size)
        ours = our_sides(Program(sys.executable, "rnn_ours.py"), "beam", modes, products)
        rounds = 5 if options.quick else 11
        results = compare(
            peers + ours, settings, arrays, rounds, seconds=0.3, threads=options.threads
        )
        vocabulary, batch, steps, width = size
        what = f"H={UNITS} V={vocabulary} B={batch} L={steps} K={width}"
        table(f"Beam search, 2 LSTM, Bahdanau; {what}", "answers", work, results, same_answers)
        names = [side.name for side in peers], [side.name for side in ours if side.task == "beam"]
        figures += speed_figures(results, names[1], names[0], {1: 1.0, 2: 1.0}, what)
    print_figures(figures)


def case(vocabulary, batch, steps, width):
    """A beam search of which no hypothesis ends early: (settings, arrays, products, FLOPs)."""
    random = np.random.default_rng(0)
    inputs = beam_inputs(UNITS, batch, random)
    arrays = {**make_weights(UNITS, vocabulary, random), **inputs}
    arrays["output_bias"][END] = -1e9
    settings = {
        "units": UNITS,
        "vocabulary": vocabulary,
        "inputs": list(inputs),
        "beam_width": width,
        "steps": steps,
        "end_id": END,
    }
    products = {
        "encoder": [(UNITS, UNITS)],
        "encoder_rows": inputs["encoded"].shape[0] * inputs["encoded"].shape[1],
        "step": [*decoder_products(UNITS), (UNITS, vocabulary)],
        "rows": batch * width,
        "width": UNITS,
    }
    work = flops(products["encoder_rows"], products["encoder"])
    work += steps * flops(batch * width, products["step"])
    return settings, arrays, products, work


if __name__ == "__main__":
    main()
