"""Masks: boolean, True = may look, joined with `&`."""

import tensorflow as tf


def padding(lengths: tf.Tensor, steps: int | tf.Tensor | None = None) -> tf.Tensor:
    """The real steps of right-padded rows.  lengths [B] -> [B, S] bool.

    `steps` is S; without it, S is the longest length.

    >>> padding([2, 0], 3).numpy().astype(int).tolist()
    [[1, 1, 0], [0, 0, 0]]
    """
    return tf.sequence_mask(lengths, steps)
