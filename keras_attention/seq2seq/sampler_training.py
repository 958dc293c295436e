"""Samplers for training: the next input is given, or in scheduled sampling the model's own."""

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from keras_attention.backend.keras import build_part, register, serialize, tensors_of
from keras_attention.backend.per_thread import PerThread
from keras_attention.decoding.loop import transpose_batch_time
from keras_attention.functional.masks import as_lengths
from keras_attention.seq2seq.sampler_base import (
    Sampler,
    check_callable,
    embedder,
    number,
)
from keras_attention.seq2seq.sampler_draws import bernoulli_sample, categorical_sample


@register
class TrainingSampler(Sampler):
    """Teacher forcing: the next input is the given one, whatever the output is.

    `initialize(inputs, sequence_length=None, mask=None)`: inputs [B, T, ...] (a nest of them;
    [T, B, ...] with `time_major`), lengths [B], or a right-padded boolean mask [B, T]
    ([T, B] with `time_major`). Without both, every row has T steps. `sample_ids` are the argmax of
    the outputs.

    Raises ValueError for a mask that is not 2-D bool, lengths that are not a vector of integers,
    both at once, inputs of a nest that differ in B or T, and lengths that are not B numbers from 0
    to T. What is known at run time only is an InvalidArgumentError; XLA cannot raise one and
    decodes T steps.

    >>> sampler = TrainingSampler()
    >>> finished, first = sampler.initialize(tf.reshape(tf.range(6.0), [2, 3, 1]), [3, 0])
    >>> finished.numpy().tolist(), first.numpy().ravel().tolist()
    ([False, True], [0.0, 3.0])
    """

    sequence_length = PerThread()
    _given = PerThread()

    def __init__(self, time_major: bool = False):
        self.time_major = time_major

    def initialize(self, inputs, sequence_length=None, mask=None):
        """-> (finished [B] bool, the first inputs [B, ...])."""
        inputs = self._time_major(tensors_of(inputs))
        _check_same_size(inputs)
        first = tf.nest.flatten(inputs)[0]
        steps, self._batch_size = tf.shape(first)[0], tf.shape(first)[1]
        lengths = self._lengths(sequence_length, mask, steps)
        longest, rows = first.shape[:2]
        self.sequence_length = _within(lengths, longest, rows, steps, self._batch_size)
        self._given = _Steps.of(inputs)
        finished = tf.equal(self.sequence_length, 0)
        return finished, self._given.read(0, finished)

    def given_inputs(self):
        """All inputs [T, B, ...] of the last `initialize`, and the lengths [B]."""
        return self._given.inputs, self.sequence_length

    def _time_major(self, inputs):
        return inputs if self.time_major else tf.nest.map_structure(transpose_batch_time, inputs)

    def _lengths(self, sequence_length, mask, steps):
        if sequence_length is not None and mask is not None:
            raise ValueError(
                "sequence_length and mask can't be provided at the same time: both define the "
                "lengths. Received: both; leave one out."
            )
        if mask is not None:
            mask = tf.convert_to_tensor(mask)
            if mask.dtype != tf.bool or mask.shape.rank != 2:
                raise ValueError(
                    "Expected mask to be a boolean tensor and a 2D tensor: [B, T], True on real "
                    f"steps. Received: {mask.dtype.name}, shape {mask.shape}"
                )
            _check_sequence_is_right_padded(mask, self.time_major)
            return tf.reduce_sum(tf.cast(mask, tf.int32), axis=0 if self.time_major else 1)
        if sequence_length is None:
            return tf.fill([self._batch_size], steps)
        lengths = as_lengths(sequence_length, "sequence_length")
        if lengths.shape.rank != 1:
            raise ValueError(
                "Expected sequence_length to be vector-shaped, one length for each row. Received: "
                f"shape {lengths.shape}"
            )
        return tf.cast(lengths, tf.int32)

    def sample(self, time, outputs, state):
        """-> the likeliest ids [B]."""
        return tf.argmax(outputs, axis=-1, output_type=tf.int32)

    def next_inputs(self, time, outputs, state, sample_ids):
        """-> (finished [B] bool, the given inputs of the next step, state)."""
        finished = time + 1 >= self.sequence_length
        return finished, self._given.read(time + 1, finished), state

    def get_config(self) -> dict:
        return {"time_major": self.time_major}


