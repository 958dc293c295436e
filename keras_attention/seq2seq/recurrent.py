"""`RNN`: `keras.layers.RNN` that runs all steps as one differentiable function where it can."""

import functools
from typing import Any

import keras
import tensorflow as tf

from keras_attention.backend.keras import register
from keras_attention.seq2seq.attention_state import AttentionWrapperState
from keras_attention.seq2seq.fused import (
    NotFusible,
    check_fused,
    fused_or_none,
    fused_steps,
    parts_of,
    zero_inactive,
)

__all__ = ["RNN"]


class FusedLoop:
    """Before `keras.layers.RNN`: the argument `fused`, see `RNN`."""

    def __init__(self, cell: Any, *args, fused: Any = "auto", **kwargs):
        super().__init__(cell, *args, **kwargs)  # pyright: ignore[reportCallIssue]
        self.fused = check_fused(fused)

    def inner_loop(self, sequences, initial_state, mask, training=False):
        """-> the last output [B, A], the outputs [B, T, A], the states after the last step."""
        run = functools.partial(self._all_steps, sequences, initial_state, mask, training)
        # Without a gradient to compute, the loop of Keras is as fast, and any runtime knows it.
        found = fused_or_none(self.fused, run) if training or self.fused is True else None
        return found or super().inner_loop(  # pyright: ignore[reportAttributeAccessIssue]
            sequences, initial_state, mask, training
        )

    def _all_steps(self, sequences, initial_state, mask, training):
        parts = parts_of(self.cell)
        if self.unroll:
            raise NotFusible("unroll=True")
        if not tf.is_tensor(sequences) or sequences.shape.rank != 3 or sequences.shape[2] is None:
            raise NotFusible("inputs other than one tensor [B, T, D]")
        memory, state = None, initial_state
        if parts.wrapper is not None:
            memory = parts.wrapper.memory_of_call()
            state = AttentionWrapperState.of(state)
        inputs, active = tf.transpose(sequences, [1, 0, 2]), None
        if mask is not None:
            active = tf.transpose(tf.reshape(tf.cast(mask, tf.bool), tf.shape(sequences)[:2]))
        if self.go_backwards:
            inputs = tf.reverse(inputs, [0])
            active = None if active is None else tf.reverse(active, [0])
        outputs, _, last = fused_steps(parts, inputs, state, memory, active, training)
        if active is not None:
            # An output of a masked step is that of the step before, and zero before the first.
            shown = active if self.zero_output_for_mask else _begun(active)
            outputs = zero_inactive(outputs, shown)
        return outputs[-1], tf.transpose(outputs, [1, 0, 2]), list(last)

    def get_config(self) -> dict:
        """That of `keras.layers.RNN`, and `fused`."""
        config = super().get_config()  # pyright: ignore[reportAttributeAccessIssue]
        return {**config, "fused": self.fused}


@register
class RNN(FusedLoop, keras.layers.RNN):
    """`keras.layers.RNN` whose LSTM and GRU cells run as one differentiable function.

    Keras differentiates its loop over single steps; this layer runs all steps by
    `functional.recurrence`, whose gradient is written by hand: each weight's gradient is one
    product over all steps, and the inputs are projected before the loop. The numbers are the same.

    Args: those of `keras.layers.RNN`, and

        fused: True: `LSTMCell` and `GRUCell` of Keras (tanh, sigmoid, `reset_after`, without
            `recurrent_dropout`) and `StackedRNNCells` of them; ValueError for other parts. "auto":
            in training, where the parts allow it; otherwise as `keras.layers.RNN`. False: as
            `keras.layers.RNN`.

    Call: that of `keras.layers.RNN`.

    >>> rnn = RNN(keras.layers.LSTMCell(4), return_sequences=True)
    >>> rnn(tf.ones([2, 3, 5])).shape
    TensorShape([2, 3, 4])
    """


def _begun(active):
    """Whether a row has had an active step.  [T, B] -> [T, B]."""
    return tf.cast(tf.math.cumsum(tf.cast(active, tf.int32), 0), tf.bool)
