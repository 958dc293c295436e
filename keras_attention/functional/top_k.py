"""The k largest elements."""

import tensorflow as tf

_BLOCK = 64


def top_k(x: tf.Tensor, k: int) -> tuple[tf.Tensor, tf.Tensor]:
    """`tf.math.top_k`, several times faster over a vocabulary: the same values, the same ties.

    float [..., V] -> values [..., k], ids [..., k] int32, best first, lower ids first if tied.

    Only the k blocks with the largest maxima can have one of the k largest elements: each of them
    has an element that ranks before all others.

    >>> values, ids = top_k(tf.constant([[1.0, 3.0, 2.0, 3.0]]), 2)
    >>> values.numpy().tolist(), ids.numpy().tolist()
    ([[3.0, 3.0]], [[1, 3]])
    """
    columns = x.shape[-1]
    if columns is None or columns < 4 * k * _BLOCK:
        return tf.math.top_k(x, k)
    rows = tf.reshape(x, [-1, columns])
    if columns % _BLOCK:
        rows = tf.pad(rows, [[0, 0], [0, -columns % _BLOCK]], constant_values=-float("inf"))
    blocks = tf.reshape(rows, [-1, rows.shape[1] // _BLOCK, _BLOCK])
    _, best = tf.math.top_k(tf.reduce_max(blocks, 2), k)
    best = tf.sort(best)  # in the order of their elements, for ties
    survivors = tf.reshape(tf.gather(blocks, best, batch_dims=1), [-1, k * _BLOCK])
    values, places = tf.math.top_k(survivors, k)
    ids = tf.gather(best, places // _BLOCK, batch_dims=1) * _BLOCK + places % _BLOCK
    shape = tf.concat([tf.shape(x)[:-1], [k]], 0)
    return tuple(
        tf.ensure_shape(tf.reshape(part, shape), [*x.shape[:-1], k]) for part in (values, ids)
    )
