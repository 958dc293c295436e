"""What the table of results is made of: an `Experiment` for each model, which trains it in runs.

`tests/benchmarks/results.py NAME` runs the `experiment` of `experiments/NAME.py`.
"""

import pathlib
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple


class Run:
    """One training of an experiment: one variant with one seed, in a process of its own.

    Attributes:
        seed: the generators of Python, NumPy and Keras begin with it.
        data: the folder of the corpora.
        work: a folder of this run, which is kept.
        quick: whether this is a trial of the code: `few` and `fit` then take little.
        steps: batches trained so far, in all processes of this run.
    """

    def __init__(self, seed: int, data: pathlib.Path, work: pathlib.Path, quick: bool = False):
        self.seed, self.data, self.work, self.quick = seed, data, work, quick
        self.steps = self._fits = 0
        self._earlier = 0.0  # CPU seconds of processes that were stopped

    def few(self, examples: Any, count: int = 64) -> Any:
        """All examples, in a trial the first ones."""
        return examples[:count] if self.quick else examples

    def cpu_seconds(self) -> float:
        """CPU time of this run, without what was lost when a process was killed."""
        return self._earlier + time.process_time()

    def fit(self, model, make_epoch: Callable, epochs: int, callbacks: Sequence = (), **settings):
        """`model.fit` that goes on where it was stopped -> History.

        `make_epoch(epoch, batch)` gives the batches of an epoch without the first `batch` ones: see
        `training.Resume`. The fits of a run are told apart by their order.
        """
        import keras

        from keras_attention.training import Resume

        self._fits += 1
        spent: dict = {}

        class Spent(keras.callbacks.Callback):
            """Saves the CPU time with each checkpoint."""

            def on_train_begin(_, logs=None):  # after the Resume: it has restored what was spent
                self._earlier = max(self._earlier, spent.get("cpu_seconds", 0.0))

            def on_train_batch_end(_, batch, logs=None):
                spent["cpu_seconds"] = self.cpu_seconds()

            def get_state(_):
                """None: `spent` is saved by the Resume."""

            def set_state(_, state):
                """Nothing."""

        resume = Resume(self.work / f"fit-{self._fits}", every_minutes=2, progress=spent)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*not trained again.*")  # an earlier fit of the run
            warnings.filterwarnings("ignore", ".*shuffle=True.*")
            history = model.fit(
                resume.data(make_epoch),
                epochs=1 if self.quick else epochs,
                callbacks=[*callbacks, resume, Spent()],
                **{"verbose": 0, **settings},
            )
        if resume.interrupted:
            raise SystemExit("stopped; the same command goes on from here")
        self.steps += resume.step
        return history


class Experiment(NamedTuple):
    """Runs of a model and its rivals, and the words of its table."""

    title: str  # the model, with the paper
    task: str
    data: Sequence[str]  # files below the folder of the corpora; () if the data are made
    runs: Mapping[str, Callable[[Run], dict[str, float]]]  # variant -> what trains and measures it
    seeds: Any  # of all variants, or a mapping of variants to seeds
    metrics: Mapping[str, str]  # figure -> what it is; the main one first
    published: str  # the paper's figures for this, or that there are none
    differs: str  # from the paper
    notes: str = ""  # what was tried where a bar was missed
    files: Sequence[str] = ()  # pictures that runs leave in their folders

    def seeds_of(self, variant: str) -> tuple[int, ...]:
        """The seeds that a variant is trained with."""
        return tuple(self.seeds[variant] if isinstance(self.seeds, Mapping) else self.seeds)