@register
class ScheduledEmbeddingTrainingSampler(TrainingSampler):
    """Scheduled sampling of ids: with some probability the next input is the model's own id.

    Bengio et al., 2015. At every step each row makes its own random choice. With probability
    `sampling_probability` p its next input is

        embedding(id), id ~ softmax(outputs)

    and otherwise the given one. `sample_ids` are those ids, and -1 where the given input is used.

    Args:
        sampling_probability: p, a scalar, or [B] for each row. A variable is read at every step,
            so that a callback may raise p during training.
        embedding_fn: ids [B] -> inputs [B, ...]; it is called for all rows, with 0 for -1. None:
            a lookup in the matrix passed to `initialize`.
        time_major: inputs are [T, B, ...].
        seed: of the ids.
        scheduling_seed: of the choices.

    `initialize(inputs, sequence_length=None, mask=None, embedding=None)`: like that of
    `TrainingSampler`, and the embedding matrix [V, D]. Fed back inputs are cast to the dtype of the
    given inputs.

    Raises ValueError for p of another rank, and if there is no embedding.

    >>> sampler = ScheduledEmbeddingTrainingSampler(sampling_probability=1.0)
    >>> finished, first = sampler.initialize(tf.zeros([1, 2, 3]), embedding=tf.eye(3))
    >>> ids = sampler.sample(0, tf.constant([[-1e9, 0.0, -1e9]]), None)
    >>> finished, inputs, state = sampler.next_inputs(0, None, None, ids)
    >>> ids.numpy().tolist(), inputs.numpy().tolist()
    ([1], [[0.0, 1.0, 0.0]])
    """

    _embed = PerThread()

    def __init__(
        self,
        sampling_probability: Any,
        embedding_fn: Callable | None = None,
        time_major: bool = False,
        seed: int | None = None,
        scheduling_seed: int | None = None,
    ):
        super().__init__(time_major)
        if embedding_fn is not None:
            check_callable(embedding_fn, "embedding_fn", "ids -> inputs")
        self.sampling_probability = _probability(sampling_probability)
        self.embedding_fn = embedding_fn
        self.seed = seed
        self.scheduling_seed = scheduling_seed

    def initialize(self, inputs, sequence_length=None, mask=None, embedding=None):
        """-> (finished [B] bool, the first inputs [B, ...])."""
        self._embed = embedder(self.embedding_fn, embedding, self)
        build_part(self.embedding_fn, (None,))
        return super().initialize(inputs, sequence_length, mask)

    def sample(self, time, outputs, state):
        """-> ids [B], -1 where the given input will be read."""
        with _in_order(outputs):
            chosen = _bernoulli(
                self.sampling_probability, self.sequence_length, tf.bool, self.scheduling_seed
            )
        return tf.where(chosen, categorical_sample(outputs, seed=self.seed), -1)

    def next_inputs(self, time, outputs, state, sample_ids):
        """-> (finished [B] bool, embeddings of the ids and given inputs, state)."""
        finished, given, state = super().next_inputs(time, outputs, state, sample_ids)
        own = self._embed(tf.maximum(sample_ids, 0))
        return finished, _mix(sample_ids >= 0, own, given, finished), state

    def get_config(self) -> dict:
        return {
            "sampling_probability": number(self.sampling_probability),
            "embedding_fn": serialize(self.embedding_fn),
            "time_major": self.time_major,
            "seed": number(self.seed),
            "scheduling_seed": number(self.scheduling_seed),
        }


