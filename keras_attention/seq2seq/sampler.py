"""Samplers: what the next input is, and when a row has ended."""

import abc
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_attention.seq2seq._keras import deserialize, register, serialize

__all__ = ["GreedyEmbeddingSampler", "Sampler", "TrainingSampler"]


class Sampler(abc.ABC):
    """Chooses ids from a step's outputs, and from them the next step's inputs.

    `BasicDecoder` calls `initialize` once, then `sample` and `next_inputs` at every step. What
    `initialize` was given is kept until the next `initialize`.
    """

    @abc.abstractmethod
    def initialize(self, inputs: Any, **kwargs) -> tuple[tf.Tensor, Any]:
        """-> (finished [N] bool, the first step's inputs)."""

    @abc.abstractmethod
    def sample(self, time: tf.Tensor, outputs: Any, state: Any) -> tf.Tensor:
        """-> sample_ids, of `sample_ids_shape` and `sample_ids_dtype`, a row each."""

    @abc.abstractmethod
    def next_inputs(
        self, time: tf.Tensor, outputs: Any, state: Any, sample_ids: tf.Tensor
    ) -> tuple[tf.Tensor, Any, Any]:
        """-> (finished [N] bool, next inputs, next state)."""

    @property
    @abc.abstractmethod
    def batch_size(self) -> tf.Tensor:
        """N, a scalar."""

    @property
    def sample_ids_shape(self) -> tf.TensorShape:
        """Shape of the ids of one row."""
        return tf.TensorShape([])

    @property
    def sample_ids_dtype(self) -> tf.DType:
        """Type of the ids."""
        return tf.int32

    def get_config(self) -> dict:
        """The constructor's arguments, for a decoder that is saved."""
        return {}

    @classmethod
    def from_config(cls, config: dict):
        return cls(**{name: deserialize(value) for name, value in config.items()})


def _check_sequence_is_right_padded(mask: tf.Tensor, time_major: bool) -> None:
    """A mask of steps is a length only if no real step follows a padded one."""
    if time_major:
        mask = tf.transpose(mask)
    lengths = tf.reduce_sum(tf.cast(mask, tf.int32), axis=1)
    tf.debugging.assert_equal(
        mask,
        tf.sequence_mask(lengths, tf.shape(mask)[1]),
        message="The mask must be right padded: every real step before every padded one.",
    )


@register
class TrainingSampler(Sampler):
    """Teacher forcing: the next input is the given one, whatever was decoded.

    `initialize(inputs, sequence_length=None, mask=None)`: inputs [B, T, ...] (a nest of them;
    [T, B, ...] with `time_major`), lengths [B], or a right-padded boolean mask [B, T]. Without
    both, every row has T steps. `sample_ids` are the argmax of the outputs.

    Raises ValueError for a mask that is not 2-D bool or lengths that are not a vector.

    >>> sampler = TrainingSampler()
    >>> finished, first = sampler.initialize(tf.reshape(tf.range(6.0), [2, 3, 1]), [3, 0])
    >>> finished.numpy().tolist(), first.numpy().ravel().tolist()
    ([False, True], [0.0, 3.0])
    """

    def __init__(self, time_major: bool = False):
        self.time_major = time_major
        self._batch_size = None

    @property
    def batch_size(self) -> tf.Tensor:
        if self._batch_size is None:
            raise ValueError("batch_size accessed before initialize was called.")
        return self._batch_size

    def initialize(self, inputs, sequence_length=None, mask=None, **_):
        inputs = tf.nest.map_structure(tf.convert_to_tensor, inputs)
        if not self.time_major:
            inputs = tf.nest.map_structure(transpose_batch_time, inputs)
        first = tf.nest.flatten(inputs)[0]
        steps, self._batch_size = tf.shape(first)[0], tf.shape(first)[1]
        self.sequence_length = self._lengths(sequence_length, mask, steps)
        self._inputs = tf.nest.map_structure(_unstack, inputs)
        # What is read past the end, of the shape of a step even when there is no step.
        self._zeros = tf.nest.map_structure(lambda x: tf.zeros(tf.shape(x)[1:], x.dtype), inputs)
        self._shapes = tf.nest.map_structure(lambda x: x.shape[1:], inputs)
        finished = tf.equal(self.sequence_length, 0)
        return finished, self._read(tf.constant(0), finished)

    def _lengths(self, sequence_length, mask, steps):
        if mask is not None:
            mask = tf.convert_to_tensor(mask)
            if mask.dtype != tf.bool or mask.shape.rank != 2:
                raise ValueError(
                    "mask must be a boolean tensor of shape [B, T]. Received: "
                    f"{mask.dtype.name}, shape {mask.shape}"
                )
            if sequence_length is None:
                _check_sequence_is_right_padded(mask, self.time_major)
                axis = 0 if self.time_major else 1
                return tf.reduce_sum(tf.cast(mask, tf.int32), axis=axis)
        if sequence_length is None:
            return tf.fill([self._batch_size], steps)
        lengths = tf.convert_to_tensor(sequence_length, name="sequence_length")
        if lengths.shape.rank != 1:
            raise ValueError(
                "sequence_length must be a vector, one length for each row. Received: "
                f"shape {lengths.shape}"
            )
        return tf.cast(lengths, tf.int32)

    def _read(self, time, finished):
        values = tf.cond(
            tf.reduce_all(finished),
            lambda: self._zeros,
            lambda: tf.nest.map_structure(lambda array: array.read(time), self._inputs),
        )
        for value, shape in zip(tf.nest.flatten(values), tf.nest.flatten(self._shapes)):
            value.set_shape(shape)
        return values

    def sample(self, time, outputs, state):
        return tf.argmax(outputs, axis=-1, output_type=tf.int32)

    def next_inputs(self, time, outputs, state, sample_ids):
        finished = time + 1 >= self.sequence_length
        return finished, self._read(time + 1, finished), state

    def get_config(self) -> dict:
        return {"time_major": self.time_major}


