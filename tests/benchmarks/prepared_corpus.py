"""Memory, reading speed and waiting time of a prepared corpus.

    python tests/benchmarks/prepared_corpus.py [--pairs=10000000] [--steps=60]

Pairs of 5 to 39 ids a side are made by a generator and prepared in a temporary directory (about 80
bytes a pair). Memory is what the peak of resident memory is above that of a process that has run
the same kind of training step on data made by TensorFlow alone. Waiting is the share of the time of
training steps (a Transformer of 2 layers of 256, 64 pairs a batch) that goes by until the next
batch is there. Linux only.
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
        begin = time.process_time(), time.monotonic()
        prepare(pairs(rows, options.pairs), directory)
        print(
            f"prepare: {time.process_time() - begin[0]:.0f} s of CPU time, "
            f"{time.monotonic() - begin[1]:.0f} s, peak {peak() - before:.0f} MB above TensorFlow"
        )
        size = sum(entry.stat().st_size for entry in os.scandir(directory))
        begin = time.monotonic()
        corpus = PreparedCorpus(directory)
        opened = time.monotonic() - begin
        print(f"open: {opened:.2f} s with the hashes of {size / 1e6:.0f} MB")

        order = corpus.order(BATCH, seed=0)
        place = order.per_epoch // 2  # as a resumed training does
        begin = time.process_time()
        count = min(5000, order.per_epoch - place)
        for number in range(place, place + count):
            corpus._read(order.batch(number))
        spent = time.process_time() - begin
        print(f"read: {spent / count / BATCH * 1e6:.2f} s of CPU time for 1e6 pairs")

        dataset = corpus.batches(BATCH, seed=0, place=place)
        for _ in dataset.take(3000):
            pass
        spans = list(train(model, iter(dataset.take(options.steps))))[5:]
        waited, taken = np.sum(spans, 0)
        print(f"step: {1e3 * np.mean([step for _, step in spans]):.0f} ms")
        memory = peak() - before
    print(
        f"memory above TensorFlow's own at {options.pairs:,} pairs: {memory:.0f} MB (at most 300)"
    )
    print(f"waiting for the reader: {100 * waited / (waited + taken):.2f} % of a step (at most 2)")


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
    """The most resident memory that this process has had, MB."""
    with open("/proc/self/status") as status:
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read())[1]) / 1e3


if __name__ == "__main__":
    main()
