"""Binding a memory to an attention, as tfa.seq2seq does: `setup_memory`, `[query, state]`.

Only what was written for tf.contrib.seq2seq or tensorflow_addons.seq2seq needs a bound memory.
Everything else passes it at the call.
"""

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from keras_attention.backend.keras import (
    KERAS_3,
    KerasTensor,
    build,
    no_autograph,
    static_shape,
)
from keras_attention.backend.per_thread import HasPerThread, PerThread
from keras_attention.functional import Memory
from keras_attention.layers._remat import KeepsActivations
from keras_attention.layers.memory_attention import MemoryAttention
from keras_attention.seq2seq._memory import (
    any_symbolic,
    as_memory,
    by_row,
    by_source,
    check_not_symbolic,
    is_raw,
    length_mask,
    refuse_both,
    resolve_memory_mask,
)


class Binding(NamedTuple):
    """The memory that calls without `memory=` use, and the beam width of their queries."""

    memory: Memory
    beam_width: Any


class BoundAttention(KeepsActivations, HasPerThread, MemoryAttention, keras.layers.Layer):
    """Attention over rows [N, ...], N = B*K, to which a memory can be bound.

    A subclass defines `project_memory(memory, mask)`, `build_parts(query_shape, memory_shape)`
    and `weigh_rows(query, memory, state, beam_width)`.

    Thread-safe: `memory=` is used for one call. `setup_memory` sets the memory of the calling
    thread; other threads use it only if they never called `setup_memory`.
    """

    _bound = PerThread(None)  # a Binding
    _symbol = PerThread(None)  # the bound memory of a functional model that is being made

    # -- what a subclass gives

    def weigh_rows(self, query: Any, memory: Memory, state: Any, beam_width: Any) -> tuple:
        """query [N, D] -> weights [B, K, S], next state or None for the weights themselves."""
        raise NotImplementedError(f"{type(self).__name__} must define weigh_rows")

    def build_parts(self, query_shape: Any, memory_shape: Any) -> None:
        """Make the weights for queries [N, D] and a memory [B, S, D'], of which one may be None."""
        raise NotImplementedError(f"{type(self).__name__} must define build_parts")

    # -- memory

    def prepare_memory(
        self, memory: Any, memory_sequence_length: Any = None, memory_mask: Any = None
    ) -> Memory:
        """Mask and project a memory [B, S, D]: once per source, before the steps.

        Steps beyond the length are set to zero before the projection and get no weight. Lengths
        must be positive (`InvalidArgumentError` at run time); with a mask instead, a row that is
        masked everywhere gets no weights.
        """
        refuse_both(memory_sequence_length, memory_mask)
        check_not_symbolic(memory, memory_sequence_length, memory_mask)
        memory = tf.cast(tf.convert_to_tensor(memory), self.compute_dtype)
        if memory.shape.rank != 3 or memory.shape[2] is None:
            raise ValueError(
                f"memory must be [B, S, D] with a known D. Received: memory of shape {memory.shape}"
            )
        if memory_sequence_length is not None:
            memory_mask = length_mask(memory_sequence_length, memory)
        return self.project_memory(memory, memory_mask)

    def setup_memory(
        self, memory: Any, memory_sequence_length: Any = None, memory_mask: Any = None
    ) -> None:
        """Bind a memory, so that later calls of this thread need not pass it, as in tfa.seq2seq.

        Other threads use it only if they never called `setup_memory`.
        """
        if any_symbolic(memory, memory_sequence_length, memory_mask):
            self._bind(memory, memory_sequence_length, memory_mask)
        else:
            memory = self.prepare_memory(memory, memory_sequence_length, memory_mask)
            self._bound = Binding(memory, 1)
            self._symbol = None

    def _bind(self, memory, lengths, mask) -> None:
        """Bind a memory by a call of the layer, which may be an edge of a functional model."""
        if lengths is None:
            inputs = memory
        else:
            symbolic = isinstance(lengths, KerasTensor)
            inputs = [memory, lengths if symbolic else tf.convert_to_tensor(lengths)]
        BoundAttention.__call__(self, inputs, setup_memory=True, mask=mask)

    @contextlib.contextmanager
    def bound_to(self, memory: Memory, beam_width: Any = 1) -> Iterator[None]:
        """Context manager: inside it, calls of this thread without `memory=` use this memory."""
        with BoundAttention._bound.within(self, Binding(memory, beam_width)):
            yield

    @property
    def memory_initialized(self) -> bool:
        """Whether a memory is bound."""
        return self._bound is not None or self._symbol is not None

    @property
    def keys(self) -> tf.Tensor:
        """The bound memory, projected.  [B, S, units]."""
        return self.bound_memory.keys

    @property
    def values(self) -> tf.Tensor:
        """The bound memory.  [B, S, D]."""
        return self.bound_memory.values if self._symbol is None else self._symbol

    @property
    def bound_memory(self) -> Memory:
        """The memory that is bound; ValueError if there is none."""
        if KERAS_3 and self._symbol is not None:
            raise ValueError(
                f"{self.name} is bound to a tensor of a functional model that is being made, which "
                "only the call mechanism([query, state]) can use. Pass the tensor where it is "
                "needed: memory=memory at the call of AttentionRNN, BasicDecoder or the mechanism."
            )
        if self._bound is None or _belongs_to_a_finished_graph(self._bound.memory.keys):
            raise ValueError(
                f"{self.name} has no memory to attend to: pass memory= at the call (see "
                "prepare_memory), or call setup_memory(memory) before. Received: "
                f"{'no memory' if self._bound is None else 'a memory bound in a tf.function'}."
            )
        return self._bound.memory

    def memory_of_call(self, memory: Any, lengths: Any = None, mask: Any = None) -> Memory:
        """The projected memory of a call: as given, projected now, or the bound one."""
        if memory is None:
            return self.bound_memory
        if isinstance(mask, (tuple, list)):  # Keras' masks of the parts of a projected memory
            mask = None
        if is_raw(memory):
            # Lengths are never implicit; a mask may be, and then they win.
            return self.prepare_memory(memory, lengths, mask if lengths is None else None)
        if not (lengths is None and mask is None):
            raise ValueError(
                "This memory was prepared before, so a mask or lengths cannot be applied to it. "
                "Pass them to prepare_memory, or pass the tensor [B, S, D] with them. Received: a "
                "prepared memory with memory_mask or memory_sequence_length"
            )
        return as_memory(memory)

    # -- one step

    @no_autograph
    def __call__(self, inputs, *args, **kwargs):
        setup = kwargs.get("setup_memory", False)
        # An explicit mask travels under another name, to be told from the one Keras fills in.
        if kwargs.get("mask") is not None:
            kwargs["memory_mask"] = kwargs.pop("mask")
        mask, lengths = kwargs.get("memory_mask"), kwargs.get("memory_sequence_length")
        if isinstance(mask, (list, tuple)):  # one mask for each input
            kwargs["memory_mask"] = mask = mask[0]
        first, *rest = inputs if isinstance(inputs, (list, tuple)) else [inputs]
        memory = kwargs.get("memory")
        if setup:
            self.build_parts(None, static_shape(first))
            lengths = rest[0] if rest else None
        else:
            shape = static_shape(memory) if memory is not None and is_raw(memory) else None
            self.build_parts(static_shape(first), shape)
            by_binding = isinstance(first, KerasTensor) and memory is None
            if by_binding and self._symbol is not None and len(inputs) == 2:
                inputs = [*inputs, self._symbol]  # an edge of the model's graph
            kwargs = resolve_memory_mask(kwargs)
        refuse_both(mask, lengths)
        outputs = super().__call__(inputs, *args, **kwargs)
        if setup:
            self._symbol = outputs if isinstance(outputs, KerasTensor) else None
        return outputs

    def call(
        self,
        inputs,
        mask=None,
        setup_memory: bool = False,
        memory: Any = None,
        beam_width: Any = None,
        memory_sequence_length=None,
        memory_mask=None,
        **_,
    ):
        """`[query, state]` -> `(alignments, next_state)`; with `setup_memory`, bind a memory."""
        if setup_memory:
            return self._call_setup(inputs, mask, memory_mask)
        if not isinstance(inputs, (list, tuple)) or len(inputs) not in (2, 3):
            raise ValueError(
                "A mechanism is called with a list of two tensors: mechanism([query, state], "
                f"memory=memory). Received: {_described(inputs)}"
            )
        query, state = inputs[0], inputs[1]
        if beam_width is None:
            beam_width = 1 if memory is not None else self._bound_width
        memory = self.memory_of_call(memory, memory_sequence_length, memory_mask)
        weights, state = self.weigh_rows(query, memory, state, beam_width)
        alignments = by_row(tf.cast(weights, self.compute_dtype), query)
        alignments.set_shape([query.shape[0], memory.mask.shape[1]])
        return alignments, (alignments if state is None else state)

    def _call_setup(self, inputs, implicit_mask, memory_mask):
        memory, *rest = inputs if isinstance(inputs, (list, tuple)) else [inputs]
        if len(rest) > 1:
            raise ValueError(
                "With setup_memory=True a mechanism is called with memory or [memory, lengths]. "
                f"Received: {1 + len(rest)} inputs"
            )
        if isinstance(implicit_mask, (list, tuple)):
            implicit_mask = implicit_mask[0]
        lengths = rest[0] if rest else None
        if lengths is None and memory_mask is None:
            memory_mask = implicit_mask  # an explicit mask wins over a Keras mask
        self.setup_memory(memory, lengths, memory_mask)
        return self.bound_memory.values

    @property
    def _bound_width(self) -> Any:
        return 1 if self._bound is None else self._bound.beam_width

    def attend_rows(
        self, query: Any, memory: Memory, state: Any, beam_width: Any, training: Any = None
    ) -> tuple:
        """One step of N = B*K rows: query [N, D] -> context [N, D''], alignments, next state."""
        alignments, state = self([query, state], memory=memory, beam_width=beam_width)
        return self.read(alignments, memory, beam_width), alignments, state

    def attend(self, query, memory, state=(), training=None):
        """See `MemoryAttention`: [B, K, D], state -> context, weights, state, all [B, K, ...]."""

        def rows(x):
            return tf.reshape(x, tf.concat([[-1], tf.shape(x)[2:]], 0))

        beam_width = query.shape[1] or tf.shape(query)[1]
        state = tf.nest.map_structure(rows, state) if tf.nest.flatten(state) else None
        answers = self.attend_rows(rows(query), memory, state, beam_width, training)
        return tf.nest.map_structure(lambda x: by_source(x, memory, beam_width), answers)

    def read(
        self, alignments: tf.Tensor, memory: Memory | None = None, beam_width: Any = None
    ) -> tf.Tensor:
        """The context: values summed by their weights.  [B*K, S] -> [B*K, D]."""
        if beam_width is None:
            beam_width = 1 if memory is not None else self._bound_width
        memory = self.memory_of_call(memory)
        weights = by_source(tf.cast(alignments, memory.values.dtype), memory, beam_width)
        return by_row(tf.matmul(weights, memory.values), alignments)

    # -- shapes, for Keras

    def build(self, input_shape=None) -> None:
        """See `build_parts`."""
        super().build(input_shape)

    @property
    def output(self):
        """The output of the last symbolic call: `setup_memory` has one tensor, a step has two."""
        return self._inbound_nodes[-1].output_tensors

    def compute_mask(self, inputs, previous_mask=None):
        """None: alignments and states have no mask."""
        return None

    def compute_output_spec(self, inputs, *args, **kwargs):
        """Shapes without a run of `call`, which would bind a tensor of a temporary graph."""
        if kwargs.get("setup_memory"):
            memory = inputs[0] if isinstance(inputs, (list, tuple)) else inputs
            return KerasTensor(memory.shape, self.compute_dtype)
        if kwargs.get("memory") is None and len(inputs) == 3:
            query, _, values = inputs
            shape = (query.shape[0], values.shape[1])
            return tuple(KerasTensor(shape, self.compute_dtype) for _ in range(2))
        return super(keras.layers.Layer, self).compute_output_spec(inputs, *args, **kwargs)

    def compute_output_shape(self, input_shape, memory_shape=None, **_) -> Any:
        """Of `[query, state]`: those of the alignments and of the next state, [N, S] both.

        S is that of the memory [B, S, D], or else that of the state. The shape of a memory alone,
        which is bound, is that of its values.
        """
        if not isinstance(input_shape[0], (list, tuple)):
            return tuple(input_shape)
        query, state = input_shape[:2]
        steps = self.alignments_size if memory_shape is None else memory_shape[1]
        steps = state[-1] if not isinstance(steps, int) else steps
        return (query[0], steps), (query[0], steps)

    # -- state

    @property
    def batch_size(self) -> tf.Tensor:
        """The batch size of the bound memory."""
        return tf.shape(self.keys)[0]

    @property
    def alignments_size(self) -> int | tf.TensorShape:
        """S of the bound memory; `TensorShape([None])` while it is not known."""
        steps = None if self._bound is None else self._bound.memory.mask.shape[1]
        return tf.TensorShape([None]) if steps is None else steps

    def initial_alignments(self, batch_size: Any, dtype: Any, memory: Memory | None = None):
        """Zeros: no step has been taken.  -> [N, S]."""
        mask = self.memory_of_call(memory).mask
        zeros = tf.zeros(tf.stack([batch_size, tf.shape(mask)[1]]), dtype)
        zeros.set_shape([tf.get_static_value(batch_size), mask.shape[1]])
        return zeros


