"""The state of an `AttentionWrapper`."""

import collections
from typing import Any

import tensorflow as tf

from keras_attention.backend.keras import as_tensors, same_structure
from keras_attention.backend.states import check_dtype, check_structure, describe


class AttentionWrapperState(
    collections.namedtuple(
        "AttentionWrapperState",
        ("cell_state", "attention", "alignments", "alignment_history", "attention_state"),
    )
):
    """What a wrapped cell carries from step to step.

    cell_state: the inner cell's own, in its own containers.
    attention: [N, A], what the last step attended to, fed to the next.
    alignments: [N, S], the weights of the last step (a tuple with several mechanisms).
    alignment_history: () or a TensorArray of alignments, one entry a step (for each mechanism).
    attention_state: what the mechanism carries, for most of them the alignments.
    """

    __slots__ = ()

    @classmethod
    def of(cls, state: Any) -> "AttentionWrapperState":
        """The state, of which Keras may have made a plain sequence; TypeError for anything else."""
        if not isinstance(state, (list, tuple)) or len(state) != len(cls._fields):
            raise TypeError(
                "Expected state to be an AttentionWrapperState, as get_initial_state returns it; "
                "for the state of the inner cell alone, use "
                "get_initial_state(...).clone(cell_state=...). "
                f"Received: {type(state).__name__}, {describe(state)}"
            )
        return cls(*state)

    def clone(self, **replacements) -> "AttentionWrapperState":
        """A copy with some fields replaced by values of the same shape and type.

        The containers stay those of this state: a GRU's state may be given as the bare tensor
        that a GRU layer returns. Raises ValueError (InvalidArgumentError in a graph that cannot
        know before) where a shape differs.
        """
        replacements = as_tensors(replacements)
        replaced = self._replace(**replacements)
        for field, value in replacements.items():
            if field != "alignment_history":
                check_structure(getattr(self, field), value, field)
        message = (
            "The shape of the AttentionWrapperState is expected to be same as the one to clone. "
            "With beam search, tile the new value with tile_batch(value, beam_width) first."
        )

        def checked(old, new):
            if not (tf.is_tensor(old) and tf.is_tensor(new)):
                return new
            if not old.shape.is_compatible_with(new.shape):
                raise ValueError(f"{message} Expected: {old.shape}. Received: {new.shape}")
            check_dtype(old.dtype, new, "The new value of an AttentionWrapperState")
            if old.shape.is_fully_defined() and new.shape.is_fully_defined():
                return new
            same = tf.debugging.assert_equal(tf.shape(old), tf.shape(new), message=message)
            with tf.control_dependencies([same]):
                return tf.identity(new)

        new = same_structure(self, replaced)
        return tf.nest.map_structure(checked, self, new)
