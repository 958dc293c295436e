"""The attention mechanisms of tf.contrib.seq2seq: a query per step over one projected memory.

The memory is an argument: `mechanism([query, state], memory=mechanism.prepare_memory(...))`.
`setup_memory`, or the memory in the constructor, binds that same tuple to the layer, for code
that was written for tf.contrib.seq2seq or tensorflow_addons.seq2seq.
"""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from keras_attention import functional
from keras_attention.backend.keras import (
    KERAS_3,
    KerasTensor,
    build,
    building,
    deserialize,
    no_autograph,
    serialize,
    static_shape,
)
from keras_attention.backend.per_thread import HasPerThread, PerThread
from keras_attention.functional import Memory, softmax
from keras_attention.functional.masks import as_lengths
from keras_attention.layers._remat import KeepsActivations
from keras_attention.seq2seq._memory import is_raw, prepared, refuse_both, resolve_memory_mask

_NORMALIZERS = {"softmax": softmax, "hardmax": functional.hardmax}


class AttentionMechanism(KeepsActivations, HasPerThread, keras.layers.Layer):
    """Project a memory once, then weigh its slots for a query at every step.

    A subclass gives the score: `scores(query [B, K, D], memory) -> [B, K, S]`.

    Args:
        memory: [B, S, D], bound at once (or later: see `setup_memory`); None to pass it at
            each call.
        probability_fn: "softmax", "hardmax" or a function `(scores, mask) -> weights`.
        query_layer, memory_layer: layers that project query and memory, or None.
        memory_sequence_length: [B] int, the real lengths of the memory's rows.

    Calling `mechanism([query, state], memory=memory, beam_width=K)` with query [B*K, D] gives
    `(alignments [B*K, S], next_state)`, where the K hypotheses of a source share its memory.
    `memory` is what `prepare_memory` gave; or a tensor [B, S, D] that is prepared in this call,
    with `memory_sequence_length=` or `memory_mask=` if it is padded (its Keras mask is honoured).

    Threads may share a mechanism. A memory that is passed belongs to its call. A bound one belongs
    to the thread that bound it; a thread that bound none sees the one that was bound last.
    """

    _bound = PerThread(None)
    _symbol = PerThread(None)  # the bound memory of a functional model that is being made

    def __init__(
        self,
        memory: Any = None,
        probability_fn: str | Callable = "softmax",
        query_layer: keras.layers.Layer | None = None,
        memory_layer: keras.layers.Layer | None = None,
        memory_sequence_length: Any = None,
        **kwargs,
    ):
        memory_mask = kwargs.pop("memory_mask", None)
        super().__init__(**kwargs)
        if isinstance(probability_fn, str) and probability_fn not in _NORMALIZERS:
            raise ValueError(
                "Invalid probability function: probability_fn must be 'softmax', 'hardmax' or a "
                f"function (scores, mask) -> weights. Received: probability_fn={probability_fn!r}"
            )
        self.probability_fn = probability_fn
        self.query_layer = query_layer
        self.memory_layer = memory_layer
        self._memory_shape = None
        if memory is not None:
            self._bind(memory, memory_sequence_length, memory_mask)

    # -- memory

    def prepare_memory(
        self, memory: Any, memory_sequence_length: Any = None, memory_mask: Any = None
    ) -> Memory:
        """Mask and project: what the mechanism needs of a memory [B, S, D], computed once.

        Steps beyond the length are zeroed before the projection and never looked at.
        Lengths must be positive (`InvalidArgumentError` at run time); with a mask instead, a row
        that is masked everywhere simply gets no weights.
        """
        refuse_both(memory_sequence_length, memory_mask)
        if _any_symbolic(memory, memory_sequence_length, memory_mask):
            raise ValueError(
                "prepare_memory computes, and cannot take a tensor of a functional model that is "
                "being made. Pass that tensor itself: mechanism([query, state], memory=memory, "
                "memory_sequence_length=lengths), or memory=memory at the call of AttentionRNN or "
                "BasicDecoder; or bind it by setup_memory(memory, lengths). Received: "
                f"memory={memory}"
            )
        memory = tf.cast(tf.convert_to_tensor(memory), self.compute_dtype)
        if memory.shape.rank != 3 or memory.shape[2] is None:
            raise ValueError(
                f"memory must be [B, S, D] with a known D. Received: memory of shape {memory.shape}"
            )
        steps = tf.shape(memory)[1]
        if memory_sequence_length is not None:
            lengths = as_lengths(memory_sequence_length, "memory_sequence_length")
            self._check_lengths(lengths, memory)
            checks = [
                tf.debugging.assert_positive(
                    lengths,
                    message="All values in memory_sequence_length must be greater than zero. A "
                    "row that is empty can be said with memory_mask.",
                ),
                tf.debugging.assert_less_equal(
                    lengths,
                    tf.cast(steps, lengths.dtype),
                    message="memory_sequence_length must not be longer than the memory [B, S, D]. "
                    "Is the memory time major?",
                ),
                tf.debugging.assert_equal(
                    tf.size(lengths),
                    tf.shape(memory)[0],
                    message="memory_sequence_length must hold one length for each row of memory.",
                ),
            ]
            with tf.control_dependencies([check for check in checks if check is not None]):
                memory_mask = tf.sequence_mask(tf.identity(lengths), steps)
        if memory_mask is None:
            mask = tf.ones(tf.shape(memory)[:2], tf.bool)
        else:
            mask = tf.cast(memory_mask, tf.bool)
            if not mask.shape.is_compatible_with(memory.shape[:2]):
                raise ValueError(
                    "memory_mask must be [B, S], True where the memory [B, S, D] may be seen. "
                    f"Received: memory_mask of shape {mask.shape}, memory of shape {memory.shape}"
                )
            memory = tf.where(mask[..., None], memory, tf.zeros([], memory.dtype))
        self._build_for(memory)
        keys = memory if self.memory_layer is None else self.memory_layer(memory)
        return Memory(tf.cast(keys, self.compute_dtype), memory, mask)

    @staticmethod
    def _check_lengths(lengths: tf.Tensor, memory: tf.Tensor) -> None:
        known, batch = lengths.shape, memory.shape[:1]
        if known.rank is not None and (known.rank != 1 or not known.is_compatible_with(batch)):
            raise ValueError(
                "memory_sequence_length must hold one length for each row of the memory. Received: "
                f"memory_sequence_length of shape {known}, memory of shape {memory.shape}"
            )

    def setup_memory(
        self, memory: Any, memory_sequence_length: Any = None, memory_mask: Any = None
    ) -> None:
        """Bind a memory, so that later calls of this thread need not pass it, as in tfa.seq2seq.

        Threads that bind none themselves see the memory that was bound last.
        """
        if _any_symbolic(memory, memory_sequence_length, memory_mask):
            self._bind(memory, memory_sequence_length, memory_mask)
        else:
            self._bound = self.prepare_memory(memory, memory_sequence_length, memory_mask)
            self._symbol = None

    def _bind(self, memory, lengths, mask) -> None:
        """Bind a memory by a call of the layer, which may be an edge of a functional model."""
        if lengths is None:
            inputs = memory
        else:
            symbolic = isinstance(lengths, KerasTensor)
            inputs = [memory, lengths if symbolic else tf.convert_to_tensor(lengths)]
        AttentionMechanism.__call__(self, inputs, setup_memory=True, mask=mask)

    @property
    def memory_initialized(self) -> bool:
        """Whether a memory is bound."""
        return self._bound is not None or self._symbol is not None

    @property
    def keys(self) -> tf.Tensor:
        """The bound memory, projected.  [B, S, units]."""
        return self._memory(None).keys

    @property
    def values(self) -> tf.Tensor:
        """The bound memory.  [B, S, D]."""
        return self._memory(None).values if self._symbol is None else self._symbol

    def _memory(self, memory: Any, lengths: Any = None, mask: Any = None) -> Memory:
        """What a call may look at: what was prepared, or shall be now, or is bound."""
        if isinstance(mask, (tuple, list)):  # Keras' masks of the parts of a prepared memory
            mask = None
        if isinstance(memory, (tuple, list)):
            if not (lengths is None and mask is None):
                raise ValueError(
                    "This memory was prepared, and is masked as it was then: give lengths or mask "
                    "to prepare_memory, or hand over the tensor [B, S, D] with them."
                )
            return prepared(memory)
        if memory is not None:
            # Lengths are never implicit; a mask may be, and then they win.
            return self.prepare_memory(memory, lengths, mask if lengths is None else None)
        if KERAS_3 and self._symbol is not None:
            raise ValueError(
                f"{self.name} is bound to a tensor of a functional model that is being made, which "
                "only the call mechanism([query, state]) can use. Pass the tensor where it is "
                "needed: memory=memory at the call of AttentionRNN, BasicDecoder or the mechanism."
            )
        if self._bound is None or _belongs_to_a_finished_graph(self._bound.keys):
            raise ValueError(
                f"{self.name} has nothing to look at: pass memory= at the call (see "
                "prepare_memory), or call setup_memory(memory) before. Received: "
                f"{'no memory' if self._bound is None else 'what a tf.function had bound'}."
            )
        return self._bound

    # -- the step

    @no_autograph
    def __call__(self, inputs, *args, **kwargs):
        setup = kwargs.get("setup_memory", False)
        # An explicit mask travels under another name, to be told from the one Keras fills in.
        if kwargs.get("mask") is not None:
            kwargs["memory_mask"] = kwargs.pop("mask")
        mask, lengths = kwargs.get("memory_mask"), kwargs.get("memory_sequence_length")
        if isinstance(mask, (list, tuple)):  # one mask for each input
            kwargs["memory_mask"] = mask = mask[0]
        if setup:
            first, *rest = inputs if isinstance(inputs, (list, tuple)) else [inputs]
            self._build_for(first)
            lengths = rest[0] if rest else None
        else:
            if is_raw(kwargs.get("memory")):
                self._build_for(kwargs["memory"])
            first = inputs[0] if isinstance(inputs, (list, tuple)) else inputs
            if self.query_layer is not None and not self.query_layer.built:
                with building(self):
                    self.build([static_shape(first)])
            by_binding = isinstance(first, KerasTensor) and kwargs.get("memory") is None
            if by_binding and self._symbol is not None and len(inputs) == 2:
                inputs = [*inputs, self._symbol]  # an edge of the model's graph
        refuse_both(mask, lengths)
        outputs = super().__call__(
            inputs, *args, **(kwargs if setup else resolve_memory_mask(kwargs))
        )
        if setup:
            self._symbol = outputs if isinstance(outputs, KerasTensor) else None
        return outputs

    def call(
        self,
        inputs,
        mask=None,
        setup_memory: bool = False,
        memory: Any = None,
        beam_width: int = 1,
        memory_sequence_length=None,
        memory_mask=None,
        **_,
    ):
        """`[query, state]` -> `(alignments, next_state)`; with `setup_memory`, bind a memory."""
        if setup_memory:
            return self._call_setup(inputs, mask, memory_mask)
        if not isinstance(inputs, (list, tuple)) or len(inputs) not in (2, 3):
            raise ValueError(
                "A mechanism is called with [query, state]. Received: "
                f"{len(inputs) if isinstance(inputs, (list, tuple)) else type(inputs).__name__}"
            )
        query, state = inputs[0], inputs[1]
        memory = self._memory(memory, memory_sequence_length, memory_mask)
        scores = self.scores(self._per_source(query, memory, beam_width), memory)
        weights, state = self._normalize(scores, memory.mask[:, None], state)
        alignments = tf.cast(weights, self.compute_dtype)
        alignments = tf.reshape(alignments, [tf.shape(query)[0], tf.shape(memory.mask)[1]])
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
            memory_mask = implicit_mask  # what is said explicitly wins over a Keras mask
        self.setup_memory(memory, lengths, memory_mask)
        return self._bound.values

    def compute_output_spec(self, inputs, *args, **kwargs):
        """Shapes alone: Keras would run `call` on tensors that are dead afterwards."""
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

    @property
    def output(self):
        """What the last symbolic call gave: binding a memory gives less than asking it."""
        return self._inbound_nodes[-1].output_tensors

    def compute_mask(self, inputs, previous_mask=None):
        """The mask of the memory ends here: alignments and states have none."""
        return None

    def _per_source(self, query, memory: Memory, beam_width: int):
        """The queries of one source side by side.  [B*K, D] -> [B, K, D']."""
        rows, sources = query.shape[0], memory.keys.shape[0]
        beams = tf.get_static_value(beam_width)
        if None not in (rows, sources, beams) and rows != sources * beams:
            raise ValueError(
                "The query must have beam_width rows for each row of the memory. Received: query "
                f"with {rows} rows, memory with {sources}, beam_width={beam_width}. With beam "
                "search, pass the memory as memory=, or tile it with tile_batch."
            )
        if self.query_layer is not None:
            query = self.query_layer(query)
        query = tf.cast(query, self.compute_dtype)  # a layer that was given may be of another type
        batch = tf.shape(memory.keys)[0]
        return tf.reshape(query, [batch, beam_width, query.shape[-1]])

    def scores(self, query: tf.Tensor, memory: Memory) -> tf.Tensor:
        """[B, K, D], memory -> [B, K, S], not masked."""
        raise NotImplementedError(f"{type(self).__name__} must say how it scores a query.")

    def _normalize(self, scores, mask, state):
        """(scores, mask, state) -> (weights, next state or None for the weights themselves)."""
        given = self.probability_fn
        normalize = _NORMALIZERS[given] if isinstance(given, str) else given
        return normalize(scores, mask), None

    def read(
        self, alignments: tf.Tensor, memory: Memory | None = None, beam_width: int = 1
    ) -> tf.Tensor:
        """The context: values summed by their weights.  [B*K, S] -> [B*K, D]."""
        values = self._memory(memory).values
        batch, steps = tf.unstack(tf.shape(values)[:2])
        weights = tf.reshape(tf.cast(alignments, values.dtype), [batch, beam_width, steps])
        context = tf.matmul(weights, values)  # [B, K, D]
        context = tf.reshape(context, [tf.shape(alignments)[0], values.shape[-1]])
        context.set_shape([alignments.shape[0], values.shape[-1]])
        return context

    # -- state

    @property
    def batch_size(self) -> tf.Tensor:
        """The batch size of the bound memory."""
        return tf.shape(self.keys)[0]

    @property
    def alignments_size(self) -> int | tf.TensorShape:
        """S of the bound memory; `TensorShape([None])` while it is not known."""
        steps = None if self._bound is None else self._bound.mask.shape[1]
        return tf.TensorShape([None]) if steps is None else steps

    @property
    def state_size(self) -> int | tf.TensorShape:
        """The width of the state, which is that of the alignments."""
        return self.alignments_size

    def initial_alignments(self, batch_size: Any, dtype: Any, memory: Memory | None = None):
        """Zeros: nothing has been looked at.  -> [N, S]."""
        mask = self._memory(memory).mask
        zeros = tf.zeros(tf.stack([batch_size, tf.shape(mask)[1]]), dtype)
        zeros.set_shape([tf.get_static_value(batch_size), mask.shape[1]])
        return zeros

    def initial_state(self, batch_size: Any, dtype: Any, memory: Memory | None = None):
        """The state before the first step.  -> [N, S]."""
        return self.initial_alignments(batch_size, dtype, memory)

    # -- saving

    def build(self, input_shape=None) -> None:
        """Own weights depend on `units` alone, the projections on the shapes they see.

        `input_shape` is the memory's before a memory is known, that of `[query, state]` afterwards.
        """
        if isinstance(input_shape, (list, tuple)) and len(input_shape) > 0:
            nested = isinstance(input_shape[0], (list, tuple, tf.TensorShape))
            input_shape = input_shape[0] if nested else input_shape
        layer = self.memory_layer if self._memory_shape is None else self.query_layer
        if input_shape is not None and layer is not None:
            build(layer, tuple(input_shape))
        if not self.built:
            self._add_weights()
        super().build(input_shape)

    def _add_weights(self) -> None:
        """What a subclass owns beside its projections; called once."""

    def _add_scalar(self, name: str, value: float):
        constant = keras.initializers.Constant(value)
        return self.add_weight(name=name, shape=(), initializer=constant, dtype=self.variable_dtype)

    def _build_for(self, memory: Any) -> None:
        """Make what the memory's width decides, and from now on expect queries."""
        if not self.built or self._memory_shape is None:
            with building(self):
                if not self.built or self._memory_shape is None:
                    self.build(static_shape(memory))
                self._memory_shape = static_shape(memory)
        self._memory_shape = static_shape(memory)

    def get_build_config(self) -> dict:
        query = getattr(self.query_layer, "kernel", None)
        return {
            "memory_shape": self._memory_shape,
            "query_width": None if query is None else query.shape[0],
        }

    def build_from_config(self, config: dict) -> None:
        if config.get("memory_shape"):
            self.build(tuple(config["memory_shape"]))
            self._memory_shape = tuple(config["memory_shape"])
        if config.get("query_width"):
            self.build([(None, config["query_width"])])

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "probability_fn": serialize(self.probability_fn),
            "query_layer": serialize(self.query_layer),
            "memory_layer": serialize(self.memory_layer),
        }

    @classmethod
    def from_config(cls, config: dict):
        sublayers = ("probability_fn", "query_layer", "memory_layer")
        return cls(**{k: deserialize(v) if k in sublayers else v for k, v in config.items()})


def _any_symbolic(*tensors: Any) -> bool:
    return any(isinstance(tensor, KerasTensor) for tensor in tensors)


def _belongs_to_a_finished_graph(x: Any) -> bool:
    return tf.is_tensor(x) and tf.executing_eagerly() and not hasattr(x, "numpy")
