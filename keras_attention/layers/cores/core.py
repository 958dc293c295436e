"""The base class of all cores: what a core declares, computes and stores in a configuration."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import tensorflow as tf


class CacheSlots(NamedTuple):
    """The steps that the slots of a cache hold: slot m is hypothesis m mod K at step m // K.

    >>> slots = CacheSlots(first=2, hypotheses=2)  # two hypotheses, at step 1
    >>> slots.distances(tf.zeros([1, 1, 2, 4]), tf.zeros([1, 1, 6, 4])).numpy().tolist()
    [[1, 1, 0, 0, -1, -1], [1, 1, 0, 0, -1, -1]]
    """

    first: Any  # int32 scalar, the slot of the first of T queries; the others follow it
    hypotheses: int  # K

    def query_steps(self, query: tf.Tensor) -> tf.Tensor:
        """The step of each query.  [B, H, T, Dk] -> [T] int32."""
        return (self.first + tf.range(tf.shape(query)[2])) // self.hypotheses

    def key_steps(self, keys: tf.Tensor) -> tf.Tensor:
        """The step of each slot.  [B, G, M, Dk] -> [M] int32."""
        return tf.range(tf.shape(keys)[2]) // self.hypotheses

    def distances(self, query: tf.Tensor, keys: tf.Tensor) -> tf.Tensor:
        """i - j of query i and slot j.  -> [T, M] int32."""
        return self.query_steps(query)[:, None] - self.key_steps(keys)


@dataclasses.dataclass(frozen=True)
class Core:
    """The attention function of the heads of `MultiHeadAttention`.

    A core is an immutable configuration without weights: a frozen dataclass, registered with
    Keras. It keeps nothing between calls; the layer owns the projections, the dropout, the cache,
    and the tables that a core asks for. A core declares what it supports in the attributes
    below, all of them False unless it says otherwise, and `MultiHeadAttention` refuses arguments
    that its core does not support.

    >>> import dataclasses, keras
    >>> from keras_attention.layers import MultiHeadAttention
    >>> @keras.saving.register_keras_serializable("my_package")
    ... @dataclasses.dataclass(frozen=True)
    ... class Mean(Core):  # every query gets the mean of all values
    ...     def __call__(self, query, keys, values, **_):
    ...         mean = tf.reduce_mean(values, 2, keepdims=True)
    ...         return tf.repeat(mean, query.shape[2], axis=2), None
    >>> MultiHeadAttention(2, core=Mean())(tf.ones([1, 3, 4])).shape
    TensorShape([1, 3, 4])
    """

    takes_memory: ClassVar[bool] = False  # the keys may belong to another sequence than the queries
    takes_pair_masks: ClassVar[bool] = False  # masks [B, T, S] and [B, H, T, S], not only [B, S]
    takes_bias: ClassVar[bool] = False  # a bias of the scores
    applies_dropout: ClassVar[bool] = False  # dropout of the weights
    returns_weights: ClassVar[bool] = False  # the weights [B, H, T, S] can be returned
    decodes: ClassVar[bool] = False  # there is a `step`, for any number of hypotheses
    is_causal: ClassVar[bool] = False  # no query attends to a later step, whatever `causal` is
    causal_by_default: ClassVar[bool] = False  # what `causal=None` means
    scales_query: ClassVar[bool] = True  # the query comes divided by sqrt(Dk)

    def __call__(
        self,
        query: tf.Tensor,
        keys: tf.Tensor,
        values: tf.Tensor,
        *,
        mask: Any = None,
        bias: Any = None,
        causal: bool = False,
        dropout: Callable = tf.identity,
        tables: Sequence = (),
    ) -> tuple[tf.Tensor, Any]:
        """-> context [B, H, T, Dv], weights [B, H, T, S] before dropout or None.

        query [B, H, T, Dk], keys [B, G, S, Dk], values [B, G, S, Dv]; mask bool [B, S], [B, T, S],
        [B, H, T, S] or None; bias, causal: see `MultiHeadAttention`; dropout: a function of the
        weights; tables: the weights of `table_shapes`, in this order.
        """
        raise NotImplementedError(f"{type(self).__name__} must define __call__.")

    def step(
        self,
        query: tf.Tensor,
        keys: tf.Tensor,
        values: tf.Tensor,
        *,
        mask: tf.Tensor,
        slots: CacheSlots,
        bias: Any = None,
        tables: Sequence = (),
    ) -> tf.Tensor:
        """Decoding: T queries and the M slots of a cache -> context [B, H, T, Dv].

        query [B, H, T, Dk], keys [B, G, M, Dk], values [B, G, M, Dv], mask broadcastable to
        [B, H, T, M]: the slots of earlier steps and, in a beam search, only those of the
        hypothesis' own history.
        """
        raise NotImplementedError(
            f"{type(self).__name__} cannot decode step by step: define step() and set decodes=True."
        )

    def table_shapes(self, heads: int, key_width: int, value_width: int) -> dict[str, tuple]:
        """Weights that the layer owns for the core: name -> shape."""
        return {}

    def get_config(self) -> dict:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @classmethod
    def from_config(cls, config: dict) -> "Core":
        return cls(**config)
