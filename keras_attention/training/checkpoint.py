"""Exact resume: the whole state of a run in one file, verified before it is used."""

import errno
import itertools
import json
import os
import pathlib
import re
import shutil
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_attention.functional.arguments import check_whole
from keras_attention.training.distribute import cluster_of, wait_for_all

_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"

_UNREADABLE = (tf.errors.OpError, OSError, IndexError, RuntimeError, ValueError)

_NO_FLUSH = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF, errno.EACCES)


class TrainingCheckpoint:
    """Saves and restores everything that the next training step depends on.

    This is every variable of the model, with the state of its seed generators, every variable of
    the optimizer, and a `progress` dict of the caller (the epoch, the batch within it, ...). They
    are in one file, so they always match. If the order of the data depends on the progress only, a
    restored run repeats the uninterrupted one bit for bit. `Resume` does this for `fit`.

    It also stores the names of the variables (without Keras' numbers of layers in a process) and
    the classes of the optimizer, to recognise another model.

    Each save is a folder `checkpoint-000001`, ... of `directory`, which gets its name only when it
    is complete: a run killed while saving leaves the earlier ones intact. One run at a time may
    save to a directory; of several workers, the chief saves and all restore.

    Args:
        directory: for the checkpoints; created when first needed.
        model: a built model.
        optimizer: its optimizer (`model.optimizer` after `compile`); built here if necessary;
            None if it has none.
        max_to_keep: how many of the newest checkpoints to keep. With 2, one may be damaged.
        also: variables that neither of them lists, or objects with `variables` (a second
            optimizer, ...), which are built.

    Raises:
        ValueError: the model is not built, max_to_keep < 1, or `also` has something else.

    >>> import tempfile
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     checkpoint = TrainingCheckpoint(folder, model, keras.optimizers.Adam())
    ...     empty = checkpoint.restore()
    ...     _ = checkpoint.save({"epoch": 3})
    ...     progress = checkpoint.restore()
    >>> empty, progress
    (None, {'epoch': 3})
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer | None,
        max_to_keep: int = 2,
        also: Sequence[Any] = (),
    ):
        if not model.built:
            raise ValueError("The model must be built. Received: unbuilt. Call it on a batch.")
        check_whole("max_to_keep", max_to_keep, 1)
        if optimizer is not None and not optimizer.built:
            with model.distribute_strategy.scope():
                optimizer.build(model.trainable_variables)
        self._directory = pathlib.Path(directory)
        self._max_to_keep = max_to_keep
        self._strategy = model.distribute_strategy
        self._variables = {"model": model.variables}
        self._variables["optimizer"] = [] if optimizer is None else optimizer.variables
        self._variables["also"] = _all_variables(also)
        self._kind = _kind(optimizer)
        self._damaged: set = set()

    @property
    def variables(self) -> list:
        """All that are saved."""
        return list(itertools.chain(*self._variables.values()))

    def save(self, progress: dict, arrays: Mapping[str, np.ndarray] | None = None) -> str:
        """Write a new checkpoint and return its folder; then delete those past `max_to_keep`.

        Under `tf.distribute` all workers call it, the chief writes, and the others wait for it.

        Args:
            progress: values for JSON; tuples are restored as lists, keys as strings.
            arrays: more values, of any shapes and numeric dtypes; `load` returns them.

        Raises:
            ValueError: `progress` is not JSON.
            OSError: it could not be written (disk full, no permission). Earlier ones are intact.
        """
        snapshot = self.snapshot(progress, arrays)
        if cluster_of(self._strategy).is_chief:
            self.write(snapshot)
        wait_for_all(self._strategy)
        return str(self._folders()[-1])

    def snapshot(self, progress: dict, arrays: Mapping[str, np.ndarray] | None = None) -> dict:
        """A copy of all values at this moment, which `write` saves, in another thread if you like.

        Under `tf.distribute` all workers take it, because values of theirs may be summed.
        """
        try:
            text = json.dumps(progress)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"progress must be plain JSON. Received: {progress!r:.200} ({error}). "
                "Turn arrays and NumPy numbers into lists, int and float."
            ) from error
        owner = json.dumps(self._owner_now())
        values: dict[str, Any] = {_key("progress"): text, _key("owner"): owner}
        for part, variables in self._variables.items():
            for index, variable in enumerate(variables):
                values[_key(f"{part}/{index}")] = np.array(_raw(variable).numpy())
        for name, array in (arrays or {}).items():
            values[_key(f"arrays/{name}")] = np.array(array)
        return values

    def write(self, snapshot: dict) -> str:
        """Write a `snapshot` as a new checkpoint: as `save` does."""
        folder = self._next_folder()
        unfinished = self._directory / ".unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)  # of a run that was killed while saving
        try:
            unfinished.mkdir(parents=True)
            with tf.device("CPU:0"):
                tf.raw_ops.SaveV2(
                    prefix=str(unfinished / "state"),
                    tensor_names=list(snapshot),
                    shape_and_slices=[""] * len(snapshot),
                    tensors=[tf.convert_to_tensor(value) for value in snapshot.values()],
                )
            for path in [*unfinished.iterdir(), unfinished]:
                _flush(path)
            unfinished.rename(folder)
            _flush(self._directory)
        except (OSError, tf.errors.OpError) as error:
            raise OSError(
                f"Could not save {folder}: {str(error).splitlines()[0]}. Earlier checkpoints in "
                f"{self._directory} are intact. Free some space or choose another directory."
            ) from error
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
        self._delete_old()
        return str(folder)

    def restore(self) -> dict | None:
        """Load the newest good checkpoint into the variables and return its progress.

        Returns None, and changes nothing, if there is no checkpoint. Every byte is checked before
        any variable changes; a damaged checkpoint is skipped with a warning.

        Raises:
            ValueError: no checkpoint is good, or it belongs to another model or optimizer: other
                variables (number, shapes, dtypes, names, order) or another class of optimizer.
        """
        folder = self.latest()
        return None if folder is None else self.load(folder)[0]

    def latest(self) -> str | None:
        """The folder of the newest good checkpoint, or None: checked as in `restore`."""
        faults = {}
        for folder in reversed(self._folders()):
            try:
                saved, owner = _read_all(folder)
            except _UNREADABLE as error:
                faults[folder] = str(error).splitlines()[0]
                continue
            self._check_fits(saved, folder)
            if owner is not None:  # checkpoints of version 0.1.0 do not contain the names
                self._check_owner(owner, folder)
            self._damaged.update(faults)
            if faults:
                warnings.warn(f"{_listed(faults)}: damaged. Resuming from {folder}.", stacklevel=2)
            return str(folder)
        if faults:
            raise ValueError(
                f"No checkpoint in {self._directory} can be read: {_listed(faults)}. Restore a "
                "copy of one, or delete these folders to start again."
            )
        return None

    def load(self, folder: str) -> tuple[dict, dict[str, np.ndarray]]:
        """Set the variables from a checkpoint that `latest` returned: its progress and arrays."""
        reader = tf.train.load_checkpoint(os.path.join(folder, "state"))
        for part, variables in self._variables.items():
            for index, variable in enumerate(variables):
                assign(variable, reader.get_tensor(_key(f"{part}/{index}")))
        arrays = {
            key.removeprefix("arrays/").removesuffix(_VALUE): reader.get_tensor(key)
            for key in reader.get_variable_to_shape_map()
            if key.startswith("arrays/")
        }
        return json.loads(reader.get_tensor(_key("progress"))), arrays

    def _folders(self):
        """The checkpoints, oldest first."""
        numbered = [
            (int(match[1]), path)
            for path in self._directory.glob("checkpoint-*")
            if (match := re.fullmatch(r"checkpoint-(\d+)", path.name))
        ]
        return [path for _, path in sorted(numbered)]

    def _next_folder(self):
        folders = self._folders()
        number = int(folders[-1].name.split("-")[1]) + 1 if folders else 1
        return self._directory / f"checkpoint-{number:06d}"

    def _delete_old(self):
        """Delete old ones; damaged ones are not counted, or a good one would be deleted."""
        good = [folder for folder in self._folders() if folder not in self._damaged]
        for folder in self._damaged | set(good[: -self._max_to_keep]):
            shutil.rmtree(folder, ignore_errors=True)

    def _check_fits(self, saved, folder):
        for part, variables in self._variables.items():
            count = sum(key.startswith(f"{part}/") for key in saved)
            if count != len(variables):
                raise ValueError(
                    f"{folder} belongs to another {part}: expected {len(variables)} variables. "
                    f"Received: {count}. Use another directory, or the {part} that saved it."
                )
            for index, variable in enumerate(variables):
                expected = (tuple(variable.shape), tf.as_dtype(variable.dtype).name)
                received = saved.get(_key(f"{part}/{index}"))
                if received != expected:
                    raise ValueError(
                        f"{folder} belongs to another {part}: expected {_name(variable)} as "
                        f"{expected}. Received: {received}. Use another directory, or the {part} "
                        "that saved it."
                    )

    def _owner_now(self):
        model, optimizer = ([v.path for v in self._variables[p]] for p in ("model", "optimizer"))
        return {
            "model": _layer_names(model),
            "optimizer": _slot_names(optimizer),
            "class of optimizer": self._kind,
        }

    def _check_owner(self, saved, folder):
        now, kind = self._owner_now(), "class of optimizer"
        if saved[kind] != now[kind]:
            raise ValueError(_belongs_to_another(folder, "optimizer", now[kind], saved[kind]))
        for part, separator in (("model", "/"), ("optimizer", "_")):
            for names in zip(now[part], saved[part]):
                expected, received = (name.split(separator) for name in names)
                least = min(len(expected), len(received))  # one may lack names of outer layers
                if expected[-least:] != received[-least:]:
                    raise ValueError(_belongs_to_another(folder, part, *names))


def _key(name):
    """The name of a tensor in the file: that which `tf.train.Checkpoint` would give it."""
    return name + _VALUE


def _raw(variable):
    """The variable of TensorFlow."""
    return variable.value if isinstance(variable, keras.Variable) else variable


def _name(variable):
    return getattr(variable, "path", None) or variable.name


def _all_variables(things):
    found: list[Any] = []
    for thing in things:
        if isinstance(thing, (keras.Variable, tf.Variable)):
            found.append(thing)
        elif isinstance(getattr(thing, "variables", None), (list, tuple)):
            if getattr(thing, "built", True) is False:
                raise ValueError(f"What `also` has must be built. Received: {thing!r}, unbuilt.")
            found.extend(thing.variables)
        elif isinstance(thing, tf.random.Generator):
            found.append(thing.state)
        else:
            raise ValueError(
                f"also must have variables, or objects with `variables`. Received: {thing!r}."
            )
    return found


def assign(variable, value):
    """Set a variable; one that is the sum over replicas gets it on the chief's first one."""
    raw = _raw(variable)
    is_sum = (
        isinstance(raw, tf.distribute.DistributedValues)
        and raw.synchronization == tf.VariableSynchronization.ON_READ
        and raw.aggregation == tf.VariableAggregation.SUM
    )
    if not is_sum:
        raw.assign(value)
        return
    # TensorFlow divides the sum by the number of replicas, which rounds.
    strategy = raw.distribute_strategy
    for place, part in enumerate(strategy.experimental_local_results(raw)):
        part.assign(value if place == 0 and cluster_of(strategy).is_chief else tf.zeros_like(value))


