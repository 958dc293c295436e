"""Local attention: each query attends to a window of the memory around its position p_t."""

import math
from typing import Any

import keras
import tensorflow as tf

from keras_attention.backend.saving import deserialize
from keras_attention.functional import Memory
from keras_attention.functional.dtypes import widen
from keras_attention.layers._base import Layer
from keras_attention.layers._inner import inner
from keras_attention.layers._shapes import check_shapes
from keras_attention.layers.attention import Attention
from keras_attention.layers.memory_attention import MemoryAttention


class _LocalAttention(MemoryAttention, Layer):
    """What local-m and local-p share: the window |s - p_t| <= D around the places they choose.

    Positions count the slots that are not padding, from 0: left or right padding has no effect.
    """

    def __init__(self, attention: Attention | None = None, radius: float = 10, **kwargs):
        super().__init__(**kwargs)
        if not radius >= 1:
            raise ValueError(
                "radius D must be at least 1, or a window may be empty. math.inf is global "
                f"attention. Received: radius={radius}"
            )
        self.attention = inner(attention, self.dtype_policy)
        self.radius = radius
        self.supports_masking = True

    def build(self, query_shape, memory_shape) -> None:
        """The attention within the window."""
        if not self.attention.built:
            self.attention.build(query_shape, memory_shape)
        self.built = True

    def call(
        self, query, memory, mask=None, memory_mask=None, start=0, return_weights=False
    ) -> Any:
        """See the class."""
        memory, mask = self.attention.prepare(memory, mask, memory_mask)
        check_shapes(query=("B T D", query), memory=("B S D'", memory.keys), mask=("B? T? S", mask))
        places = self._places(query, _lengths(memory), start)  # [B, T]
        weights = self._weigh_window(query, memory, mask, places)
        context = self.attention.read(weights, memory)
        return (context, tf.cast(weights, context.dtype)) if return_weights else context

    def _weigh_window(self, query, memory, mask, places):
        """[B, T, D'], `Memory`, [B, 1 or T, S], places [B, T] -> weights [B, T, S]."""
        slots = tf.cast(tf.cumsum(tf.cast(memory.mask, tf.int32), 1) - 1, places.dtype)  # [B, S]
        distance = tf.abs(tf.expand_dims(slots, 1) - tf.expand_dims(places, 2))  # [B, T, S]
        near = distance <= tf.cast(self.radius, distance.dtype)
        weights, _ = self.attention.weigh(query, memory, mask & near)
        return self._favour(weights, tf.cast(distance, weights.dtype))

    def attend(self, query, memory: Memory, state=(), training=None):
        """One step of K hypotheses.  -> context [B, K, D''], weights [B, K, S], state."""
        places, state = self._next_places(query, memory, state)
        weights = self._weigh_window(query, memory, memory.mask[:, None], places)
        return self.attention.read(weights, memory), weights, state

    def context_width(self, query_width, memory_width) -> int:
        """That of the attention within the window."""
        return self.attention.context_width(query_width, memory_width)

    @property
    def memory_width(self) -> int | None:
        """That of the attention within the window."""
        return self.attention.memory_width

    def project_memory(self, memory, mask=None) -> Any:
        """Keys and values once per source: `Attention.project_memory`."""
        return self.attention.project_memory(memory, mask)

    def compute_mask(self, inputs, previous_mask=None):
        """That of the query."""
        return getattr(inputs, "_keras_mask", None)

    def get_config(self) -> dict:
        attention = keras.saving.serialize_keras_object(self.attention)
        return {**super().get_config(), "attention": attention, "radius": self.radius}

    @classmethod
    def from_config(cls, config):
        attention = deserialize(config["attention"])
        return cls(**{**config, "attention": attention})

    def get_build_config(self) -> dict:
        return self.attention.get_build_config()

    def build_from_config(self, config) -> None:
        self.attention.build_from_config(config)
        if "query" in config["widths"]:
            self.build((None, None, config["widths"]["query"]), None)


def _lengths(memory: Memory) -> tf.Tensor:
    """How many real slots each row has.  [B]."""
    return tf.reduce_sum(tf.cast(memory.mask, tf.int32), 1)


