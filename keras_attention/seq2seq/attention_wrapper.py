"""`AttentionWrapper`: any RNN cell, made to look at a memory at every step."""

import collections
import contextlib
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from keras_attention.backend.cells import takes
from keras_attention.backend.keras import (
    DrawsMasks,
    DropoutMasks,
    KerasTensor,
    as_tensors,
    build,
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
    check_structure,
    describe,
    is_floating,
    row_count,
)
from keras_attention.decoding import histories
from keras_attention.functional import Memory, monotonic_attention, safe_cumprod
from keras_attention.layers._remat import KeepsActivations
from keras_attention.seq2seq._memory import is_raw, prepared, resolve_memory_mask
from keras_attention.seq2seq.attention_mechanism import AttentionMechanism
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


class AttentionWrapperState(
    collections.namedtuple(
        "AttentionWrapperState",
        ("cell_state", "attention", "alignments", "alignment_history", "attention_state"),
    )
):
    """What a wrapped cell carries from step to step.

    cell_state: the inner cell's own, in its own containers.
    attention: [N, A], what the last step attended to, fed to the next.
    alignments: [N, S], the weights of the last step (a tuple with several mechanisms).
    alignment_history: () or a TensorArray of alignments, one entry a step (for each mechanism).
    attention_state: what the mechanism carries, for most of them the alignments.
    """

    __slots__ = ()

    def clone(self, **replacements) -> "AttentionWrapperState":
        """A copy with some fields replaced by values of the same shape and type.

        The containers stay those of this state: a GRU's state may be given as the bare tensor
        that a GRU layer returns. Raises ValueError (InvalidArgumentError in a graph that cannot
        know before) where a shape differs.
        """
        replacements = as_tensors(replacements)
        replaced = self._replace(**replacements)
        for field, value in replacements.items():
            if field != "alignment_history":
                check_structure(getattr(self, field), value, field)
        message = (
            "The shape of the AttentionWrapperState is expected to be same as the one to clone. "
            "With beam search, tile the new value with tile_batch(value, beam_width) first."
        )

        def checked(old, new):
            if not (tf.is_tensor(old) and tf.is_tensor(new)):
                return new
            if not old.shape.is_compatible_with(new.shape):
                raise ValueError(f"{message} Expected: {old.shape}. Received: {new.shape}")
            check_dtype(old.dtype, new, "The new value of an AttentionWrapperState")
            if old.shape.is_fully_defined() and new.shape.is_fully_defined():
                return new
            same = tf.debugging.assert_equal(tf.shape(old), tf.shape(new), message=message)
            with tf.control_dependencies([same]):
                return tf.identity(new)

        new = same_structure(self, replaced)
        return tf.nest.map_structure(checked, self, new)


class _BoundMechanism:
    """A mechanism together with the memory of this call: what an `attention_fn` sees."""

    def __init__(self, mechanism: AttentionMechanism, memory: Memory | None, beam_width: int):
        self._mechanism, self._at = mechanism, {"memory": memory, "beam_width": beam_width}

    def __call__(self, inputs):
        if takes(type(self._mechanism).__call__, "memory"):
            return self._mechanism(inputs, **self._at)
        if self._at["memory"] is not None:
            raise ValueError(
                f"{type(self._mechanism).__name__} has a __call__ of its own that takes no memory: "
                "bind the memory with setup_memory, or override scores(query, memory) instead of "
                "__call__. Received: memory= at the call"
            )
        return self._mechanism(*inputs)  # contrib's __call__(query, state)

    def read(self, alignments):
        return self._mechanism.read(alignments, **self._at)

    def __getattr__(self, name):
        return getattr(self._mechanism, name)


def _attend(mechanism, cell_output, attention_state, attention_layer):
    """alignments, context, and the layer that joins the context with the cell's output."""
    alignments, next_state = mechanism([cell_output, attention_state])
    context = mechanism.read(alignments)
    if attention_layer is None:
        return context, alignments, next_state
    return attention_layer(tf.concat([cell_output, context], 1)), alignments, next_state


def _concat(inputs, attention):
    return tf.concat([inputs, attention], -1)


