"""The data of `fit` from any place: each iteration is the epoch that was asked for."""

import inspect
import warnings
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_attention.training.left_out import random_ops_of
from keras_attention.training.random_state import (
    generators_of,
    get_random_state,
    set_random_state,
)


class EpochData:
    """A dataset for `fit` of which each iteration is the epoch set by `begin`.

    `make(epoch, batch)` returns the batches of an epoch without the first `batch` ones. It is
    called by `begin`, not by the iteration, so its errors are those of Python.

    >>> every = tf.data.Dataset.range
    >>> data = EpochData(lambda epoch, batch: every(4 * epoch + batch, 4 * epoch + 4))
    >>> data.begin(1, 2)
    2
    >>> [int(x) for x in data.dataset]
    [6, 7]
    """

    def __init__(self, make: Callable[[int, int], tf.data.Dataset]):
        self._make = make
        self.generators = generators_of(make)
        self._iterated = 0
        self._before: Any = None
        self.random = get_random_state(self.generators)  # before `make`, which may draw an order
        self._place, self._now = (0, 0), checked(make(0, 0), 0)
        self._count = count_of(self._now)
        self.dataset = self._lazy(self._now.element_spec)

    def begin(self, epoch: int, batch: int) -> int | None:
        """Make the rest of an epoch the next iteration, and return how many batches it has.

        None if that is not known, or without an end.

        Raises:
            ValueError: it has fewer than `batch` batches, or elements of another type.
        """
        first_use = self._place == (epoch, batch) and not self._iterated
        if not first_use:
            self._check_is_there(batch)
            self.random = get_random_state(self.generators)
            made = checked(self._make(epoch, batch), epoch)
            _check_same_type(self._now.element_spec, made.element_spec, epoch)
            self._check_skips(epoch, batch, count_of(made))
            # An iterator of the last epoch may still hold functions of its dataset.
            self._before, self._now = self._now, made
            self._place = epoch, batch
        self._iterated = -1  # from now on, each iteration has been announced
        return count_of(self._now)

    @property
    def made(self) -> tf.data.Dataset:
        """What `make` returned last."""
        return self._now

    def _check_is_there(self, batch):
        if self._count is not None and batch > self._count:
            raise ValueError(
                f"The data have fewer batches than when this training began: {self._count} in an "
                f"epoch, of which {batch} are done. Restore the data, or start again in another "
                "directory."
            )

    def _check_skips(self, epoch, batch, left):
        """Raise ValueError if `make` did not leave out the first `batch` batches."""
        if not batch or left is None or left != self._count:
            return
        after = get_random_state(self.generators)
        set_random_state(self.random, self.generators)
        whole = count_of(self._make(epoch, 0))
        set_random_state(after, self.generators)
        if left == whole:
            raise ValueError(
                "The function of Resume.data must leave out the batches that are done. Received: "
                f"{left} batches for (epoch={epoch}, batch={batch}), as many as for batch=0. "
                "Append .skip(batch) to the dataset."
            )

    def _lazy(self, spec):
        def next_epoch():
            if self._iterated >= 0:
                self._iterated += 1
                if self._iterated == 2:
                    warnings.warn(
                        "The dataset of Resume.data repeats the first epoch: add the Resume "
                        "to the callbacks of fit.",
                        stacklevel=2,
                    )
            return tf.data.experimental.to_variant(self._now)

        def elements(_):
            # A dataset as a tensor: Python runs once in an epoch, not for each batch.
            variant = tf.py_function(next_epoch, [], tf.variant)
            variant.set_shape([])
            return tf.data.experimental.from_variant(variant, spec)

        dataset: Any = tf.data.Dataset.range(1).flat_map(elements)
        # Asserted in the graph, it would fail for the rest of an epoch.
        count = tf.data.UNKNOWN_CARDINALITY if self._count is None else self._count
        dataset.cardinality = lambda: tf.constant(count, tf.int64)
        return dataset


