"""Kill one of two workers with -9 at random moments, and go on: with two, and with other numbers.

    python -m tests.benchmarks.worker_kills [KILLS] [SEED]

Each training (tests/training/resumed_by_replicas.py) has a checkpoint after each step, dropout, and
callbacks with state. Killed and started again with two workers it must end with the same bits as
the uninterrupted one of two workers; killed with two and gone on with one, then two, then four,
within 1e-6 of it. The launcher must end within 60 s of a kill. Prints how many did, last.
"""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np

ROOT = pathlib.Path(__file__).parents[2]


def start(folder, workers, seconds):
    program = [sys.executable, "-m", "tests.training.resumed_by_replicas", str(folder)]
    launch = [sys.executable, "-m", "keras_attention.training.launch", f"--workers={workers}", "--"]
    command = [*program, "none"] if workers == 1 else [*launch, *program, "multi_worker"]
    return subprocess.Popen(
        [*command, str(seconds)], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        text=True, env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
    )  # fmt: skip


def ended(folder, workers):
    """The result of a training that is not killed."""
    process = start(folder, workers, 0.0)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err[-3000:]
    return json.loads((folder / "weights.json").read_text())


def steps_done(folder):
    path = folder / "log0"
    return path.read_text().count("\n") if path.exists() else 0


def killed(folder, workers, steps, moment):
    """Start, kill a worker `moment` seconds after `steps` more steps; seconds until all ended."""
    before, began = steps_done(folder), time.monotonic()
    process = start(folder, workers, 0.1)
    while steps_done(folder) < before + steps and process.poll() is None:
        assert time.monotonic() - began < 240, "it does not train"
        time.sleep(0.01)
    time.sleep(moment)
    children = subprocess.run(
        ["pgrep", "-f", f"resumed_by_replicas {folder} "], capture_output=True, text=True
    ).stdout.split()
    victims = [int(pid) for pid in children if int(pid) != process.pid]
    victim = random.choice(victims) if victims else process.pid
    os.kill(victim, signal.SIGKILL)
    begin = time.monotonic()
    _, err = process.communicate(timeout=60)
    assert process.returncode != 0
    assert err.count("[launch]") == 1 and "was killed by signal 9" in err, err[-2000:]
    return time.monotonic() - begin


def differs(one, other):
    return max(
        float(np.abs(np.subtract(a, b)).max(initial=0.0))
        for a, b in zip(one["weights"], other["weights"], strict=True)
    )


def main(kills="10", seed="1"):
    random.seed(int(seed))
    same, slowest = 0, 0.0
    with tempfile.TemporaryDirectory() as parent:
        parent = pathlib.Path(parent)
        expected = ended(parent / "whole", 2)
        for number in range(int(kills)):
            folder = parent / str(number)
            took = killed(folder, 2, random.randint(1, 18), random.random() * 0.3)
            slowest = max(slowest, took)
            equal = differs(ended(folder, 2), expected) == 0
            same += equal
            print(f"kill {number + 1}: all ended after {took:.1f} s, equal: {equal}", flush=True)
        folder = parent / "elastic"
        killed(folder, 2, 5, 0.05)
        path = folder / "checkpoints"
        for workers in (1, 2, 4):
            if workers == 4:
                found = ended(folder, 4)
                break
            # One worker has no launcher: it is the process that is killed.
            before = steps_done(folder)
            process = start(folder, workers, 0.1)
            while steps_done(folder) < before + 4:
                time.sleep(0.01)
            process.send_signal(signal.SIGTERM)  # saves after the step, and ends
            process.communicate(timeout=120)
            assert path.exists()
        elastic = differs(found, expected)
    print(f"elastic, 2 -> 1 -> 2 -> 4 workers: largest difference {elastic:.1e}")
    print(f"slowest end of all workers after a kill: {slowest:.1f} s")
    print(f"{same} of {kills} resumed to the bit")


if __name__ == "__main__":
    main(*sys.argv[1:])
