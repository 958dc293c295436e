"""Restricted attention with time and memory linear in T."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_attention.backend.keras import as_converted
from keras_attention.functional.dtypes import widen
from keras_attention.functional.masks import zero_masked
from keras_attention.functional.normalizers import softmax
from keras_attention.functional.shapes import check_shapes, sizes


def banded_attention(
    query: tf.Tensor,
    keys: tf.Tensor,
    values: tf.Tensor,
    radius: int,
    mask: tf.Tensor | None = None,
    causal: bool = False,
    normalize: Callable = softmax,
) -> tf.Tensor:
    """Each step attends to the steps with |i - j| <= radius (Vaswani et al., 2017, section 4).

    query, keys [B, H, T, Dk], values [B, H, T, Dv], mask [B, T] bool, True = visible -> context
    [B, H, T, Dv]. The result is that of a dot product, `window(T, radius)` and `normalize`, but
    computed in blocks of `radius` steps, each with its two neighbours (with `causal`, the previous
    one only): O(T radius). The query must be scaled. Raises ValueError for a radius below 0.

    >>> eye = tf.eye(4)[None, None]  # with these values the context shows the weights
    >>> banded_attention(0 * eye, eye, eye, radius=1, causal=True)[0, 0].numpy().tolist()[2:]
    [[0.0, 0.5, 0.5, 0.0], [0.0, 0.0, 0.5, 0.5]]
    """
    if radius < 0:
        raise ValueError(f"radius must be at least 0. Received: radius={radius}")
    check_shapes(
        query=("B H T Dk", query),
        keys=("B H T Dk", keys),
        values=("B H T Dv", values),
        mask=("B? T", mask),
    )
    query, keys, values = map(tf.convert_to_tensor, (query, keys, values))
    keys, values = (zero_masked(x, heads_mask(mask)) for x in (keys, values))
    steps = sizes(query)[2]
    size = block_size(radius, steps)
    around = 1 if causal else 2
    query = in_blocks(widen(query), size)  # [B, H, N, size, Dk]
    keys, values = (beside(in_blocks(x, size), causal) for x in (widen(keys), values))
    scores = tf.matmul(query, keys, transpose_b=True)  # [B, H, N, size, 2 or 3 size]
    band = _band(size, around, radius, causal) & _real(steps, size, causal)
    if mask is not None:
        seen = in_blocks(heads_mask(mask)[..., None], size)
        band &= tf.linalg.matrix_transpose(beside(seen, causal))  # [B, 1, N, 1, 2 or 3 size]
    weights = tf.cast(as_converted(normalize)(scores, band), values.dtype)
    return out_of_blocks(tf.matmul(weights, values), steps)


def heads_mask(mask: Any) -> Any:
    """The same mask for every head.  [B, T] -> [B, 1, T], None stays None."""
    return None if mask is None else tf.cast(mask, tf.bool)[:, None]


def block_size(radius: int, steps: Any) -> Any:
    """The radius, but at most the length of the sequence, and at least 1."""
    if isinstance(steps, int):
        return max(1, min(radius, steps))
    return tf.maximum(1, tf.minimum(radius, steps))


def in_blocks(x: tf.Tensor, size: Any) -> tf.Tensor:
    """[B, H, T, D] -> [B, H, N, size, D], zeros (or False) after the last step."""
    batch, heads, steps, width = sizes(x)
    blocks = -(-steps // size)
    x = tf.pad(x, [[0, 0], [0, 0], [0, blocks * size - steps], [0, 0]])
    return tf.reshape(x, [batch, heads, blocks, size, width])


def out_of_blocks(x: tf.Tensor, steps: Any) -> tf.Tensor:
    """[B, H, N, size, D] -> [B, H, T, D]."""
    batch, heads, blocks, size, width = sizes(x)
    x = tf.reshape(x, [batch, heads, blocks * size, width])
    return tf.slice(x, [0, 0, 0, 0], [batch, heads, steps, width])


def beside(x: tf.Tensor, causal: bool) -> tf.Tensor:
    """Every block with its neighbours.  [B, H, N, size, D] -> [B, H, N, 3 size, D].

    With `causal`, only with the previous one: [B, H, N, 2 size, D].
    """
    shape = sizes(x)
    x = tf.pad(x, [[0, 0], [0, 0], [1, 0 if causal else 1], [0, 0], [0, 0]])
    # The gradient of tf.slice is a pad; that of x[:, :, i:j] is ten times as slow.
    shifted = [tf.slice(x, [0, 0, i, 0, 0], shape) for i in range(2 if causal else 3)]
    return tf.concat(shifted, 3)


def _band(size, around, radius, causal):
    """Which steps of neighbouring blocks a step of a block attends to.  [size, 2 or 3 size]."""
    distance = tf.range((around + 1) * size) - size - tf.range(size)[:, None]
    band = tf.abs(distance) <= radius
    return band & (distance <= 0) if causal else band


def _real(steps, size, causal):
    """Whether a step is neither before the first nor after the last.  [N, 1, 2 or 3 size]."""
    blocks = -(-steps // size)
    places = tf.range(blocks)[:, None] * size + tf.range((2 if causal else 3) * size) - size
    return ((places >= 0) & (places < steps))[:, None]
