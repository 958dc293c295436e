"""The base class of tf.contrib.seq2seq's attention mechanisms: a projected memory and a score."""

import inspect
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from keras_attention import functional
from keras_attention.backend.keras import build, building, deserialize, serialize, static_shape
from keras_attention.functional import Memory, softmax
from keras_attention.seq2seq._memory import by_source, check_rows
from keras_attention.seq2seq.bound_attention import BoundAttention

_NORMALIZERS = {"softmax": softmax, "hardmax": functional.hardmax}
_PARTS = ("probability_fn", "query_layer", "memory_layer")


class _NotesArguments:
    """Notes the names of the arguments that a constructor is called with.

    A class apart: the signature of a class with a `__new__` would be that of its `__new__`.
    """

    def __new__(cls, *args, **kwargs):
        instance = super().__new__(cls, *args, **kwargs)
        object.__setattr__(instance, "_given", frozenset(kwargs))
        return instance


class AttentionMechanism(_NotesArguments, BoundAttention):
    """Project a memory once, then score its S slots for a query at every step.

    A subclass defines the score, `scores(query [B, K, D], memory) -> [B, K, S]`: the query has gone
    through `query_layer`, `memory.keys` through `memory_layer`, if there are any; masking and
    normalising follow. Weights of its own are made in `build(input_shape)`, which runs once, with
    the shape [B, S, D] of the memory. If you do not need the interface of tfa, pass a function or
    layer `(query, keys) -> scores` to `layers.Attention` instead.

    Args:
        memory: [B, S, D], bound at once (or later: see `setup_memory`); None to pass it at
            each call.
        probability_fn: "softmax", "hardmax" or a function `(scores, mask) -> weights`.
        query_layer, memory_layer: layers that project query and memory, or None.
        memory_sequence_length: [B] int, the real lengths of the memory's rows.

    Calling `mechanism([query, state], memory=memory, beam_width=K)` with query [B*K, D] gives
    `(alignments [B*K, S], next_state)`, where the K hypotheses of a source share its memory.
    `memory` is the result of `prepare_memory`; or a tensor [B, S, D] that is prepared in this call,
    with `memory_sequence_length=` or `memory_mask=` if it is padded. Its Keras mask applies too.

    Thread-safe: `memory=` is used for one call. `setup_memory` sets the memory of the calling
    thread; other threads use it only if they never called `setup_memory`.

    >>> @keras.saving.register_keras_serializable("example")
    ... class ScaledDot(AttentionMechanism):
    ...     def build(self, input_shape=None):
    ...         self.scale = self.add_weight(name="scale", shape=(), initializer="ones")
    ...         super().build(input_shape)
    ...     def scores(self, query, memory):
    ...         return self.scale * functional.dot(query, memory.keys)
    >>> mechanism = ScaledDot(query_layer=keras.layers.Dense(5, use_bias=False))
    >>> alignments, _ = mechanism([tf.ones([2, 4]), None], memory=tf.ones([2, 3, 5]))
    >>> alignments.shape
    TensorShape([2, 3])
    """

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

    # -- the parts of one step

    def scores(self, query: tf.Tensor, memory: Memory) -> tf.Tensor:
        """[B, K, D], memory -> [B, K, S], not masked."""
        raise NotImplementedError(f"{type(self).__name__} must define scores(query, memory)")

    def _normalize(self, scores, mask, state):
        """(scores, mask, state) -> (weights, next state or None for the weights themselves)."""
        given = self.probability_fn
        normalize = _NORMALIZERS[given] if isinstance(given, str) else given
        return normalize(scores, mask), None

    def project_memory(self, memory, mask=None) -> Memory:
        memory = tf.cast(tf.convert_to_tensor(memory), self.compute_dtype)
        if mask is None:
            mask = tf.ones(tf.shape(memory)[:2], tf.bool)
        else:
            mask = tf.cast(mask, tf.bool)
            if not mask.shape.is_compatible_with(memory.shape[:2]):
                raise ValueError(
                    "memory_mask must be [B, S], True where the memory [B, S, D] may be seen. "
                    f"Received: memory_mask of shape {mask.shape}, memory of shape {memory.shape}"
                )
            memory = tf.where(mask[..., None], memory, tf.zeros([], memory.dtype))
        self.build_parts(None, static_shape(memory))
        keys = memory if self.memory_layer is None else self.memory_layer(memory)
        return Memory(tf.cast(keys, self.compute_dtype), memory, mask)

    def weigh_rows(self, query, memory, state, beam_width):
        check_rows(query, memory, beam_width)
        if self.query_layer is not None:
            query = self.query_layer(query)
        query = tf.cast(query, self.compute_dtype)  # a layer that was given may be of another type
        scores = self.scores(by_source(query, memory, beam_width), memory)
        return self._normalize(scores, memory.mask[:, None], state)

    # -- state: the alignments, so that a step can go on from them

    @property
    def state_size(self) -> int | tf.TensorShape:
        """The width of the state, which is that of the alignments."""
        return self.alignments_size

    def initial_state(self, batch_size: Any, dtype: Any, memory: Memory | None = None):
        """The state before the first step.  -> [N, S]."""
        return self.initial_alignments(batch_size, dtype, memory)

    @property
    def memory_width(self) -> int | None:
        """D of the memory that was projected last."""
        return self._memory_shape[-1] if self._memory_shape else None

    # -- building and saving

    def build_parts(self, query_shape, memory_shape) -> None:
        """The projections and, once, what `build` of a subclass makes."""
        query_layer, memory_layer = self.query_layer, self.memory_layer
        if memory_shape is not None:
            if memory_layer is not None and not getattr(memory_layer, "built", True):
                with building(self):
                    build(memory_layer, tuple(memory_shape))
            if not self.built:
                with building(self):
                    if not self.built:
                        self.build(tuple(memory_shape))
            self._memory_shape = tuple(memory_shape)
        if query_layer is not None and query_shape is not None:
            if not getattr(query_layer, "built", True):
                with building(self):
                    build(query_layer, tuple(query_shape))

    def add_scalar(self, name: str, value: float):
        """A trainable number."""
        constant = keras.initializers.Constant(value)
        return self.add_weight(name=name, shape=(), initializer=constant, dtype=self.variable_dtype)

    def get_build_config(self) -> dict:
        query = getattr(self.query_layer, "kernel", None)
        return {
            "memory_shape": self._memory_shape,
            "query_width": None if query is None else query.shape[0],
        }

    def build_from_config(self, config: dict) -> None:
        memory, width = config.get("memory_shape"), config.get("query_width")
        self.build_parts((None, width) if width else None, tuple(memory) if memory else None)

    def get_config(self) -> dict:
        """`probability_fn` and the two layers are left out where the class makes them itself.

        A subclass may pass on a layer of its own, `super().__init__(query_layer=Dense(4))`: its
        constructor makes that layer again, and cannot be given another one.
        """
        taken = self._given.union(inspect.signature(type(self).__init__).parameters)
        parts = {name: serialize(getattr(self, name)) for name in _PARTS if name in taken}
        return {**super().get_config(), **parts}

    @classmethod
    def from_config(cls, config: dict):
        return cls(**{k: deserialize(v) if k in _PARTS else v for k, v in config.items()})
