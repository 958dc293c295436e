"""Multi-head attention, and its cache for decoding step by step."""

import functools
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from keras_attention.backend.saving import BuiltWithMemory, deserialize, serialize
from keras_attention.functional.attend import Memory
from keras_attention.functional.dtypes import widen
from keras_attention.functional.heads import head_mask, join_heads, split_heads, write_slots
from keras_attention.functional.masks import finite_padding, steps_mask, zero_masked
from keras_attention.functional.packing import Packing, pack_heads, unpack_heads
from keras_attention.layers._base import Layer
from keras_attention.layers._shapes import check_head_shapes
from keras_attention.layers.cores import CacheSlots, Core, Full
from keras_attention.layers.cores.checks import check_call, check_dropout
from keras_attention.layers.dropout import Dropout
from keras_attention.layers.memory_attention import MemoryAttention


class Cache(NamedTuple):
    """Key/value cache of the previous steps; its entries are never reordered.

    >>> layer = MultiHeadAttention(num_heads=2, key_width=4)
    >>> layer.build((None, None, 8))
    >>> layer.empty_cache(batch_size=1, slots=5).keys.shape
    TensorShape([1, 2, 5, 4])
    """

    keys: Any  # [B, G, M, Dk], float32 or wider
    values: Any  # [B, G, M, Dv]


