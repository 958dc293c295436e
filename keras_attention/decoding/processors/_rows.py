"""What the processors are made of: rows of a state, and ways to strike tokens out."""

import reprlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_attention.decoding.processors.logits_processor import SearchInfo

# -- settings: numbers, or tensors given at run time


def static_value(value: Any) -> np.ndarray | None:
    """What is known of a setting now; None for a variable or a tensor of a graph."""
    if isinstance(value, tf.Variable):
        return None
    return tf.get_static_value(value) if tf.is_tensor(value) else np.asarray(value)


def check_value(value: Any, holds: Callable, message: str) -> np.ndarray | None:
    """What is known of a setting; ValueError unless it holds. Tensors of a graph are trusted."""
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
    """The ids as numbers; ValueError unless all are whole and not negative."""
    ids = np.asarray(list(ids))
    rule = f"The ids of {of} must be whole numbers."
    check_value(ids, lambda x: (x == np.floor(x)) & np.isfinite(x), rule)
    check_value(ids, lambda x: x >= 0, f"The ids of {of} must not be negative.")
    return tuple(int(token) for token in ids)


def check_in_vocabulary(ids: Any, size: int | None, name: str) -> None:
    """ValueError for an id that the vocabulary, if its size is known, does not have.

    A search may not know it: `init` asks with what it was told, `apply` with the width of log p.
    """
    if size is not None:
        message = f"{name} needs ids below the size of the vocabulary, V = {size}."
        check_value(ids, lambda x: x < size, message)


def beside(one: Any, other: Any, name: str) -> Sequence[np.ndarray]:
    """[P] or [B, P], and another such table: the positions and sources of which both speak."""
    one, other = np.atleast_2d(one), np.atleast_2d(other)
    if len({len(one), len(other)} - {1}) > 1:
        raise ValueError(
            f"{name} and what is forced must speak of the same B sources. "
            f"Received: {len(one)} and {len(other)} rows"
        )
    both = min(one.shape[1], other.shape[1])
    return np.broadcast_arrays(one[:, :both], other[:, :both])


def fact(known: Any) -> Any:
    """A number as a number, several as an array."""
    return int(known) if known is not None and np.ndim(known) == 0 else known


def describe_value(value: Any) -> str:
    """A setting for a message."""
    if tf.is_tensor(value) or isinstance(value, (np.ndarray, np.generic)):
        known = static_value(value)
        return "a tensor" if known is None else reprlib.repr(np.asarray(known).tolist())
    return reprlib.repr(value)


def describe_call(name: str, *values: Any, **settings: Any) -> str:
    """The call of a processor as its caller wrote it."""
    words = [describe_value(value) for value in values]
    words += [f"{key}={describe_value(value)}" for key, value in settings.items()]
    return f"{name}({', '.join(words)})"


# -- rows


def fill(search: SearchInfo, value: int) -> tf.Tensor:
    """The same number for each hypothesis.  -> [N] int32."""
    return tf.fill([search.batch_size * search.beam_width], value)


def check_sources(shape: tf.TensorShape, search: SearchInfo, name: str) -> None:
    """ValueError for what is not [B, ...]."""
    batch = static_value(search.batch_size)
    if shape[0] is not None and batch is not None and shape[0] != batch:
        raise ValueError(
            f"{name} must say something of each of the B = {batch} sources. "
            f"Received: shape {tuple(shape)}"
        )


def per_row(value: Any, search: SearchInfo, name: str) -> tf.Tensor:
    """A number, [B] or [B, ...] of them, one for each source -> [N, ...] int32."""
    value = tf.cast(value, tf.int32)
    if value.shape.rank == 0:
        return tf.fill([search.batch_size * search.beam_width], value)
    check_sources(value.shape, search, name)
    return tf.repeat(value, search.beam_width, axis=0)


def padded(table: Any, search: SearchInfo, name: str) -> tf.Tensor:
    """[P], or [B, P] for each source its own -> [N, P + 1] int32, with a last column of -1."""
    table = tf.cast(table, tf.int32)
    if table.shape.rank == 1:
        table = tf.repeat(table[None], search.batch_size, axis=0)
    return tf.pad(per_row(table, search, name), [[0, 0], [0, 1]], constant_values=-1)


def prompt_lengths(search: SearchInfo) -> Any:
    """How many tokens each prompt has.  -> [B] int32, or 0 without prompts."""
    if search.prompt is None:
        return 0
    return tf.reduce_sum(tf.cast(search.prompt >= 0, tf.int32), 1)


