"""Relative positions in scores and contexts, without a vector for every pair of steps."""

from typing import Any

import tensorflow as tf

from keras_attention.functional.dtypes import widen
from keras_attention.functional.shapes import sizes


def relative_scores(query: tf.Tensor, table: tf.Tensor, slots: Any, offset: Any = 0) -> tf.Tensor:
    """q_i·a_{clip(j - i, -k, k)} (Shaw et al., 2018, eqs. 2 and 4).  -> [B, H, T, S].

    query [B, H, T, D]; table [2k + 1, D] of all heads, or [H, 2k + 1, D]; S = `slots`; `offset`
    slots are before the first query. One product with the vectors of all distances, whose rows are
    then shifted: memory for B H T (T + S) numbers, not for B H T S D.

    >>> table = tf.constant([[1.0], [2.0], [3.0]])
    >>> relative_scores(tf.ones([1, 1, 3, 1]), table, slots=3)[0, 0].numpy().tolist()
    [[2.0, 3.0, 3.0], [1.0, 2.0, 3.0], [1.0, 1.0, 2.0]]
    """
    query, table = widen(query), tf.convert_to_tensor(table)
    along = _along(table, sizes(query)[2], slots, offset, query.dtype)
    return _skewed(tf.matmul(query, along, transpose_b=True), slots)


def relative_context(weights: tf.Tensor, table: tf.Tensor, offset: Any = 0) -> tf.Tensor:
    """sum_j w_ij a_{clip(j - i, -k, k)} (Shaw et al., 2018, eq. 3).  -> [B, H, T, D].

    weights [B, H, T, S], table and `offset` as for `relative_scores`.

    >>> table = tf.constant([[1.0], [2.0], [3.0]])
    >>> relative_context(tf.eye(3)[None, None], table)[0, 0].numpy().tolist()
    [[2.0], [2.0], [2.0]]
    """
    weights, table = tf.convert_to_tensor(weights), tf.convert_to_tensor(table)
    steps, slots = sizes(weights)[2:]
    return tf.matmul(_straight(weights), _along(table, steps, slots, offset, weights.dtype))


def row_scores(query: tf.Tensor, table: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """q_i·a_{rows[i, j]}, where the slots do not follow each other step by step, as in a cache.

    query [B, H, T, D], table [R, D] or [H, R, D], rows [T, S] int -> [B, H, T, S].
    """
    query = widen(query)
    vectors, axes = _vectors(table, rows, query.dtype)
    return tf.einsum(f"bhtd,{axes}->bhts", query, vectors)


def row_contexts(weights: tf.Tensor, table: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """sum_j w_ij a_{rows[i, j]}.  weights [B, H, T, S] -> [B, H, T, D]; see `row_scores`."""
    vectors, axes = _vectors(table, rows, weights.dtype)
    return tf.einsum(f"bhts,{axes}->bhtd", weights, vectors)


def _vectors(table, rows, dtype):
    """The vector of every pair, and its axes: [T, S, D], or [H, T, S, D] of a table per head."""
    table = tf.cast(table, dtype)
    per_head = table.shape.rank == 3
    return tf.gather(table, rows, axis=-2), "htsd" if per_head else "tsd"


def _along(table, steps, slots, offset, dtype):
    """The vector of every distance from -(T + offset) to S - offset.  [1 or H, T + S + 1, D]."""
    table = tf.cast(table if table.shape.rank == 3 else table[None], dtype)
    if table.shape[1] % 2 == 0:
        raise ValueError(
            "table must hold one vector for each distance from -k to k, [2k + 1, D] or "
            f"[H, 2k + 1, D]. Received: table of shape {table.shape}"
        )
    reach = table.shape[1] // 2
    distances = tf.range(steps + slots + 1) - steps - offset
    return tf.gather(table, tf.clip_by_value(distances, -reach, reach) + reach, axis=1)


def _skewed(x, slots):
    """By distance -> by slot: row i moves i to the left.  [B, H, T, T + S + 1] -> [B, H, T, S]."""
    batch, heads, steps, columns = sizes(x)
    x = tf.reshape(x, [batch, heads, steps * columns])
    x = tf.slice(x, [0, 0, steps], [batch, heads, steps * (columns - 1)])
    x = tf.reshape(x, [batch, heads, steps, columns - 1])
    return tf.slice(x, [0, 0, 0, 0], [batch, heads, steps, slots])


def _straight(x):
    """By slot -> by distance, the transpose of `_skewed`.  [B, H, T, S] -> [B, H, T, T + S + 1]."""
    batch, heads, steps, slots = sizes(x)
    x = tf.pad(x, [[0, 0], [0, 0], [0, 0], [0, steps]])
    x = tf.reshape(x, [batch, heads, steps * (steps + slots)])
    x = tf.pad(x, [[0, 0], [0, 0], [steps, 0]])
    return tf.reshape(x, [batch, heads, steps, steps + slots + 1])
