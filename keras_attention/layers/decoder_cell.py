"""A causal stack as a cell: one step of it, with the cache of earlier steps as its state."""

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from keras_attention.backend.saving import deserialize
from keras_attention.functional.masks import as_lengths
from keras_attention.layers._base import Layer
from keras_attention.layers.transformer import StackMemory, TransformerStack


class DecoderState(NamedTuple):
    """What a causal stack remembers of K hypotheses for each of B sources, up to L steps.

    A step writes the keys and values of hypothesis k at time t into slot t*K + k, where they stay.
    Which slots a hypothesis descends from is its ancestry, so that hypotheses change places
    without anything of the cache being moved.

    >>> cell = TransformerCell(TransformerStack(2, heads=2, ff_width=8, causal=True))
    >>> cell.build((None, 4))
    >>> cell.get_initial_state(batch_size=1, max_length=5).ancestry.shape
    TensorShape([1, 1, 5])
    """

    time: Any  # int32 scalar, the steps taken
    caches: Any  # N x Cache, with M = L*K slots
    ancestry: Any  # [B, K, L] int32: its slot of K at each step taken, -1 beyond
    alignments: Any  # [B*K, S]: what the last step looked at; () without a memory


@keras.saving.register_keras_serializable("keras_attention")
class TransformerCell(Layer):
    """One step of a causal `TransformerStack`: `(inputs [N, D], state) -> (output [N, D], state)`.

    (Vaswani et al., 2017, section 3.1.) N = B*K rows lie hypotheses-inside-sources. The repeated
    step gives what the stack gives for the whole sequence.

    Args:
        stack: the stack, whose weights the cell shares.
        alignment_layer, alignment_head: which cross-attention is called the alignment: a layer of
            the stack, and one of its heads, or None for their mean.

    Call: `cell(inputs, state, memory=None, beam_width=None)`. `memory` is `prepare_memory(values)`;
    `beam_width` is that of the state, and a ValueError if it is another.
    `get_initial_state(batch_size, max_length, beam_width=1, memory=None)` has room for
    `max_length` steps; one more is an InvalidArgumentError (and undefined under XLA, which cannot
    raise any), and room beyond the learned positions is a ValueError. Searches call
    `reorder(state, parents)`. Raises ValueError for a stack that looks ahead, or whose
    self-attention has a core that declares `decodes=False`.

    >>> cell = TransformerCell(TransformerStack(2, heads=2, ff_width=8, causal=True))
    >>> cell.build((None, 4))
    >>> state = cell.get_initial_state(batch_size=1, max_length=5)
    >>> output, state = cell(tf.ones([1, 4]), state)
    >>> output.shape, int(state.time)
    (TensorShape([1, 4]), 1)
    """

    def __init__(
        self,
        stack: TransformerStack,
        alignment_layer: int = -1,
        alignment_head: int | None = None,
        **kwargs,
    ):
        kwargs.setdefault("dtype", stack.dtype_policy)
        kwargs.setdefault("autocast", False)  # a state stays as wide as it is
        super().__init__(**kwargs)
        core = stack.blocks[0].self_attention.core
        if not (stack.causal or core.is_causal):
            raise ValueError(
                "A cell decodes step by step, so its stack must not look ahead: give the stack "
                f"causal=True. Received: causal=False, a self-attention with {core}"
            )
        if not core.decodes:
            raise ValueError(
                f"A cell decodes step by step, and {core} defines no step: it declares "
                "decodes=False. Use another core, or define its step and declare decodes=True. "
                f"Received: a self-attention with {core}"
            )
        self.stack = stack
        self.alignment_layer, self.alignment_head = alignment_layer, alignment_head

    @property
    def output_size(self) -> int:
        """D."""
        return self.stack.input_width

    def build(self, input_shape) -> None:
        """The stack's weights."""
        if not self.stack.built:
            self.stack.build((None, *input_shape))
        self.built = True

    def prepare_memory(self, values, memory_sequence_length=None, memory_mask=None) -> StackMemory:
        """The memory of all steps.  [B, S, D'], lengths [B] or mask [B, S] -> `StackMemory`."""
        if memory_mask is None and memory_sequence_length is not None:
            lengths = as_lengths(memory_sequence_length, "memory_sequence_length")
            memory_mask = tf.sequence_mask(lengths, tf.shape(values)[1])
        return self.stack.project_memory(values, memory_mask)

    def get_initial_state(
        self, batch_size: Any = None, max_length=None, beam_width=1, memory=None, dtype=None
    ) -> DecoderState:
        """The state before the first step of B sources with K hypotheses each."""
        if max_length is None or not self.stack.built:
            raise ValueError(
                "get_initial_state needs max_length, how many steps there is room for, and the "
                "widths of a stack that is built: build or call it, or the cell, before. Received: "
                f"max_length={max_length}, built={self.stack.built}"
            )
        self._check_room(max_length)
        slots = max_length * beam_width
        shape = tf.stack([batch_size, beam_width, max_length])
        alignments = ()
        if memory is not None:
            keys = memory.blocks[0].keys
            alignments = tf.zeros([batch_size * beam_width, tf.shape(keys)[2]])
            alignments.set_shape([None, keys.shape[2]])
        ancestry = tf.fill(shape, -1)
        ancestry.set_shape([None, beam_width, tf.get_static_value(max_length)])
        return DecoderState(
            time=tf.constant(0),
            caches=tuple(
                b.self_attention.empty_cache(batch_size, slots) for b in self.stack.blocks
            ),
            ancestry=ancestry,
            alignments=alignments,
        )

    @tf.autograph.experimental.do_not_convert
    def __call__(self, inputs, state, **kwargs):
        return super().__call__(inputs, state, **kwargs)

    def call(self, inputs, state, memory=None, beam_width=None, training=None):
        """See the class."""
        time, caches, ancestry, before = state
        batch, _, length = tf.unstack(tf.shape(ancestry))
        hypotheses = ancestry.shape[1]
        _check_beam_width(hypotheses, beam_width)
        room = tf.debugging.Assert(
            time < length, ["More steps than max_length were taken:", length]
        )
        with tf.control_dependencies([] if room is None else [room]):  # before any slot is written
            time, x = tf.identity(time), tf.identity(tf.cast(inputs, self.compute_dtype))
        x = tf.reshape(x, [batch, hypotheses, inputs.shape[-1]])
        now = tf.range(length) == time  # [L]
        ancestry = tf.where(now, tf.range(hypotheses)[:, None], ancestry)  # [B, K, L]
        seen = ancestry[..., None] == tf.range(hypotheses)  # [B, K, L, K]
        mask = tf.reshape(seen, [batch, 1, hypotheses, length * hypotheses])
        x, weights, caches = self.stack.step(x, caches, time, mask, memory)
        alignments = ()
        if memory is not None:
            alignments = self.alignment(weights)
            alignments = tf.reshape(alignments, [-1, tf.shape(alignments)[2]])
            alignments = tf.cast(alignments, before.dtype)
        output = tf.reshape(x, [-1, x.shape[-1]])
        return output, DecoderState(time + 1, caches, ancestry, alignments)

    def _check_room(self, max_length):
        """Learned positions are as many as they are, and under XLA no step can say so."""
        positions, steps = self.stack.positions, tf.get_static_value(max_length)
        if positions is None or positions.kind != "learned" or steps is None:
            return
        if steps > positions.max_length:
            raise ValueError(
                f"A stack that has learned {positions.max_length} positions takes no more steps "
                f"than these. Received: max_length={steps}"
            )

    def alignment(self, weights) -> tf.Tensor:
        """Of all cross-attentions, N x [B, H, T, S], that which is called the alignment.

        -> [B, T, S].
        """
        weights = weights[self.alignment_layer]
        if self.alignment_head is None:
            return tf.reduce_mean(weights, 1)
        return weights[:, self.alignment_head]

    def reorder(self, state: DecoderState, parents) -> DecoderState:
        """Hypothesis k goes on from hypothesis `parents[b, k]`.  [B, K]."""
        return state._replace(ancestry=tf.gather(state.ancestry, parents, batch_dims=1))

    def get_config(self):
        return {
            **super().get_config(),
            "stack": keras.saving.serialize_keras_object(self.stack),
            "alignment_layer": self.alignment_layer,
            "alignment_head": self.alignment_head,
        }

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "stack": deserialize(config["stack"])})


def _check_beam_width(hypotheses, beam_width):
    """K of a call is that of the state."""
    known = tf.get_static_value(beam_width)
    if known is not None and known != hypotheses:
        raise ValueError(
            f"The state was made for beam_width={hypotheses} hypotheses of each source: call "
            "the cell with the same beam_width, or leave it out. Received: "
            f"beam_width={known}"
        )
