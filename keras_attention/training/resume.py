"""Exact resume for `fit`: the same command goes on where the run was killed."""

import concurrent.futures
import itertools
import json
import numbers
import os
import sys
import time
import warnings
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_attention.functional.arguments import check_whole
from keras_attention.training.callback_state import states_of
from keras_attention.training.checkpoint import TrainingCheckpoint, assign
from keras_attention.training.distribute import cluster_of
from keras_attention.training.epoch_data import (
    EpochData,
    check_callable,
    check_one_to_one,
    inputs_of,
    rest_of,
    stateful_ops_of,
)
from keras_attention.training.left_out import functions_of, held_elsewhere, left_out
from keras_attention.training.packing import pack, unpack
from keras_attention.training.random_state import (
    get_random_state,
    random_variables,
    set_random_state,
)
from keras_attention.training.signals import Signals, frames

_OWN_NAMES = ("step", "epoch", "batch", "stopped", "fit")


class Resume(keras.callbacks.Callback):
    """Makes `fit` resumable: the same command goes on where the run was killed.

    A run that was killed, by kill -9 too, and started again ends with the same weights, bit for
    bit, as one that was not interrupted, on the same machine with the same program:

        resume = Resume("run", every_minutes=10)
        model.fit(resume.data(make_epoch), epochs=10, callbacks=[EarlyStopping(), resume])

    `make_epoch(epoch, batch)` returns the batches of an epoch (from 0), without the first `batch`
    ones, as a `tf.data.Dataset`; their order must depend on its arguments only, on the global
    generators of random numbers, or on generators that `make_epoch` names. Functions within the
    dataset (`map`, ...) must not draw from a state: a warning names those that do. The place of the
    Resume among the callbacks does not matter.

    What a checkpoint has (one file, written at the end of each epoch, and as the arguments say):

    - the variables of the model, also of its seed generators, and of the optimizer: slots, moving
      average, loss scale, learning rate;
    - the global generators of random numbers (Python's, NumPy's, Keras' and TensorFlow's), and
      those that `make_epoch` draws from;
    - the place in the data, and the metrics of the running epoch, so its logs are exact;
    - `stop_training`, the History, and what the other callbacks have changed of their attributes
      (patience, best values and weights, ...): numbers, strings, arrays, variables, random
      generators, and lists, tuples, sets and dicts of these. A callback that has more defines
      `get_state()`, which returns such a value, and `set_state(state)`. One that defines
      `on_saved()` is told after each checkpoint.

    A warning names what it does not have: other objects that callbacks hold (files, models),
    variables that the training step uses and the model does not list (see `also`), random ops
    with a state of their own (`tf.random.normal` in a layer: use `keras.random`). Files that
    callbacks append to may repeat the rows since the last checkpoint.

    SIGTERM or SIGINT (Ctrl-C) lets the running step end, saves, and ends `fit` without validating
    the unfinished epoch; `interrupted` is then True. A second signal ends the process at once. A
    run that ended is not trained again, with a warning: raise `epochs` to go on. If another
    callback ended it (`stop_training`), it stays so.

    Arrays with `shuffle=False` can be passed to `fit` as they are. To shuffle them:

        order = lambda epoch: np.random.default_rng([seed, epoch]).permutation(len(x))
        rows = lambda i: tf.data.Dataset.from_tensor_slices((x[i], y[i]))
        make_epoch = lambda epoch, batch: rows(order(epoch)).batch(32).skip(batch)

    Under `tf.distribute`, all workers use the same directory; the chief saves, and all read, also
    if there are fewer or more of them than before. The metrics of a running epoch are saved as sums
    over the workers, so its logs may differ in the last bit of a float32; the weights do not.

    Args:
        directory: for the checkpoints of `TrainingCheckpoint`; created when `fit` begins. It
            belongs to one training: what you change later in the command (the learning rate, the
            first weights) is replaced by what the checkpoint has.
        every_steps: save also after every so many batches.
        every_minutes: save also when so many minutes have passed since the last time.
        background: write in a thread while the training goes on; the values are copied before. An
            error of the thread is raised by the next save or at the end of `fit`.
        max_to_keep: how many checkpoints to keep. With 2, one may be damaged.
        progress: a dict of your own, of values for JSON; it is saved, and updated when restored.
        also: variables that the model does not list, or objects with `variables` (a second
            optimizer, ...), which are built.

    Attributes:
        step: batches trained so far, in all epochs.
        epoch, batch: the running epoch, and how many batches of it are trained.
        interrupted: whether a signal ended `fit`.

    Raises:
        ValueError: an argument out of its range. In `fit`: a checkpoint of another model or
            optimizer, or no good one; data with fewer batches than are done.
        OSError: in `fit`: a checkpoint cannot be written; earlier ones are intact.

    >>> import tempfile
    >>> def make_epoch(epoch, batch):
    ...     pairs = tf.data.Dataset.from_tensors((tf.ones([2, 1]), tf.ones([2, 1])))
    ...     return pairs.repeat(5).skip(batch)
    >>> def train(directory, epochs):
    ...     model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    ...     model.compile("adam", "mse")
    ...     resume = Resume(directory)
    ...     _ = model.fit(resume.data(make_epoch), epochs=epochs, callbacks=[resume], verbose=0)
    ...     return resume.step, model.history.epoch
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     train(directory, 1), train(directory, 3)
    ((5, [0]), (15, [0, 1, 2]))
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        every_steps: int | None = None,
        every_minutes: float | None = None,
        background: bool = False,
        max_to_keep: int = 2,
        progress: dict | None = None,
        also: Sequence[Any] = (),
    ):
        super().__init__()
        if not isinstance(directory, (str, os.PathLike)) or not os.fspath(directory):
            raise ValueError(f"directory must be a path. Received: {directory!r}.")
        if os.path.exists(directory) and not os.path.isdir(directory):
            raise ValueError(f"directory must be a folder. Received: the file {directory}.")
        if every_steps is not None:
            check_whole("every_steps, if it is not None,", every_steps, 1)
        real = isinstance(every_minutes, numbers.Real) and not isinstance(every_minutes, bool)
        if every_minutes is not None and not (real and every_minutes > 0):
            raise ValueError(
                f"every_minutes must be a number above 0, or None. Received: {every_minutes!r}."
            )
        check_whole("max_to_keep", max_to_keep, 1)
        if not isinstance(also, Sequence) or isinstance(also, str):
            raise ValueError(
                "also must be a list of variables, or of objects with `variables`. "
                f"Received: {also!r:.200}."
            )
        _check_progress(progress)
        if taken := {*_OWN_NAMES} & {*(progress or {})}:
            raise ValueError(f"progress must not have the names {sorted(taken)}, which are taken.")
        self.directory = os.fspath(directory)
        self.every_steps, self.every_minutes = every_steps, every_minutes
        self.background, self.max_to_keep = background, max_to_keep
        self.progress, self.also = {} if progress is None else progress, also
        self.step = self.epoch = self.batch = 0
        self.interrupted = False
        self._stop = False
        self._data: Any = None  # an EpochData
        self._run: Any = None

    def data(
        self, data: Callable[[int, int], tf.data.Dataset] | tf.data.Dataset
    ) -> tf.data.Dataset:
        """The dataset to pass to `fit`, which begins where the run was interrupted.

        Args:
            data: `(epoch, batch) -> dataset`, the batches of an epoch without the first `batch`
                ones, of one type in all epochs; or a dataset whose order is always the same. Its
                first batches are then read again, and thrown away.

        Returns:
            A dataset with the same element_spec, and the number of batches of epoch 0, if known.

        Raises:
            ValueError: it shuffles without a seed, or is a dataset that shuffles in each iteration.
                In `fit`: the function does not leave out the first batches, or something other
                than `map` and `prefetch` was applied to what this method returned.
        """
        make = rest_of(data) if isinstance(data, tf.data.Dataset) else data
        if not callable(make):
            raise ValueError(
                "Resume.data needs a function (epoch, batch) -> tf.data.Dataset, or a dataset. "
                f"Received: {data!r:.200}."
            )
        check_callable(make)
        self._data = EpochData(make)
        return self._data.dataset

    def stop(self) -> None:
        """End `fit` as a signal does: after this step, or, called at an epoch's end, after it."""
        self._stop = True

    def set_params(self, params):
        super().set_params(params)
        found = _callback_list()
        if found is not None and os.path.isdir(self.directory) and os.listdir(self.directory):
            for callback in found.callbacks:
                if isinstance(callback, keras.callbacks.CSVLogger):
                    callback.append = True  # or it would empty the file of the resumed run

    def on_train_begin(self, logs=None):
        found = _callback_list()
        if found is None:
            raise ValueError(
                "A Resume must be called by fit: pass it in callbacks=[...], or in a "
                "keras.callbacks.CallbackList."
            )
        self.step = self.epoch = self.batch = 0
        self.interrupted = self._stop = False
        # Called after all others, and it may be appended while Keras iterates over the list.
        self._run = _Run(self, found)
        found.callbacks.append(self._run)

    def on_train_batch_end(self, batch, logs=None):
        self._run.count(batch)


