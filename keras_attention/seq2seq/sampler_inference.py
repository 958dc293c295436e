"""Samplers for inference: the next input depends on the decoded output."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from keras_attention.backend.keras import build_part, register, serialize, tensors_of
from keras_attention.backend.per_thread import PerThread
from keras_attention.decoding.processors._settings import check_number
from keras_attention.functional.dtypes import widen
from keras_attention.seq2seq.sampler_base import (
    Sampler,
    as_finished,
    check_callable,
    embedder,
    number,
)
from keras_attention.seq2seq.sampler_draws import categorical_sample


@register
class GreedyEmbeddingSampler(Sampler):
    """Take the most likely id, and feed its embedding to the next step.

    `initialize(embedding, start_tokens, end_token)`: the embedding matrix [V, D] (used if there is
    no `embedding_fn`), start tokens [N], one end token. A row ends with the end token, which is
    part of the output.

    >>> sampler = GreedyEmbeddingSampler()
    >>> finished, first = sampler.initialize(tf.eye(3), start_tokens=[1], end_token=2)
    >>> first.numpy().tolist()
    [[0.0, 1.0, 0.0]]
    """

    start_tokens = PerThread()
    end_token = PerThread()
    _embed = PerThread()

    def __init__(self, embedding_fn: Callable | None = None):
        if embedding_fn is not None:
            check_callable(embedding_fn, "embedding_fn", "ids -> inputs")
        self.embedding_fn = embedding_fn

    def initialize(self, embedding, start_tokens=None, end_token=None):
        """-> (finished [N] bool, the embeddings of the start tokens)."""
        self._embed = embedder(self.embedding_fn, embedding, self)
        build_part(self.embedding_fn, (None,))
        if start_tokens is None or end_token is None:
            raise ValueError(
                f"{type(self).__name__} needs start_tokens [N] and end_token. Received: "
                f"start_tokens={start_tokens}, end_token={end_token}"
            )
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
        """-> the likeliest ids [N]."""
        return tf.argmax(_one_tensor(outputs), axis=-1, output_type=tf.int32)

    def next_inputs(self, time, outputs, state, sample_ids):
        """-> (finished [N] bool, the embeddings of the ids, state)."""
        return tf.equal(sample_ids, self.end_token), self._embed(sample_ids), state

    def get_config(self) -> dict:
        return {"embedding_fn": serialize(self.embedding_fn)}


@register
class SampleEmbeddingSampler(GreedyEmbeddingSampler):
    """Draw an id, and feed its embedding to the next step.

        id ~ softmax(outputs / softmax_temperature)

    Args:
        embedding_fn: ids [N] -> inputs. None: a lookup in the matrix passed to `initialize`.
        softmax_temperature: > 0, default 1: lower values make likely ids more likely, higher
            values less likely. A variable is read at every step.
        seed: of the draws.

    `initialize` is that of `GreedyEmbeddingSampler`. Raises ValueError for a temperature that is
    not a finite number above 0.

    >>> sampler = SampleEmbeddingSampler(softmax_temperature=0.01)
    >>> finished, first = sampler.initialize(tf.eye(3), start_tokens=[1], end_token=2)
    >>> sampler.sample(0, tf.constant([[1.0, 2.0, 3.0]]), None).numpy().tolist()
    [2]
    """

    def __init__(
        self,
        embedding_fn: Callable | None = None,
        softmax_temperature: Any = None,
        seed: int | None = None,
    ):
        super().__init__(embedding_fn)
        if softmax_temperature is not None:
            check_number(
                softmax_temperature,
                lambda t: (t > 0) & np.isfinite(t),
                "softmax_temperature must be > 0 and finite; for the likeliest ids use "
                "GreedyEmbeddingSampler.",
            )
        self.softmax_temperature = softmax_temperature
        self.seed = seed

    def sample(self, time, outputs, state):
        """-> ids [N], drawn."""
        logits = widen(_one_tensor(outputs))
        if self.softmax_temperature is not None:
            logits /= tf.cast(self.softmax_temperature, logits.dtype)
        return categorical_sample(logits, seed=self.seed)

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "softmax_temperature": number(self.softmax_temperature),
            "seed": number(self.seed),
        }


@register
class InferenceSampler(Sampler):
    """A function chooses from the outputs, and its choice is the next input.

    Args:
        sample_fn: outputs -> sample_ids [N, *sample_shape].
        sample_shape: shape of the sample of one row.
        sample_dtype: dtype of the samples.
        end_fn: sample_ids -> [N] bool, True where the row ends with this sample; a scalar is for
            all rows.
        next_inputs_fn: sample_ids -> inputs. None: the samples themselves.

    `initialize(start_inputs)`: the first inputs [N, ...]. A step raises ValueError if `end_fn`
    returns something else.

    >>> sampler = InferenceSampler(tf.sign, [1], tf.float32, lambda signs: signs[:, 0] < 0)
    >>> finished, first = sampler.initialize(tf.zeros([2, 1]))
    >>> signs = sampler.sample(0, tf.constant([[3.0], [-0.5]]), None)
    >>> finished, inputs, state = sampler.next_inputs(0, None, None, signs)
    >>> finished.numpy().tolist(), inputs.numpy().tolist()
    ([False, True], [[1.0], [-1.0]])
    """

    start_inputs = PerThread()

    def __init__(
        self,
        sample_fn: Callable,
        sample_shape: Any,
        sample_dtype: Any,
        end_fn: Callable,
        next_inputs_fn: Callable | None = None,
    ):
        check_callable(sample_fn, "sample_fn", "outputs -> sample_ids")
        check_callable(end_fn, "end_fn", "sample_ids -> [N] bool")
        if next_inputs_fn is not None:
            check_callable(next_inputs_fn, "next_inputs_fn", "sample_ids -> inputs")
        self.sample_fn = sample_fn
        self.sample_shape = tf.TensorShape(sample_shape)
        self.sample_dtype = tf.as_dtype(sample_dtype)
        self.end_fn = end_fn
        self.next_inputs_fn = next_inputs_fn

    @property
    def sample_ids_shape(self) -> tf.TensorShape:
        return self.sample_shape

    @property
    def sample_ids_dtype(self) -> tf.DType:
        return self.sample_dtype

    def initialize(self, start_inputs):
        """-> (finished [N] bool, start_inputs)."""
        self.start_inputs = tensors_of(start_inputs)
        self._batch_size = tf.shape(tf.nest.flatten(self.start_inputs)[0])[0]
        return tf.fill([self._batch_size], False), self.start_inputs

    def sample(self, time, outputs, state):
        """-> sample_fn(outputs)."""
        return self.sample_fn(outputs)

    def next_inputs(self, time, outputs, state, sample_ids):
        """-> (finished [N] bool, next inputs, state)."""
        inputs = sample_ids if self.next_inputs_fn is None else self.next_inputs_fn(sample_ids)
        return as_finished(self.end_fn(sample_ids), self._batch_size, "end_fn"), inputs, state

    def get_config(self) -> dict:
        return {
            "sample_fn": serialize(self.sample_fn),
            "sample_shape": self.sample_shape.as_list(),
            "sample_dtype": self.sample_dtype.name,
            "end_fn": serialize(self.end_fn),
            "next_inputs_fn": serialize(self.next_inputs_fn),
        }


@register
class CustomSampler(Sampler):
    """A sampler made of three functions.

    Args:
        initialize_fn: (inputs, **kwargs) -> (finished [N] bool, first inputs).
        sample_fn: (time, outputs, state) -> sample_ids [N, *sample_ids_shape].
        next_inputs_fn: (time, outputs, state, sample_ids) -> (finished [N] bool, inputs, state).
        sample_ids_shape: shape of the ids of one row, default a scalar.
        sample_ids_dtype: dtype of the ids, default int32.

    Arguments are passed by these names, except the first of `initialize_fn`. Inputs may be a nest.

    >>> sampler = CustomSampler(
    ...     initialize_fn=lambda inputs: (tf.equal(inputs, 0), inputs),
    ...     sample_fn=lambda time, outputs, state: outputs,
    ...     next_inputs_fn=lambda time, outputs, state, sample_ids: (
    ...         tf.equal(sample_ids, 0), sample_ids, state
    ...     ),
    ... )
    >>> finished, first = sampler.initialize(tf.constant([2, 0, 1]))
    >>> finished.numpy().tolist(), int(sampler.batch_size)
    ([False, True, False], 3)
    """

    def __init__(
        self,
        initialize_fn: Callable,
        sample_fn: Callable,
        next_inputs_fn: Callable,
        sample_ids_shape: Any = None,
        sample_ids_dtype: Any = None,
    ):
        check_callable(initialize_fn, "initialize_fn", "inputs, **kwargs -> finished, inputs")
        check_callable(sample_fn, "sample_fn", "time, outputs, state -> sample_ids")
        check_callable(
            next_inputs_fn,
            "next_inputs_fn",
            "time, outputs, state, sample_ids -> finished, inputs, state",
        )
        self._initialize_fn = initialize_fn
        self._sample_fn = sample_fn
        self._next_inputs_fn = next_inputs_fn
        self._sample_ids_shape = tf.TensorShape(
            [] if sample_ids_shape is None else sample_ids_shape
        )
        self._sample_ids_dtype = tf.as_dtype(sample_ids_dtype or tf.int32)

    @property
    def sample_ids_shape(self) -> tf.TensorShape:
        return self._sample_ids_shape

    @property
    def sample_ids_dtype(self) -> tf.DType:
        return self._sample_ids_dtype

    def initialize(self, inputs, **kwargs):
        """-> initialize_fn(inputs, **kwargs)."""
        finished, first = self._initialize_fn(inputs, **kwargs)
        finished = as_finished(finished, None, "initialize_fn")
        self._batch_size = tf.size(finished)
        return finished, first

    def sample(self, time, outputs, state):
        """-> sample_fn(...)."""
        return self._sample_fn(time=time, outputs=outputs, state=state)

    def next_inputs(self, time, outputs, state, sample_ids):
        """-> next_inputs_fn(...)."""
        finished, inputs, state = self._next_inputs_fn(
            time=time, outputs=outputs, state=state, sample_ids=sample_ids
        )
        return as_finished(finished, self._batch_size, "next_inputs_fn"), inputs, state

    def get_config(self) -> dict:
        return {
            "initialize_fn": serialize(self._initialize_fn),
            "sample_fn": serialize(self._sample_fn),
            "next_inputs_fn": serialize(self._next_inputs_fn),
            "sample_ids_shape": self._sample_ids_shape.as_list(),
            "sample_ids_dtype": self._sample_ids_dtype.name,
        }


def _one_tensor(outputs):
    if not tf.is_tensor(outputs):
        raise TypeError(f"Expected outputs to be a single Tensor. Received: {type(outputs)}")
    return outputs
