"""The largest difference of any variable between trainings of 1, 2 and 4 workers, 200 steps.

    python tests/benchmarks/worker_counts.py [--steps=200] [--workers=1,2,4]

Global batches of 16 sentences, Adam at 1e-3, clipping at 1, label smoothing .1; float32. Each
worker runs tests/training/trained_by_replicas.py. One worker trains twice: the difference between
both is that of the machine. Prints a table, the largest difference last.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

ROOT = pathlib.Path(__file__).parents[2]
CASES = "rnn,rnn with dropout,transformer,transformer with dropout,accumulation,averages,loss scale"


def trained(path, workers, steps):
    program = [sys.executable, "-m", "tests.training.trained_by_replicas", str(path)]
    launch = [sys.executable, "-m", "keras_attention.training.launch", f"--workers={workers}", "--"]
    alone = workers == 1
    command = program if alone else [*launch, *program]
    subprocess.run(
        [*command, "none" if alone else "multi_worker", str(steps), CASES],
        cwd=ROOT, check=True, stdout=sys.stderr,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
    )  # fmt: skip
    return json.loads(path.read_text())


def difference(one, other):
    """The largest of any weight and slot, and the name of the variable."""
    found = [
        (float(np.abs(np.subtract(a, b)).max(initial=0.0)), name)
        for name, a, b in zip(one["names"], one["weights"], other["weights"], strict=True)
    ]
    return max(found)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--workers", default="1,2,4")
    arguments = parser.parse_args()
    counts = [int(count) for count in arguments.workers.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "found.json"
        reference = trained(path, 1, arguments.steps)
        results = {count: trained(path, count, arguments.steps) for count in counts}
    print("| case | " + " | ".join(f"{count} workers" for count in counts) + " | variable |")
    print("|---|" + "---|" * (len(counts) + 1))
    worst = 0.0
    for case, expected in reference.items():
        row = [difference(expected, results[count][case]) for count in counts]
        worst = max([worst, *(value for value, _ in row)])
        print(f"| {case} | " + " | ".join(f"{v:.1e}" for v, _ in row) + f" | {max(row)[1]} |")
    print(f"largest difference after {arguments.steps} steps: {worst:.1e}")


if __name__ == "__main__":
    main()
