"""Check shapes; sizes of axes as an int if static, else as a scalar tensor."""

from typing import Any

import numpy as np
import tensorflow as tf


def check_shapes(**named: tuple[str, Any]) -> None:
    """Check the axes of named arguments: axes with the same letter must have the same size.

    `check_shapes(query=("B T D", query), mask=("B T? S", mask))`: each argument is a tensor, a
    shape, or None if it was not given. An axis with a question mark may also have size 1; an axis
    written as a number has that size. A last axis D must be known; any other axis may be None.
    Raises ValueError that names the argument, the expected axes and the received shape.

    >>> check_shapes(query=("B T D", (None, 3, 4)), memory=("B S E", (2, 5, 4)), mask=("B S", None))
    >>> check_shapes(query=("B T D", (None, 3, 4)), memory=("B S E", (2, 4)))
    Traceback (most recent call last):
    ValueError: memory must be [B, S, E]. Received: memory of shape (2, 4)
    """
    known: dict = {}
    for name, (letters, thing) in named.items():
        shape = _shape(thing)
        if shape is None:
            continue
        axes = letters.split()
        wanted = f"{name} must be [{', '.join(axis.replace('?', ' or 1') for axis in axes)}]"
        if len(axes) != len(shape):
            raise ValueError(f"{wanted}. Received: {name} of shape {shape}")
        if axes[-1].startswith("D") and shape[-1] is None:
            raise ValueError(f"{wanted} with a known {axes[-1]}. Received: {name} of shape {shape}")
        for axis, size in zip(axes, shape):
            if size is None or (axis.endswith("?") and size == 1):
                continue
            letter = axis.removesuffix("?")
            expected, of = known.setdefault(letter, (size, name))
            if letter.isdigit():
                expected, of = int(letter), None
            if size != expected:
                which = "" if of is None else f" with {letter} = {expected}, as in {of}"
                raise ValueError(f"{wanted}{which}. Received: {name} of shape {shape}")


def check_broadcast(name: str, thing: Any, like: Any, letters: str) -> None:
    """Check that `thing` broadcasts to the shape of `like` without enlarging it, as far as known.

    Raises ValueError naming both.

    >>> check_broadcast("mask", (3, 1), (2, 3, 4), "..., S")
    >>> check_broadcast("mask", (2,), (2, 3, 4), "..., S")
    Traceback (most recent call last):
    ValueError: mask must broadcast to [..., S]. Received: mask of shape (2,) for (2, 3, 4)
    """
    small, large = _shape(thing), _shape(like)
    if small is None or large is None:
        return
    pairs = zip(reversed(small), reversed(large))
    if len(small) > len(large) or any(a not in (1, b) for a, b in pairs if a and b):
        raise ValueError(
            f"{name} must broadcast to [{letters}]. Received: {name} of shape {small} for {large}"
        )


def check_same_sizes(
    tensor: tf.Tensor,
    like: tf.Tensor,
    axes: int,
    words: str,
    broadcast: bool = False,
    shape: tf.Tensor | None = None,
) -> list:
    """Check that the first axes of two tensors have the same sizes.

    tensor, like: of known ranks, at least `axes`; broadcast: an axis of `tensor` may also be 1;
    shape: that of `like`, if it is known without computing it.

    Raises ValueError that begins with `words` if the sizes are static. Otherwise returns assertions
    with the same message, for `tf.control_dependencies`.

    >>> check_same_sizes(tf.zeros([2, 3]), tf.zeros([2, 3, 4]), 2, "ids must be [B, T].")
    []
    >>> check_same_sizes(tf.zeros([2, 5]), tf.zeros([2, 3, 4]), 2, "ids must be [B, T].")
    Traceback (most recent call last):
    ValueError: ids must be [B, T]. Received: shapes (2, 5) and (2, 3, 4)
    """
    pairs = list(zip(tensor.shape[:axes], like.shape[:axes]))
    if any(None not in (a, b) and a != b and not (broadcast and a == 1) for a, b in pairs):
        raise ValueError(f"{words} Received: shapes {tensor.shape} and {like.shape}")
    if all(None not in pair or (broadcast and pair[0] == 1) for pair in pairs):
        return []
    received, expected = tf.shape(tensor), tf.shape(like) if shape is None else shape
    same = tf.equal(received[:axes], expected[:axes])
    if broadcast:
        same |= tf.equal(received[:axes], 1)
    words = f"{words} Received: shapes "
    return [tf.debugging.Assert(tf.reduce_all(same), [words, received, " and ", expected])]


def _shape(thing):
    """A tuple of int and None; None if there is no shape, or it is unknown."""
    shape = getattr(thing, "shape", thing)
    if isinstance(thing, (list, tuple)) and any(isinstance(part, (list, tuple)) for part in thing):
        shape = np.shape(thing)  # numbers in lists
    if shape is None or getattr(shape, "rank", 0) is None:
        return None
    return tuple(shape)


def sizes(x: tf.Tensor) -> list:
    """The size of every axis, an int if it is static.

    >>> sizes(tf.zeros([2, 3]))
    [2, 3]
    """
    dynamic = tf.unstack(tf.shape(x), x.shape.rank)
    return [known if known is not None else d for known, d in zip(x.shape, dynamic)]


def extend(x: tf.Tensor, axis: int, count: Any, value: Any) -> tf.Tensor:
    """Append `count` entries of one value along an axis.

    Like `tf.pad(constant_values=)`, but correct under `tf.vectorized_map`.

    >>> extend(tf.zeros([1, 1]), axis=1, count=2, value=7.0).numpy().tolist()
    [[0.0, 7.0, 7.0]]
    """
    shape = sizes(x)
    shape[axis] = count
    return tf.concat([x, tf.fill(shape, tf.cast(value, x.dtype))], axis)


def pair(value) -> tuple:
    """A number for both axes of an image, or one for each: (rows, columns).

    >>> pair(7), pair((1, 2))
    ((7, 7), (1, 2))
    """
    if not isinstance(value, (tuple, list)):
        return value, value
    if len(value) != 2:
        raise ValueError(f"Expected one number, or two (rows, columns). Received: {value}")
    return tuple(value)
