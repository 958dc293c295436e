"""The two scores of tf.contrib.seq2seq's mechanisms: Luong's and Bahdanau's."""

import functools
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from keras_attention.backend.keras import register
from keras_attention.functional import additive, dot
from keras_attention.functional.dtypes import widen
from keras_attention.seq2seq.attention_mechanism import AttentionMechanism


def hardmax(logits: Any, name: str | None = None) -> tf.Tensor:
    """One at the first of the best, zero elsewhere.  [..., S] -> [..., S] of the same type.

    `keras_attention.functional.hardmax` takes a mask too.

    >>> hardmax([[1.0, 3.0, 2.0]]).numpy().tolist()
    [[0.0, 1.0, 0.0]]
    """
    logits = tf.convert_to_tensor(logits)
    with tf.name_scope(name or "hardmax"):
        best = tf.argmax(logits, axis=-1, output_type=tf.int32)
        return tf.one_hot(best, tf.shape(logits)[-1], dtype=logits.dtype)


def _projection(units: int, name: str, layer: Any, dtype: Any) -> keras.layers.Layer:
    return layer or keras.layers.Dense(units, use_bias=False, name=name, dtype=dtype)


@register
class LuongAttention(AttentionMechanism):
    """score = g * q·(W m): multiplicative attention, `g` only with `scale`.

    query [N, units], memory [B, S, D] -> alignments [N, S]. The memory is projected to `units`,
    the query is not, so its width must be `units` (ValueError otherwise).
    Source: Luong, Pham, Manning, 2015, eq. 8 (their "general").

    >>> mechanism = LuongAttention(4)
    >>> memory = mechanism.prepare_memory(tf.ones([2, 3, 5]), memory_sequence_length=[3, 1])
    >>> alignments, _ = mechanism([tf.ones([2, 4]), None], memory=memory)
    >>> [[round(float(weight), 2) for weight in row] for row in alignments]
    [[0.33, 0.33, 0.33], [1.0, 0.0, 0.0]]
    """

    def __init__(
        self,
        units: int,
        memory: Any = None,
        memory_sequence_length: Any = None,
        scale: bool = False,
        probability_fn: str | Callable = "softmax",
        dtype: Any = None,
        name: str = "LuongAttention",
        **kwargs,
    ):
        self.units, self.scale = units, scale
        memory_layer = _projection(units, "memory_layer", kwargs.pop("memory_layer", None), dtype)
        super().__init__(
            memory,
            probability_fn,
            kwargs.pop("query_layer", None),
            memory_layer,
            memory_sequence_length,
            dtype=dtype,
            name=name,
            **kwargs,
        )

    def build(self, input_shape=None) -> None:
        """g."""
        if self.scale:
            self.attention_g = self.add_scalar("attention_g", 1.0)
        super().build(input_shape)

    def scores(self, query, memory):
        if query.shape[-1] != memory.keys.shape[-1]:
            raise ValueError(
                "Incompatible inner dimensions of query and keys: LuongAttention does not project "
                "the query, so `units` must be the query's width. Received: query of width "
                f"{query.shape[-1]}, units={memory.keys.shape[-1]}. Perhaps you need to set units "
                f"to {query.shape[-1]}."
            )
        return self.scaled(dot(query, memory.keys))

    def scaled(self, x):
        """g x, or x without `scale`: scores, or keys to the same effect."""
        return x * tf.cast(self.attention_g, x.dtype) if self.scale else x

    def get_config(self) -> dict:
        return {**super().get_config(), "units": self.units, "scale": self.scale}


@register
class BahdanauAttention(AttentionMechanism):
    """score = v·tanh(W_q q + W_m m), or g v/|v| · tanh(W_q q + W_m m + b) with `normalize`.

    query [N, D'], memory [B, S, D] -> alignments [N, S]. Initially g = sqrt(1/units), b = 0.
    Source: Bahdanau, Cho, Bengio, 2015, A.1.2; normalised form: Salimans & Kingma, 2016. The
    query is what the caller hands in: `AttentionWrapper` asks with the *current* cell output,
    the paper with the previous state.

    >>> mechanism = BahdanauAttention(4, normalize=True)
    >>> memory = mechanism.prepare_memory(tf.ones([2, 3, 5]), memory_mask=tf.ones([2, 3]) > 0)
    >>> alignments, _ = mechanism([tf.ones([2, 7]), None], memory=memory)
    >>> [round(float(weight), 2) for weight in alignments[0]]
    [0.33, 0.33, 0.33]
    """

    def __init__(
        self,
        units: int,
        memory: Any = None,
        memory_sequence_length: Any = None,
        normalize: bool = False,
        probability_fn: str | Callable = "softmax",
        kernel_initializer: Any = "glorot_uniform",
        dtype: Any = None,
        name: str = "BahdanauAttention",
        **kwargs,
    ):
        self.units, self.normalize = units, normalize
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        query_layer, memory_layer = (
            _projection(units, role, kwargs.pop(role, None), dtype)
            for role in ("query_layer", "memory_layer")
        )
        super().__init__(
            memory,
            probability_fn,
            query_layer,
            memory_layer,
            memory_sequence_length,
            dtype=dtype,
            name=name,
            **kwargs,
        )

    def build(self, input_shape=None) -> None:
        """v, and g and b of the normalised form."""
        add_vector = functools.partial(
            self.add_weight, shape=(self.units,), dtype=self.variable_dtype
        )
        self.attention_v = add_vector(name="attention_v", initializer=self.kernel_initializer)
        if self.normalize:
            self.attention_g = self.add_scalar("attention_g", self.units**-0.5)
            self.attention_b = add_vector(name="attention_b", initializer="zeros")
        super().build(input_shape)

    def scores(self, query, memory):
        return additive(query, memory.keys, *self.direction())

    def direction(self):
        """v [D], and the bias [D] inside of the tanh or None: once for all steps."""
        v = widen(self.attention_v)
        if not self.normalize:
            return v, None
        v = widen(self.attention_g) * v * tf.math.rsqrt(tf.reduce_sum(tf.square(v)))
        return v, widen(self.attention_b)

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "units": self.units,
            "normalize": self.normalize,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }
