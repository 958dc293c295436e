"""tf.contrib.seq2seq's helpers: samplers that get their data in the constructor."""

import abc
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_attention.seq2seq import sampler


class Helper(abc.ABC):
    """The interface for `BasicDecoder`: the first inputs, the sampled ids, the next inputs."""

    @property
    @abc.abstractmethod
    def batch_size(self) -> tf.Tensor:
        """N, a scalar."""

    @property
    @abc.abstractmethod
    def sample_ids_shape(self) -> tf.TensorShape:
        """Shape of the ids of one row."""

    @property
    @abc.abstractmethod
    def sample_ids_dtype(self) -> tf.DType:
        """Type of the ids."""

    @abc.abstractmethod
    def initialize(self, name=None):
        """-> (finished [N] bool, the first step's inputs)."""

    @abc.abstractmethod
    def sample(self, time, outputs, state, name=None):
        """-> sample_ids."""

    @abc.abstractmethod
    def next_inputs(self, time, outputs, state, sample_ids, name=None):
        """-> (finished [N] bool, next inputs, next state)."""


class _SamplerHelper(Helper):
    """A sampler, and the arguments of its `initialize`."""

    def _hold(self, sampler: sampler.Sampler, rows: Any = None, **data) -> None:
        self._sampler, self._rows, self._data = sampler, rows, data

    @property
    def batch_size(self):
        if self._rows is None:
            return self._sampler.batch_size
        return tf.shape(self._rows)[0]

    @property
    def sample_ids_shape(self):
        return self._sampler.sample_ids_shape

    @property
    def sample_ids_dtype(self):
        return self._sampler.sample_ids_dtype

    def initialize(self, name=None):
        return self._sampler.initialize(**self._data)

    def sample(self, time, outputs, state=None, name=None):
        return self._sampler.sample(time=time, outputs=outputs, state=state)

    def next_inputs(self, time, outputs, state, sample_ids: Any = None, name=None):
        return self._sampler.next_inputs(
            time=time, outputs=outputs, state=state, sample_ids=sample_ids
        )


class TrainingHelper(_SamplerHelper):
    """Teacher forcing: inputs [B, T, ...] ([T, B, ...] with `time_major`), lengths [B].

    `sample_ids` are the argmax of the outputs.

    >>> helper = TrainingHelper(tf.reshape(tf.range(6.0), [2, 3, 1]), [3, 0])
    >>> finished, first = helper.initialize()
    >>> finished.numpy().tolist(), first.numpy().ravel().tolist()
    ([False, True], [0.0, 3.0])
    """

    def __init__(self, inputs: Any, sequence_length: Any, time_major: bool = False, name=None):
        self._hold(
            sampler.TrainingSampler(time_major),
            sequence_length,
            inputs=inputs,
            sequence_length=sequence_length,
        )

    @property
    def inputs(self):
        """The inputs, as passed."""
        return self._data["inputs"]

    @property
    def sequence_length(self):
        """The lengths [B]."""
        return self._data["sequence_length"]


class ScheduledEmbeddingTrainingHelper(TrainingHelper):
    """Teacher forcing, and with `sampling_probability` the embedding of the model's own id.

    `embedding` is a function ids -> inputs or a matrix [V, D]. `sample_ids` are the drawn ids, -1
    where the given input is used. Source: Bengio et al., 2015.
    """

    def __init__(
        self,
        inputs: Any,
        sequence_length: Any,
        embedding: Any,
        sampling_probability: Any,
        time_major: bool = False,
        seed: int | None = None,
        scheduling_seed: int | None = None,
        name=None,
    ):
        function, matrix = _function_or_matrix(embedding)
        self._hold(
            sampler.ScheduledEmbeddingTrainingSampler(
                sampling_probability, function, time_major, seed, scheduling_seed
            ),
            sequence_length,
            inputs=inputs,
            sequence_length=sequence_length,
            embedding=matrix,
        )


class ScheduledOutputTrainingHelper(TrainingHelper):
    """Teacher forcing, and with `sampling_probability` the last output.

    `next_inputs_fn` converts it to an input, `auxiliary_inputs` [B, T, ...] are appended to every
    input. `sample_ids` are 1 where the output is fed back. Source: Bengio et al., 2015.
    """

    def __init__(
        self,
        inputs: Any,
        sequence_length: Any,
        sampling_probability: Any,
        time_major: bool = False,
        seed: int | None = None,
        next_inputs_fn: Callable | None = None,
        auxiliary_inputs: Any = None,
        name=None,
    ):
        self._hold(
            sampler.ScheduledOutputTrainingSampler(
                sampling_probability, time_major, seed, next_inputs_fn
            ),
            sequence_length,
            inputs=inputs,
            sequence_length=sequence_length,
            auxiliary_inputs=auxiliary_inputs,
        )


class GreedyEmbeddingHelper(_SamplerHelper):
    """Take the likeliest id, and feed its embedding. A row ends with `end_token`.

    `embedding` is a function ids -> inputs or a matrix [V, D]; start tokens [B].

    >>> helper = GreedyEmbeddingHelper(tf.eye(3), start_tokens=[1], end_token=2)
    >>> helper.initialize()[1].numpy().tolist()
    [[0.0, 1.0, 0.0]]
    """

    def __init__(self, embedding: Any, start_tokens: Any, end_token: Any):
        function, matrix = _function_or_matrix(embedding)
        self._hold_tokens(sampler.GreedyEmbeddingSampler(function), matrix, start_tokens, end_token)

    def _hold_tokens(self, strategy, matrix, start_tokens, end_token):
        self._hold(
            strategy, start_tokens, embedding=matrix, start_tokens=start_tokens, end_token=end_token
        )


class SampleEmbeddingHelper(GreedyEmbeddingHelper):
    """Draw an id from softmax(outputs / softmax_temperature), and feed its embedding."""

    def __init__(
        self,
        embedding: Any,
        start_tokens: Any,
        end_token: Any,
        softmax_temperature: Any = None,
        seed: int | None = None,
    ):
        function, matrix = _function_or_matrix(embedding)
        strategy = sampler.SampleEmbeddingSampler(function, softmax_temperature, seed)
        self._hold_tokens(strategy, matrix, start_tokens, end_token)


class InferenceHelper(_SamplerHelper):
    """`sample_fn(outputs)` chooses; its result, or `next_inputs_fn` of it, is the next input.

    A row ends where `end_fn(sample_ids)` is True.
    """

    def __init__(
        self,
        sample_fn: Callable,
        sample_shape: Any,
        sample_dtype: Any,
        start_inputs: Any,
        end_fn: Callable,
        next_inputs_fn: Callable | None = None,
    ):
        self._hold(
            sampler.InferenceSampler(sample_fn, sample_shape, sample_dtype, end_fn, next_inputs_fn),
            start_inputs,
            start_inputs=start_inputs,
        )


class CustomHelper(_SamplerHelper):
    """A helper made of three functions: `initialize_fn()`, `sample_fn(time, outputs, state)` and
    `next_inputs_fn(time, outputs, state, sample_ids)`.
    """

    def __init__(
        self,
        initialize_fn: Callable,
        sample_fn: Callable,
        next_inputs_fn: Callable,
        sample_ids_shape: Any = None,
        sample_ids_dtype: Any = None,
    ):
        self._hold(
            sampler.CustomSampler(
                lambda inputs: initialize_fn(),
                sample_fn,
                next_inputs_fn,
                sample_ids_shape,
                sample_ids_dtype,
            ),
            inputs=None,
        )


def _function_or_matrix(embedding) -> tuple:
    return (embedding, None) if callable(embedding) else (None, embedding)
