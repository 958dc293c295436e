"""Pointer networks: attention weights as a distribution over the tokens of the source."""

import tensorflow as tf

from keras_attention.functional.dtypes import widen
from keras_attention.functional.shapes import check_shapes


def copy_mixture(
    probabilities: tf.Tensor,
    attention: tf.Tensor,
    source_ids: tf.Tensor,
    p_gen: tf.Tensor,
    copy_slots: int = 0,
) -> tf.Tensor:
    """p(y) = p_gen p_vocab(y) + (1 - p_gen) sum of attention to y in the source.

    (Paulus et al., 2017, section 2.3; See et al., 2017, eq. 9.)

    probabilities [B, T, V], attention [B, T, S], source_ids [B, S] int, p_gen [B, T, 1]
    -> [B, T, V + copy_slots], float32 or wider. The extended vocabulary: ids from V on are words
    that occur in the source only, numbered per source. A word that occurs twice gets both weights.
    If attention sums to less than 1 (0 without visible slots), the rest is generated, so the result
    is a distribution. An id outside of the extended vocabulary is an error on a CPU, and ignored
    under XLA.

    >>> generated, looks = tf.constant([[[0.5, 0.5]]]), tf.constant([[[0.25, 0.5, 0.25]]])
    >>> copy_mixture(generated, looks, [[0, 2, 0]], tf.constant([[[0.5]]]), 1).numpy().tolist()
    [[[0.5, 0.25, 0.25]]]
    """
    check_shapes(
        probabilities=("B T V", probabilities),
        attention=("B T S", attention),
        source_ids=("B S", source_ids),
        p_gen=("B T 1", p_gen),
    )
    p_gen, attention = widen(p_gen), widen(attention)
    copied = (1 - p_gen) * attention  # [B, T, S]
    # At least 0, for rounding errors of a sum that should be 1.
    left = tf.nn.relu(1 - tf.reduce_sum(attention, -1, keepdims=True))
    generated = widen(probabilities) * (p_gen + (1 - p_gen) * left)
    generated = tf.pad(generated, [[0, 0], [0, 0], [0, copy_slots]])
    batch, steps, slots = tf.unstack(tf.shape(copied))
    ids = tf.cast(source_ids, tf.int32)[:, None, :]  # [B, 1, S]
    places = [tf.range(batch)[:, None, None], tf.range(steps)[None, :, None], ids]
    places = [tf.broadcast_to(place, [batch, steps, slots]) for place in places]
    return tf.tensor_scatter_nd_add(generated, tf.stack(places, -1), copied)


def taken_before(ids: tf.Tensor, slots: int | tf.Tensor) -> tf.Tensor:
    """Which slots were selected at an earlier step.  ids [B, T] -> [B, T, S] bool.

    `slots` is S. An id outside of 0 .. S - 1, such as -1 for padding, selects none.

    >>> taken_before([[1, 0]], 3).numpy().astype(int).tolist()
    [[[0, 0, 0], [0, 1, 0]]]
    """
    chosen = tf.one_hot(ids, slots, dtype=tf.int32)
    return tf.cumsum(chosen, axis=1, exclusive=True) > 0
