"""`AttentionWrapper`: an RNN cell with attention."""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from keras_attention.backend.keras import (
    DrawsMasks,
    DropoutMasks,
    KerasTensor,
    build,
    building,
    check_cell,
    deserialize,
    from_containers,
    listed_cells,
    no_autograph,
    output_width,
    register,
    same_structure,
    serialize,
    state_width,
    step,
    to_containers,
    track,
    zero_state,
)
from keras_attention.backend.states import (
    check_dtype,
    check_dtypes,
    check_shapes,
    check_state,
    is_floating,
    row_count,
)
from keras_attention.decoding import histories
from keras_attention.functional import monotonic_attention, safe_cumprod
from keras_attention.layers._remat import KeepsActivations
from keras_attention.seq2seq._memory import check_batch_size, resolve_memory_mask
from keras_attention.seq2seq.attention_group import AttentionGroup
from keras_attention.seq2seq.attention_mechanism import AttentionMechanism
from keras_attention.seq2seq.attention_state import AttentionWrapperState
from keras_attention.seq2seq.mechanisms import BahdanauAttention, LuongAttention, hardmax
from keras_attention.seq2seq.monotonic import (
    BahdanauMonotonicAttention,
    LuongMonotonicAttention,
)

__all__ = [
    "AttentionMechanism",
    "AttentionWrapper",
    "AttentionWrapperState",
    "BahdanauAttention",
    "BahdanauMonotonicAttention",
    "LuongAttention",
    "LuongMonotonicAttention",
    "hardmax",
    "monotonic_attention",
    "safe_cumprod",
]


class StepFunctions(NamedTuple):
    """The arguments of an `AttentionWrapper` that change its step."""

    cell_input_fn: Callable | None
    attention_fn: Callable | None
    output_attention: bool


def _concat(inputs, attention):
    return tf.concat([inputs, attention], -1)


