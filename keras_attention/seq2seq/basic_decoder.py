"""`BasicDecoder`: decode with a cell, a sampler and an optional output layer."""

import collections
import functools
from typing import Any

import keras
import tensorflow as tf

from keras_attention.backend.keras import (
    build,
    build_part,
    check_cell,
    deserialize,
    listed_cells,
    output_width,
    register,
    same_structure,
    serialize,
    step,
    track,
    zero_state,
)
from keras_attention.backend.per_thread import PerThread
from keras_attention.backend.states import row_count
from keras_attention.decoding.initial_state import check_initial_state
from keras_attention.decoding.loop import Plan
from keras_attention.functional.shapes import extend
from keras_attention.seq2seq._memory import is_raw
from keras_attention.seq2seq.attention_wrapper import AttentionWrapper
from keras_attention.seq2seq.decoder import BaseDecoder
from keras_attention.seq2seq.fused import (
    NotFusible,
    check_fused,
    check_row_wise,
    fused_or_none,
    fused_steps,
    parts_of,
    zero_inactive,
)
from keras_attention.seq2seq.sampler_training import TrainingSampler

__all__ = ["BasicDecoder", "BasicDecoderOutput"]


class BasicDecoderOutput(collections.namedtuple("BasicDecoderOutput", ("rnn_output", "sample_id"))):
    """rnn_output [N, T, V]: the output of the output layer; sample_id [N, T]: the chosen ids."""

    __slots__ = ()


