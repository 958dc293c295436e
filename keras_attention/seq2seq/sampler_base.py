"""The base class of samplers, and helpers that several share."""

import abc
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_attention.backend.keras import deserialize
from keras_attention.backend.per_thread import PerThread


class Sampler(abc.ABC):
    """Chooses ids from the outputs of a step, and the inputs of the next step from the ids.

    `BasicDecoder` calls `initialize` once, then `sample` and `next_inputs` at every step. The
    samplers here keep the arguments of `initialize` until the next `initialize` of the same thread,
    so threads may share a sampler. A custom sampler that stores them in plain attributes can be
    used by one thread at a time.
    """

    _batch_size = PerThread(None)

    @abc.abstractmethod
    def initialize(self, inputs: Any, **kwargs) -> tuple[tf.Tensor, Any]:
        """-> (finished [N] bool, the first step's inputs)."""

    @abc.abstractmethod
    def sample(self, time: tf.Tensor, outputs: Any, state: Any) -> tf.Tensor:
        """-> sample_ids, of `sample_ids_shape` and `sample_ids_dtype` for each row."""

    @abc.abstractmethod
    def next_inputs(
        self, time: tf.Tensor, outputs: Any, state: Any, sample_ids: tf.Tensor
    ) -> tuple[tf.Tensor, Any, Any]:
        """-> (finished [N] bool, next inputs, next state)."""

    @property
    def batch_size(self) -> tf.Tensor:
        """N, a scalar, of the last `initialize`; a ValueError before the first."""
        if self._batch_size is None:
            raise ValueError("batch_size accessed before initialize was called.")
        return self._batch_size

    @property
    def sample_ids_shape(self) -> tf.TensorShape:
        """Shape of the ids of one row."""
        return tf.TensorShape([])

    @property
    def sample_ids_dtype(self) -> tf.DType:
        """Type of the ids."""
        return tf.int32

    def get_config(self) -> dict:
        """The constructor's arguments, to save a decoder."""
        return {}

    @classmethod
    def from_config(cls, config: dict):
        return cls(**{name: deserialize(value) for name, value in config.items()})


def check_callable(function: Any, name: str, signature: str) -> None:
    """Raise ValueError unless callable, for instance for a matrix instead of a layer."""
    if not callable(function):
        raise ValueError(f"{name} must be callable: {signature}. Received: {function!r}")


def as_finished(finished: Any, rows: Any, function: str) -> tf.Tensor:
    """The finished rows [N] bool returned by a user's function; a scalar is for all `rows`.

    Raises ValueError for another type or rank.
    """
    finished = tf.convert_to_tensor(finished)
    ranks = (None, 1) if rows is None else (None, 0, 1)
    if finished.dtype != tf.bool or finished.shape.rank not in ranks:
        raise ValueError(
            f"{function} must return for each row whether it has finished, [N] bool. Received: "
            f"shape {finished.shape} {finished.dtype.name}"
        )
    return tf.fill([rows], finished) if finished.shape.rank == 0 else finished


def embedder(embedding_fn: Callable | None, embedding: Any, sampler: Sampler) -> Callable:
    """ids -> inputs: the sampler's function, or a lookup in the matrix of this call."""
    if embedding_fn is not None:
        return embedding_fn
    if embedding is None:
        raise ValueError(
            f"embedding is required as an argument of {type(sampler).__name__}.initialize if "
            "the constructor got no embedding_fn. Received: embedding=None"
        )
    return lambda ids: tf.nn.embedding_lookup(embedding, ids)


def number(value: Any) -> Any:
    """The current value of a number, tensor or variable, for a config."""
    if value is None or isinstance(value, (int, float)):
        return value
    return tf.convert_to_tensor(value).numpy().tolist()
