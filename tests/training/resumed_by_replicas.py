"""A program for tests: a training under `Resume` that can be killed, with any number of workers.

    python -m tests.training.resumed_by_replicas DIRECTORY STRATEGY [SECONDS_PER_STEP]

Writes DIRECTORY/log (a line for each step), and DIRECTORY/weights.json at its end.
"""

import json
import pathlib
import sys
import time

import keras
import numpy as np
import tensorflow as tf

from keras_attention.data import batches
from keras_attention.training import Resume, distribute, token_objective
from tests.training import trained_by_replicas as case

EPOCHS, BATCH = 4, 16


class Slow(keras.callbacks.Callback):
    """Steps that take a while, and tell that they are done."""

    def __init__(self, path, seconds):
        super().__init__()
        self._path, self._seconds = path, seconds

    def get_state(self):
        """None."""

    def set_state(self, state):
        """Nothing."""

    def on_train_batch_end(self, batch, logs=None):
        with open(self._path, "a") as file:
            file.write(f"{batch}\n")
        time.sleep(self._seconds)


def main(directory, name, seconds="0.0"):
    folder = pathlib.Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(1)
    strategy = distribute.make_strategy(name, timeout=60.0)
    keras.utils.set_random_seed(1)
    with strategy.scope():
        model = case.tagger(0.3)
        model.compile(case.adam(), **token_objective(0.1))
    sources, targets = case.rows(1), case.rows(2)

    def make_epoch(epoch, batch):
        found = batches(sources, targets, BATCH, seed=1, epoch=epoch, skip=batch)
        return found.map(lambda x, y, w: (x[1], y, w))

    resume = Resume(folder / "checkpoints", every_steps=1)
    others = [
        keras.callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=1.0),
        keras.callbacks.EarlyStopping("loss", patience=9),
        Slow(folder / f"log{distribute.cluster_of(strategy).index}", float(seconds)),
    ]
    model.fit(resume.data(make_epoch), epochs=EPOCHS, callbacks=[*others, resume], verbose=0)
    variables = [*model.variables, *model.optimizer.variables]
    values = [np.asarray(tf.convert_to_tensor(v), float).tolist() for v in variables]
    if distribute.cluster_of(strategy).is_chief and not resume.interrupted:
        found = {"weights": values, "history": model.history.history}
        (folder / "weights.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
