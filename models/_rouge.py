"""ROUGE-L in the graph, as a reward."""

import tensorflow as tf


def rouge_l(found, wanted, end_id: int = 2, pad_id: int = 0) -> tf.Tensor:
    """2 L / (|found| + |wanted|), L the length of the longest common subsequence.  -> [B].

    (Lin, 2004, section 3, with beta = 1.) Ids [B, T] and [B, T'], padded; ends do not count. Two
    empty texts give 0.

    >>> rouge_l([[5, 6, 7, 8, 2], [5, 2, 0, 0, 0]], [[5, 7, 9, 6, 2], [6, 2, 0, 0, 0]]).numpy()
    array([0.5, 0. ], dtype=float32)
    """
    found, wanted = (tf.cast(ids, tf.int32) for ids in (found, wanted))
    real = [(ids != end_id) & (ids != pad_id) for ids in (found, wanted)]
    equal = (found[:, :, None] == wanted[:, None]) & real[0][:, :, None] & real[1][:, None]
    before = tf.linalg.band_part(tf.ones([tf.shape(wanted)[1]] * 2, tf.bool), 0, -1)  # j' <= j

    def row(last, equal):  # the lengths for one more token of `found` and each prefix of `wanted`
        longer = tf.pad(last, [[0, 0], [1, 0]])[:, :-1] + tf.cast(equal, tf.int32)
        best = tf.maximum(last, longer)
        return tf.reduce_max(tf.where(before, best[:, :, None], 0), 1)

    first = tf.zeros(tf.shape(wanted), tf.int32)
    lengths = tf.foldl(row, tf.transpose(equal, [1, 0, 2]), first)
    common = tf.cast(tf.reduce_max(tf.pad(lengths, [[0, 0], [1, 0]]), 1), tf.float32)
    both = tf.add_n([tf.reduce_sum(tf.cast(part, tf.float32), 1) for part in real])
    return tf.math.divide_no_nan(2 * common, both)