def _belongs_to_another(folder, part, expected, received):
    return (
        f"{folder} belongs to another {part}: expected {expected}. Received: {received}. Use "
        f"another directory, or the {part} that saved it."
    )


def _kind(optimizer):
    """The class, with those of inner optimizers: "ClipByGlobalNorm(Adam)"."""
    inner = getattr(optimizer, "inner_optimizer", None)
    parts = [inner] if inner is not None else getattr(optimizer, "optimizers", [])
    inside = ", ".join(_kind(part) for part in parts)
    return type(optimizer).__name__ + (f"({inside})" if inside else "")


def _layer_names(paths):
    """The paths, with Keras' numbers of layers as if no other layer had been created before.

    >>> _layer_names(["dense_7/kernel", "dense_8/kernel"])
    ['dense/kernel', 'dense_1/kernel']
    """
    split = [[_numbered(name) for name in path.split("/")] for path in paths]
    numbers: dict = {}
    for base, number in itertools.chain.from_iterable(split):
        numbers.setdefault(base, set()).add(number)

    def first_name(base, number):
        place = sorted(numbers[base]).index(number)
        return f"{base}_{place}" if place else base

    return ["/".join(itertools.starmap(first_name, names)) for names in split]


def _numbered(name):
    match = re.fullmatch(r"(.+)_(\d+)", name)
    return (match[1], int(match[2])) if match else (name, 0)


def _slot_names(paths):
    """The slots of an optimizer for each variable, without numbers.

    >>> _slot_names(["adam_2/dense_7_kernel_momentum"])
    ['dense_kernel_momentum']
    """
    return [re.sub(r"_\d+(?=_|$)", "", path.rsplit("/", 1)[-1]) for path in paths]


def _read_all(folder):
    """Shape and dtype of every tensor, and the owner; reading a tensor verifies its checksum."""
    reader = tf.train.load_checkpoint(str(folder / "state"))
    dtypes = reader.get_variable_to_dtype_map()
    shapes = reader.get_variable_to_shape_map()
    for name in shapes:
        reader.get_tensor(name)
    owner = f"owner{_VALUE}"
    saved = {name: (tuple(shape), dtypes[name].name) for name, shape in shapes.items()}
    return saved, json.loads(reader.get_tensor(owner)) if owner in shapes else None


def _listed(faults):
    return "; ".join(f"{folder} ({fault})" for folder, fault in faults.items())


def _flush(path):
    """Write it to the disk, not only to its cache, before the rename, if that is possible."""
    try:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:  # some network file systems, and Windows, refuse it for directories
        if error.errno not in _NO_FLUSH:
            raise
