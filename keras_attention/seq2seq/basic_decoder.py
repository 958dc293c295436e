"""`BasicDecoder`: a cell, a sampler, and perhaps a layer on top, one row per sequence."""

import collections
import functools
from typing import Any

import tensorflow as tf

from keras_attention.seq2seq._keras import (
    build,
    build_part,
    deserialize,
    listed_cells,
    register,
    same_structure,
    serialize,
    track,
    zero_state,
)
from keras_attention.seq2seq._memory import is_raw
from keras_attention.seq2seq._per_thread import PerThread
from keras_attention.seq2seq.decoder import BaseDecoder

__all__ = ["BasicDecoder", "BasicDecoderOutput"]


class BasicDecoderOutput(collections.namedtuple("BasicDecoderOutput", ("rnn_output", "sample_id"))):
    """rnn_output [N, T, V]: what the output layer gave; sample_id [N, T]: what was chosen."""

    __slots__ = ()


@register
class BasicDecoder(BaseDecoder):
    """Decode with a cell and a sampler: teacher forcing, greedy and sampled decoding.

    Args:
        cell: an RNN cell, `(inputs [N, D], state) -> (output [N, D'], state)`.
        sampler: a `Sampler`.
        output_layer: a layer from the cell's output to logits, or None.

    Call: `decoder(inputs, initial_state=None, memory=None, **sampler_arguments)` ->
    `(BasicDecoderOutput, final_state, lengths [N])`. `memory` goes to every step of the cell: what
    `cell.prepare_memory` gave, or a tensor [B, S, D] that is prepared before the loop, with
    `memory_sequence_length=` or `memory_mask=`. Without `initial_state` the cell begins with zeros,
    or its inner cell with `initial_cell_state=`.

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
    _cell_dtype = PerThread(None)

    def __init__(self, cell: Any, sampler: Any, output_layer: Any = None, **kwargs):
        kwargs.setdefault("dtype", getattr(cell, "dtype_policy", None))  # states are the cell's
        super().__init__(**kwargs)
        if not callable(cell) or not hasattr(cell, "output_size"):
            raise TypeError(
                "cell must be an RNN cell: callable, with output_size and state_size. Received: "
                f"{type(cell).__name__}"
            )
        if output_layer is not None and not callable(output_layer):
            raise TypeError(f"output_layer must be a layer or None. Received: {output_layer!r}")
        self.cell = cell
        track(self, "cell", listed_cells(cell))
        self.sampler = sampler
        self.output_layer = output_layer

    @property
    def batch_size(self):
        return self.sampler.batch_size

    def _rnn_output_size(self) -> tf.TensorShape:
        size = tf.TensorShape(self.cell.output_size)
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
        self._step_cell = self.cell
        if memory is not None:
            self._step_cell = functools.partial(self.cell, memory=memory)
        self._cell_dtype = next(
            leaf.dtype for leaf in tf.nest.flatten(initial_state) if leaf.dtype.is_floating
        )
        build_cell(self.cell, first, memory)
        build_output_layer(self.output_layer, self.cell)
        return finished, first, initial_state

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

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "cell": serialize(self.cell),
            "sampler": serialize(self.sampler),
            "output_layer": serialize(self.output_layer),
        }

    @classmethod
    def from_config(cls, config: dict):
        parts = {name: deserialize(config[name]) for name in ("cell", "sampler", "output_layer")}
        return cls(**{**config, **parts})


def prepare(cell, memory, lengths, mask):
    """What every step looks at, made once before the loop: a raw memory is masked and projected."""
    if memory is None:
        return None
    if hasattr(cell, "_per_mechanism"):
        return cell._pack(cell._per_mechanism(memory, lengths, mask))
    return cell.prepare_memory(memory, lengths, mask) if is_raw(memory) else memory


def only_one_state(initial_state, initial_cell_state) -> None:
    """An initial state has a cell state in it."""
    if initial_state is not None and initial_cell_state is not None:
        raise ValueError(
            "Give initial_state or initial_cell_state: the one is a part of the other. Received: "
            "both; initial_state.clone(cell_state=...) joins them."
        )


def first_state(cell, rows, memory, cell_state):
    """What a decoder begins with if it is not told: zeros, with the given state inside."""
    if not hasattr(cell, "get_initial_state"):
        raise ValueError(
            f"initial_state is needed: {type(cell).__name__} has no get_initial_state to begin "
            "with. Received: initial_state=None"
        )
    if hasattr(cell, "prepare_memory"):
        state = cell.get_initial_state(batch_size=rows, memory=memory)
        return state if cell_state is None else state.clone(cell_state=cell_state)
    return zero_state(cell, rows, cell.compute_dtype) if cell_state is None else cell_state


def build_cell(cell, inputs, memory) -> None:
    """Make the cell's weights before the loop, in whose body nothing should be born."""
    if getattr(cell, "built", True) or not tf.is_tensor(inputs):
        return
    if memory is not None and hasattr(cell, "_note_widths"):
        cell._note_widths(memory)
    build(cell, tuple(inputs.shape.as_list()))


def build_output_layer(layer, cell) -> None:
    """Make the weights of a decoder's output layer before the loop, too."""
    size = getattr(cell, "output_size", None)
    if layer is not None and size is not None:
        build_part(layer, (None, *tf.TensorShape(size)))