@register
class ScheduledOutputTrainingSampler(TrainingSampler):
    """Scheduled sampling of outputs: with some probability the next input is the model's output.

    Bengio et al., 2015, for outputs that are not ids. At every step each row makes its own random
    choice. With probability `sampling_probability` p its next input is

        [next_inputs_fn(outputs); auxiliary_inputs]

    and otherwise the given one. `sample_ids` are the choices, int32: 1 if the output is fed back.

    Args:
        sampling_probability: p, a scalar, or [B] for each row. A variable is read at every step.
        time_major: inputs are [T, B, ...].
        seed: of the choices.
        next_inputs_fn: outputs [B, ...] -> inputs [B, ...], called for all rows. None: the outputs
            themselves.

    `initialize(inputs, sequence_length=None, mask=None, auxiliary_inputs=None)`: like that of
    `TrainingSampler`; `auxiliary_inputs` [B, T, ...] are appended to the last axis of every input,
    given or fed back.

    Raises ValueError for p of another rank, and if fed back inputs do not have the given shape.

    >>> sampler = ScheduledOutputTrainingSampler(sampling_probability=1.0)
    >>> finished, first = sampler.initialize(tf.zeros([1, 2, 3]))
    >>> coins = sampler.sample(0, None, None)
    >>> finished, inputs, state = sampler.next_inputs(0, tf.ones([1, 3]), None, coins)
    >>> coins.numpy().tolist(), inputs.numpy().tolist()
    ([1], [[1.0, 1.0, 1.0]])
    """

    _auxiliary = PerThread()

    def __init__(
        self,
        sampling_probability: Any,
        time_major: bool = False,
        seed: int | None = None,
        next_inputs_fn: Callable | None = None,
    ):
        super().__init__(time_major)
        if next_inputs_fn is not None:
            check_callable(next_inputs_fn, "next_inputs_fn", "outputs -> inputs")
        self.sampling_probability = _probability(sampling_probability)
        self.seed = seed
        self.next_inputs_fn = next_inputs_fn

    def initialize(self, inputs, sequence_length=None, mask=None, auxiliary_inputs=None):
        """-> (finished [B] bool, the first inputs [B, ...])."""
        self._auxiliary = None
        if auxiliary_inputs is not None:
            inputs, auxiliary_inputs = tensors_of(inputs), tensors_of(auxiliary_inputs)
            inputs = tf.nest.map_structure(_append, inputs, auxiliary_inputs)
            self._auxiliary = _Steps.of(self._time_major(auxiliary_inputs))
        return super().initialize(inputs, sequence_length, mask)

    def sample(self, time, outputs, state):
        """-> coins [B], 0 or 1."""
        with _in_order(outputs):
            return _bernoulli(self.sampling_probability, self.sequence_length, tf.int32, self.seed)

    def next_inputs(self, time, outputs, state, sample_ids):
        """-> (finished [B] bool, outputs and given inputs, state)."""
        finished, given, state = super().next_inputs(time, outputs, state, sample_ids)
        own = outputs if self.next_inputs_fn is None else self.next_inputs_fn(outputs)
        if self._auxiliary is not None:
            auxiliary = self._auxiliary.read(time + 1, finished)
            own = tf.nest.map_structure(_append, own, auxiliary)
        return finished, _mix(tf.cast(sample_ids, tf.bool), own, given, finished), state

    def get_config(self) -> dict:
        return {
            "sampling_probability": number(self.sampling_probability),
            "time_major": self.time_major,
            "seed": number(self.seed),
            "next_inputs_fn": serialize(self.next_inputs_fn),
        }


class _Steps(NamedTuple):
    """Inputs [T, B, ...], read step by step."""

    inputs: Any
    arrays: Any  # a nest of TensorArray
    zeros: Any  # [B, ...]: returned when every row has finished, also if there are no steps

    @classmethod
    def of(cls, inputs):
        def zeros(x):
            row = tf.zeros(tf.shape(x)[1:], x.dtype)
            row.set_shape(x.shape[1:])
            return row

        def array(x):
            return tf.TensorArray(x.dtype, size=tf.shape(x)[0], element_shape=x.shape[1:]).unstack(
                x
            )

        return cls(
            inputs, tf.nest.map_structure(array, inputs), tf.nest.map_structure(zeros, inputs)
        )

    def read(self, time, finished):
        """The inputs [B, ...] of one step."""
        values = tf.cond(
            tf.reduce_all(finished),
            lambda: self.zeros,
            lambda: tf.nest.map_structure(lambda array: array.read(time), self.arrays),
        )
        for value, zeros in zip(tf.nest.flatten(values), tf.nest.flatten(self.zeros)):
            value.set_shape(zeros.shape)
        return values