@keras.saving.register_keras_serializable("keras_attention")
class LocalMonotonicAttention(_LocalAttention):
    """local-m: query t attends to the slots t - D to t + D (Luong et al., 2015, section 3.2).

    For monotonic alignments, where source and target positions are about equal. A query beyond the
    end of the source attends to the window around its last slot.

    Args:
        attention: the attention inside the window; default `Attention(dot)`.
        radius: D, 10 in the paper; `math.inf` is global attention.

    Call: `(query [B, T, D'], memory, mask=None, memory_mask=None, start=0, return_weights=False)`
    -> context [B, T, D'']; with `return_weights` also the weights [B, T, S]. `start`, a number or
    [B], is the t of the first query, from 0; the others are those of `Attention`. In an RNN decoder
    the state is a one-hot [N, S] of the next place, exact in every dtype. Raises ValueError for
    D < 1.

    >>> layer = LocalMonotonicAttention(radius=1)
    >>> _, weights = layer(tf.zeros([1, 2, 1]), tf.ones([1, 4, 1]), return_weights=True)
    >>> weights[0].numpy().round(2).tolist()
    [[0.5, 0.5, 0.0, 0.0], [0.33000001311302185, 0.33000001311302185, 0.33000001311302185, 0.0]]
    """

    def _places(self, query, lengths, start):
        start = tf.reshape(tf.cast(start, tf.int32), [-1, 1])
        times = start + tf.range(tf.shape(query)[1])
        places = tf.minimum(times, tf.expand_dims(lengths - 1, 1))
        return tf.cast(places, widen(query).dtype)

    def _favour(self, weights, distance):
        return weights

    def _next_places(self, query, memory, state):
        places = tf.argmax(state, -1, tf.int32)  # [B, K]
        last = tf.maximum(_lengths(memory) - 1, 0)[:, None]
        following = tf.one_hot(tf.minimum(places + 1, last), tf.shape(state)[-1], dtype=state.dtype)
        following = tf.ensure_shape(following, state.shape)
        return tf.cast(places, widen(query).dtype), following

    @property
    def state_size(self) -> Any:
        """S."""
        return tf.TensorShape([None])

    def initial_state(self, batch_size, dtype, memory: Memory) -> tf.Tensor:
        """The first query attends to the position 0.  -> [N, S]."""
        steps = memory.mask.shape[1] or tf.shape(memory.mask)[1]
        return tf.one_hot(tf.zeros([batch_size], tf.int32), steps, dtype=dtype)


@keras.saving.register_keras_serializable("keras_attention")
class LocalPredictiveAttention(_LocalAttention):
    """local-p: each query predicts the position it attends to (Luong et al., 2015, eq. 9 and 10).

        p_t = S sigmoid(v_p · tanh(W_p h_t)), S the true length, places from 0
        a_t(s) = normalise_s(score(h_t, m_s)) exp(-(s - p_t)^2 / (2 sigma^2)), sigma = D / 2

    The normaliser works within |s - p_t| <= D. The weights are not normalised after the Gaussian
    and sum to less than 1. The edge of the window has no gradient: p_t learns by the Gaussian
    alone. It starts near S/2, where its gradient is weak for a small D. D = 10 is the paper's.

    Args:
        attention: the attention inside the window; default `Attention(dot)`.
        radius: D; `math.inf` is global attention.
        units: height of W_p; the width of the query if None.

    Call: `(query [B, T, D'], memory, mask=None, memory_mask=None, return_weights=False)` ->
    context [B, T, D'']; with `return_weights` also the weights [B, T, S]. See `Attention`. Raises
    ValueError for D < 1, or units < 1.

    >>> layer = LocalPredictiveAttention(radius=1)  # p_t = 1.5 for a query of zeros
    >>> _, weights = layer(tf.zeros([1, 1, 1]), tf.ones([1, 3, 1]), return_weights=True)
    >>> weights[0].numpy().round(3).tolist()
    [[0.0, 0.30300000309944153, 0.30300000309944153]]
    """

    def __init__(
        self,
        attention: Attention | None = None,
        radius: float = 10,
        units: int | None = None,
        **kwargs,
    ):
        super().__init__(attention, radius, **kwargs)
        if units is not None and units < 1:
            raise ValueError(f"units must be at least 1. Received: units={units}")
        self.units = units

    def build(self, query_shape, memory_shape) -> None:
        """W_p and v_p."""
        width = query_shape[-1]
        units = self.units or width
        # In float32 or wider: rounded to bfloat16, a place among 600 slots is two slots off.
        self.w_p = self.add_weight(shape=(width, units), name="w_p", autocast=False)
        self.v_p = self.add_weight(shape=(units, 1), name="v_p", autocast=False)
        super().build(query_shape, memory_shape)

    def _places(self, query, lengths, start):
        query = widen(query)
        w_p, v_p = (tf.cast(weight, query.dtype) for weight in (self.w_p, self.v_p))
        share = tf.sigmoid(tf.matmul(tf.tanh(tf.matmul(query, w_p)), v_p))[..., 0]  # [B, T]
        return tf.cast(tf.expand_dims(lengths, 1), share.dtype) * share

    def _next_places(self, query, memory, state):
        return self._places(query, _lengths(memory), 0), state

    def _favour(self, weights, distance):
        if math.isinf(self.radius):
            return weights
        sigma = self.radius / 2
        return weights * tf.exp(-tf.square(distance) / (2 * sigma**2))

    def get_config(self) -> dict:
        return {**super().get_config(), "units": self.units}
