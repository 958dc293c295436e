"""The interface of an attention over a memory: project it once, then attend step by step.

`AttentionWrapper` uses it in an RNN decoder, with K hypotheses of a beam search per source.
"""

from typing import Any

import tensorflow as tf

from keras_attention.functional.attend import Memory


class MemoryAttention:
    """Mixin of layers that can be the attention of an RNN decoder.

    Pass such a layer to `seq2seq.AttentionWrapper(cell, attention)`. It has

        build(query_shape [B, K, D], memory_shape [B, S, D'])
        project_memory(memory [B, S, D'], mask [B, S] = None) -> Memory       once per source
        attend(query [B, K, D], memory, state) -> (context [B, K, D''], weights [B, K, S], state)

    with K queries per source, one for each hypothesis of a beam search, which share its memory. An
    attention without a state uses `()`; others also have

        initial_state(batch_size N = B*K, dtype, memory) -> nest of [N, ...]
        state_size: the same nest of widths, `TensorShape([None])` for S

    `attend` receives and returns the state as a nest of [B, K, ...].

    >>> import keras
    >>> from keras_attention.functional import Memory, attend
    >>> from keras_attention.layers import MemoryAttention
    >>> class Uniform(MemoryAttention, keras.layers.Layer):
    ...     def build(self, query_shape, memory_shape):
    ...         self.built = True
    ...     def project_memory(self, memory, mask=None):
    ...         mask = tf.ones(tf.shape(memory)[:2], tf.bool) if mask is None else mask
    ...         return Memory(memory, memory, mask)
    ...     def attend(self, query, memory, state=(), training=None):
    ...         scores = tf.zeros([tf.shape(query)[0], tf.shape(query)[1], memory.mask.shape[1]])
    ...         context, weights = attend(scores, memory.values, memory.mask[:, None])
    ...         return context, weights, state
    >>> from keras_attention.seq2seq import AttentionWrapper
    >>> wrapper = AttentionWrapper(keras.layers.GRUCell(4), Uniform())
    >>> memory = wrapper.prepare_memory(tf.ones([2, 3, 5]))
    >>> state = wrapper.get_initial_state(batch_size=2, memory=memory)
    >>> output, state = wrapper(tf.ones([2, 7]), state, memory=memory)
    >>> output.shape, state.alignments.shape
    (TensorShape([2, 5]), TensorShape([2, 3]))
    """

    def project_memory(self, memory: Any, mask: Any = None) -> Memory:
        """Keys and values once per source, 0 where masked.  [B, S, D'], [B, S] bool."""
        raise NotImplementedError(f"{type(self).__name__} must define project_memory(memory, mask)")

    def attend(
        self, query: Any, memory: Memory, state: Any = (), training: Any = None
    ) -> tuple[tf.Tensor, tf.Tensor, Any]:
        """One step.  [B, K, D], state -> context [B, K, D''], weights [B, K, S], next state."""
        raise NotImplementedError(f"{type(self).__name__} must define attend(query, memory, state)")

    def context_width(self, query_width: int, memory_width: int) -> int:
        """D'' for queries of D and a memory of D'; here D'."""
        return memory_width

    @property
    def memory_width(self) -> int | None:
        """D' of the memory that the layer is built for, None before."""
        return None

    @property
    def state_size(self) -> Any:
        """Widths of the state; here `()`, no state."""
        return ()

    def initial_state(self, batch_size: Any, dtype: Any, memory: Memory) -> Any:
        """The state before the first step, a nest of [N, ...]; here `()`, no state."""
        return ()