@keras.saving.register_keras_serializable("keras_attention")
class MultiHeadAttention(BuiltWithMemory, MemoryAttention, Layer):
    """Multi-head attention with H heads.

        head_h = softmax(x W^Q_h (y W^K_h)^T / sqrt(Dk) + bias) y W^V_h
        output = [head_1; ..; head_H] W^O

    (Vaswani et al., 2017, section 3.2.2.) With fewer key heads G than query heads H, each serves
    H / G of them: grouped-query attention (Ainslie et al., 2023), with G = 1 multi-query attention
    (Shazeer, 2019).

    Args:
        num_heads: H.
        key_width: Dk, of each head; default D / H of the query, which must be whole.
        value_width: Dv, of each head; default Dk.
        output_width: D of the output; default that of the query.
        num_key_heads: G, a divisor of H; default H.
        use_bias: give the four projections a bias.
        dropout: share of the attention weights dropped.
        core: the attention function of the heads (full, banded, linear, ...), one of
            `layers.cores`; default `Full()`, the formula above. A core supports some of the
            arguments of the call: see `Core`.

    Call: `(query [B, T, D], memory=None, mask=None, bias=None, causal=None,
    return_weights=False)` -> [B, T, D], and with `return_weights` also [B, H, T, S] as they are
    before dropout.
        memory: [B, S, D'] to attend to, or the result of `project_memory`; None: the query itself.
        mask: boolean, True = attend: [B, S], [B, T, S] or [B, H, T, S]. Without one, the Keras
            mask of the memory. A projected memory keeps the mask that it was projected with; the
            two masks are combined with AND.
        bias: added to the scaled scores, broadcastable to [B, H, T, S]; or a function from the
            scaled query heads [B, H, T, Dk] to it, for relative positions. -inf hides a slot.
        causal: the queries are the last T of the S steps of the memory, and each sees itself and
            the steps before. With T = S step t sees s <= t; with T = 2 and S = 4:

                query 0 (step 2)   1 1 1 0
                query 1 (step 3)   1 1 1 1

            None is the default of the core: False, except for `Strided`.

        packing: a `functional.Packing` of the query, which is then [M, D], as `functional.pack`
            gives it, and so is the output. A query without a memory is hidden where it has padding.

    A query that may see nothing gets zeros (and the output's bias). Steps and slots that a mask
    [B, S] hides may hold anything, NaN too. The output has the Keras mask of the query.

    Raises ValueError for widths below 1, heads that do not divide, shapes that do not fit,
    `causal` with a known S < T, or an argument that the core does not support.

    >>> layer = MultiHeadAttention(num_heads=2, key_width=4)
    >>> output, weights = layer(tf.ones([1, 3, 8]), causal=True, return_weights=True)
    >>> output.shape, weights[0, 0, 1].numpy().tolist()
    (TensorShape([1, 3, 8]), [0.5, 0.5, 0.0])
    """

    def __init__(
        self,
        num_heads: int,
        key_width: int | None = None,
        value_width: int | None = None,
        output_width: int | None = None,
        num_key_heads: int | None = None,
        use_bias: bool = True,
        dropout: float = 0.0,
        core: Core | None = None,
        **kwargs,
    ):
        kwargs.setdefault("autocast", False)  # the keys of a memory are as wide as they are
        super().__init__(**kwargs)
        self.num_heads, self.num_key_heads = num_heads, num_key_heads or num_heads
        self.key_width, self.value_width = key_width, value_width
        self.output_width, self.use_bias = output_width, use_bias
        sizes = (num_heads, num_key_heads, key_width, value_width, output_width)
        if min(1 if size is None else size for size in sizes) < 1:
            raise ValueError(
                "Heads and widths must be at least 1. Received: "
                f"num_heads={num_heads}, num_key_heads={num_key_heads}, key_width={key_width}, "
                f"value_width={value_width}, output_width={output_width}"
            )
        if num_heads % self.num_key_heads:
            raise ValueError(
                "num_key_heads G must divide num_heads H. Received: "
                f"H={num_heads}, G={num_key_heads}"
            )
        core = Full() if core is None else core
        if not isinstance(core, Core):
            raise ValueError(
                "core must be a Core of layers.cores, such as cores.Banded(radius=8). "
                f"Received: core={core!r}"
            )
        check_dropout(core, dropout)
        self.core = core
        self.dropout = Dropout(dropout, dtype=self.dtype_policy)
        self.supports_masking = True

    def build(self, query_shape, memory_shape=None) -> None:
        """W^Q, W^K, W^V, W^O, tables of the core; `memory_shape` is needed where D' is not D."""
        self._widths = width, memory_width = query_shape[-1], (memory_shape or query_shape)[-1]
        if self.key_width is None and width % self.num_heads:
            raise ValueError(
                "num_heads H must divide the width D of the query, or key_width be given. "
                f"Received: H={self.num_heads}, D={width}"
            )
        self._key_width = self.key_width or width // self.num_heads
        self._value_width = self.value_width or self._key_width
        self.query = self._dense("query", width, self.num_heads * self._key_width)
        self.key = self._dense("key", memory_width, self.num_key_heads * self._key_width)
        self.value = self._dense("value", memory_width, self.num_key_heads * self._value_width)
        self.output_layer = self._dense(
            "output", self.num_heads * self._value_width, self.output_width or width
        )
        for name, shape in self._table_shapes().items():
            setattr(self, name, self.add_weight(shape=shape, name=name))
        self.built = True

    def _table_shapes(self):
        return self.core.table_shapes(self.num_heads, self._key_width, self._value_width)

    def _tables(self):
        """The weights of the core, in its order."""
        return tuple(getattr(self, name) for name in self._table_shapes())

    def _dense(self, name, width, output_width):
        layer = keras.layers.Dense(
            output_width, use_bias=self.use_bias, dtype=self.dtype_policy, name=name
        )
        layer.build((None, None, width))
        return layer

    def call(
        self,
        query,
        memory=None,
        mask=None,
        bias=None,
        causal=None,
        return_weights=False,
        training=None,
        packing=None,
    ):
        """See the class."""
        query, (keys, values, seen) = self.prepare(query, memory, mask, packing)
        check_call(self.core, memory, seen, bias, return_weights)
        context, weights = self.core(
            self.split_query(query, packing),
            keys,
            values,
            mask=seen,
            bias=bias,
            causal=self.core.causal_by_default if causal is None else causal,
            dropout=functools.partial(self.dropout, training=training),
            tables=self._tables(),
        )
        output = self.join(context, packing)
        return (output, weights) if return_weights else output

    # -- the parts of a call

    def prepare(
        self, query, memory=None, mask=None, packing: Packing | None = None
    ) -> tuple[tf.Tensor, Memory]:
        """The query, and the projected memory with one mask of all hidden slots.

        query [B, T, D]; memory [B, S, D'], `Memory`, or None: the query itself; mask [B, S],
        [B, T, S] or [B, H, T, S] or None -> the query, `Memory`. With a packing the query is
        [M, D].
        """
        if packing is None:
            check_head_shapes(query, memory, mask)
        elif memory is None:
            return query, self.project_packed(query, packing)
        if isinstance(memory, Memory):
            return query, self.hide(memory, mask)
        source = query if memory is None else memory
        if mask is None:
            mask = getattr(source, "_keras_mask", None)
        steps = steps_mask(mask)
        if memory is None:
            query = source = finite_padding(query, steps)
        return query, self.project_memory(source, steps)._replace(mask=mask)

    def project_memory(self, memory, mask=None) -> Memory:
        """Keys and values once per source, zeros for what is masked.

        [B, S, D'], mask [B, S] -> [B, G, S, Dk], [B, G, S, Dv].
        """
        if mask is None:
            mask = getattr(memory, "_keras_mask", None)
        memory = zero_masked(memory, steps_mask(mask))
        keys = split_heads(self.key(memory), self.num_key_heads)
        return Memory(widen(keys), split_heads(self.value(memory), self.num_key_heads), mask)

    def project_packed(self, memory, packing: Packing) -> Memory:
        """`project_memory` of the real tokens of a memory; zeros for padding.

        [M, D'] -> [B, G, S, Dk], [B, G, S, Dv].
        """
        return self.memory_of(self.key(memory), self.value(memory), packing)

    def memory_of(self, keys, values, packing: Packing) -> Memory:
        """Packed keys [M, G*Dk] and values [M, G*Dv] as a memory."""
        keys, values = (unpack_heads(x, self.num_key_heads, packing) for x in (keys, values))
        return Memory(widen(keys), values, packing.mask)

    def hide(self, memory: Memory, mask=None) -> Memory:
        """A projected memory under one more mask: both masks joined, hidden slots zeros."""
        if mask is None:
            return memory
        steps = steps_mask(mask)
        if steps is not None:
            slots = tf.cast(steps, tf.bool)[:, None]  # the same for every head
            keys, values = (zero_masked(x, slots) for x in (memory.keys, memory.values))
            memory = memory._replace(keys=keys, values=values)
        if memory.mask is not None and steps is not None and len(memory.mask.shape) == 2:
            mask = tf.cast(mask, tf.bool) & tf.cast(memory.mask, tf.bool)
        elif memory.mask is not None:
            mask = head_mask(mask, False, 1, 1) & head_mask(memory.mask, False, 1, 1)
        return memory._replace(mask=mask)

    def split_query(self, query, packing: Packing | None = None) -> tf.Tensor:
        """The query of every head, scaled if the core asks for it.  [B, T, D] -> [B, H, T, Dk]."""
        query = self.query(query)
        if packing is None:
            heads = split_heads(query, self.num_heads)
        else:
            heads = unpack_heads(query, self.num_heads, packing)
        return heads * self._key_width**-0.5 if self.core.scales_query else heads

    def join(self, contexts, packing: Packing | None = None) -> tf.Tensor:
        """W^O of the heads side by side.  [B, H, T, Dv] -> [B, T, D], or packed [M, D]."""
        joined = join_heads(contexts) if packing is None else pack_heads(contexts, packing)
        return self.output_layer(tf.cast(joined, self.compute_dtype))

    # -- one step of an RNN decoder, see `MemoryAttention`

    def attend(self, query, memory: Memory, state=(), training=None):
        """One step of K hypotheses.  -> output [B, K, D], mean weights of the heads [B, K, S]."""
        if not (self.core.takes_memory and self.core.returns_weights):
            raise ValueError(
                "The attention of an RNN decoder has a memory and returns its weights: use a "
                "core with takes_memory and returns_weights, such as Full(). Received: "
                f"core={self.core}"
            )
        output, weights = self(query, memory, return_weights=True, training=training)
        return output, tf.reduce_mean(weights, 1), state

    def context_width(self, query_width, memory_width) -> int:
        """`output_width`, or the width of the query."""
        return self.output_width or query_width

    @property
    def memory_width(self) -> int | None:
        """D' that W^K and W^V are built for."""
        return self._widths[1] if self.built else None

    # -- decoding step by step

    def empty_cache(self, batch_size, slots) -> Cache:
        """Room for M slots, zeros."""

        def zeros(width, dtype):
            return tf.zeros([batch_size, self.num_key_heads, slots, width], dtype)

        keys = widen(tf.zeros([], self.compute_dtype)).dtype
        return Cache(zeros(self._key_width, keys), zeros(self._value_width, self.compute_dtype))

    def step(self, query, cache: Cache, slot, mask, bias=None, hypotheses: int = 1):
        """Write T rows to the cache at `slot`, ..., `slot + T - 1`, then attend to it under `mask`.

        Slot m of the cache holds step m // K of K `hypotheses`: the rows are T steps (K = 1), or
        the K hypotheses of one step, and `slot` is K times the step.
        query [B, T, D], mask broadcastable to [B, H, T, M] -> [B, T, D], the cache.
        """
        new = self.project_memory(query)
        cache = Cache(*(write_slots(old, x, slot) for old, x in zip(cache, new)))
        check_call(self.core, None, None, bias, False)
        context = self.core.step(
            self.split_query(query),
            *cache,
            mask=mask,
            slots=CacheSlots(slot, hypotheses),
            bias=bias,
            tables=self._tables(),
        )
        return self.join(context), cache

    # -- what Keras asks

    def compute_mask(self, query, previous_mask=None):
        """That of the query, whatever `mask` is: it may be of the memory, or of pairs."""
        return getattr(query, "_keras_mask", None)

    def get_config(self):
        names = "num_heads key_width value_width output_width num_key_heads use_bias".split()
        own = {name: getattr(self, name) for name in names}
        more = {"dropout": self.dropout.rate, "core": serialize(self.core)}
        return {**super().get_config(), **own, **more}

    @classmethod
    def from_config(cls, config):
        core = {"core": deserialize(config["core"])} if "core" in config else {}
        return cls(**{**config, **core})
