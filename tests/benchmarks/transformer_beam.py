"""Beam search of the Transformer against keras-hub, OpenNMT-tf and CTranslate2, side by side.

    python tests/benchmarks/transformer_beam.py --torch-python ENV/bin/python \
        --onmt-python ENV/bin/python [--quick] [--threads 1]

The first interpreter has ctranslate2 (`pip install torch==2.13.0 ctranslate2`), the second
OpenNMT-tf 2.32; keras-hub is looked for in the one that runs this, or in --keras-hub-python. A peer
that is not named is left out. 6 + 6 layers of width 512 with the same weights on every side; the
end token cannot win, so that all take the same steps; the answers are compared with the first
peer's, all K of every source. CPU time with one thread, wall time with two. `bare chain` is the
search's matrix products alone, in the same library and mode; `of peak` is the share of the rate of
a large product of float32: both measured in the same run.
"""

import argparse
import importlib.util
import sys

import numpy as np
import transformer_case as case
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

SIZES = [(8000, 1), (32000, 1), (32000, 16)]  # vocabulary, batch
STEPS, WIDTH = 32, 5


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--torch-python", help="has ctranslate2")
    options.add_argument("--onmt-python", help="has OpenNMT-tf")
    options.add_argument("--keras-hub-python")
    options.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES), help="of ours")
    options.add_argument("--threads", nargs="+", type=int, choices=CLOCKS, default=list(CLOCKS))
    options.add_argument("--quick", action="store_true", help="few rounds")
    options.add_argument(
        "--only", type=int, choices=sorted({batch for _, batch in SIZES}), help="of the batches"
    )
    options = options.parse_args()
    if not options.keras_hub_python and importlib.util.find_spec("keras_hub"):
        options.keras_hub_python = sys.executable

    peers, figures = peer_sides(options), []
    modes = {name: MODES[name] for name in options.modes}
    for vocabulary, batch in SIZES:
        if options.only in (None, batch):
            settings, arrays, products, work = search(vocabulary, batch)
            ours = our_sides(
                Program(sys.executable, "transformer_ours.py"), "beam", modes, products
            )
            rounds = (5 if options.quick else 11) if batch == 1 else (3 if options.quick else 7)
            results = compare(
                peers + ours, settings, arrays, rounds, seconds=0.3, threads=options.threads
            )
            what = f"V={vocabulary} B={batch} K={WIDTH} L={STEPS}"
            table(f"Beam search, Transformer 6+6; {what}", "answers", work, results, same_answers)
            mine = [side.name for side in ours if side.task == "beam"]
            theirs = [side.name for side in peers if "int8" not in side.name]
            figures += speed_figures(results, mine, theirs, {1: 1.0, 2: 1.0}, what)
    print_figures(figures)


def peer_sides(options) -> list[Side]:
    """Of the peers whose environments are named."""
    sides = []
    if options.torch_python:
        program = Program(options.torch_python, "transformer_ctranslate2.py")
        for kind in ("float32", "int8"):
            sides.append(Side(f"CTranslate2, {kind}", program, "beam", {"compute_type": kind}))
    if options.onmt_python:
        sides.append(
            Side("OpenNMT-tf", Program(options.onmt_python, "transformer_opennmt.py"), "beam")
        )
    if options.keras_hub_python:
        program = Program(options.keras_hub_python, "transformer_keras_hub.py")
        for name, stacked in (("keras-hub, XLA", True), ("keras-hub, XLA, caches apart", False)):
            sides.append(Side(name, program, "beam", {"jit": True, "stacked": stacked}))
    return sides


def search(vocabulary, batch):
    """-> settings, arrays, products, FLOPs."""
    random = np.random.default_rng(0)
    source = case.source(vocabulary, batch, STEPS, random)
    arrays = {**case.make_weights(vocabulary, random), **source}
    settings = {
        **case.SIZES,
        "vocabulary": vocabulary,
        "start_id": case.START,
        "end_id": case.END,
        "beam_width": WIDTH,
        "steps": STEPS,
    }
    products = {
        "encoder": case.ENCODER + case.CROSS,
        "encoder_rows": batch * STEPS,
        "step": case.step_products(vocabulary),
        "rows": batch * WIDTH,
    }
    work = flops(batch * STEPS, products["encoder"])
    work += STEPS * flops(batch * WIDTH, products["step"])
    return settings, arrays, products, work


if __name__ == "__main__":
    main()
