"""Dropout as a pure function of seed and place."""

from typing import Any

import tensorflow as tf

from keras_attention.functional.packing import Packing, pack

_PHILOX = 1
_GROUP = 4  # numbers that Philox makes for each value of its counter


def dropout(
    x: tf.Tensor,
    rate: float,
    seed: tf.Tensor,
    first: Any = 0,
    noise_shape: Any = None,
    packing: Packing | None = None,
) -> tf.Tensor:
    """Set each element to 0 with probability `rate`, and divide the others by 1 - rate.

    The mask of a row is a function of the seed and of its number, `first` + its place in x, alone:
    row n of a batch has the same mask in a part of the batch that begins at `first`.

    Args:
        x: [B, ...], float.
        rate: 0 to below 1; at 1 the result is 0.
        seed: int [2], as a `keras.random.SeedGenerator` yields it.
        first: number of the first row, int.
        noise_shape: sizes of the mask, 1 where the axis shares it; None or -1: that of x.
        packing: x [M, D] has the real tokens of rows [B, T, D], whose masks they get.

    >>> x, seed = tf.ones([4, 3]), tf.constant([1, 0])
    >>> whole, rest = dropout(x, 0.5, seed), dropout(x[2:], 0.5, seed, first=2)
    >>> bool(tf.reduce_all(whole[2:] == rest))
    True
    """
    if rate >= 1:
        return tf.zeros_like(x)
    shape = tf.shape(x)
    if packing is not None:
        if noise_shape is not None:
            raise ValueError(f"Packed tokens share no mask. Received: noise_shape={noise_shape}")
        shape = tf.concat([tf.shape(packing.mask), shape[1:]], 0)
    if noise_shape is not None:
        wanted = [None if size == -1 else size for size in noise_shape]
        shape = tf.stack(
            [shape[axis] if size is None else size for axis, size in enumerate(wanted)]
        )
    kept = uniform_rows(seed, first, shape) >= rate
    kept = kept if packing is None else pack(kept, packing)
    return tf.where(kept, x * tf.cast(1.0 / (1.0 - rate), x.dtype), tf.zeros([], x.dtype))


def uniform_rows(seed: tf.Tensor, first: Any, shape: tf.Tensor) -> tf.Tensor:
    """Numbers in [0, 1) of which each row is a function of the seed and its number.

    int [2], int, int [N] -> float32 of that shape, rows numbered from `first` on. They are the same
    eager and in a graph; XLA draws others, by the same rule.

    >>> uniform_rows(tf.constant([1, 0]), 0, [2, 3]).shape
    TensorShape([2, 3])
    """
    shape = tf.convert_to_tensor(shape, tf.int32)
    size = tf.reduce_prod(shape[1:])
    groups = -(-size // _GROUP)  # each row begins at a value of the counter
    halves = tf.cast(tf.bitcast(tf.cast(seed, tf.int32), tf.uint32), tf.uint64)
    key = tf.bitwise.left_shift(halves[0], tf.constant(32, tf.uint64)) + halves[1]
    counter = tf.cast(first, tf.uint64) * tf.cast(groups, tf.uint64)
    numbers = tf.raw_ops.StatelessRandomUniformV2(
        shape=tf.stack([shape[0], groups * _GROUP]),
        key=tf.reshape(key, [1]),
        counter=tf.stack([counter, tf.zeros([], tf.uint64)]),
        alg=_PHILOX,
    )
    return tf.reshape(numbers[:, :size], shape)


def first_row(rows: Any) -> Any:
    """The number of the first row of this replica, which has `rows` of each global batch.

    >>> first_row(8)
    0
    """
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return 0
    return tf.cast(context.replica_id_in_sync_group, tf.int32) * rows