@register
class AttentionWrapper(KeepsActivations, DrawsMasks, keras.layers.Layer):
    """An RNN cell that attends to a memory at each step, with input feeding.

    The attention vector of a step is concatenated to the input of the next one.

    One step: `o, s = cell([x_t; attention_{t-1}])`; `alignments = mechanism(o)`;
    `context = sum of alignments * values`; `attention = attention_layer([o; context])`, or the
    context itself without a layer; the output is the attention (or `o`).

    Args:
        cell: any RNN cell that `keras.layers.RNN` takes, also `StackedRNNCells`. Without
            `output_size` its output must be as wide as its first state.
        attention_mechanism: a mechanism, or a list of them.
        attention_layer_size: width of a linear, bias-free attention layer, or a list.
        alignment_history: keep the alignments of all steps in the state: a `TensorArray` to
            `.stack()`. Not in `keras.layers.RNN`, whose states are tensors alone; under XLA in
            `dynamic_decode` with `maximum_iterations`.
        cell_input_fn: `(inputs, attention) -> cell inputs`; default: concatenation.
        output_attention: output the attention (Luong) or the cell's output (Bahdanau).
        initial_cell_state: the state `get_initial_state` begins with.
        attention_layer: a layer (or list) instead of `attention_layer_size`; Luong's is
            `Dense(size, "tanh", use_bias=False)`.
        attention_fn: `(mechanism, cell_output, attention_state, attention_layer) ->
            (attention, alignments, next_attention_state)`.

    Call: `(inputs [N, D], state, memory=None, beam_width=1) -> (output [N, A], state)`. `memory`
    is the result of `prepare_memory` (a list of them with several mechanisms), or a tensor
    [B, S, D] that is prepared in this call, with `memory_sequence_length=` or `memory_mask=`; with
    `beam_width` K its batch is N/K: the hypotheses of a source share its memory.

    Source: Luong, Pham, Manning, 2015, section 3.3 (input feeding).

    >>> wrapper = AttentionWrapper(keras.layers.GRUCell(4), LuongAttention(4), 6)
    >>> memory = wrapper.prepare_memory(tf.ones([2, 3, 5]))
    >>> state = wrapper.get_initial_state(batch_size=2, memory=memory)
    >>> output, state = wrapper(tf.ones([2, 7]), state, memory=memory)
    >>> output.shape, state.alignments.shape
    (TensorShape([2, 6]), TensorShape([2, 3]))
    """

    def __init__(
        self,
        cell: Any,
        attention_mechanism: Any,
        attention_layer_size: Any = None,
        alignment_history: bool = False,
        cell_input_fn: Callable | None = None,
        output_attention: bool = True,
        initial_cell_state: Any = None,
        name: str | None = None,
        attention_layer: Any = None,
        attention_fn: Callable | None = None,
        **kwargs,
    ):
        # Of its parents the checker sees the constructor of the first, which has none.
        super().__init__(name=name, **kwargs)  # pyright: ignore[reportCallIssue]
        check_cell(cell, needs_state_size=True)
        for argument, value in (
            ("cell_input_fn", cell_input_fn),
            ("attention_fn", attention_fn),
        ):
            if value is not None and not callable(value):
                raise TypeError(f"{argument} must be callable. Received: {value!r}")
        self.cell = cell
        self._group = AttentionGroup(
            cell, attention_mechanism, attention_layer_size, attention_layer
        )
        # Weights are saved under these names.
        self._mechanisms, self._attention_layers = self._group.mechanisms, self._group.layers
        track(self, "cell", listed_cells(cell))
        track(self, "_mechanism", self._mechanisms)
        track(self, "_attention_layer", self._attention_layers or ())
        self._attention_layer_size = attention_layer_size
        self._given_layers = attention_layer is not None
        self._alignment_history = alignment_history
        self._cell_input_fn = cell_input_fn
        self._attention_fn = attention_fn
        self._output_attention = output_attention
        self._initial_cell_state = initial_cell_state
        self._memory_widths: list | None = None  # of the memories that the weights are made for

    @property
    def step_functions(self) -> StepFunctions:
        """What a step does besides its layers, as it was given."""
        return StepFunctions(self._cell_input_fn, self._attention_fn, self._output_attention)

    @property
    def attention_mechanism(self):
        """The attention, or the list of them."""
        attentions = self._group.attentions
        return attentions if self._group.is_multi else attentions[0]

    @property
    def attention_layer(self):
        """The layer on the context, or the list of them, or None."""
        layers = self._attention_layers
        return layers if layers is None or self._group.is_multi else layers[0]

    # -- memory

    def prepare_memory(self, memory, memory_sequence_length=None, memory_mask=None):
        """Mask and project a memory [B, S, D'] for every attention: to pass as `memory=`.

        -> a `Memory`, or a list of them with several attentions.
        """
        memories = self._group.memories(memory, memory_sequence_length, memory_mask)
        return memories if self._group.is_multi else memories[0]

    def memory_of_call(self, memory=None):
        """The projected memory of a call, be it passed, raw, or (None) the one that is bound.

        -> a `Memory`, or a list of them with several attentions.
        """
        memories = self._group.memories(memory)
        return memories if self._group.is_multi else memories[0]

    def bound_to(self, memory, memory_sequence_length=None, memory_mask=None):
        """Context manager: inside it, calls of this thread without `memory=` use this memory.

        For loops that pass no memory, such as that of `keras.layers.RNN`.
        """
        return self._group.bound_to(memory, memory_sequence_length, memory_mask)

    # -- sizes

    def _widths_of(self, memory) -> list:
        known = self._memory_widths if memory is None else None
        return self._group.memory_widths(memory) if known is None else list(known)

    def _attention_width(self, memory_widths: list | None = None) -> int | None:
        known = self._widths_of(None) if memory_widths is None else memory_widths
        return self._group.attention_width(known)

    @property
    def output_size(self) -> int | None:
        """Width of the output; None while it depends on a memory not yet seen."""
        return self._attention_width() if self._output_attention else output_width(self.cell)

    @property
    def state_size(self) -> AttentionWrapperState:
        """Widths of the state's fields; None where they depend on a memory not yet seen."""
        steps = [state_width(mechanism.alignments_size) for mechanism in self._mechanisms]
        states = [state_width(mechanism.state_size) for mechanism in self._mechanisms]
        width = state_width(self._attention_width())
        return self._state(self.cell.state_size, width, steps, steps, states)

    def compute_output_shape(self, input_shape, state_shape=None, memory_shape=None, **_) -> Any:
        """Those of the output [N, A] and of the next state, for inputs [N, D].

        `state_shape` holds the shapes of a state, which stay; without it, those of a state for a
        memory of `memory_shape` [B, S, D'], or else of the one that is bound. Sizes that depend on
        a memory not yet seen are None.
        """
        rows, count = input_shape[0], len(self._mechanisms)
        memory_widths = None if memory_shape is None else [memory_shape[-1]] * count
        attention = self._attention_width(memory_widths)
        if state_shape is None:
            steps = [mechanism.alignments_size for mechanism in self._mechanisms]
            if memory_shape is not None:
                steps = [memory_shape[1]] * count
            shapes = [(rows, s if isinstance(s, int) else None) for s in steps]
            pairs = zip(self._mechanisms, shapes)
            states = [() if m.state_size == () else shape for m, shape in pairs]
            cell_state = zero_state(self.cell, 1, self.compute_dtype)
            cell_state = tf.nest.map_structure(lambda x: (rows, *x.shape[1:]), cell_state)
            state_shape = self._state(cell_state, (rows, attention), shapes, shapes, states)
        width = attention if self._output_attention else output_width(self.cell)
        return (rows, width), state_shape

    def _state(self, cell_state, attention, alignments, history, attention_state):
        """A state, from lists with one entry per attention."""
        if not self._alignment_history:
            history = [()] * len(self._mechanisms)
        pack = self._group.pack
        return AttentionWrapperState(
            cell_state, attention, pack(alignments), pack(history), pack(attention_state)
        )

    def compute_output_spec(self, *args, **kwargs) -> Any:
        """Trace `call`: from `compute_output_shape` Keras would take shapes, but no dtypes."""
        return super(keras.layers.Layer, self).compute_output_spec(*args, **kwargs)

    def get_initial_state(self, inputs=None, batch_size=None, dtype=None, memory=None):
        """The state before the first step, for a batch of N rows.

        `batch_size` is N; `inputs`, if given instead, says both N and the type. With beam search
        N is batch_size * beam_width.
        """
        if inputs is not None:
            batch_size, dtype = tf.shape(inputs)[0], inputs.dtype
        dtype = dtype or self.compute_dtype
        if self._initial_cell_state is not None:
            cell_state = self._initial_cell_state
            if batch_size is None:
                batch_size = tf.shape(tf.nest.flatten(cell_state)[0])[0]
        if batch_size is None:
            raise ValueError("get_initial_state needs batch_size (or inputs). Received: neither.")
        memories = self._group.memories(memory)
        check_batch_size(batch_size, memories)
        if self._initial_cell_state is None:
            cell_state = zero_state(self.cell, batch_size, dtype)
        pairs = list(zip(self._mechanisms, memories))
        alignments = [m.initial_alignments(batch_size, dtype, known) for m, known in pairs]
        keep = self._alignment_history
        history = [histories.new(dtype, leaf.shape) for leaf in alignments] if keep else None
        states = [m.initial_state(batch_size, dtype, known) for m, known in pairs]
        attention = _zeros(batch_size, self._attention_width(self._widths_of(memory)), dtype)
        return self._state(cell_state, attention, alignments, history, states)

    def checked_state(
        self, state: Any, rows: Any = None, beam_width: Any = None
    ) -> AttentionWrapperState:
        """A state that belongs to this wrapper; TypeError or ValueError for any other.

        rows: N, or None where it is unknown. beam_width: K of a beam search, which N includes.
        """
        state = AttentionWrapperState.of(state)
        check_state(self.cell, state.cell_state, "cell_state", rows, beam_width)
        name = f"attention of {type(self).__name__}"
        check_shapes(self._attention_width(), state.attention, name, rows, beam_width)
        check_dtype(self.compute_dtype, state.attention, name)
        if not is_floating(state.cell_state):
            check_dtypes(self.cell, state.cell_state, "cell_state")
        return state

    # -- the step

    @no_autograph
    def __call__(self, inputs, state, training=None, memory=None, beam_width=1, **kwargs):
        state = self.checked_state(state, row_count(inputs))
        symbolic = any(isinstance(x, KerasTensor) for x in tf.nest.flatten((inputs, state)))
        if symbolic and self._alignment_history:
            raise ValueError(
                "A step of a functional model carries tensors alone, and alignment_history=True "
                "keeps an array. Use alignment_history=False and collect state.alignments of the "
                "steps, or call a BasicDecoder, whose last state has the history as a tensor. "
                "Received: a symbolic call of a cell with alignment_history=True"
            )
        self.build_for(inputs.shape, memory)
        if memory is not None:
            kwargs["memory"] = memory
        output, state = super().__call__(
            inputs,
            state=to_containers(state),
            training=training,
            beam_width=beam_width,
            **resolve_memory_mask(kwargs),
        )
        return output, from_containers(state)

    def call(
        self,
        inputs,
        state,
        training=None,
        memory=None,
        beam_width=1,
        memory_sequence_length=None,
        memory_mask=None,
        **_,
    ):
        """One step; see the class."""
        state = from_containers(state)
        cell_inputs = (self._cell_input_fn or _concat)(inputs, state.attention)
        cell_output, cell_state = step(self.cell, cell_inputs, state.cell_state, training)
        told = getattr(self.cell, "output_size", None) is not None
        if not told and cell_output.shape[-1] != output_width(self.cell):
            raise ValueError(
                "A cell without output_size must have an output as wide as its first state, which "
                f"has width {output_width(self.cell)}. Received: output of shape "
                f"{cell_output.shape}. Give {type(self.cell).__name__} an output_size."
            )
        attentions, alignments, attention_states = self._group.attend(
            cell_output,
            self._group.memories(memory, memory_sequence_length, memory_mask),
            self._group.unpack(state.attention_state),
            beam_width,
            training,
            self._attention_fn,
        )
        attention = tf.concat(attentions, 1)
        history = None
        if self._alignment_history:
            before = self._group.unpack(state.alignment_history)
            history = list(map(histories.append, before, alignments))
        cell_state = same_structure(state.cell_state, cell_state)
        next_state = self._state(cell_state, attention, alignments, history, attention_states)
        return (attention if self._output_attention else cell_output), to_containers(next_state)

    # -- building and saving

    def build_for(self, input_shape, memory) -> None:
        """Build everything, once, for inputs [N, D] and a memory, be it raw, projected or bound."""
        if not self.built:
            widths = self._widths_of(memory)
            with building(self):
                if not self.built:
                    self._memory_widths = widths
                    self.build(tuple(input_shape))

    def build(self, input_shape) -> None:
        """Build the cell and every projection from [N, D] and the widths of the memory."""
        widths = self._widths_of(None)
        attention = self._attention_width(widths)
        if None in widths or attention is None:
            raise ValueError(
                f"{self.name} needs the width of its memory to be built: pass memory= at the "
                "call, or call setup_memory on the mechanism first. Received: no memory"
            )
        self._input_width = input_shape[-1]
        if self._cell_input_fn is None:
            cell_shape = (None, input_shape[-1] + attention)
        else:
            parts = [tf.zeros([1, input_shape[-1]], self.compute_dtype)]
            parts.append(tf.zeros([1, attention], self.compute_dtype))
            cell_shape = (None, self._cell_input_fn(*parts).shape[-1])
        build(self.cell, cell_shape)
        self._group.build(widths)
        self._memory_widths = widths
        super().build(input_shape)

    def get_build_config(self) -> dict:
        if not self.built:
            return {}
        return {"input_width": self._input_width, "value_widths": self._memory_widths}

    def build_from_config(self, config: dict) -> None:
        self._memory_widths = list(config["value_widths"])
        self.build((None, config["input_width"]))

    def get_config(self) -> dict:
        if self._initial_cell_state is not None:
            raise ValueError(
                "initial_cell_state holds tensors and cannot be saved. Pass the state at the call: "
                "get_initial_state(...).clone(cell_state=...). Received: an AttentionWrapper with "
                "initial_cell_state"
            )
        layers = self._attention_layers if self._given_layers else None
        sizes = self._attention_layer_size
        return {
            **super().get_config(),
            "cell": serialize(self.cell),
            "attention_mechanism": [serialize(m) for m in self._group.attentions],
            "is_multi": self._group.is_multi,
            "attention_layer_size": list(sizes) if isinstance(sizes, (list, tuple)) else sizes,
            "alignment_history": self._alignment_history,
            "cell_input_fn": serialize(self._cell_input_fn),
            "output_attention": self._output_attention,
            "attention_layer": layers and [serialize(layer) for layer in layers],
            "attention_fn": serialize(self._attention_fn),
        }

    @classmethod
    def from_config(cls, config: dict):
        config = dict(config)
        is_multi = config.pop("is_multi")
        for name in ("attention_mechanism", "attention_layer"):
            if config[name] is not None:
                items = [deserialize(item) for item in config[name]]
                config[name] = items if is_multi else items[0]
        for name in ("cell", "cell_input_fn", "attention_fn"):
            config[name] = deserialize(config[name])
        return cls(**config)

    # -- dropout: what RNN asks of a cell that draws masks

    def get_dropout_mask(self, step_input):
        """Draw the masks of the cells inside; the wrapper itself drops nothing."""
        DropoutMasks.of(self.cell).draw(tf.shape(step_input)[0])

    def get_recurrent_dropout_mask(self, step_input):
        """Drawn together with the other masks."""

    def reset_dropout_mask(self):
        """Drop the masks of the cells inside."""
        DropoutMasks.of(self.cell).drop()

    def reset_recurrent_dropout_mask(self):
        """Dropped together with the other masks."""


def _zeros(batch_size, width, dtype):
    zeros = tf.zeros(tf.stack([batch_size, width]), dtype)
    zeros.set_shape([tf.get_static_value(batch_size), width])
    return zeros
