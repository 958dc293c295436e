"""Beam search of the Transformer against keras-hub, OpenNMT-tf and CTranslate2, side by side.

    python tests/benchmarks/transformer_beam.py --torch-python ENV/bin/python \
        --onmt-python ENV/bin/python [--quick]

The first interpreter has ctranslate2 (`pip install torch==2.13.0 ctranslate2`), the second
OpenNMT-tf 2.32; keras-hub is looked for in the one that runs this, or in --keras-hub-python. A peer
that is not named is left out. 6 + 6 layers of width 512 with the same weights on every side; the
end token cannot win, so that all take the same steps; the answers are compared with the first
peer's, all K of every source. One thread, CPU time. `bare chain` is the search's
matrix products alone, in the same library and mode; `of peak` is the share of the rate of a large
product of float32: both measured in the same run.
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
    same_answers,
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
    options.add_argument("--quick", action="store_true", help="few rounds")
    options.add_argument(
        "--only", type=int, choices=sorted({batch for _, batch in SIZES}), help="of the batches"
    )
    options = options.parse_args()
    if not options.keras_hub_python and importlib.util.find_spec("keras_hub"):
        options.keras_hub_python = sys.executable

    machine, ours = (
        Worker(sys.executable, "machine.py"),
        Worker(sys.executable, "transformer_ours.py"),
    )
    peers = {}
    if options.torch_python:
        peer = Worker(options.torch_python, "transformer_ctranslate2.py")
        for kind in ("float32", "int8"):
            peers[f"CTranslate2, {kind}"] = (peer, {"compute_type": kind})
    if options.onmt_python:
        peers["OpenNMT-tf"] = (Worker(options.onmt_python, "transformer_opennmt.py"), {})
    if options.keras_hub_python:
        peer = Worker(options.keras_hub_python, "transformer_keras_hub.py")
        peers["keras-hub, XLA"] = (peer, {"jit": True, "stacked": True})
        peers["keras-hub, XLA, caches apart"] = (peer, {"jit": True, "stacked": False})

    for vocabulary, batch in SIZES:
        if options.only in (None, batch):
            rounds = (5 if options.quick else 11) if batch == 1 else (3 if options.quick else 7)
            search(vocabulary, batch, machine, ours, options.modes, peers, rounds)
    for worker in {machine, ours, *(peer for peer, _ in peers.values())}:
        worker.close()


def search(vocabulary, batch, machine, ours, modes, peers, rounds):
    """One size: every side's time, then ours against each."""
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
    sides = [Side(name, worker, "beam", extra) for name, (worker, extra) in peers.items()]
    sides += our_sides(ours, "beam", modes, machine, products)
    sides.append(large_product(machine))
    timings = measure(sides, settings, arrays, rounds, seconds=0.3)
    work = flops(batch * STEPS, products["encoder"])
    work += STEPS * flops(batch * WIDTH, products["step"])
    title = f"Beam search, Transformer 6+6; V={vocabulary} B={batch} K={WIDTH} L={STEPS}"
    table(title, "answers", work, timings, same_answers)


if __name__ == "__main__":
    main()