@register
class GreedyEmbeddingSampler(Sampler):
    """The most likely id is taken, and its embedding fed to the next step.

    `initialize(embedding, start_tokens, end_token)`: the embedding matrix [V, D] (used when no
    `embedding_fn` was given), start tokens [N], one end token. A row ends with the end token,
    which is itself emitted.

    >>> sampler = GreedyEmbeddingSampler()
    >>> finished, first = sampler.initialize(tf.eye(3), start_tokens=[1], end_token=2)
    >>> first.numpy().tolist()
    [[0.0, 1.0, 0.0]]
    """

    def __init__(self, embedding_fn: Callable | None = None):
        if embedding_fn is not None and not callable(embedding_fn):
            raise ValueError(
                f"embedding_fn must be callable: ids -> inputs. Received: {embedding_fn!r}"
            )
        self.embedding_fn = embedding_fn
        self._batch_size = None

    @property
    def batch_size(self) -> tf.Tensor:
        if self._batch_size is None:
            raise ValueError("batch_size accessed before initialize was called.")
        return self._batch_size

    def initialize(self, embedding, start_tokens=None, end_token=None, **_):
        self._embed = self.embedding_fn or (lambda ids: tf.nn.embedding_lookup(embedding, ids))
        self.start_tokens = tf.convert_to_tensor(start_tokens, tf.int32, name="start_tokens")
        self.end_token = tf.convert_to_tensor(end_token, tf.int32, name="end_token")
        if self.start_tokens.shape.rank != 1:
            raise ValueError(
                f"start_tokens must be a vector. Received: shape {self.start_tokens.shape}"
            )
        if self.end_token.shape.rank != 0:
            raise ValueError(f"end_token must be a scalar. Received: shape {self.end_token.shape}")
        self._batch_size = tf.size(self.start_tokens)
        finished = tf.fill([self._batch_size], False)
        return finished, self._embed(self.start_tokens)

    def sample(self, time, outputs, state):
        if not tf.is_tensor(outputs):
            raise TypeError(f"Expected outputs to be a single Tensor. Received: {type(outputs)}")
        return tf.argmax(outputs, axis=-1, output_type=tf.int32)

    def next_inputs(self, time, outputs, state, sample_ids):
        return tf.equal(sample_ids, self.end_token), self._embed(sample_ids), state

    def get_config(self) -> dict:
        return {"embedding_fn": serialize(self.embedding_fn)}


def transpose_batch_time(x: tf.Tensor) -> tf.Tensor:
    """[B, T, ...] <-> [T, B, ...]."""
    return tf.transpose(x, tf.concat([[1, 0], tf.range(2, tf.rank(x))], 0))


def _unstack(x: tf.Tensor) -> tf.TensorArray:
    array = tf.TensorArray(x.dtype, size=tf.shape(x)[0], element_shape=x.shape[1:])
    return array.unstack(x)
