"""Draw docs/alignment.png: what a model that reverses its source attends to.

    python docs/make_alignment_picture.py

Two minutes on one core; needs the extra [visualize].
"""

import pathlib

import keras
import numpy as np

from keras_attention.training import token_objective
from keras_attention.visualize import heat_map, save
from models import RNNSeq2Seq

LETTERS = "abcdefghijklmnopqrstuvwxyz"
FIRST = 3  # after the ids of padding, start and end


def examples(count: int, random: np.random.Generator):
    """-> (source, target_in), target: words of six letters and their reverse."""
    source = random.integers(FIRST, FIRST + len(LETTERS), [count, 6])
    target = np.concatenate([source[:, ::-1], np.full([count, 1], RNNSeq2Seq.end_id)], 1)
    target_in = np.concatenate([np.full([count, 1], RNNSeq2Seq.start_id), target[:, :-1]], 1)
    return (source, target_in), target


def main() -> None:
    keras.utils.set_random_seed(1)
    random = np.random.default_rng(1)
    model = RNNSeq2Seq(vocab_size=FIRST + len(LETTERS), units=64)
    model.compile(keras.optimizers.Adam(3e-3), **token_objective())
    model.fit(*examples(40_000, random), batch_size=64, epochs=2, verbose=2)
    source = np.array([[FIRST + LETTERS.index(letter) for letter in "keraso"]])
    found = model.generate(source, max_length=7, return_alignments=True)
    said = [*(LETTERS[i - FIRST] for i in found.ids[0, 0, :6].numpy()), "(end)"]
    figure = heat_map(found.alignments[0, 0], list("keraso"), said)
    save(figure, pathlib.Path(__file__).parent / "alignment.png")
    print("".join(said))


if __name__ == "__main__":
    main()