@register
class BasicDecoder(BaseDecoder):
    """Decode with a cell and a sampler: teacher forcing, greedy search or sampling.

    Args:
        cell: an RNN cell, `(inputs [N, D], state) -> (output [N, D'], state)`: a layer, or any
            function. Without `output_size`, the width of its output is found by an extra step
            before the loop.
        sampler: a `Sampler`.
        output_layer: a layer from the cell's output to logits, or None.
        fused: whether to run all steps as one differentiable function with a gradient written by
            hand, `functional.recurrence`, which is faster and takes less memory. True: with
            `TrainingSampler` and LSTM or GRU cells under additive or multiplicative attention or
            none; ValueError for other parts. "auto": where the parts allow it.
            False: a loop over `step`. The numbers are the same.

    Call: `decoder(inputs, initial_state=None, memory=None, **sampler_arguments)` ->
    `(BasicDecoderOutput, final_state, lengths [N])`. `memory` is passed to every step of the cell:
    the result of `cell.prepare_memory`, or a tensor [B, S, D] that is prepared before the loop,
    with `memory_sequence_length=` or `memory_mask=`. Without `initial_state` the cell starts with
    zeros; `initial_cell_state=` replaces the state of the wrapped cell.

    >>> import keras
    >>> from keras_attention.seq2seq import TrainingSampler
    >>> cell = keras.layers.GRUCell(4)
    >>> decoder = BasicDecoder(cell, TrainingSampler(), keras.layers.Dense(9))
    >>> state = cell.get_initial_state(batch_size=2)
    >>> outputs, state, lengths = decoder(tf.ones([2, 3, 5]), state, sequence_length=[3, 1])
    >>> outputs.rnn_output.shape, lengths.numpy().tolist()
    (TensorShape([2, 3, 9]), [3, 1])
    """

    _step_cell = PerThread()  # with the memory of the call
    _memory = PerThread(None)
    _cell_dtype = PerThread(None)
    cell_output_shape = PerThread(None)  # the shape of one row

    def __init__(
        self, cell: Any, sampler: Any, output_layer: Any = None, fused: Any = "auto", **kwargs
    ):
        kwargs.setdefault("dtype", getattr(cell, "dtype_policy", None))  # states are the cell's
        super().__init__(**kwargs)
        check_cell(cell)
        if output_layer is not None and not callable(output_layer):
            raise TypeError(f"output_layer must be a layer or None. Received: {output_layer!r}")
        self.cell = cell
        track(self, "cell", listed_cells(cell))
        self.sampler = sampler
        self.output_layer = output_layer
        self.fused = check_fused(fused)

    @property
    def batch_size(self):
        return self.sampler.batch_size

    def _rnn_output_size(self) -> tf.TensorShape:
        size = output_shape(self)
        if self.output_layer is None or not hasattr(self.output_layer, "compute_output_shape"):
            return size
        shape = self.output_layer.compute_output_shape((None, *size.as_list()))
        return tf.TensorShape(shape)[1:]

    @property
    def output_size(self):
        return BasicDecoderOutput(self._rnn_output_size(), self.sampler.sample_ids_shape)

    @property
    def output_dtype(self):
        dtype = getattr(self.output_layer, "compute_dtype", None) or self._cell_dtype
        return BasicDecoderOutput(tf.as_dtype(dtype), self.sampler.sample_ids_dtype)

    def initialize(
        self,
        inputs,
        initial_state=None,
        memory=None,
        memory_sequence_length=None,
        memory_mask=None,
        initial_cell_state=None,
        **kwargs,
    ):
        """Start the sampler on `inputs`, and the cell in `initial_state`."""
        only_one_state(initial_state, initial_cell_state)
        memory = prepare(self.cell, memory, memory_sequence_length, memory_mask)
        finished, first = self.sampler.initialize(inputs, **kwargs)
        if initial_state is None:
            rows = self.sampler.batch_size
            initial_state = first_state(self.cell, rows, memory, initial_cell_state)
        initial_state = check_initial_state(self.cell, initial_state, row_count(first))
        self._memory = memory
        self._step_cell = functools.partial(step, self.cell)
        if memory is not None:
            self._step_cell = functools.partial(step, self.cell, memory=memory)
        leaves = tf.nest.flatten(initial_state)
        floating = [leaf.dtype for leaf in leaves if leaf.dtype.is_floating]
        self._cell_dtype = floating[0] if floating else self.compute_dtype
        build_cell(self.cell, first, memory)
        self.cell_output_shape = measure(self.cell, self._step_cell, first, initial_state)
        return finished, first, initial_state

    def build_parts(self) -> None:
        """See `BaseDecoder`."""
        build_output_layer(self.output_layer, self.cell_output_shape)

    def step(self, time, inputs, state, training=None):
        """One step of cell, output layer and sampler."""
        output, next_state = self._step_cell(inputs, state, training=training)
        state = same_structure(state, next_state)
        if self.output_layer is not None:
            output = self.output_layer(output)
        sample_ids = self.sampler.sample(time=time, outputs=output, state=state)
        finished, next_inputs, state = self.sampler.next_inputs(
            time=time, outputs=output, state=state, sample_ids=sample_ids
        )
        return BasicDecoderOutput(output, sample_ids), state, next_inputs, finished

    def all_steps(self, start, plan: Plan):
        """See `Steps` and the argument `fused`."""
        return fused_or_none(self.fused, functools.partial(self._all_steps, start, plan))

    def _all_steps(self, start, plan):
        parts = parts_of(self.cell)
        check_row_wise(self.output_layer)
        self._check_steps(parts, plan)
        _, first, state = start
        inputs, lengths = self.sampler.given_inputs()
        if not tf.is_tensor(inputs) or inputs.shape.rank != 3 or inputs.shape[2] is None:
            raise NotFusible("inputs other than one tensor [B, T, D]")
        memory = self._memory
        if parts.wrapper is not None:
            memory = parts.wrapper.memory_of_call(memory)
        steps, limit = tf.shape(inputs)[0], plan.maximum_iterations
        end = tf.reduce_max(tf.concat([lengths, [0]], 0))  # the loop stops when all have finished
        if limit is not None:
            end = tf.minimum(end, limit)
        history = getattr(state, "alignment_history", ())
        if plan.fixed_size:
            inputs = inputs[: tf.minimum(steps, limit)]
        else:
            inputs = inputs[:end]
        times = tf.range(tf.shape(inputs)[0])[:, None]
        taken = times < tf.minimum(lengths, end)[None] if plan.impute_finished else times < end
        active = None
        if plan.impute_finished or plan.fixed_size:
            active = tf.broadcast_to(taken, tf.shape(inputs)[:2])
        found = fused_steps(parts, inputs, state, memory, active, plan.training, gaps=False)
        outputs, weights, last = found
        if history:
            last = last._replace(alignment_history=_array(weights, plan))
        outputs = self._outputs(outputs, active, plan)
        return outputs, last, tf.minimum(lengths, end)

    def _check_steps(self, parts, plan):
        """`NotFusible` for a decoder, a sampler or settings that need a loop over `step`."""
        own = (BasicDecoder.step, BasicDecoder.initialize)
        if (type(self).step, type(self).initialize) != own:
            raise NotFusible(f"{type(self).__name__} with a step of its own")
        if type(self.sampler) is not TrainingSampler:
            raise NotFusible(f"a sampler of type {type(self.sampler).__name__}")
        history = parts.wrapper is not None and parts.wrapper.state_size.alignment_history != ()
        if history and plan.impute_finished:
            raise NotFusible("alignment_history=True with impute_finished=True")
        if self.enable_tflite_convertible:
            raise NotFusible("enable_tflite_convertible=True")

    def _outputs(self, rows, active, plan):
        """Outputs of the cell [T, B, A] -> those of the decoder, zeros where no step is taken."""
        if self.output_layer is not None:
            flat = self.output_layer(tf.reshape(rows, [-1, rows.shape[2]]))
            shape = tf.concat([tf.shape(rows)[:2], tf.shape(flat)[1:]], 0)
            rows = tf.ensure_shape(tf.reshape(flat, shape), [*rows.shape[:2], flat.shape[1]])
        outputs = BasicDecoderOutput(rows, self.sampler.sample(None, rows, None))
        if active is not None:
            outputs = tf.nest.map_structure(lambda x: zero_inactive(x, active), outputs)
        if not plan.fixed_size:
            return outputs
        missing = plan.maximum_iterations - tf.shape(rows)[0]
        return tf.nest.map_structure(lambda x: extend(x, 0, missing, 0), outputs)

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "fused": self.fused,
            "cell": serialize(self.cell),
            "sampler": serialize(self.sampler),
            "output_layer": serialize(self.output_layer),
        }

    @classmethod
    def from_config(cls, config: dict):
        parts = {name: deserialize(config[name]) for name in ("cell", "sampler", "output_layer")}
        return cls(**{**config, **parts})


