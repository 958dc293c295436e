"""Encodings of absolute and relative positions as pure functions."""

from typing import Any

import numpy as np
import tensorflow as tf

from keras_attention.functional.dtypes import widen


def sinusoid(positions: Any, width: int, layout: str = "interleaved") -> tf.Tensor:
    """sin and cos of the position at D/2 wavelengths, 2 pi to 20000 pi.  int [...] -> [..., D].

        PE(p, 2i) = sin(p / 10000^(2i/D))    PE(p, 2i+1) = cos(p / 10000^(2i/D))

    (Vaswani et al., 2017, section 3.5). `layout="concatenated"` is that of tensor2tensor and
    OpenNMT: all sines, then all cosines, of p / 10000^(i/(D/2-1)). An odd D ends in a sine, or in
    a zero where concatenated. float32.

    Raises ValueError for another layout, or D < 1.

    >>> [round(float(x), 4) for x in sinusoid(3, 4)]
    [0.1411, -0.99, 0.03, 0.9996]
    """
    if layout not in ("interleaved", "concatenated") or width < 1:
        raise ValueError(
            "layout must be 'interleaved' or 'concatenated', and D at least 1. Received: "
            f"layout={layout!r}, D={width}"
        )
    angles = tf.cast(positions, tf.float32)[..., None] * _rates(width, layout)  # [..., D/2]
    sines, cosines = tf.sin(angles), tf.cos(angles)
    if layout == "concatenated":
        parts = [sines, cosines] + ([tf.zeros_like(sines[..., :1])] if width % 2 else [])
        return tf.concat(parts, -1)
    pairs = tf.stack([sines, cosines], -1)  # [..., D/2, 2]
    flat = tf.reshape(pairs, tf.concat([tf.shape(pairs)[:-2], [2 * pairs.shape[-2]]], 0))
    flat.set_shape(angles.shape[:-1].concatenate([2 * angles.shape[-1]]))
    return flat[..., :width]


def _rates(width: int, layout: str) -> np.ndarray:
    """The angular frequency of each pair.  [D/2], in float64 until the end: errors grow with p."""
    if layout == "concatenated":
        half = width // 2
        return np.exp(-np.log(1e4) * np.arange(half) / max(half - 1, 1)).astype(np.float32)
    return np.exp(-np.log(1e4) * np.arange(0, width, 2) / width).astype(np.float32)


def relative_index(length: Any, reach: Any, offset: Any = 0) -> tf.Tensor:
    """clip(j - i, -k, k) + k: the row of a table of relative positions.

    T, k -> [T, offset + T] int32, from 0 to 2k (Shaw et al., 2018, section 3.2). `offset` slots
    are before the first query, as in a decoder with a cache of keys. Raises ValueError for k < 0.

    >>> relative_index(3, reach=1).numpy().tolist()
    [[1, 2, 2], [0, 1, 2], [0, 0, 1]]
    """
    known = tf.get_static_value(reach) if tf.is_tensor(reach) else reach
    if known is not None and known < 0:
        raise ValueError(f"reach must be at least 0. Received: reach={reach}")
    return tf.clip_by_value(_slots_after_queries(length, offset), -reach, reach) + reach


def distance_decay(length: Any, alpha: Any, offset: Any = 0) -> tf.Tensor:
    """-alpha |i - j|, to add to scores: distant slots get lower weights (Im and Cho, 2017).

    T -> [1, T, offset + T] float32.

    >>> distance_decay(3, alpha=1.5)[0, 0].numpy().tolist()
    [0.0, -1.5, -3.0]
    """
    distance = tf.cast(-tf.abs(_slots_after_queries(length, offset)), tf.float32)
    return tf.cast(alpha, tf.float32) * distance[None]


def alibi(length: Any, heads: int, offset: Any = 0) -> tf.Tensor:
    """`distance_decay` with an alpha for each head, 2^(-8h/H) for h = 1 .. H (Press et al., 2022).

    T, H -> [H, T, offset + T] float32. If H is not a power of two, the heads beyond the power P
    below it use every other alpha of 2 P heads, as in the authors' code. Raises ValueError for
    H < 1.

    >>> alibi(2, heads=2)[:, 1].numpy().tolist()
    [[-0.0625, 0.0], [-0.00390625, 0.0]]
    """
    if heads < 1:
        raise ValueError(f"H must be at least 1. Received: heads={heads}")
    power = 2 ** (heads.bit_length() - 1)
    slopes = np.concatenate([_geometric(power), _geometric(2 * power)[::2]])[:heads]
    return distance_decay(length, slopes.astype(np.float32)[:, None, None], offset)


def _geometric(heads: int) -> np.ndarray:
    return 2.0 ** (-8 / heads * np.arange(1, heads + 1))


def rotary(
    x: tf.Tensor, positions: Any = None, layout: str = "interleaved", base: float = 1e4
) -> tf.Tensor:
    """Rotate pairs of features by angles proportional to the position (Su et al., 2021, RoFormer).

    x [B, ..., T, D], positions broadcastable to [B, ..., T], 0 .. T-1 if None -> [B, ..., T, D] of
    the same dtype. Pair i rotates by p / base^(2i/D), so that q·k of a rotated query and key
    depends only on the difference of their positions. A pair is (2i, 2i + 1) as in the paper, or
    (i, i + D/2) with `layout="concatenated"` as in GPT-NeoX and LLaMA.

    Raises ValueError for an odd D, or another layout.

    >>> rotary(tf.constant([[[1.0, 0.0]]]), [np.pi / 2]).numpy().round(3).tolist()
    [[[-0.0, 1.0]]]
    """
    x = tf.convert_to_tensor(x)
    width = x.shape[-1]
    if width is None or width % 2 or layout not in ("interleaved", "concatenated"):
        raise ValueError(
            "D must be known and even, to form pairs, and layout 'interleaved' or "
            f"'concatenated'. Received: D={width}, layout={layout!r}"
        )
    if positions is None:
        positions = tf.range(tf.shape(x)[-2])
    wide = widen(x)
    rates = tf.constant(_rotary_rates(width, base), wide.dtype)
    angles = tf.cast(positions, wide.dtype)[..., None] * rates  # [..., T, D/2]
    cosines, sines = tf.cos(angles), tf.sin(angles)
    if layout == "concatenated":
        first, second = tf.split(wide, 2, -1)
    else:
        first, second = wide[..., ::2], wide[..., 1::2]
    turned = first * cosines - second * sines, first * sines + second * cosines
    if layout == "concatenated":
        whole = tf.concat(turned, -1)
    else:
        whole = tf.reshape(tf.stack(turned, -1), tf.shape(x))
    return tf.ensure_shape(tf.cast(whole, x.dtype), x.shape)


def _rotary_rates(width: int, base: float) -> np.ndarray:
    return np.exp(-np.log(base) * np.arange(0, width, 2) / width)


def _slots_after_queries(length, offset):
    """j - i.  [T, offset + T]."""
    return tf.range(length + offset)[None] - (tf.range(length) + offset)[:, None]
