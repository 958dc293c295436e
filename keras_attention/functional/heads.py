"""Multi-head attention: layout of heads, and keys shared by several heads.

H query heads, G key heads, each shared by H / G query heads.
"""

from typing import Any

import tensorflow as tf

from keras_attention.functional.dtypes import widen
from keras_attention.functional.masks import steps_before
from keras_attention.functional.normalizers import softmax
from keras_attention.functional.shapes import check_broadcast, sizes


def split_heads(x: tf.Tensor, heads: int) -> tf.Tensor:
    """[B, T, H*X] -> [B, H, T, X].

    >>> split_heads(tf.zeros([1, 3, 8]), 2).shape
    TensorShape([1, 2, 3, 4])
    """
    shape = tf.shape(x)
    x = tf.reshape(x, [shape[0], shape[1], heads, x.shape[-1] // heads])
    return tf.transpose(x, [0, 2, 1, 3])


def join_heads(x: tf.Tensor) -> tf.Tensor:
    """The inverse of `split_heads`.  [B, H, T, X] -> [B, T, H*X].

    >>> join_heads(tf.zeros([1, 2, 3, 4])).shape
    TensorShape([1, 3, 8])
    """
    batch, heads, steps, width = sizes(x)
    return tf.reshape(tf.transpose(x, [0, 2, 1, 3]), [batch, steps, heads * width])


def head_scores(query: tf.Tensor, keys: tf.Tensor) -> tf.Tensor:
    """q·k of every head, float32 or wider.  [B, H, T, Dk], [B, G, S, Dk] -> [B, H, T, S].

    >>> head_scores(tf.ones([1, 4, 2, 3]), tf.ones([1, 2, 5, 3])).shape
    TensorShape([1, 4, 2, 5])
    """
    rows = _grouped(widen(query), keys.shape[1])
    scores = tf.matmul(rows, widen(keys), transpose_b=True)
    return _ungrouped(scores, query)


def head_weights(query, keys, mask=None, bias: Any = None) -> tf.Tensor:
    """softmax(q·k + bias) under a mask.  [B, H, T, Dk], [B, G, S, Dk] -> [B, H, T, S]."""
    return biased_weights(head_scores(query, keys), query, mask, bias)


def biased_weights(scores, query, mask=None, bias: Any = None) -> tf.Tensor:
    """softmax(scores + bias), zeros where the mask is False or the bias -inf.  [B, H, T, S].

    `bias` broadcasts to the scores, or is a function from the query heads [B, H, T, Dk] to it.
    """
    if bias is not None:
        bias = tf.cast(bias(widen(query)) if callable(bias) else bias, scores.dtype)
        check_broadcast("bias", bias, scores, "B, H, T, S")
        visible = bias > -float("inf")
        scores += tf.where(visible, bias, 0.0)
        mask = visible if mask is None else visible & mask
    return softmax(scores, mask)


def head_contexts(weights: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """The context of every head.  [B, H, T, S], [B, G, S, Dv] -> [B, H, T, Dv], the values' type.

    >>> head_contexts(tf.ones([1, 4, 2, 5]), tf.ones([1, 2, 5, 3])).shape
    TensorShape([1, 4, 2, 3])
    """
    rows = _grouped(tf.cast(weights, values.dtype), values.shape[1])
    return _ungrouped(tf.matmul(rows, values), weights)


def repeat_heads(query: tf.Tensor, *arrays: tf.Tensor) -> list[tf.Tensor]:
    """Repeat key heads for the query heads that share them.  [B, G, S, X] -> [B, H, S, X]."""
    heads = query.shape[1]
    return [x if x.shape[1] == heads else tf.repeat(x, heads // x.shape[1], 1) for x in arrays]


def _grouped(x, groups):
    """Stack the heads that share keys.  [B, H, T, X] -> [B, G, H/G*T, X]."""
    if x.shape[1] == groups:
        return x
    shape = tf.shape(x)
    return tf.reshape(x, [shape[0], groups, x.shape[1] // groups * shape[2], shape[3]])


def _ungrouped(x, like):
    """[B, G, H/G*T, X] -> [B, H, T, X], with B, H, T of another tensor."""
    if x.shape[1] == like.shape[1]:
        return x
    shape = tf.concat([tf.shape(like)[:3], tf.shape(x)[3:]], 0)
    return tf.ensure_shape(tf.reshape(x, shape), [*like.shape[:3], x.shape[3]])


def head_mask(mask, causal: bool, targets: int | tf.Tensor, slots: int | tf.Tensor) -> Any:
    """One mask that broadcasts to [B, H, T, S], or None.

    mask: bool [B, S], [B, T, S], [B, H, T, S] or None; causal: the queries are the last T of the
    S steps (see `steps_before`), each attends to itself and those before.

    >>> head_mask(None, True, 2, 2).numpy().astype(int).tolist()
    [[[[1, 0], [1, 1]]]]
    """
    if mask is not None:
        mask = tf.cast(mask, tf.bool)
        if mask.shape.rank == 2:
            mask = mask[:, None, None]
        elif mask.shape.rank == 3:
            mask = mask[:, None]
    if causal:
        places = tf.range(targets) + steps_before(targets, slots)
        before = (places[:, None] >= tf.range(slots))[None, None]
        mask = before if mask is None else mask & before
    return mask


def write_slots(slots: tf.Tensor, new: tf.Tensor, first: int | tf.Tensor) -> tf.Tensor:
    """Write T rows to the slots `first`, ..., `first + T - 1`.

    [B, G, M, X], [B, G, T, X] -> [B, G, M, X].

    >>> write_slots(tf.zeros([1, 1, 3, 1]), tf.ones([1, 1, 1, 1]), 1).numpy().ravel().tolist()
    [0.0, 1.0, 0.0]
    """
    batch, heads, _, _ = tf.unstack(tf.shape(slots))
    count = tf.shape(new)[2]
    grid = tf.meshgrid(tf.range(batch), tf.range(heads), first + tf.range(count), indexing="ij")
    new = tf.cast(new, slots.dtype)
    return tf.ensure_shape(tf.tensor_scatter_nd_update(slots, tf.stack(grid, -1), new), slots.shape)