def _check_same_size(inputs):
    """ValueError if the inputs of a nest, each [T, B, ...], have different static T or B."""
    sizes = [x.shape[:2] for x in tf.nest.flatten(inputs)]
    if not all(size.is_compatible_with(sizes[0]) for size in sizes):
        raise ValueError(
            "All inputs of a nest must have the same number of steps and rows. Received: [T, B] of "
            f"{[size.as_list() for size in sizes]}"
        )


def _within(lengths, static_steps, static_rows, steps, rows):
    """Check that there is one length for each row, from 0 to T."""
    values, known = tf.get_static_value(lengths), lengths.shape[0]
    if None not in (known, static_rows) and known != static_rows:
        raise ValueError(
            "sequence_length must have one length for each row of the inputs. Received: "
            f"{known} lengths, {static_rows} rows"
        )
    if values is not None and values.size:
        most = values.max() if static_steps is None else static_steps
        if values.min() < 0 or values.max() > most:
            raise ValueError(
                "sequence_length must be from 0 to T, the number of steps of the inputs. Received: "
                f"sequence_length={values.tolist()}, inputs of {static_steps} steps. Are the "
                "inputs time major?"
            )
    if values is not None and None not in (static_steps, static_rows):
        return lengths
    message = "sequence_length must hold, for each row of the inputs, a length from 0 to T."
    checks = [
        tf.debugging.assert_equal(tf.size(lengths), rows, message=message),
        tf.debugging.assert_non_negative(lengths, message=message),
        tf.debugging.assert_less_equal(lengths, steps, message=message),
    ]
    with tf.control_dependencies([check for check in checks if check is not None]):
        # XLA has no assertions, but rejects a reshape to another number of rows.
        return tf.reshape(tf.clip_by_value(lengths, 0, steps), [rows])


def _probability(value):
    """A variable unchanged, to be read at every step; anything else as a tensor."""
    value = value if hasattr(value, "assign") else tf.convert_to_tensor(value)
    if tf.TensorShape(value.shape).rank not in (0, 1):
        raise ValueError(
            "sampling_probability must be either a scalar or a vector, with one number for each "
            f"row. Received: shape {value.shape}"
        )
    return value


def _in_order(outputs):
    """Make the random choices depend on this step's outputs, so that a loop runs them in order.

    Otherwise the loop could run them for several steps in any order, and no seed could repeat them.
    """
    return tf.control_dependencies([x for x in tf.nest.flatten(outputs) if tf.is_tensor(x)])


def _bernoulli(probability, rows, dtype, seed):
    """A random choice for each of the rows [B].  -> [B]."""
    probabilities = tf.broadcast_to(tf.convert_to_tensor(probability), tf.shape(rows))
    return bernoulli_sample(probabilities, dtype=dtype, seed=seed)


def _append(x, auxiliary):
    return tf.concat([x, tf.cast(auxiliary, x.dtype)], -1)


def _mix(chosen, own, given, finished):
    """`own` in the chosen rows, `given` elsewhere.  [B] bool, nests of [B, ...]."""
    chosen &= ~tf.reduce_all(finished)  # if all rows have finished, the zeros that were given

    def mix(given, own):
        own = tf.cast(own, given.dtype)
        if not own.shape.is_compatible_with(given.shape):
            raise ValueError(
                f"Fed back inputs must have the shape of the given ones, {given.shape}. Received: "
                f"shape {own.shape}. Change embedding_fn or next_inputs_fn."
            )
        rows = tf.reshape(chosen, [-1] + [1] * (given.shape.rank - 1))
        mixed = tf.where(rows, own, given)
        mixed.set_shape(given.shape)
        return mixed

    return tf.nest.map_structure(mix, given, own)


def _check_sequence_is_right_padded(mask: tf.Tensor, time_major: bool) -> None:
    """Check a mask [B, T]: it defines lengths only if no real step follows a padded one."""
    if time_major:
        mask = tf.transpose(mask)
    lengths = tf.reduce_sum(tf.cast(mask, tf.int32), axis=1)
    tf.debugging.assert_equal(
        mask,
        tf.sequence_mask(lengths, tf.shape(mask)[1]),
        message="The mask should be right padded: every real step before every padded one.",
    )
