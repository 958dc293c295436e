"""Tokens a second of 1 and 2 workers on two cores, and the share that communication takes.

    python tests/benchmarks/worker_throughput.py [--batch=32] [--steps=12] [--rounds=3]

A Transformer (3 layers, width 256, 8,000 ids) on sentences of 20 and 20 tokens. Each worker has one
core (taskset) and one thread. The runs alternate; medians of the steps' wall times. The share of
communication is what a step of two workers takes longer than a step of one worker on its half of
the batch. Prints the share last.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).parents[2]


def work(path, batch, steps):
    """Train, and write the wall times of the steps: the program of each worker."""
    import keras
    import numpy as np
    import tensorflow as tf

    from keras_attention.training import ClipByGlobalNorm, distribute, token_objective
    from models.transformer import Transformer

    index = json.loads(os.environ.get("TF_CONFIG", '{"task": {"index": 0}}'))["task"]["index"]
    cores = json.loads(os.environ["BENCHMARK_CORES"])
    os.sched_setaffinity(0, cores[index % len(cores)])
    threads = len(cores[index % len(cores)])
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    keras.utils.set_random_seed(1)
    several = "TF_CONFIG" in os.environ
    strategy = distribute.make_strategy("multi_worker" if several else "none")
    with strategy.scope():
        model = Transformer(8000, layers=3, width=256, heads=4, ff_width=1024)
        model.compile(ClipByGlobalNorm(keras.optimizers.Adam(1e-4), 1.0), **token_objective(0.1))
    random = np.random.default_rng(1)
    ids = random.integers(3, 8000, [batch, 20]).astype("int32")
    data = tf.data.Dataset.from_tensors(((ids, ids), ids, np.ones([batch, 20], "f"))).repeat(steps)

    class Times(keras.callbacks.Callback):
        seconds: list = []

        def on_train_batch_begin(self, batch, logs=None):
            self.begin = time.perf_counter()

        def on_train_batch_end(self, batch, logs=None):
            self.seconds.append(time.perf_counter() - self.begin)

    times = Times()
    model.fit(data, verbose=0, callbacks=[times])
    if distribute.cluster_of(strategy).is_chief:
        found = {"seconds": times.seconds[2:], "parameters": model.count_params()}
        pathlib.Path(path).write_text(json.dumps(found))


def run(folder, workers, cores, batch, steps):
    path = pathlib.Path(folder) / "times.json"
    launch = [sys.executable, "-m", "keras_attention.training.launch", f"--workers={workers}", "--"]
    program = [
        sys.executable,
        __file__,
        "--work",
        str(path),
        f"--batch={batch}",
        f"--steps={steps}",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment["BENCHMARK_CORES"] = json.dumps(cores)
    command = program if workers == 1 else [*launch, *program]
    subprocess.run(command, check=True, env=environment, stderr=subprocess.DEVNULL)
    return json.loads(path.read_text())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    batch, steps = arguments.batch, arguments.steps
    if arguments.work:
        work(arguments.work, batch, steps)
        return
    kinds = {
        "1 worker, 1 core": (1, [[0]], batch),
        "1 worker, 1 core, half the batch": (1, [[0]], batch // 2),
        "1 worker, 2 cores": (1, [[0, 1]], batch),
        "2 workers, 1 core each": (2, [[0], [1]], batch),
    }
    seconds = {kind: [] for kind in kinds}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(arguments.rounds):
            for kind, (workers, cores, size) in kinds.items():
                found = run(folder, workers, cores, size, steps)
                seconds[kind] += found["seconds"]
    step = {kind: statistics.median(times) for kind, times in seconds.items()}
    print(f"{found['parameters']:,} parameters, {4 * found['parameters'] / 1e6:.0f} MB of gradient")
    for kind, (_, _, size) in kinds.items():
        print(f"{kind}: {step[kind] * 1e3:.0f} ms a step, {40 * size / step[kind]:.0f} tokens/s")
    alone, two = step["1 worker, 1 core"], step["2 workers, 1 core each"]
    half = step["1 worker, 1 core, half the batch"]
    print(f"2 workers: {alone / two:.2f} x the throughput of 1 worker on one core")
    print(f"share of communication: {(two - half) / two:.1%}")


if __name__ == "__main__":
    main()
