"""Real tokens of padded rows side by side, without the padding between them (Zhai et al., 2023).

B rows of T places, M real tokens. Layers that treat each token by itself (dense layers, norms,
residual connections) compute on packed tokens [M, D] what they would compute on [B, T, D], without
the padding; attention needs rows, so it unpacks queries, keys and values to heads.

The gradient of each function is its inverse: a gather, never a scatter.
"""

from typing import Any, NamedTuple

import tensorflow as tf

from keras_attention.functional.shapes import sizes


class Packing(NamedTuple):
    """Where the real tokens of padded rows are: see `packing_of`.

    >>> packing_of(tf.constant([[True, False], [True, True]])).numbers.numpy().tolist()
    [[0, 3], [1, 2]]
    """

    mask: Any  # [B, T] bool, True = a real token
    places: Any  # [M] int32: b * T + t of each real token
    numbers: Any  # [B, T] int32: which of the M tokens it is; M for padding


def packing_of(mask: tf.Tensor) -> Packing:
    """The packing of rows with a mask [B, T] bool, True = a real token.

    >>> packing_of(tf.constant([[True, False], [True, True]])).places.numpy().tolist()
    [0, 2, 3]
    """
    mask = tf.cast(mask, tf.bool)
    flat = tf.reshape(mask, [-1])
    places = tf.cast(tf.where(flat)[:, 0], tf.int32)
    before = tf.cumsum(tf.cast(flat, tf.int32), exclusive=True)
    numbers = tf.where(flat, before, tf.size(places))
    return Packing(mask, places, tf.reshape(numbers, tf.shape(mask)))


def right_padded(ids: tf.Tensor, pad_id: int) -> tf.Tensor:
    """The mask of ids that are padded on the right: all but what follows the last token.

    ids [B, T] -> [B, T] bool. The first place is never padding, so that a start token may have the
    id of the padding, and a row of padding alone has one real token.

    >>> right_padded(tf.constant([[0, 5, 0, 6, 0], [0, 0, 0, 0, 0]]), 0).numpy().astype(int)
    array([[1, 1, 1, 1, 0],
           [1, 0, 0, 0, 0]])
    """
    steps = tf.range(tf.shape(ids)[1])
    last = tf.reduce_max(tf.where(tf.not_equal(ids, pad_id), steps, 0), 1)
    return steps <= tf.maximum(last, 0)[:, None]


def pack(x: tf.Tensor, packing: Packing) -> tf.Tensor:
    """The real tokens of padded rows.  [B, T, ...] -> [M, ...]; the gradient of padding is zero.

    >>> places = packing_of([[True, False], [True, True]])
    >>> pack(tf.constant([[1.0, 9.0], [2.0, 3.0]]), places).numpy()
    array([1., 2., 3.], dtype=float32)
    """

    @tf.custom_gradient
    def packed(x):
        flat = tf.reshape(x, tf.concat([[-1], tf.shape(x)[2:]], 0))
        return tf.gather(flat, packing.places), lambda dy: unpack(dy, packing)

    return tf.ensure_shape(packed(x), [*packing.places.shape, *x.shape[2:]])


def unpack(x: tf.Tensor, packing: Packing) -> tf.Tensor:
    """Put packed tokens back into padded rows.  [M, ...] -> [B, T, ...], zeros for padding.

    >>> unpack(tf.constant([1.0, 2.0, 3.0]), packing_of([[True, False], [True, True]])).numpy()
    array([[1., 0.],
           [2., 3.]], dtype=float32)
    """

    @tf.custom_gradient
    def unpacked(x):
        return tf.gather(_with_zeros(x), packing.numbers), lambda dy: pack(dy, packing)

    return tf.ensure_shape(unpacked(x), [*packing.mask.shape, *x.shape[1:]])


def unpack_heads(x: tf.Tensor, heads: int, packing: Packing) -> tf.Tensor:
    """`functional.heads.split_heads` of packed tokens.  [M, H*X] -> [B, H, T, X].

    >>> unpack_heads(tf.zeros([3, 8]), 2, packing_of([[True, False], [True, True]])).shape
    TensorShape([2, 2, 2, 4])
    """
    width = x.shape[-1] // heads

    @tf.custom_gradient
    def unpacked(x):
        rows = tf.reshape(_with_zeros(x), [-1, width])
        numbers = packing.numbers[:, None] * heads + tf.range(heads)[:, None]
        return tf.gather(rows, numbers), lambda dy: pack_heads(dy, packing)

    batch, steps = packing.mask.shape
    return tf.ensure_shape(unpacked(x), [batch, heads, steps, width])


def pack_heads(x: tf.Tensor, packing: Packing) -> tf.Tensor:
    """`functional.heads.join_heads` of the real tokens.  [B, H, T, X] -> [M, H*X].

    >>> pack_heads(tf.zeros([2, 2, 2, 4]), packing_of([[True, False], [True, True]])).shape
    TensorShape([3, 8])
    """
    _, heads, steps, width = sizes(x)

    @tf.custom_gradient
    def packed(x):
        row, step = packing.places // steps, packing.places % steps
        first = row * (heads * steps) + step  # of the first head
        heads_of = first[:, None] + tf.range(heads) * steps
        found = tf.gather(tf.reshape(x, [-1, width]), heads_of)
        joined = tf.reshape(found, [-1, heads * width])
        return joined, lambda dy: unpack_heads(dy, heads, packing)

    return tf.ensure_shape(packed(x), [*packing.places.shape, heads * width])


def _with_zeros(x):
    """One more row, which padding reads."""
    return tf.concat([x, tf.zeros([1, *sizes(x)[1:]], x.dtype)], 0)