class _Run(keras.callbacks.Callback):
    """One `fit` of a Resume, called after all other callbacks."""

    def __init__(self, resume: Resume, callback_list):
        super().__init__()
        self.resume, self.list = resume, callback_list
        self.set_params(callback_list.params)
        self.set_model(callback_list.model)
        self.others = [c for c in callback_list.callbacks if c is not resume]
        self.others = [c for c in self.others if not isinstance(c, _Run)]
        self.restored: str | None = None  # the checkpoint that is to be loaded once more
        self.ending = self.broken = False
        self.told: set = set()  # what is not saved, and was named in a warning
        self.results: dict = {}  # the restored metrics, until a batch changes them
        self.writer: Any = None
        self.pending: Any = None
        self._epochs: Any = None
        self.epoch_random: Any = None  # the state before this epoch's data were made
        self.saved_at = time.monotonic()
        self.end: int | None = None  # batches of the running epoch

    @property
    def epochs(self) -> Any:
        """Keras' iterator over the steps of an epoch."""
        return self._epochs()

    # Begin and end

    def on_train_begin(self, logs=None):
        resume, model = self.resume, self.model
        for callback in self.others:
            if isinstance(callback, (Resume, keras.callbacks.BackupAndRestore)):
                raise ValueError(
                    f"A fit has one Resume, and no other callback that restores it. Received: "
                    f"{type(callback).__name__} too. Remove one of them."
                )
        # Weakly: in a cycle, the iterator would outlive a `fit` that ends with an error.
        self._epochs = weakref.ref(_epoch_iterator())
        self.uses_data = resume._data is not None and _comes_from(resume._data, self.epochs)
        self._check_data()
        self.generators = resume._data.generators if self.uses_data and resume._data else []
        self._trace()
        self.checkpoint = TrainingCheckpoint(
            resume.directory, model, model.optimizer, resume.max_to_keep, resume.also
        )
        self.list._async_train = False  # or a single callback, not in a list, runs in a thread
        enumerate_steps: Any = weakref.WeakMethod(self._enumerate)
        self.epochs._enumerate_iterator = lambda: enumerate_steps()()
        if self.uses_data and self.epochs.steps_per_epoch is None:
            self.epochs._interrupted_warning = lambda: None  # each epoch ends where its data do
        self.states = states_of(self.others)
        self._tell(_left_out(model, self.checkpoint), *(state.lost for state in self.states))
        self.chief = cluster_of(model.distribute_strategy).is_chief
        if self.chief:
            _make_directory(resume.directory)
        self.restored = self.checkpoint.latest()
        if self.restored is not None:
            stopped = self._load(self.restored)[0].get("stopped", False)
            model.stop_training = stopped
            # With `stop_training` alone, `fit` would train one batch more.
            model._initial_epoch = sys.maxsize if stopped else resume.epoch
            self._tell_if_ended(stopped)
        self.agree = _agreement(model.distribute_strategy)
        if resume.background and self.chief:
            self.writer = concurrent.futures.ThreadPoolExecutor(1)
        self.signals = Signals(self.list)

    def on_train_end(self, logs=None):
        self.signals.give_back()
        self.resume.interrupted = self.signals.came
        self.model._initial_epoch = None
        self.list.callbacks = [c for c in self.list.callbacks if c is not self]
        if self.writer is not None:
            try:
                self._wait()
            finally:
                self.writer.shutdown()

    def _tell_if_ended(self, stopped):
        epochs = (self.params or {}).get("epochs")
        if stopped or (epochs is not None and self.resume.epoch >= epochs):
            why = "a callback ended it" if stopped else f"fit has epochs={epochs}"
            warnings.warn(
                f"Nothing is trained: the run in {self.resume.directory} has ended after epoch "
                f"{self.resume.epoch} ({why}). The model has its weights. "
                + ("" if stopped else "Raise epochs to go on, or ")
                + ("Use" if stopped else "use")
                + " another directory for another training.",
                stacklevel=2,
            )

    def _check_data(self):
        if self.uses_data:
            dataset, data = self.epochs.data_adapter._dataset, self.resume._data
            check_one_to_one(dataset, data.dataset)
            if ops := [*stateful_ops_of(data.made), *_after(dataset, data.dataset)]:
                warnings.warn(
                    "The data of a resumed run differ, because their functions have a state that "
                    f"is not restored: {', '.join(ops)}. Draw from tf.random.stateless_uniform "
                    "with a seed made of the epoch and of a number from dataset.enumerate().",
                    stacklevel=2,
                )
            return
        if self.epochs.steps_per_epoch:
            raise ValueError(
                "With steps_per_epoch the place in the data is known to Resume.data only: write "
                "fit(resume.data(make_epoch), steps_per_epoch=...)."
            )
        shuffle = getattr(self.epochs.data_adapter, "_shuffle", None)
        if shuffle is not False:
            warnings.warn(
                "The order of the data is not restored, because they do not come from Resume.data"
                + (" and are shuffled" if shuffle else "")
                + ": a resumed run is exact only if the order is the same in each epoch. Write "
                "fit(resume.data(make_epoch), ...), or shuffle=False for arrays.",
                stacklevel=2,
            )

    # Epochs

    def on_epoch_begin(self, epoch, logs=None):
        resume = self.resume
        self.model._initial_epoch = None
        folder, self.restored = self.restored, None
        within = folder is not None and resume.batch > 0
        if folder is not None and epoch != resume.epoch:
            raise ValueError(
                f"{folder} belongs to epoch {resume.epoch}, but fit begins with epoch {epoch}. "
                "Leave initial_epoch as it was in the first run."
            )
        resume.epoch, self.broken, self.results = epoch, False, {}
        if not within:
            resume.batch = 0
        elif self.epoch_random is not None:
            set_random_state(
                self.epoch_random, self.generators
            )  # `make` may draw its order from it
        self._begin_data(epoch, resume.batch)
        if within:
            # Once more: other callbacks have begun the epoch, which had begun already.
            self._restore_metrics(*self._load(folder))
            self.list.on_epoch_end = self._end_of_resumed_epoch

    def _begin_data(self, epoch, batch):
        self.end = None
        if self.uses_data:
            left = self.resume._data.begin(epoch, batch)
            self.epoch_random = self.resume._data.random
            self.end = None if left is None else batch + left
        steps = self.epochs.steps_per_epoch
        if steps is not None:
            self.end = steps if self.end is None else min(self.end, steps)
        if not self.uses_data:
            self.end = self.epochs._num_batches
            if self.end is not None and batch > self.end:
                raise ValueError(
                    f"The data have fewer batches than when this training began: {self.end} in "
                    f"an epoch, of which {batch} are done. Restore the data, or start again in "
                    "another directory."
                )

    def _enumerate(self):
        """The steps of an epoch, from the place where it was interrupted."""
        first, size = self.resume.batch, self.epochs.steps_per_execution
        if not self.uses_data and not first:
            yield from type(self.epochs)._enumerate_iterator(self.epochs)
            return
        self.epochs.data_adapter.on_epoch_begin()
        iterator = iter(self.epochs._get_iterator())
        if not self.uses_data:
            for _ in range(first):
                next(iterator)
        asked = self.epochs.steps_per_epoch or self.end
        for step in itertools.count(first, size) if asked is None else range(first, asked, size):
            yield step, step + size - 1, iterator
        self.epochs.data_adapter.on_epoch_end()

    def count(self, batch):
        """Count the batches up to this one; called by the Resume, which may be the first."""
        resume, done = self.resume, batch + 1
        if self.end is not None:
            done = min(done, self.end)  # the last of several steps per execution
        self.before = resume.step
        resume.step += done - resume.batch
        resume.batch = done

    def on_train_batch_end(self, batch, logs=None):
        resume, self.results = self.resume, {}
        stop, by_time = self.agree(resume._stop or self.signals.came, self._is_time())
        every = resume.every_steps
        by_steps = every is not None and self.before // every < resume.step // every
        if self.model.stop_training:  # by another callback: the epoch ends here, unfinished
            self.broken = self.end is None or resume.batch < self.end
        elif stop:
            self._save(within=True)
            self._end_now()
        elif by_steps or by_time:
            self._save(within=True)

    def on_test_begin(self, logs=None):
        if self.ending:
            self.model.stop_evaluating = True

    def on_epoch_end(self, epoch, logs=None):
        resume = self.resume
        if self.ending:
            self.list.callbacks = self.all
            return
        if not self.broken:
            resume.epoch, resume.batch = epoch + 1, 0
        self._save(within=False)
        stop, _ = self.agree(resume._stop or self.signals.came, False)
        if stop:
            self.model.stop_training = True

    def _end_of_resumed_epoch(self, epoch, logs=None):
        """If no batch was left, its logs are the restored metrics."""
        del self.list.on_epoch_end
        self.list.on_epoch_end(epoch, {**self.results, **(logs or {})})

    def _end_now(self):
        """End `fit` without the other callbacks' share in an epoch that goes on another time."""
        self.ending = self.model.stop_training = True
        self.all, self.list.callbacks = self.list.callbacks, [self]

    # Save

    def _is_time(self):
        minutes = self.resume.every_minutes
        return minutes is not None and time.monotonic() - self.saved_at >= 60 * minutes

    def _save(self, within):
        resume = self.resume
        arrays: dict[str, np.ndarray] = {}
        saved = {state.key: state.save(arrays) for state in self.states}
        self._tell(*(lost for _, lost in saved.values()))
        fit = {
            "callbacks": {key: found for key, (found, _) in saved.items() if found},
            "random": pack(get_random_state(self.generators), arrays, "random"),
            "epoch_random": pack(self.epoch_random if within else None, arrays, "epoch_random"),
        }
        if within or self.broken:
            for index, variable in enumerate(self.model.metrics_variables):
                arrays[f"metrics/{index}"] = np.array(variable.value.numpy())
            fit["metrics"] = [v.name for v in self.model.metrics_variables]
        progress = {
            **resume.progress,
            "step": resume.step,
            "epoch": resume.epoch,
            "batch": resume.batch,
            "stopped": bool(self.model.stop_training),
            "fit": fit,
        }
        snapshot = self.checkpoint.snapshot(progress, arrays)
        if self.writer is not None:
            self._wait()
            self.pending = self.writer.submit(self.checkpoint.write, snapshot)
        elif self.chief:
            self.checkpoint.write(snapshot)
        self.saved_at = time.monotonic()
        for callback in self.others:
            if hasattr(callback, "on_saved"):
                callback.on_saved()

    def _wait(self):
        """Until the last checkpoint is written; raise its error."""
        pending, self.pending = self.pending, None
        if pending is not None:
            pending.result()

    # Restore

    def _load(self, folder):
        """Restore all but the metrics; returns progress and arrays of the checkpoint."""
        resume = self.resume
        progress, arrays = self.checkpoint.load(folder)
        counts = [progress.get(name, 0) for name in ("step", "epoch", "batch")]
        if not all(type(count) is int and count >= 0 for count in counts):
            raise ValueError(
                f"{folder} holds an invalid progress: {progress!r:.200}. Restore a copy of it, or "
                "delete it to resume from an older one."
            )
        resume.step, resume.epoch, resume.batch = counts
        own = {name: value for name, value in progress.items() if name not in _OWN_NAMES}
        resume.progress.update(own)
        fit = progress.get("fit") or {"callbacks": {}}  # of `TrainingCheckpoint` alone
        for state in self.states:
            state.restore(fit["callbacks"].get(state.key, {}), arrays)
        self.epoch_random = unpack(fit.get("epoch_random"), arrays)
        if "random" in fit:
            set_random_state(unpack(fit["random"], arrays), self.generators)
        return progress, arrays

    def _restore_metrics(self, progress, arrays):
        names = progress.get("fit", {}).get("metrics")
        if names is None:  # of `TrainingCheckpoint` alone
            return
        variables = self.model.metrics_variables
        if [v.name for v in variables] != names:
            raise ValueError(
                f"The metrics differ from those of the checkpoint: expected {names}. Received: "
                f"{[v.name for v in variables]}. Compile the model as in the first run."
            )
        for index, variable in enumerate(variables):
            assign(variable, arrays[f"metrics/{index}"])
        self.results = self.model.get_metrics_result()

    def _trace(self):
        """Create all variables that the first step would create; `fit` uses the same trace."""
        functions = functions_of(self.model.train_function)
        if functions:
            functions[0].get_concrete_function(iter(self.epochs._get_iterator()))
        elif self.uses_data:  # `run_eagerly`
            self.model._symbolic_build(data_batch=self.resume._data.dataset.element_spec)

    def _tell(self, *found):
        """Warn of what is not saved, once."""
        new = [name for names in found for name in names if name not in self.told]
        self.told.update(new)
        if new:
            warnings.warn(
                f"Resume does not restore: {', '.join(new)}. If the training depends on it: pass "
                "variables in also=[...], define get_state() and set_state() of the callback, "
                "draw from keras.random instead of tf.random.",
                stacklevel=2,
            )


