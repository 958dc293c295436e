"""Full attention with memory linear in T + S."""

from typing import Any

import tensorflow as tf

from keras_attention.functional.dtypes import widen
from keras_attention.functional.masks import steps_before, visible_slots, zero_masked
from keras_attention.functional.shapes import check_shapes, sizes


def chunked_attention(
    query: tf.Tensor,
    keys: tf.Tensor,
    values: tf.Tensor,
    mask: tf.Tensor | None = None,
    causal: bool = False,
    chunk: int = 512,
) -> tf.Tensor:
    """softmax(Q K^T) V by chunks, with a running maximum and sum (Rabe and Staats, 2021).

    query [B, H, T, Dk], keys [B, H, S, Dk], values [B, H, S, Dv] -> context [B, H, T, Dv]. `mask`
    broadcastable to [B, H, T, S], boolean, True = visible; `causal`: the queries are the last T of
    the S steps, each attends to itself and those before, and chunks of later steps are skipped. The
    query must be scaled.

    `chunk` queries and `chunk` slots are processed at a time: at most chunk^2 of the T S scores are
    in memory at once. The gradient stores the log of each row's sum and recomputes the scores (Dao
    et al., 2022, algorithm 4). Raises ValueError for a chunk below 1, or `causal` with S < T.

    >>> eye = tf.eye(3)[None, None]
    >>> chunked_attention(0 * eye, eye, eye, causal=True, chunk=2)[0, 0, 1].numpy().tolist()
    [0.5, 0.5, 0.0]
    """
    if chunk < 1:
        raise ValueError(f"chunk must be at least 1. Received: chunk={chunk}")
    query, keys, values = map(tf.convert_to_tensor, (query, keys, values))
    check_shapes(query=("B H T Dk", query), keys=("B H S Dk", keys), values=("B H S Dv", values))
    keys, values = (zero_masked(x, visible_slots(mask)) for x in (keys, values))
    grid = _Grid(query, keys, mask, causal, chunk)
    dtype = values.dtype

    @tf.custom_gradient
    def attention(query, keys, values):
        context, log_sum = _forward(grid, query, keys, values)

        def backward(upstream):
            return _backward(grid, query, keys, values, context, log_sum, upstream)

        return context, backward

    whole = (grid.rows * grid.height, *2 * [grid.columns * grid.width])
    arrays = (_pad(widen(x), steps) for x, steps in zip((query, keys, values), whole))
    return tf.cast(attention(*arrays)[:, :, : grid.steps], dtype)


