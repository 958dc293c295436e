"""What the variants of multi-head attention share: heads of one sequence, and their return."""

from typing import Any

import tensorflow as tf


def own_heads(layer, inputs, memory=None, mask=None) -> tuple[tuple[Any, Any, Any], Any]:
    """A sequence that looks at itself, by the projections of a `MultiHeadAttention`.

    [B, T, D], mask [B, T] -> (query, keys [B, H, T, Dk], values [B, H, T, Dv]), the mask or that of
    Keras. The query is scaled, and key heads stand as often as queries share them.

    Raises ValueError for a memory, or a mask of another rank.
    """
    if memory is not None:
        raise ValueError(
            f"{type(layer).__name__} looks at the query [B, T, D] itself, for places only mean "
            "something within one sequence: leave memory out. Received: a memory"
        )
    inputs, (keys, values, _), mask = layer.prepare(inputs, None, mask)
    if mask is not None and len(mask.shape) != 2:
        raise ValueError(
            f"{type(layer).__name__} needs a mask [B, T], for it makes no [T, T] weights. "
            f"Received: shape {mask.shape}"
        )
    keys, values = spread(layer, keys, values)
    return (layer.split_query(inputs), keys, values), mask


def spread(layer, *arrays) -> list[tf.Tensor]:
    """Key heads, as often as query heads share them.  [B, G, S, X] -> [B, H, S, X]."""
    times = layer.num_heads // layer.num_key_heads
    return [x if times == 1 else tf.repeat(x, times, axis=1) for x in arrays]


def distances(slots: tf.Tensor, first: Any, steps: Any) -> tf.Tensor:
    """i - j, from the steps first, first + 1, ... back to every slot of a cache.  [T, M]."""
    return first + tf.range(steps)[:, None] - tf.range(tf.shape(slots)[2])