def _callback_list():
    """The CallbackList that calls."""
    for frame in frames(sys._getframe(2)):
        found = frame.f_locals.get("self")
        if isinstance(found, keras.callbacks.CallbackList):
            return found
    return None


def _epoch_iterator():
    """That of the `fit` that calls: it is not public, and numbers the steps of an epoch."""
    for frame in frames(sys._getframe(2)):
        found = frame.f_locals.get("epoch_iterator")
        if hasattr(found, "_enumerate_iterator"):
            return found
    raise ValueError(
        "Resume works in the fit of Keras 3 on TensorFlow. Received: a call of on_train_begin by "
        "other code. Use TrainingCheckpoint in a loop of your own."
    )


def _comes_from(data, epochs):
    """Whether `fit` trains on this dataset, maybe with class weights."""
    dataset = getattr(epochs.data_adapter, "_dataset", None)
    return isinstance(dataset, tf.data.Dataset) and any(
        part is data.dataset for part in inputs_of(dataset)
    )


def _after(dataset, source):
    """Stateful ops in the functions of what follows `source`, which has none itself."""
    own = set(stateful_ops_of(source))
    return [op for op in stateful_ops_of(dataset) if op not in own]


def _check_progress(progress):
    if progress is not None and not isinstance(progress, dict):
        raise ValueError(f"progress must be a dict. Received: {progress!r:.200}.")
    try:
        json.dumps(progress)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"progress must have values for JSON. Received: {progress!r:.200} ({error}). "
            "Turn arrays and NumPy numbers into lists, int and float."
        ) from error


def _make_directory(directory):
    """Now, not after the first hours of training."""
    try:
        os.makedirs(directory, exist_ok=True)
    except OSError as error:
        raise OSError(
            f"{directory} must be a folder that can be written. Received: {error}. Choose another "
            "directory."
        ) from error


def _agreement(strategy):
    """(stop, save) of this worker -> those of all: true if one says so.

    Saving reads values of all workers, so all must save after the same step.
    """
    if len(cluster_of(strategy).addresses) == 1:
        return lambda stop, save: (stop, save)

    def agreed(stop, save):
        flags = strategy.reduce("SUM", tf.constant([stop, save], tf.float32), axis=None)
        return tuple(bool(flag > 0) for flag in flags)

    return agreed


def _left_out(model, checkpoint):
    known = [*checkpoint.variables, *model.metrics_variables, *random_variables()]
    compiled = functions_of(model.train_function)
    return left_out(model.train_function, known) if compiled else held_elsewhere(model, known)
