"""Checks of what logits processors are given, and how their errors show it."""

import reprlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf


def static_value(value: Any) -> np.ndarray | None:
    """The value of a setting as an array; None for a variable or a tensor of a graph."""
    if isinstance(value, tf.Variable):
        return None
    return tf.get_static_value(value) if tf.is_tensor(value) else np.asarray(value)


def check_value(value: Any, holds: Callable, message: str) -> np.ndarray | None:
    """The static value; ValueError unless it holds. The values of graph tensors are not checked."""
    known = static_value(value)
    numbers = "biufV"  # V: bfloat16
    if known is not None and not (known.dtype.kind in numbers and np.all(holds(known))):
        raise ValueError(f"{message} Received: {describe_value(value)}")
    return known


def check_number(value: Any, holds: Callable, message: str) -> np.ndarray | None:
    """`check_value` of a setting that is one finite number."""
    return check_value(value, lambda x: np.ndim(x) == 0 and np.isfinite(x) and holds(x), message)


def check_lengths(value: Any, least: int, message: str) -> np.ndarray | None:
    """`check_value` of whole numbers of tokens: one for all sources, or [B]."""

    def holds(x):
        return (x.ndim < 2) & (x >= least) & (x == np.floor(x)) & np.isfinite(x)

    return check_value(value, holds, f"{message}, one or [B].")


def check_ids(ids: Any, of: str) -> tuple[int, ...]:
    """The ids as a tuple of int; ValueError unless all are whole and not negative."""
    ids = np.asarray(list(ids))
    rule = f"The ids of {of} must be whole numbers."
    check_value(ids, lambda x: (x == np.floor(x)) & np.isfinite(x), rule)
    check_value(ids, lambda x: x >= 0, f"The ids of {of} must not be negative.")
    return tuple(int(token) for token in ids)


def check_in_vocabulary(ids: Any, size: int | None, name: str) -> None:
    """ValueError for an id outside of the vocabulary, if its size is known.

    A search may not know the size: `init` checks against `search.vocab_size`, `apply` against the
    width of log p.
    """
    if size is not None:
        message = f"{name} needs ids below the size of the vocabulary, V = {size}."
        check_value(ids, lambda x: x < size, message)


def align_tables(one: Any, other: Any, name: str) -> Sequence[np.ndarray]:
    """The common positions and sources of two tables, each [P] or [B, P]."""
    one, other = np.atleast_2d(one), np.atleast_2d(other)
    if len({len(one), len(other)} - {1}) > 1:
        raise ValueError(
            f"{name} and the forced tokens must be for the same number of sources B. "
            f"Received: {len(one)} and {len(other)} rows"
        )
    both = min(one.shape[1], other.shape[1])
    return np.broadcast_arrays(one[:, :both], other[:, :both])


def as_number(known: Any) -> Any:
    """A scalar as an int, anything else unchanged."""
    return int(known) if known is not None and np.ndim(known) == 0 else known


def describe_value(value: Any) -> str:
    """A setting as text for an error message."""
    if tf.is_tensor(value) or isinstance(value, (np.ndarray, np.generic)):
        known = static_value(value)
        return "a tensor" if known is None else reprlib.repr(np.asarray(known).tolist())
    return reprlib.repr(value)


def describe_call(name: str, *values: Any, **settings: Any) -> str:
    """The call that made a processor, as text."""
    words = [describe_value(value) for value in values]
    words += [f"{key}={describe_value(value)}" for key, value in settings.items()]
    return f"{name}({', '.join(words)})"


def check_all(holds: Any, message: str, *found: Any) -> list:
    """ValueError if a static condition is false; for others, assertions for run time."""
    known = static_value(holds)
    if known is None:
        check = tf.debugging.Assert(tf.reduce_all(holds), [f"{message} Received:", *found])
        return [] if check is None else [check]
    if not np.all(known):
        raise ValueError(f"{message} Received: {', '.join(map(describe_value, found))}")
    return []
