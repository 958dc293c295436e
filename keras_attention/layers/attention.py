"""Attention from a score function and a normalisation function."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from keras_attention.backend.saving import deserialize
from keras_attention.functional import Memory, cosine, dot, scaled_dot, softmax
from keras_attention.functional.masks import zero_masked
from keras_attention.layers._base import Layer
from keras_attention.layers._shapes import check_shapes
from keras_attention.layers.memory_attention import MemoryAttention

_OF_ONE_WIDTH = (dot, scaled_dot, cosine)
_PARTS = ("score", "normalize")


@keras.saving.register_keras_serializable("keras_attention")
class Attention(MemoryAttention, Layer):
    """Values summed with the weights normalize(score(query, keys)).  -> [B, T, D''].

        a_t = normalise_s(score(W_q h_t, W_k m_s))        c_t = sum_s a_t(s) W_v m_s

    (Luong et al., 2015, eq. 7.) The projections are optional and have no bias; keys and values
    are projected once for a source. In Luong's concat, W_q and W_k are the halves of W. Scores:

        Luong dot             Attention(dot)
        Luong general         Attention(GeneralScore())
        concat, Bahdanau      Attention(AdditiveScore(), query_units=U, key_units=U)
        Luong location        Attention(LocationScore(S_max))
        Vaswani               Attention(scaled_dot, query_units=D, key_units=D, value_units=D)
        Graves, by content    Attention(cosine)
        Verga, biaffine       Attention(BiaffineScore())

    Args:
        score: `(query [B, T, D], keys [B, S, D]) -> [B, T, S]`: a registered function, or a layer.
        normalize: `(scores, mask) -> weights`, or `(scores, mask, state) -> (weights, state)`.
        query_units, key_units, value_units: widths to project to; None leaves things as they are.

    Call: `(query, memory, mask=None, memory_mask=None, state=None, return_weights=False)` ->
    context; with `return_weights` also the weights [B, T, S], and the next state if there is one.
        memory: [B, S, D'], or the `Memory` that `project_memory` made of it, with its mask.
        mask: attention mask, such as `functional.causal(T)`: bool, [B or 1, T or 1, S], True =
            attend.
        memory_mask: padding mask of the memory, bool [B, S]; its Keras mask if None.
        state: the state that the previous call returned. Calls step by step give the same result
            as one call.

    A query whose slots are all masked gets zeros. The Keras mask of the query is forwarded. Scores
    and weights are computed in float32 or wider, the context has the compute dtype. Raises
    ValueError if score or normalize is not callable, for units below 1, and for widths or ranks
    that do not fit.

    >>> attention = Attention(dot, normalize=softmax)
    >>> query, memory = tf.ones([1, 1, 2]), tf.constant([[[1.0, 2.0], [3.0, 0.0], [9.0, 9.0]]])
    >>> attention(query, memory, memory_mask=tf.constant([[True, True, False]])).numpy().tolist()
    [[[2.0, 1.0]]]
    """

    def __init__(
        self,
        score: Callable = dot,
        normalize: Callable = softmax,
        query_units: int | None = None,
        key_units: int | None = None,
        value_units: int | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if not (callable(score) and callable(normalize)):
            raise ValueError(
                "score and normalize are functions or layers, not their names. Received: "
                f"score={score!r}, normalize={normalize!r}"
            )
        self.score, self.normalize = score, normalize
        for name, units in (("query", query_units), ("key", key_units), ("value", value_units)):
            setattr(self, f"{name}_units", units)
            setattr(self, f"{name}_layer", self._projection(name, units))
        self._widths: dict = {}
        self.supports_masking = True

    def _projection(self, name, units):
        if units is None:
            return None
        if units < 1:
            raise ValueError(f"{name}_units must be at least 1. Received: {name}_units={units}")
        return keras.layers.Dense(units, use_bias=False, dtype=self.dtype_policy, name=name)

    def build(self, query_shape, memory_shape) -> None:
        """Projections, and the weights of the score."""
        check_shapes(query=("B T D", query_shape))
        self._widths["query"] = query_shape[-1]
        _build(self.query_layer, query_shape[-1])
        keys_width = self.key_units or memory_shape[-1]
        if isinstance(memory_shape[0], (tuple, list)):  # of a Memory, which is projected
            keys_width = memory_shape[0][-1]
        else:
            self._build_memory(memory_shape[-1])
        self._widths["keys"] = keys_width
        width = self.query_units or query_shape[-1]
        if self.score in _OF_ONE_WIDTH and width != keys_width:
            raise ValueError(
                f"{self.score.__name__} requires query and keys of equal width D: give query_units "
                f"or key_units, or use GeneralScore. Received: query D={width}, keys D={keys_width}"
            )
        _build(self.score, width, keys_width)
        self.built = True

    def _build_memory(self, width) -> None:
        self._widths["memory"] = width
        _build(self.key_layer, width)
        _build(self.value_layer, width)

    def call(
        self, query, memory, mask=None, memory_mask=None, state=None, return_weights=False
    ) -> Any:
        """See the class."""
        memory, mask = self.prepare(memory, mask, memory_mask)
        weights, state = self.weigh(query, memory, mask, state)
        context = self.read(weights, memory)
        if not return_weights:
            return context
        results = context, tf.cast(weights, context.dtype)
        return results if state is None else (*results, state)

    def compute_mask(self, inputs, previous_mask=None):
        """That of the query, whatever `mask` is."""
        return getattr(inputs, "_keras_mask", None)

    # -- the parts, from which variants are composed

    def project_memory(self, memory, mask=None) -> Memory:
        """Keys and values once per source, what is masked set to 0.  [B, S, D'], [B, S]."""
        if mask is None:
            mask = getattr(memory, "_keras_mask", None)
        memory = tf.cast(memory, self.compute_dtype)
        check_shapes(memory=("B S D", memory), memory_mask=("B? S", mask))
        if mask is None:
            mask = tf.ones(tf.shape(memory)[:2], tf.bool)
        else:
            mask = tf.cast(mask, tf.bool)
            memory = zero_masked(memory, mask)
        self._build_memory(memory.shape[-1])
        layers = self.key_layer, self.value_layer
        keys, values = (memory if layer is None else layer(memory) for layer in layers)
        return Memory(keys, values, mask)

    def prepare(self, memory, mask=None, memory_mask=None) -> tuple[Memory, tf.Tensor]:
        """A projected memory and its attention mask.  -> `Memory`, bool [B, 1 or T, S]."""
        if not isinstance(memory, (tuple, list)):
            memory, memory_mask = self.project_memory(memory, memory_mask), None
        memory = Memory(*memory)
        visible = tf.expand_dims(tf.cast(memory.mask, tf.bool), 1)
        if not (memory_mask is None or isinstance(memory_mask, (tuple, list))):
            check_shapes(memory=("B S D", memory.keys), memory_mask=("B? S", memory_mask))
            seen = tf.cast(memory_mask, tf.bool)
            keys, values = zero_masked(memory.keys, seen), zero_masked(memory.values, seen)
            memory = Memory(keys, values, tf.cast(memory.mask, tf.bool) & seen)
            visible = tf.expand_dims(memory.mask, 1)
        if mask is None:
            return memory, visible
        check_shapes(memory=("B S D", memory.keys), mask=("B? T? S", mask))
        return memory, visible & tf.cast(mask, tf.bool)

    def weigh(self, query, memory: Memory, mask, state=None) -> tuple[tf.Tensor, Any]:
        """[B, T, D], `Memory`, [B, 1 or T, S] -> weights [B, T, S] float32 or wider, next state."""
        check_shapes(query=("B T D", query), memory=("B S D'", memory.keys), mask=("B? T? S", mask))
        result = self.normalize(
            self.scores(query, memory), mask, *([] if state is None else [state])
        )
        return result if isinstance(result, tuple) else (result, None)

    def scores(self, query, memory: Memory) -> tf.Tensor:
        """score(W_q h_t, W_k m_s).  [B, T, D], `Memory` -> [B, T, S]."""
        if self.query_layer is not None:
            query = self.query_layer(query)
        scores = self.score(query, memory.keys)
        check_shapes(memory=("B S D'", memory.keys), score=("B T S", scores))
        return scores

    def read(self, weights, memory: Memory) -> tf.Tensor:
        """The weighted sum of the values.  [B, T, S], `Memory` -> [B, T, D'']."""
        return tf.matmul(tf.cast(weights, memory.values.dtype), memory.values)

    # -- step by step, see `MemoryAttention`

    def attend(self, query, memory: Memory, state=(), training=None):
        """One step of K hypotheses.  -> context [B, K, D''], weights [B, K, S], state [B, K, S]."""
        scores, mask = self.scores(query, memory), memory.mask[:, None]
        if not self._carries_state:
            weights = self.normalize(scores, mask)
            if isinstance(weights, tuple):
                raise ValueError(
                    "A decoder needs the first state of normalize: decorate the function "
                    "by functional.with_initial_state, or give a layer a method initial_state("
                    f"batch_size, steps, dtype). Received: normalize={self.normalize}"
                )
            return self.read(weights, memory), weights, ()
        # Each hypothesis has its own state, so each is a row with one query.
        batch, beams, steps = tf.unstack(tf.shape(scores))
        rows = [tf.reshape(x, [batch * beams, -1, steps]) for x in (scores, state)]
        mask = tf.repeat(mask, beams, axis=0)
        weights, state = self.normalize(rows[0], mask, tf.cast(rows[1], scores.dtype)[:, 0])
        weights, state = (tf.reshape(x, tf.shape(scores)) for x in (weights, state))
        return self.read(weights, memory), weights, state

    @property
    def _carries_state(self) -> bool:
        return getattr(self.normalize, "initial_state", None) is not None

    @property
    def state_size(self) -> Any:
        """That of the normaliser's state [N, S], if it has one."""
        return tf.TensorShape([None]) if self._carries_state else ()

    def initial_state(self, batch_size, dtype, memory: Memory) -> Any:
        """The state that the normaliser begins with, if it has one.  -> [N, S] or ()."""
        if not self._carries_state:
            return ()
        steps = memory.mask.shape[1] or tf.shape(memory.mask)[1]
        return self.normalize.initial_state(batch_size, steps, dtype)

    def context_width(self, query_width, memory_width) -> int:
        """`value_units`, or that of the memory."""
        return self.value_units or memory_width

    @property
    def memory_width(self) -> int | None:
        """D' of the memory that the projections are built for."""
        return self._widths.get("memory")

    def get_config(self) -> dict:
        units = {name: getattr(self, name) for name in ("query_units", "key_units", "value_units")}
        parts = {name: keras.saving.serialize_keras_object(getattr(self, name)) for name in _PARTS}
        return {**super().get_config(), **parts, **units}

    @classmethod
    def from_config(cls, config):
        parts = {name: deserialize(config[name]) for name in _PARTS}
        return cls(**{**config, **parts})

    def get_build_config(self) -> dict:
        return {"widths": dict(self._widths)}

    def build_from_config(self, config) -> None:
        widths = config["widths"]
        if "memory" in widths:
            self._build_memory(widths["memory"])
        if "query" in widths:
            keys, query = (None, None, widths["keys"]), (None, None, widths["query"])
            self.build(query, Memory(keys, keys, None))


def _build(layer, *widths):
    """Build a projection of one input, or a score of two, as its first call would."""
    if isinstance(layer, keras.layers.Layer) and not layer.built:
        with tf.init_scope():  # a memory may be projected first inside of a tf.function
            if len(widths) == 1:
                layer.build((None, None, *widths))
            else:
                layer(*(tf.zeros([1, 1, width], layer.compute_dtype) for width in widths))