def rest_of(dataset: tf.data.Dataset) -> Callable[[int, int], tf.data.Dataset]:
    """`make(epoch, batch)` for a dataset with the same order in every epoch and process.

    Raises:
        ValueError: it shuffles anew in each iteration, or without a seed.
    """
    for part in inputs_of(dataset):
        if getattr(part, "_reshuffle_each_iteration", False):
            raise ValueError(
                "A dataset that shuffles anew in each iteration cannot go on within an epoch. "
                "Pass a function (epoch, batch) -> dataset, such as lambda epoch, batch: "
                "data.shuffle(1000, seed=epoch).batch(32).skip(batch)."
            )
    return lambda epoch, batch: dataset.skip(batch)


def checked(dataset: Any, epoch: int) -> tf.data.Dataset:
    """The dataset, if it is one whose order can be the same in another process."""
    if not isinstance(dataset, tf.data.Dataset):
        raise ValueError(
            f"The function of Resume.data must return a tf.data.Dataset. Received: {dataset!r} "
            f"for epoch {epoch}."
        )
    for part in inputs_of(dataset):
        seeds = [getattr(part, name, None) for name in ("_seed", "_seed2")]
        if all(seed is not None and int(seed) == 0 for seed in seeds):
            raise ValueError(
                "The data are shuffled without a seed, so no other process has their order. "
                "Write .shuffle(size, seed=epoch), or call keras.utils.set_random_seed first."
            )
    return dataset


def check_callable(make: Any) -> None:
    """Raise ValueError if it cannot be called as make(epoch, batch)."""
    try:
        inspect.signature(make).bind(0, 0)
    except TypeError as error:
        raise ValueError(
            "The function of Resume.data must take two arguments, (epoch, batch). Received: "
            f"{make!r:.200} ({error})."
        ) from error
    except ValueError:  # a builtin, which has no signature
        return


def stateful_ops_of(dataset: tf.data.Dataset) -> list[str]:
    """Ops in the functions of a dataset that draw random numbers from, or assign, a state.

    It advances with the elements that are read ahead, so the training's place does not tell it.

    >>> data = tf.data.Dataset.range(3)
    >>> stateful_ops_of(data.map(lambda i: tf.random.uniform([])))
    ['RandomUniform (random_uniform/RandomUniform)']
    """
    functions = [function for part in inputs_of(dataset) for function in part._functions()]
    graphs = [function.function.graph for function in functions]
    return sorted(set().union(*(random_ops_of(graph, assigned=True) for graph in graphs)))


def check_one_to_one(dataset: tf.data.Dataset, source: tf.data.Dataset) -> None:
    """Raise ValueError if elements of `dataset` are not each one of `source`, in its order."""
    for part in inputs_of(dataset):
        if part is source:
            return
        kind = type(part).__name__
        if kind not in _ONE_TO_ONE:
            raise ValueError(
                "Only map and prefetch may follow Resume.data, or the batches that are done could "
                f"not be counted. Received: {kind.strip('_')}. Do it in the function (epoch, "
                "batch) -> dataset, before skip(batch)."
            )


_ONE_TO_ONE = ("_MapDataset", "_ParallelMapDataset", "_PrefetchDataset", "_OptionsDataset")


def count_of(dataset: tf.data.Dataset) -> int | None:
    """Its number of elements, or None if that is not known or without an end."""
    count = int(dataset.cardinality())
    return count if count >= 0 else None


def inputs_of(dataset):
    """The dataset and all that it is made from."""
    yield dataset
    for part in dataset._inputs():
        yield from inputs_of(part)


def _check_same_type(expected, received, epoch):
    flat = [tf.nest.flatten(spec) for spec in (expected, received)]
    same = len(flat[0]) == len(flat[1]) and all(
        one == other or one.is_compatible_with(other) for one, other in zip(*flat)
    )
    if not same:
        raise ValueError(
            f"All epochs must have elements of one type: expected {expected}. Received: {received} "
            f"in epoch {epoch}."
        )