class _Grid:
    """T queries and S slots, divided into rows and columns of chunks."""

    def __init__(self, query, keys, mask, causal, chunk):
        self.causal = causal
        self.steps, self.slots = sizes(query)[2], sizes(keys)[2]
        self.before = steps_before(self.steps, self.slots) if causal else 0
        self.height, self.rows = _chunks(self.steps, chunk)
        self.width, self.columns = _chunks(self.slots, chunk)
        self.mask = None if mask is None else self._whole(tf.cast(mask, tf.bool))
        whole = isinstance(self.slots, int) and self.slots == self.columns * self.width
        self.all_seen = whole and not causal and mask is None

    def _whole(self, mask):
        """A mask of four axes; T and S padded to whole chunks, or left at 1 to be broadcast."""
        mask = tf.reshape(mask, [1] * (4 - mask.shape.rank) + sizes(mask))
        full = (self.steps, self.slots)
        full = [1 if known == 1 else size for known, size in zip(mask.shape[2:], full)]
        mask = tf.broadcast_to(mask, sizes(mask)[:2] + full)
        whole = self.rows * self.height, self.columns * self.width
        more = [0 if mask.shape[2 + i] == 1 else whole[i] - full[i] for i in range(2)]
        return tf.pad(mask, [[0, 0], [0, 0], [0, more[0]], [0, more[1]]])

    def scores(self, query, keys, i, j):
        """Scores of row i and column j; masked ones are half of the lowest number."""
        scores = tf.matmul(query, keys, transpose_b=True)
        if self.all_seen:
            return scores
        slots = j * self.width + tf.range(self.width)
        seen = (slots < self.slots)[None]
        if self.causal:
            seen &= slots <= (self.before + i * self.height + tf.range(self.height))[:, None]
        if self.mask is not None:
            mask = self.mask
            mask = mask if mask.shape[2] == 1 else _cut(mask, i, self.height)
            mask = mask if mask.shape[3] == 1 else _cut(mask, j, self.width, axis=3)
            seen &= mask
        return tf.where(seen, scores, scores.dtype.min / 2)

    def end(self, i):
        """The first column that is later than all queries of row i."""
        if not self.causal:
            return self.columns
        return tf.minimum(self.columns, -(-((i + 1) * self.height + self.before) // self.width))


def _forward(grid, query, keys, values):
    """The context [B, H, T, Dv], and the log of each row's sum [B, H, T, 1]."""

    def row(i, contexts, log_sums):
        looking = _cut(query, i, grid.height)

        def column(j, best, total, context):
            scores = grid.scores(looking, _cut(keys, j, grid.width), i, j)
            higher = tf.maximum(best, tf.reduce_max(scores, -1, keepdims=True))
            weights, shrink = tf.exp(scores - higher), tf.exp(best - higher)
            total = total * shrink + tf.reduce_sum(weights, -1, keepdims=True)
            context = context * shrink + tf.matmul(weights, _cut(values, j, grid.width))
            return j + 1, higher, total, context

        zeros = tf.zeros([*sizes(looking)[:3], 1], query.dtype)
        context = tf.zeros([*sizes(looking)[:3], values.shape[-1]], query.dtype)
        begin = (0, zeros + query.dtype.min / 2, zeros, context)
        _, best, total, context = _loop(grid.end(i), column, begin)
        # Terms added before any slot was visible are scaled to 0; or no slot was ever visible.
        nothing = best <= query.dtype.min / 4
        log_sum = tf.where(nothing, zeros, best + tf.math.log(total))
        context = tf.where(nothing, tf.zeros_like(context), context / total)
        return i + 1, contexts.write(i, context), log_sums.write(i, log_sum)

    contexts = _array(grid.rows, query, grid.height, values.shape[-1])
    log_sums = _array(grid.rows, query, grid.height, 1)
    _, contexts, log_sums = _loop(grid.rows, row, (0, contexts, log_sums))
    return _joined(contexts, query), _joined(log_sums, query)


def _backward(grid, query, keys, values, context, log_sum, upstream):
    """The gradients, row by row: those of queries are summed, those of slots are collected."""
    inside = tf.reduce_sum(upstream * context, -1, keepdims=True)

    def row(i, to_queries, to_keys, to_values):
        looking, log_total, back, mean = (
            _cut(x, i, grid.height) for x in (query, log_sum, upstream, inside)
        )

        def column(j, to_query, key_parts, value_parts):
            seen, read = _cut(keys, j, grid.width), _cut(values, j, grid.width)
            weights = tf.exp(grid.scores(looking, seen, i, j) - log_total)
            to_scores = weights * (tf.matmul(back, read, transpose_b=True) - mean)
            key_parts = key_parts.write(j, tf.matmul(to_scores, looking, transpose_a=True))
            value_parts = value_parts.write(j, tf.matmul(weights, back, transpose_a=True))
            return j + 1, to_query + tf.matmul(to_scores, seen), key_parts, value_parts

        key_parts, value_parts = (
            _array(grid.columns, query, grid.width, x.shape[-1]) for x in (keys, values)
        )
        begin = (0, tf.zeros_like(looking), key_parts, value_parts)
        _, to_query, key_parts, value_parts = _loop(grid.end(i), column, begin)
        to_keys += _joined(key_parts, keys)
        to_values += _joined(value_parts, values)
        return i + 1, to_queries.write(i, to_query), to_keys, to_values

    to_queries = _array(grid.rows, query, grid.height, query.shape[-1])
    begin = (0, to_queries, tf.zeros_like(keys), tf.zeros_like(values))
    _, to_queries, to_keys, to_values = _loop(grid.rows, row, begin)
    return _joined(to_queries, query), to_keys, to_values


# -- chunks and loops


def _chunks(steps, chunk):
    """The length of a chunk, not longer than needed, and their number: at least 1."""
    least, most = (max, min) if isinstance(steps, int) else (tf.maximum, tf.minimum)
    size = least(1, most(chunk, steps))
    return size, least(1, -(-steps // size))


def _pad(x, steps):
    """[B, H, T, D] with T = steps."""
    return tf.pad(x, [[0, 0], [0, 0], [0, steps - sizes(x)[2]], [0, 0]])


def _cut(x, i, size, axis=2):
    """Chunk i along an axis."""
    shape, begin = sizes(x), [0, 0, 0, 0]
    shape[axis], begin[axis] = size, i * size
    return tf.slice(x, begin, shape)


def _array(count, like, size, width) -> tf.TensorArray:
    """An array of `count` chunks [B, H, size, width]; those never written are zeros."""
    known = size if isinstance(size, int) else None
    return tf.TensorArray(like.dtype, count, element_shape=[*like.shape[:2], known, width])


def _joined(chunks, like):
    """Chunks as one array [B, H, T, width], with T of another."""
    x = tf.transpose(chunks.stack(), [1, 2, 0, 3, 4])
    return tf.reshape(x, [*sizes(like)[:3], x.shape[-1]])


def _loop(end: Any, body, begin):
    """Run the body while the counter is below the end; shapes are kept."""

    def step(*state):
        after = body(*state)
        return tuple(
            tf.ensure_shape(new, old.shape) if tf.is_tensor(old) else new
            for old, new in zip(state, after)
        )

    return tf.while_loop(lambda i, *_: i < end, step, begin, parallel_iterations=1)
