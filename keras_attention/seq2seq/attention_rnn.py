"""`AttentionRNN`: `keras.layers.RNN` for a cell with attention."""

from typing import Any

import keras
import tensorflow as tf

from keras_attention.backend.keras import KERAS_3, build, no_autograph, register
from keras_attention.backend.states import row_count
from keras_attention.decoding.initial_state import check_initial_state
from keras_attention.layers._masks import warn_of_lost_mask
from keras_attention.layers._remat import KeepsActivations
from keras_attention.seq2seq._memory import resolve_memory_mask
from keras_attention.seq2seq.attention_wrapper import AttentionWrapper
from keras_attention.seq2seq.basic_decoder import only_one_state
from keras_attention.seq2seq.recurrent import FusedLoop

__all__ = ["AttentionRNN"]


@register
class AttentionRNN(KeepsActivations, FusedLoop, keras.layers.RNN):
    """`keras.layers.RNN` for an `AttentionWrapper`; the memory is an argument of the call.

    Args: those of `keras.layers.RNN`; `cell` is an `AttentionWrapper`. `fused`: as in `RNN`, with
        one `BahdanauAttention` or `LuongAttention`.

    Call: `rnn(sequences [B, T, D], memory=None, memory_sequence_length=None, memory_mask=None,
    initial_state=None, initial_cell_state=None, mask=None, training=None)` -> [B, A], or [B, T, A]
    with `return_sequences`.
    `memory` is a tensor [B, S, D'] with its Keras mask, or the result of `cell.prepare_memory`;
    None for the one that is bound to the mechanism. At masked steps the state is not updated.

    >>> from keras_attention.seq2seq import AttentionWrapper, LuongAttention
    >>> cell = AttentionWrapper(keras.layers.GRUCell(4), LuongAttention(4), 6)
    >>> rnn = AttentionRNN(cell, return_sequences=True)
    >>> rnn(tf.ones([2, 3, 5]), memory=tf.ones([2, 7, 8])).shape
    TensorShape([2, 3, 6])
    """

    def __init__(self, cell: Any, *args, **kwargs):
        if not isinstance(cell, AttentionWrapper):
            raise TypeError(
                f"cell must be an AttentionWrapper. Received: {type(cell).__name__}; a cell that "
                "attends to nothing goes into keras.layers.RNN."
            )
        if tf.nest.flatten(cell.state_size.alignment_history):
            raise ValueError(
                "An RNN carries tensors alone and has no place for a cell with "
                "alignment_history=True. Decode with BasicDecoder: its last state has the history. "
                "Received: a cell with alignment_history=True"
            )
        # Of two parents the checker sees the constructor of the first, which has none.
        super().__init__(cell, *args, **kwargs)  # pyright: ignore[reportCallIssue]
        self.supports_masking = True  # which Keras 3.16 denies its RNNs

    @no_autograph
    def __call__(self, sequences, initial_state=None, mask=None, training=None, **memory):
        memory = resolve_memory_mask(memory)
        memory = {name: given for name, given in memory.items() if given is not None}
        self.cell.build_for((None, sequences.shape[-1]), memory.get("memory"))
        build(self, tuple(sequences.shape))
        if initial_state is not None:
            check_initial_state(self.cell, initial_state, row_count(sequences))
        others = {"initial_state": initial_state, "mask": mask, "training": training}
        others = {name: given for name, given in others.items() if given is not None}
        return super().__call__(sequences, **others, **memory)

    def call(
        self,
        sequences,
        initial_state=None,
        mask=None,
        training=False,
        memory=None,
        memory_sequence_length=None,
        memory_mask=None,
        initial_cell_state=None,
    ):
        """See the class."""
        only_one_state(initial_state, initial_cell_state)
        with self.cell.bound_to(memory, memory_sequence_length, memory_mask):
            if initial_cell_state is not None:
                check_initial_state(self.cell.cell, initial_cell_state, row_count(sequences))
                zeros = self.cell.get_initial_state(batch_size=tf.shape(sequences)[0])
                initial_state = zeros.clone(cell_state=initial_cell_state)
            if training or self.stateful or not KERAS_3:
                return super().call(
                    sequences, initial_state=initial_state, mask=mask, training=training
                )
            return self._answer(sequences, initial_state, mask)

    def _answer(self, sequences, initial_state, mask):
        """The call of Keras 3 without training, which draws no dropout masks.

        Keras draws them in every call and keeps them on the cell until its end: that would move the
        seed, and take the masks from a thread that trains.
        """
        if initial_state is None:
            initial_state = self.get_initial_state(batch_size=tf.shape(sequences)[0])
        last, outputs, state = self.inner_loop(
            sequences=sequences,
            initial_state=_cast(list(initial_state), self.cell.compute_dtype),
            mask=mask,
            training=False,
        )
        output = _cast(outputs if self.return_sequences else last, self.compute_dtype)
        return (output, *_cast(state, self.compute_dtype)) if self.return_state else output

    @classmethod
    def from_config(cls, config: dict, custom_objects=None):
        """A layer of this configuration, which stays as it is (that of Keras loses its cell)."""
        return super().from_config(dict(config), custom_objects)

    def compute_output_shape(
        self, sequences_shape, initial_state_shape=None, memory_shape=None, **_
    ) -> Any:
        """As that of `keras.layers.RNN`, which does not know the memory [B, S, D']."""
        (rows, width), state = self.cell.compute_output_shape(
            (sequences_shape[0], *sequences_shape[2:]), initial_state_shape, memory_shape
        )
        output = (rows, sequences_shape[1], width) if self.return_sequences else (rows, width)
        return (output, *state) if self.return_state else output

    def compute_output_spec(self, *args, **kwargs):
        """Keras would ask for the sizes of a state that depends on the memory: run it instead."""
        warn_of_lost_mask(self, args, kwargs)
        return super(keras.layers.Layer, self).compute_output_spec(*args, **kwargs)


def _cast(nest, dtype):
    return tf.nest.map_structure(lambda x: tf.cast(x, dtype), nest)
