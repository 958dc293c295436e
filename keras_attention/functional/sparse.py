"""Strided and fixed sparse attention, which compute only the visible scores."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_attention.backend.keras import as_converted
from keras_attention.functional.banded import beside, heads_mask, in_blocks, out_of_blocks
from keras_attention.functional.dtypes import widen
from keras_attention.functional.masks import zero_masked
from keras_attention.functional.normalizers import softmax
from keras_attention.functional.shapes import check_shapes, sizes


def strided_attention(
    query: tf.Tensor,
    keys: tf.Tensor,
    values: tf.Tensor,
    stride: int,
    hop: int | None = None,
    mask: tf.Tensor | None = None,
    causal: bool = True,
    normalize: Callable = softmax,
) -> tf.Tensor:
    """Attend to the last `stride` steps, and every stride-th before (Child et al., 2019, 4.3).

    query, keys [B, H, T, Dk], values [B, H, T, Dv], mask [B, T] bool -> context [B, H, T, Dv]. Hop
    1 is |i - j| <= stride, hop 2 is (i - j) mod stride = 0, None their union under one softmax;
    `causal` restricts to j <= i. The result is attention under the mask `strided(T, stride, hop)`;
    without `causal` that of local, atrous and sparse attention (Su, 2019, kexue.fm); the cost is
    O(T (stride + T / stride)). The query must be scaled.

    Raises ValueError for a stride below 1, or another hop.

    >>> eye = tf.eye(5)[None, None]
    >>> strided_attention(0 * eye, eye, eye, stride=2)[0, 0, 4].numpy().tolist()
    [0.25, 0.0, 0.25, 0.25, 0.25]
    """
    _check(hop, stride=stride)
    query, keys, values = _checked(query, keys, values, mask)
    steps = sizes(query)[2]
    query, keys, values = (in_blocks(x, stride) for x in (widen(query), widen(keys), values))
    count = sizes(query)[2]
    seen = _seen(mask, steps, stride, count)  # [B or 1, 1, N, stride, 1]
    block = tf.range(count)
    turns = block - block[:, None]  # how many strides a block is after another, [N, N]

    def near():
        around = (tf.range((2 if causal else 3) * stride) - stride) - tf.range(stride)[:, None]
        band = tf.abs(around) <= stride
        band = band & (around <= 0) if causal else band
        mask = band & tf.linalg.matrix_transpose(beside(seen, causal))
        scores = tf.matmul(query, beside(keys, causal), transpose_b=True)
        return scores, mask, lambda weights: tf.matmul(weights, beside(values, causal))

    def far():
        scores = tf.einsum("bhnsd,bhmsd->bhnsm", query, keys)
        reach = turns <= 0 if causal else tf.ones_like(turns, tf.bool)
        if hop is None:
            reach &= tf.abs(turns) > 1  # the others are near
        mask = reach[:, None] & tf.transpose(seen, [0, 1, 4, 3, 2])  # [B, 1, N, stride, N]
        return scores, mask, lambda weights: tf.einsum("bhnsm,bhmsd->bhnsd", weights, values)

    return out_of_blocks(_attend(near, far, hop, normalize, values.dtype), steps)


def fixed_attention(
    query: tf.Tensor,
    keys: tf.Tensor,
    values: tf.Tensor,
    stride: int,
    summary: int = 1,
    hop: int | None = None,
    mask: tf.Tensor | None = None,
    normalize: Callable = softmax,
) -> tf.Tensor:
    """Attend to its own block, and the last `summary` steps of earlier ones.

    query, keys [B, H, T, Dk], values [B, H, T, Dv], mask [B, T] bool -> context [B, H, T, Dv]. This
    is attention under the mask `fixed(T, stride, summary, hop)` (Child et al., 2019, section 4.3),
    always j <= i; the cost is O(T (stride + summary T / stride)). The query must be scaled.

    Raises ValueError for a stride below 1, a summary below 1 or above the stride, or another hop.

    >>> eye = tf.eye(5)[None, None]
    >>> fixed_attention(0 * eye, eye, eye, stride=2)[0, 0, 3].numpy().round(2).tolist()
    [0.0, 0.33000001311302185, 0.33000001311302185, 0.33000001311302185, 0.0]
    """
    _check(hop, stride=stride, summary=summary)
    if summary > stride:
        raise ValueError(
            f"summary must be at most the stride. Received: summary={summary}, stride={stride}"
        )
    query, keys, values = _checked(query, keys, values, mask)
    steps = sizes(query)[2]
    query, keys, values = (in_blocks(x, stride) for x in (widen(query), widen(keys), values))
    batch, heads, count = sizes(query)[:3]
    seen = _seen(mask, steps, stride, count)

    def near():
        place = tf.range(stride)
        mask = (place <= place[:, None]) & tf.linalg.matrix_transpose(seen)
        scores = tf.matmul(query, keys, transpose_b=True)
        return scores, mask, lambda weights: tf.matmul(weights, values)

    def far():
        """The queries of all blocks attend to one list of N * summary steps."""

        def listed(x):
            *places, _, width = sizes(x)
            last = tf.slice(x, [0, 0, 0, stride - summary, 0], [*places, summary, width])
            return tf.reshape(last, [*places[:2], count * summary, width])

        flat = tf.reshape(query, [batch, heads, count * stride, query.shape[-1]])
        scores = tf.matmul(flat, listed(keys), transpose_b=True)
        scores = tf.reshape(scores, [batch, heads, count, stride, count * summary])
        place = tf.range(count * stride)
        place = tf.reshape(place, [1, 1, count, stride, 1])
        after = tf.reshape(listed(place), [1, 1, 1, 1, -1])
        # In a union, steps in its own block are in `near`.
        reach = after < place // stride * stride if hop is None else after <= place
        mask = reach & tf.linalg.matrix_transpose(listed(seen))[:, :, None]

        def read(weights):
            weights = tf.reshape(weights, [batch, heads, count * stride, count * summary])
            context = tf.matmul(weights, listed(values))
            return tf.reshape(context, [batch, heads, count, stride, values.shape[-1]])

        return scores, mask, read

    return out_of_blocks(_attend(near, far, hop, normalize, values.dtype), steps)


def _attend(near, far, hop, normalize, dtype) -> Any:
    """One softmax over the scores of both parts, one sum of their contexts."""
    parts = [part() for part in ((near, far) if hop is None else ((near, far)[hop - 1],))]
    scores = tf.concat([scores for scores, _, _ in parts], -1)
    masks = [tf.broadcast_to(mask, _joint(scores, mask)) for _, mask, _ in parts]
    weights = tf.cast(as_converted(normalize)(scores, tf.concat(masks, -1)), dtype)
    widths = [sizes(scores)[-1] for scores, _, _ in parts]
    return sum(read(share) for (_, _, read), share in zip(parts, tf.split(weights, widths, -1)))


def _joint(scores, mask):
    """[B, 1, N, stride, X]: a shape for which the masks of all parts can be concatenated."""
    batch, _, count, size, _ = sizes(scores)
    return [batch, 1, count, size, sizes(mask)[-1]]


def _seen(mask, steps, stride, count):
    """Which steps are real and visible.  [B or 1, 1, N, stride, 1] bool."""
    if mask is None:
        real = tf.range(count * stride) < steps
        return tf.reshape(real, [1, 1, count, stride, 1])
    return in_blocks(heads_mask(mask)[..., None], stride)


def _check(hop: Any, **at_least_one: int) -> None:
    for name, size in at_least_one.items():
        if size < 1:
            raise ValueError(f"{name} must be at least 1. Received: {name}={size}")
    if hop not in (None, 1, 2):
        raise ValueError(f"hop must be 1, 2, or None for their union. Received: hop={hop!r}")


def _checked(query, keys, values, mask):
    """Check three tensors, and set masked keys and values to zero."""
    query, keys, values = map(tf.convert_to_tensor, (query, keys, values))
    check_shapes(
        query=("B H T Dk", query),
        keys=("B H T Dk", keys),
        values=("B H T Dv", values),
        mask=("B? T", mask),
    )
    return query, *(zero_masked(x, heads_mask(mask)) for x in (keys, values))
