"""Memory, reading speed and waiting time of a prepared corpus.

    python tests/benchmarks/prepared_corpus.py [--pairs=10000000] [--steps=60]

Pairs of 5 to 39 ids a side are made by a generator and prepared in a temporary directory (about 200
bytes a pair). Memory while preparing is the peak of resident memory above what the process had
before; while reading and training, it is the peak above that of training steps on data in memory.
Reading is all that comes before a step: the order, the files, the padding, the tensors. Waiting is
the share of the time of training steps (a Transformer of 2 layers of 256, 64 pairs a batch) that
goes by until the next batch is there. The figures are printed last. Linux only.
"""

import argparse
import os
import re
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", ".."))

import keras
import numpy as np

from keras_attention.data import PreparedCorpus, batches, prepare
from models import Transformer

VOCABULARY, BATCH = 8000, 64


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=10_000_000)
    parser.add_argument("--steps", type=int, default=60)
    options = parser.parse_args()
    random = np.random.default_rng(0)
    rows = [random.integers(4, VOCABULARY, size) for size in random.integers(5, 40, 8192)]
    model = Transformer(VOCABULARY, layers=2, width=256, heads=4, ff_width=1024)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    list(train(model, iter(batches(rows[:4096], rows[4096:], BATCH, seed=0).take(30))))
    before = peak()

    with tempfile.TemporaryDirectory() as parent:
        directory = os.path.join(parent, "corpus")
        forget_peak()
        resident = peak()
        begin = time.process_time(), time.monotonic()
        prepare(pairs(rows, options.pairs), directory, progress=told(options.pairs))
        preparing = time.process_time() - begin[0], time.monotonic() - begin[1], peak() - resident
        size = sum(entry.stat().st_size for entry in os.scandir(directory))

        forget_peak()
        begin = time.monotonic()
        corpus = PreparedCorpus(directory)
        opened = time.monotonic() - begin
        order = corpus.order(BATCH, seed=0)
        place = order.per_epoch // 2  # as a resumed training does
        dataset = corpus.batches(BATCH, seed=0, place=place)
        count = min(5000, order.per_epoch - place)
        begin = time.process_time()
        for _ in dataset.take(count):
            pass
        reading = (time.process_time() - begin) / count / BATCH * 1e6
        spans = list(train(model, iter(dataset.take(options.steps))))[5:]
        waited, taken = np.sum(spans, 0)
        memory = peak() - before
    print(
        f"prepare {options.pairs:,} pairs, {size / 1e6:.0f} MB: {preparing[0]:.0f} s of CPU time, "
        f"{preparing[1]:.0f} s\n"
        f"open, with the hashes: {opened:.2f} s\n"
        f"read: {reading:.1f} s of CPU time for 1e6 pairs\n"
        f"step: {1e3 * np.mean([step for _, step in spans]):.0f} ms\n"
        f"memory above TensorFlow's own: {preparing[2]:.0f} MB while preparing, {memory:.0f} MB "
        "while reading (at most 300)\n"
        f"waiting for the reader: {100 * waited / (waited + taken):.2f} % of a step (at most 2)"
    )


def told(total):
    """Prints each tenth that is prepared."""
    done = 0

    def progress(count):
        nonlocal done
        if 10 * count // total > done:
            done = 10 * count // total
            print(f"  prepared {count:,} of {total:,} pairs", flush=True)

    return progress


def pairs(rows, count):
    for i in range(count):
        yield rows[i % 8191], rows[i % 8171]


def train(model, iterator):
    """(seconds until the batch was there, seconds of the step) of each."""
    while True:
        begin = time.perf_counter()
        batch = next(iterator, None)
        if batch is None:
            return
        ready = time.perf_counter()
        model.train_on_batch(*batch)
        yield ready - begin, time.perf_counter() - ready


def peak():
    """The most resident memory that this process has had since `forget_peak`, MB."""
    with open("/proc/self/status") as status:
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read())[1]) / 1e3


def forget_peak():
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


if __name__ == "__main__":
    main()