def _array(weights, plan):
    """Alignments [T, B, S] as the array of an `alignment_history`."""
    size = plan.maximum_iterations if plan.fixed_size else tf.shape(weights)[0]
    missing = size - tf.shape(weights)[0]
    array = tf.TensorArray(
        weights.dtype, size=size, clear_after_read=False, element_shape=weights.shape[1:]
    )
    return array.unstack(extend(weights, 0, missing, 0))


def prepare(cell, memory, lengths, mask):
    """The memory of all steps, prepared before the loop: a raw memory is masked and projected."""
    if memory is None:
        return None
    if isinstance(cell, AttentionWrapper) or is_raw(memory):
        return cell.prepare_memory(memory, lengths, mask)
    return memory


def only_one_state(initial_state, initial_cell_state) -> None:
    """Raise ValueError if both are given: an initial state contains a cell state."""
    if initial_state is not None and initial_cell_state is not None:
        raise ValueError(
            "Pass either initial_state or initial_cell_state, which is a part of it. Received: "
            "both; initial_state.clone(cell_state=...) joins them."
        )


def first_state(cell, rows, memory, cell_state):
    """The default initial state of a decoder: zeros, with the given cell state, if any."""
    if getattr(cell, "get_initial_state", None) is None and not hasattr(cell, "state_size"):
        raise ValueError(
            f"initial_state is required: {type(cell).__name__} has no get_initial_state or "
            "state_size. Received: initial_state=None"
        )
    if hasattr(cell, "prepare_memory"):
        state = cell.get_initial_state(batch_size=rows, memory=memory)
        return state if cell_state is None else state.clone(cell_state=cell_state)
    dtype = getattr(cell, "compute_dtype", None) or keras.backend.floatx()
    return zero_state(cell, rows, dtype) if cell_state is None else cell_state


def measure(cell, step_cell, inputs, state) -> tf.TensorShape:
    """The shape of one row of a cell's output: as declared, or else that of a step's output."""
    size = getattr(cell, "output_size", None)
    if size is None and any(isinstance(leaf, tf.TensorArray) for leaf in tf.nest.flatten(state)):
        size = output_width(cell)  # a step would write into the arrays of the state
    if size is None:
        return step_cell(inputs, state, training=False)[0].shape[1:]
    return tf.TensorShape(size)


def output_shape(decoder) -> tf.TensorShape:
    """The shape of one row of the output of a decoder's cell."""
    measured = decoder.cell_output_shape
    return tf.TensorShape(output_width(decoder.cell)) if measured is None else measured


def build_cell(cell, inputs, memory) -> None:
    """Make the cell's weights before the loop, because a loop body must not create any."""
    if getattr(cell, "built", True) or not tf.is_tensor(inputs):
        return
    if type(cell).build is keras.layers.Layer.build:
        cell.built = True  # its call builds the layers in it, as a `build` of Keras would report
        return
    if isinstance(cell, AttentionWrapper):
        cell.build_for(inputs.shape.as_list(), memory)
    else:
        build(cell, tuple(inputs.shape.as_list()))


def build_output_layer(layer, shape) -> None:
    """Make the weights of a decoder's output layer before the loop."""
    if layer is not None and shape.rank is not None:
        build_part(layer, (None, *shape))