class AdaptedAttention(BoundAttention):
    """Any attention with the contract of `MemoryAttention`, for an `AttentionWrapper`."""

    def __init__(self, attention: Any):
        # Of its parents the checker sees the constructor of the first, which has none.
        name, policy = f"bound_{attention.name}", attention.dtype_policy
        super().__init__(dtype=policy, name=name)  # pyright: ignore[reportCallIssue]
        self.attention = attention

    def build_parts(self, query_shape, memory_shape) -> None:
        """Build the attention as soon as both shapes are known."""
        if not self.attention.built and query_shape is not None and memory_shape is not None:
            build(self.attention, (None, None, query_shape[-1]), (None, None, memory_shape[-1]))
        if not self.built:
            self.build()

    def project_memory(self, memory, mask=None) -> Memory:
        projected = self.attention.project_memory(memory, mask)
        if projected.mask is not None:
            return projected
        return projected._replace(mask=tf.ones(tf.shape(memory)[:2], tf.bool))

    def weigh_rows(self, query, memory, state, beam_width):
        _, weights, state = self._attend(query, memory, state, beam_width, None)
        return weights, tf.nest.map_structure(lambda x: by_row(x, query), state)

    def attend_rows(self, query, memory, state, beam_width, training=None):
        context, weights, after = self._attend(query, memory, state, beam_width, training)
        context, weights, after = tf.nest.map_structure(
            lambda x: by_row(x, query), (context, weights, after)
        )
        weights.set_shape([query.shape[0], memory.mask.shape[1]])
        after = tf.nest.map_structure(
            lambda new, old: tf.ensure_shape(tf.cast(new, old.dtype), old.shape), after, state
        )
        return context, tf.cast(weights, self.compute_dtype), after

    def _attend(self, query, memory, state, beam_width, training):
        query, state = tf.nest.map_structure(
            lambda x: by_source(x, memory, beam_width), (query, state)
        )
        query = tf.cast(query, self.compute_dtype)
        return self.attention.attend(query, memory, state, training=training)

    def context_width(self, query_width, memory_width) -> int:
        return self.attention.context_width(query_width, memory_width)

    @property
    def memory_width(self) -> int | None:
        return self.attention.memory_width

    @property
    def state_size(self) -> Any:
        return self.attention.state_size

    def initial_state(self, batch_size, dtype, memory=None):
        return self.attention.initial_state(batch_size, dtype, self.memory_of_call(memory))


def bound(attention: Any) -> BoundAttention:
    """An attention as `AttentionWrapper` uses it; TypeError for any other object."""
    if isinstance(attention, BoundAttention):
        return attention
    if isinstance(attention, MemoryAttention):
        return AdaptedAttention(attention)
    raise TypeError(
        "attention_mechanism must be an AttentionMechanism, an attention of keras_attention.layers "
        "(a layers.MemoryAttention, such as layers.Attention(score)), or a list of them. Received: "
        f"{type(attention).__name__} of {type(attention).__module__}"
    )


def _described(inputs: Any) -> str:
    if isinstance(inputs, (list, tuple)):
        return f"a list of {len(inputs)}"
    return f"one tensor of shape {getattr(inputs, 'shape', type(inputs).__name__)}"


def _belongs_to_a_finished_graph(x: Any) -> bool:
    return tf.is_tensor(x) and tf.executing_eagerly() and not hasattr(x, "numpy")