@register
class AttentionWrapper(KeepsActivations, DrawsMasks, keras.layers.Layer):
    """A cell whose every step asks a memory, and feeds the answer to the next step.

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
    is what `prepare_memory` gave (a list of them with several mechanisms), or a tensor [B, S, D]
    that is prepared in this call, with `memory_sequence_length=` or `memory_mask=`; with
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
        self._is_multi = isinstance(attention_mechanism, (list, tuple))
        mechanisms = list(attention_mechanism) if self._is_multi else [attention_mechanism]
        for mechanism in mechanisms:
            if not isinstance(mechanism, AttentionMechanism):
                raise TypeError(
                    "attention_mechanism must be an AttentionMechanism or a list of them. "
                    f"Received: {type(mechanism).__name__}"
                )
        check_cell(cell, needs_state_size=True)
        for argument, value in (
            ("cell_input_fn", cell_input_fn),
            ("attention_fn", attention_fn),
        ):
            if value is not None and not callable(value):
                raise TypeError(f"{argument} must be callable. Received: {value!r}")
        self.cell = cell
        self._mechanisms = mechanisms
        self._attention_layer_size = attention_layer_size
        self._attention_layers = self._make_layers(attention_layer_size, attention_layer)
        track(self, "cell", listed_cells(cell))
        track(self, "_mechanism", mechanisms)
        track(self, "_attention_layer", self._attention_layers or ())
        self._given_layers = attention_layer is not None
        self._alignment_history = alignment_history
        self._cell_input_fn = cell_input_fn
        self._attention_fn = attention_fn
        self._output_attention = output_attention
        self._initial_cell_state = initial_cell_state
        self._value_widths = None

    def _make_layers(self, sizes, layers) -> list | None:
        if sizes is not None and layers is not None:
            raise ValueError(
                "Only one of attention_layer_size and attention_layer should be set. Received: "
                f"attention_layer_size={sizes}, attention_layer={layers}"
            )
        argument = "attention_layer_size" if layers is None else "attention_layer"
        given = sizes if layers is None else layers
        if given is None:
            return None
        given = list(given) if isinstance(given, (list, tuple)) else [given]
        if len(given) != len(self._mechanisms):
            raise ValueError(
                f"If provided, {argument} must contain exactly one entry per attention_mechanism. "
                f"Received: {len(given)} entries, {len(self._mechanisms)} mechanisms"
            )
        if layers is not None:
            return given
        return [
            keras.layers.Dense(
                size, use_bias=False, name="attention_layer", dtype=mechanism.dtype_policy
            )
            for size, mechanism in zip(given, self._mechanisms)
        ]

    # -- memory

    @property
    def attention_mechanism(self):
        """The mechanism, or the list of them."""
        return self._mechanisms if self._is_multi else self._mechanisms[0]

    def prepare_memory(self, memory, memory_sequence_length=None, memory_mask=None):
        """One memory for all mechanisms: what to hand over as `memory=` at each call."""
        memories = [
            mechanism.prepare_memory(memory, memory_sequence_length, memory_mask)
            for mechanism in self._mechanisms
        ]
        return memories if self._is_multi else memories[0]

    def _per_mechanism(self, memory, lengths=None, mask=None) -> list:
        """One prepared memory per mechanism; None where the bound one is meant."""
        if memory is None:
            return [None] * len(self._mechanisms)
        parts = self._parts(memory)
        return [m._memory(part, lengths, mask) for m, part in zip(self._mechanisms, parts)]

    def _parts(self, memory) -> list:
        """What was given for each mechanism: one raw memory is for all of them."""
        if is_raw(memory):
            return [memory] * len(self._mechanisms)
        return list(memory) if self._is_multi else [memory]

    @contextlib.contextmanager
    def bound_to(self, memory, memory_sequence_length=None, memory_mask=None):
        """Within: calls of this thread without memory= look at this one.

        For loops that hand over no memory, such as that of `keras.layers.RNN`.
        """
        memories = self._per_mechanism(memory, memory_sequence_length, memory_mask)
        with contextlib.ExitStack() as bindings:
            for mechanism, known in zip(self._mechanisms, memories):
                if known is not None:
                    bindings.enter_context(AttentionMechanism._bound.within(mechanism, known))
            yield

    def _pack(self, items):
        return tuple(items) if self._is_multi else items[0]

    def _unpack(self, items):
        return list(items) if self._is_multi else [items]

    # -- sizes

    def _context_widths(self) -> list:
        """Width of each mechanism's values, None where no memory has been seen."""
        if self._value_widths is not None:
            return list(self._value_widths)
        return [
            mechanism._memory_shape[-1] if mechanism._memory_shape else None
            for mechanism in self._mechanisms
        ]

    def _attention_width(self, context_widths: list | None = None) -> int | None:
        widths: list[Any] = context_widths or self._context_widths()
        if self._attention_layers is not None:
            inner = output_width(self.cell)
            widths = [
                getattr(layer, "units", None)  # a Dense layer knows, whatever it is given
                if width is None
                else layer.compute_output_shape((None, inner + width))[-1]
                for layer, width in zip(self._attention_layers, widths)
            ]
        return None if None in widths else int(sum(widths))

    @property
    def output_size(self) -> int | None:
        """Width of the output; None while it depends on a memory not yet seen."""
        return self._attention_width() if self._output_attention else output_width(self.cell)

    @property
    def state_size(self) -> AttentionWrapperState:
        """Widths of the state's fields; None where they depend on a memory not yet seen."""
        alignments = self._pack([state_width(m.alignments_size) for m in self._mechanisms])
        return AttentionWrapperState(
            cell_state=self.cell.state_size,
            attention=state_width(self._attention_width()),
            alignments=alignments,
            alignment_history=alignments
            if self._alignment_history
            else self._pack([()] * len(self._mechanisms)),
            attention_state=self._pack([state_width(m.state_size) for m in self._mechanisms]),
        )

    def compute_output_shape(self, input_shape, state_shape=None, memory_shape=None, **_) -> Any:
        """Those of the output [N, A] and of the next state, for inputs [N, D].

        `state_shape` holds the shapes of a state, which stay; without it, those of a state for a
        memory of `memory_shape` [B, S, D'], or else of the one that is bound. Sizes that depend on
        a memory not yet seen are None.
        """
        rows, count = input_shape[0], len(self._mechanisms)
        widths = None if memory_shape is None else [memory_shape[-1]] * count
        attention = self._attention_width(widths)
        if state_shape is None:
            steps = [mechanism.alignments_size for mechanism in self._mechanisms]
            if memory_shape is not None:
                steps = [memory_shape[1]] * count
            alignments = self._pack([(rows, s if isinstance(s, int) else None) for s in steps])
            state_shape = AttentionWrapperState(
                cell_state=tf.nest.map_structure(
                    lambda x: (rows, *x.shape[1:]), zero_state(self.cell, 1, self.compute_dtype)
                ),
                attention=(rows, attention),
                alignments=alignments,
                alignment_history=(
                    alignments if self._alignment_history else self._pack([()] * count)
                ),
                attention_state=alignments,
            )
        width = attention if self._output_attention else output_width(self.cell)
        return (rows, width), state_shape

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
        self._note_widths(memory)
        memories = self._per_mechanism(memory)
        self._check_rows(batch_size, memories)
        if self._initial_cell_state is None:
            cell_state = zero_state(self.cell, batch_size, dtype)
        pairs = list(zip(self._mechanisms, memories))
        alignments = [m.initial_alignments(batch_size, dtype, known) for m, known in pairs]
        keep = self._alignment_history
        history = [histories.new(dtype, leaf.shape) if keep else () for leaf in alignments]
        return AttentionWrapperState(
            cell_state=cell_state,
            attention=_zeros(batch_size, self._attention_width(), dtype),
            alignments=self._pack(alignments),
            alignment_history=self._pack(history),
            attention_state=self._pack(
                [m.initial_state(batch_size, dtype, known) for m, known in pairs]
            ),
        )

    def _check_rows(self, rows, memories) -> None:
        for mechanism, known in zip(self._mechanisms, memories):
            sources = tf.shape(mechanism._memory(known).mask)[0]
            tf.debugging.assert_equal(
                tf.math.floormod(rows, tf.maximum(sources, 1)),
                0,
                message="Non-matching batch sizes between the memory (encoder output) and the "
                "requested batch size, which must be that of the memory, or beam_width times it "
                "for a beam search.",
            )

    def checked_state(
        self, state: Any, rows: Any = None, beam_width: Any = None
    ) -> AttentionWrapperState:
        """A state that belongs to this wrapper; TypeError or ValueError for any other.

        rows: N, or None where it is unknown. beam_width: K of a beam search, which N includes.
        """
        fields = AttentionWrapperState._fields
        if not isinstance(state, (list, tuple)) or len(state) != len(fields):
            raise TypeError(
                "Expected state to be an AttentionWrapperState, as get_initial_state gives it; for "
                "the state of the inner cell alone, get_initial_state(...).clone(cell_state=...). "
                f"Received: {type(state).__name__}, {describe(state)}"
            )
        state = AttentionWrapperState(*state)  # RNN hands it over as a plain sequence
        check_state(self.cell, state.cell_state, "cell_state", rows, beam_width)
        name = f"attention of {type(self).__name__}"
        check_shapes(self._attention_width(), state.attention, name, rows, beam_width)
        check_dtype(self.compute_dtype, state.attention, name)
        if not is_floating(state.cell_state):
            check_dtypes(self.cell, state.cell_state, "cell_state")
        return state

    def _note_widths(self, memory) -> None:
        """What a memory, prepared, raw or bound, tells about the sizes of the weights."""

        def values(mechanism, part):
            if part is None:
                return mechanism.values
            return part if is_raw(part) else prepared(part).values

        parts = [None] * len(self._mechanisms) if memory is None else self._parts(memory)
        self._value_widths = tuple(values(*pair).shape[-1] for pair in zip(self._mechanisms, parts))

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
        if not self.built:
            self._note_widths(memory)
            build(self, inputs.shape)
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
        attention_fn = self._attention_fn or _attend
        answers = [
            attention_fn(_BoundMechanism(mechanism, known, beam_width), cell_output, *rest)
            for mechanism, known, *rest in zip(
                self._mechanisms,
                self._per_mechanism(memory, memory_sequence_length, memory_mask),
                self._unpack(state.attention_state),
                self._attention_layers or [None] * len(self._mechanisms),
            )
        ]
        attentions, alignments, attention_states = zip(*answers)
        attention = tf.concat(attentions, 1)
        next_state = AttentionWrapperState(
            cell_state=same_structure(state.cell_state, cell_state),
            attention=attention,
            alignments=self._pack(alignments),
            alignment_history=self._write(state.alignment_history, alignments),
            attention_state=self._pack(attention_states),
        )
        return (attention if self._output_attention else cell_output), to_containers(next_state)

    def _write(self, history, alignments):
        if not self._alignment_history:
            return self._pack([()] * len(alignments))
        return self._pack(list(map(histories.append, self._unpack(history), alignments)))

    # -- building and saving

    def build(self, input_shape) -> None:
        """Build the cell and every projection from [N, D] and the widths of the memory."""
        widths, attention = self._context_widths(), self._attention_width()
        if None in widths or attention is None:
            raise ValueError(
                f"{self.name} cannot be built before its memory is known: pass memory= at the "
                "call, or call setup_memory on the mechanism first."
            )
        self._input_width = input_shape[-1]
        if self._cell_input_fn is None:
            cell_shape = (None, input_shape[-1] + attention)
        else:
            parts = [tf.zeros([1, input_shape[-1]], self.compute_dtype)]
            parts.append(tf.zeros([1, attention], self.compute_dtype))
            cell_shape = (None, self._cell_input_fn(*parts).shape[-1])
        build(self.cell, cell_shape)
        inner = output_width(self.cell)
        for mechanism, width in zip(self._mechanisms, widths):
            for layer, depth in ((mechanism.query_layer, inner), (mechanism.memory_layer, width)):
                if layer is not None:
                    build(layer, (None, depth))
            build(mechanism, None)
        for layer, width in zip(self._attention_layers or (), widths):
            build(layer, (None, inner + width))
        self._value_widths = tuple(widths)
        super().build(input_shape)

    def get_build_config(self) -> dict:
        if not self.built:
            return {}
        return {"input_width": self._input_width, "value_widths": self._value_widths}

    def build_from_config(self, config: dict) -> None:
        self._value_widths = tuple(config["value_widths"])
        self.build((None, config["input_width"]))

    def get_config(self) -> dict:
        if self._initial_cell_state is not None:
            raise ValueError(
                "initial_cell_state holds tensors and cannot be saved. Pass the state at the call: "
                "get_initial_state(...).clone(cell_state=...)."
            )
        layers = self._attention_layers if self._given_layers else None
        sizes = self._attention_layer_size
        return {
            **super().get_config(),
            "cell": serialize(self.cell),
            "attention_mechanism": [serialize(m) for m in self._mechanisms],
            "is_multi": self._is_multi,
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