def check_all(holds: Any, message: str, *found: Any) -> list:
    """ValueError unless all that is known holds; else what checks it when the graph runs."""
    known = static_value(holds)
    if known is None:
        check = tf.debugging.Assert(tf.reduce_all(holds), [f"{message} Received:", *found])
        return [] if check is None else [check]
    if not np.all(known):
        raise ValueError(f"{message} Received: {', '.join(map(describe_value, found))}")
    return []


def row_of(table: tf.Tensor, place: tf.Tensor) -> tf.Tensor:
    """[N, P], [N] -> [N]: what each row has at its place, the first or last if outside."""
    place = tf.clip_by_value(place, 0, tf.shape(table)[1] - 1)
    return tf.gather(table, place[:, None], batch_dims=1)[:, 0]


class Progress(NamedTuple):
    """How far the answers are, what ends them, and what else a processor knows of each row."""

    length: tf.Tensor  # [N] int32: how many tokens, -1 before the start token
    end: tf.Tensor  # [N] int32: the end token
    extra: Any = ()  # tensors [N, ...]

    @classmethod
    def first(cls, search: SearchInfo, extra: Any = ()) -> "Progress":
        return cls(fill(search, -1), fill(search, search.end_id), extra)

    def step(self, tokens: tf.Tensor) -> "Progress":
        return self._replace(length=self.length + 1)

    def is_end(self, log_probs: tf.Tensor) -> tf.Tensor:
        """[N, V] -> [V] bool."""
        return vocabulary(log_probs) == tf.reduce_max(self.end)  # no first row in an empty batch


class History(NamedTuple):
    """The answers so far."""

    tokens: tf.Tensor  # [N, T] int32, zeros where nothing was said
    length: tf.Tensor  # [N] int32: how many tokens, -1 before the start token

    @classmethod
    def empty(cls, search: SearchInfo, steps: Any) -> "History":
        return cls(
            tf.zeros([search.batch_size * search.beam_width, steps], tf.int32), fill(search, -1)
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
    """The tokens that are these ids [M].  [N, V] -> [V] bool."""
    ids = tf.constant(ids, tf.int32, [len(ids)])
    return tf.scatter_nd(ids[:, None], tf.ones_like(ids), tf.shape(log_probs)[-1:]) > 0


def sum_at(log_probs: tf.Tensor, ids: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """The sum of the values that each token has.  [N, V], ids [N, M], [N, M] -> [N, V]."""
    rows = tf.broadcast_to(tf.range(tf.shape(ids)[0])[:, None], tf.shape(ids))
    return tf.scatter_nd(tf.stack([rows, ids], -1), values, tf.shape(log_probs))


def marked(log_probs: tf.Tensor, ids: tf.Tensor, which: tf.Tensor) -> tf.Tensor:
    """The tokens that are named at least once.  [N, V], [N, M], [N, M] bool -> [N, V] bool."""
    return sum_at(log_probs, ids, tf.cast(which, tf.int32)) > 0


def penalized(log_probs: tf.Tensor, w: tf.Tensor) -> tf.Tensor:
    """log p * w; what a bias has raised above 0 is divided by w (Keskar et al., 2019)."""
    return tf.where(log_probs > 0, log_probs / w, log_probs * w)


def keep_allowed(log_probs: tf.Tensor, allowed: tf.Tensor) -> tf.Tensor:
    """-inf for what is not allowed.  [N, V], [N, V] bool -> [N, V]."""
    return tf.where(allowed, log_probs, tf.constant(-float("inf"), log_probs.dtype))


def mask_tokens(log_probs: tf.Tensor, rows: tf.Tensor, tokens: tf.Tensor) -> tf.Tensor:
    """-inf where a row [N] bool meets a token [V] bool.

    A sum with -inf, and not a choice: that broadcasts several times slower on a CPU.
    """

    def penalty(where):
        return tf.where(where, tf.constant(-float("inf"), log_probs.dtype), 0.0)

    return log_probs + tf.maximum(penalty(rows)[:, None], penalty(tokens)[None])


def force_token(log_probs: tf.Tensor, token: tf.Tensor) -> tf.Tensor:
    """Nothing but the row's token, where it has one.  [N, V], [N] int32, -1: any -> [N, V]."""
    same = vocabulary(log_probs)[None] == token[:, None]
    return keep_allowed(log_probs, same | (token < 0)[:, None])
