"""Helpers of the processors: checks of settings, rows of a state, masks of tokens."""

import reprlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_attention.decoding.processors.logits_processor import SearchInfo

# -- settings: numbers, or tensors whose values are known at run time only


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


# -- rows


def per_hypothesis(search: SearchInfo, value: int) -> tf.Tensor:
    """The same value for each hypothesis.  -> [N] int32."""
    return tf.fill([search.batch_size * search.beam_width], value)


def check_sources(shape: tf.TensorShape, search: SearchInfo, name: str) -> None:
    """ValueError unless the shape is [B, ...]."""
    batch = static_value(search.batch_size)
    if shape[0] is not None and batch is not None and shape[0] != batch:
        raise ValueError(
            f"{name} needs one entry for each of the B = {batch} sources. "
            f"Received: shape {tuple(shape)}"
        )


def per_row(value: Any, search: SearchInfo, name: str) -> tf.Tensor:
    """A scalar, or values [B] or [B, ...], one for each source -> [N, ...] int32."""
    value = tf.cast(value, tf.int32)
    if value.shape.rank == 0:
        return tf.fill([search.batch_size * search.beam_width], value)
    check_sources(value.shape, search, name)
    return tf.repeat(value, search.beam_width, axis=0)


def padded(table: Any, search: SearchInfo, name: str) -> tf.Tensor:
    """A table [P], or [B, P] for each source -> [N, P + 1] int32, with a last column of -1."""
    table = tf.cast(table, tf.int32)
    if table.shape.rank == 1:
        table = tf.repeat(table[None], search.batch_size, axis=0)
    return tf.pad(per_row(table, search, name), [[0, 0], [0, 1]], constant_values=-1)


def prompt_lengths(search: SearchInfo) -> Any:
    """The number of tokens of each prompt.  -> [B] int32, or 0 without prompts."""
    if search.prompt is None:
        return 0
    return tf.reduce_sum(tf.cast(search.prompt >= 0, tf.int32), 1)


def check_all(holds: Any, message: str, *found: Any) -> list:
    """ValueError if a static condition is false; for others, assertions for run time."""
    known = static_value(holds)
    if known is None:
        check = tf.debugging.Assert(tf.reduce_all(holds), [f"{message} Received:", *found])
        return [] if check is None else [check]
    if not np.all(known):
        raise ValueError(f"{message} Received: {', '.join(map(describe_value, found))}")
    return []


def gather_at(table: tf.Tensor, place: tf.Tensor) -> tf.Tensor:
    """The entry of each row at its position, clipped to the table.  [N, P], [N] -> [N]."""
    place = tf.clip_by_value(place, 0, tf.shape(table)[1] - 1)
    return tf.gather(table, place[:, None], batch_dims=1)[:, 0]


class Progress(NamedTuple):
    """The length of each answer, the end token, and further state of a processor."""

    length: tf.Tensor  # [N] int32: number of tokens, -1 before the start token
    end: tf.Tensor  # [N] int32: the end token
    extra: Any = ()  # tensors [N, ...]

    @classmethod
    def first(cls, search: SearchInfo, extra: Any = ()) -> "Progress":
        return cls(per_hypothesis(search, -1), per_hypothesis(search, search.end_id), extra)

    def step(self, tokens: tf.Tensor) -> "Progress":
        return self._replace(length=self.length + 1)

    def is_end(self, log_probs: tf.Tensor) -> tf.Tensor:
        """[N, V] -> [V] bool."""
        return vocabulary(log_probs) == tf.reduce_max(self.end)  # no first row in an empty batch


class History(NamedTuple):
    """The tokens of the answers so far."""

    tokens: tf.Tensor  # [N, T] int32, zeros after the last token
    length: tf.Tensor  # [N] int32: number of tokens, -1 before the start token

    @classmethod
    def empty(cls, search: SearchInfo, steps: Any) -> "History":
        return cls(
            tf.zeros([search.batch_size * search.beam_width, steps], tf.int32),
            per_hypothesis(search, -1),
        )

    def append(self, tokens: tf.Tensor) -> "History":
        # At length -1, that of the start token, nothing is written.
        now = tf.range(tf.shape(self.tokens)[1]) == self.length[:, None]
        return History(tf.where(now, tokens[:, None], self.tokens), self.length + 1)


# -- tokens of log p [N, V]


def vocabulary(log_probs: tf.Tensor) -> tf.Tensor:
    """All ids.  -> [V] int32."""
    return tf.range(tf.shape(log_probs)[-1])


def one_of(log_probs: tf.Tensor, ids: Any) -> tf.Tensor:
    """Mark the tokens whose ids are in [M].  [N, V] -> [V] bool."""
    ids = tf.constant(ids, tf.int32, [len(ids)])
    return tf.scatter_nd(ids[:, None], tf.ones_like(ids), tf.shape(log_probs)[-1:]) > 0


def sum_at(log_probs: tf.Tensor, ids: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Add up the values of each id.  [N, V], ids [N, M], values [N, M] -> [N, V]."""
    rows = tf.broadcast_to(tf.range(tf.shape(ids)[0])[:, None], tf.shape(ids))
    return tf.scatter_nd(tf.stack([rows, ids], -1), values, tf.shape(log_probs))


def selected_ids(log_probs: tf.Tensor, ids: tf.Tensor, which: tf.Tensor) -> tf.Tensor:
    """Mark the ids that are selected at least once.  [N, V], [N, M], [N, M] bool -> [N, V] bool."""
    return sum_at(log_probs, ids, tf.cast(which, tf.int32)) > 0


def penalized(log_probs: tf.Tensor, w: tf.Tensor) -> tf.Tensor:
    """log p * w; values that a bias has raised above 0 are divided by w (Keskar et al., 2019)."""
    return tf.where(log_probs > 0, log_probs / w, log_probs * w)


def keep_allowed(log_probs: tf.Tensor, allowed: tf.Tensor) -> tf.Tensor:
    """Set the log p of all other tokens to -inf.  [N, V], [N, V] bool -> [N, V]."""
    return tf.where(allowed, log_probs, tf.constant(-float("inf"), log_probs.dtype))


def mask_tokens(log_probs: tf.Tensor, rows: tf.Tensor, tokens: tf.Tensor) -> tf.Tensor:
    """Set log p to -inf for the selected tokens [V] bool in the selected rows [N] bool.

    Adds -inf instead of using `tf.where`, whose broadcast is several times slower on a CPU.
    """

    def penalty(where):
        return tf.where(where, tf.constant(-float("inf"), log_probs.dtype), 0.0)

    return log_probs + tf.maximum(penalty(rows)[:, None], penalty(tokens)[None])


def force_token(log_probs: tf.Tensor, token: tf.Tensor) -> tf.Tensor:
    """Allow only the given token of each row, if any.  [N, V], [N] int32, -1: any -> [N, V]."""
    same = vocabulary(log_probs)[None] == token[:, None]
    return keep_allowed(log_probs, same | (token < 0)[:, None])
