"""Pairs of lines of regulated verse as ids of characters, for language models."""

import gzip
from collections import Counter

import keras
import numpy as np
import tensorflow as tf

from experiments import Run
from keras_attention.data import epoch_batches

UNKNOWN, COMMA, FIRST = 3, 4, 5  # ids; 0 to 2 are padding, start (or mask) and end
FILES = {era: f"couplet/regulated_verse_{era}.tsv.gz" for era in ("tang", "song")}


def verses(run: Run, *eras: str) -> tuple[list, list, int]:
    """Texts of ids to train on and to test on, and how many ids there are.

    The lines of a poem stand together: blocks of 20 pairs of lines, every twentieth of them for the
    test. Characters that occur less than three times in training are unknown.
    """
    parts: tuple[list, list] = ([], [])
    for era in eras:
        with gzip.open(run.data / FILES[era], "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines):
                parts[number // 20 % 20 == 0].append(line.rstrip("\n").split("\t"))
    counts = Counter(char for pair in parts[0] for char in "".join(pair))
    known = [char for char, count in counts.most_common() if count >= 3]
    ids = {char: FIRST + place for place, char in enumerate(known)}

    def text(pair):
        lines = [[ids.get(char, UNKNOWN) for char in line] for line in pair]
        return [*lines[0], COMMA, *lines[1]]

    train, test = ([text(pair) for pair in part] for part in parts)
    return run.few(train), run.few(test), FIRST + len(ids)


def rate(peak: float, steps: int, warmup: int = 300):
    """A rate that rises to its peak, and falls along a cosine."""
    return keras.optimizers.schedules.CosineDecay(
        0.0, max(steps - warmup, 1), alpha=0.02, warmup_target=peak, warmup_steps=warmup
    )


def epochs_of(texts: list, size: int, seed: int, arrays, signature):
    """`make_epoch` of `Run.fit`, whose batches are `arrays(texts, random generator)`."""
    lengths = [len(text) for text in texts]

    def make_epoch(epoch, batch):
        order = list(enumerate(epoch_batches(lengths, size, seed, epoch)))[batch:]

        def generate():
            for number, chosen in order:
                rng = np.random.default_rng([seed, epoch, number])
                yield arrays([texts[place] for place in chosen], rng)

        return tf.data.Dataset.from_generator(generate, output_signature=signature).prefetch(2)

    return make_epoch
