"""Several controls as one, and contradictions between them found before a search begins."""

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_attention.seq2seq._keras import no_autograph
from keras_attention.seq2seq.controls._rows import static
from keras_attention.seq2seq.controls.control import Control, Search


@no_autograph
def combine(*controls: Control) -> Control:
    """Several controls, one after the other, as one.

    The order is that in which they change log p: put `temperature` and penalties first, what cuts
    off a tail next, and what strikes out last. What is struck out of log p has a say in whatever
    normalises (`temperature`) or measures (`top_p`) after it.

    Each is told by when the others let an answer end, so `must_contain` makes room in time. Apart
    from that none knows of the others: where together they leave nothing to say, the search ends
    that hypothesis.

    Raises ValueError for controls that contradict each other: see `check`.

    >>> from keras_attention.seq2seq import ban, top_k
    >>> control = combine(ban([1]), top_k(1))
    >>> control.apply(tf.constant([[-2.0, -0.5, -1.5]]), ((), ())).numpy().tolist()
    [[-inf, -inf, -1.5]]
    >>> control.name
    'ban([1]) + top_k(1)'
    """
    parts = _parts(controls)
    check(parts)

    def ends_by(search: Search) -> Any:
        limits = [search.ends_by, *(part.ends_by(search) for part in parts if part.ends_by)]
        limits = [tf.cast(limit, tf.int32) for limit in limits if limit is not None]
        return functools.reduce(tf.minimum, limits) if limits else None

    def init(search: Search) -> tuple:
        search = search._replace(ends_by=ends_by(search))
        return tuple(part.init(search) for part in parts)

    def apply(log_probs: tf.Tensor, state: tuple) -> tf.Tensor:
        for part, its in zip(parts, state):
            log_probs = part.apply(log_probs, its)
        return log_probs

    def advance(state: tuple, tokens: tf.Tensor) -> tuple:
        return tuple(part.advance(its, tokens) for part, its in zip(parts, state))

    least = [np.min(part.shortest) for part in parts if part.shortest is not None]
    most = [np.max(part.longest) for part in parts if part.longest is not None]
    return Control(
        init,
        apply,
        advance,
        name=" + ".join(part.name for part in parts) or "combine()",
        shortest=int(max(least)) if least else None,
        longest=int(min(most)) if most else None,
        banned=frozenset().union(*(part.banned for part in parts)),
        needed=frozenset().union(*(part.needed for part in parts)),
        ends_by=ends_by,
        parts=parts,
    )


def check(controls: Sequence[Control], max_length: Any = None) -> None:
    """Refuse controls that no answer could satisfy.

    Raises ValueError, naming the two which contradict each other: one needs more tokens than
    another, or `max_length`, allows; one needs a token that another bans, or at a position where
    another needs another one.

    >>> from keras_attention.seq2seq import length_between
    >>> check([length_between(minimum=5)], max_length=4)
    Traceback (most recent call last):
    ...
    ValueError: length_between(minimum=5) needs 5 tokens and max_length=4 allows 4, the end token
    counted: no answer satisfies both. Received: 5 > 4
    """
    parts = _parts(controls)
    limit = None if max_length is None else static(max_length)
    for part in parts:
        least = part.shortest if part.cut_off is None else part.cut_off
        _check_lengths(part.name, least, f"max_length={limit}", limit)
    for one, other in itertools.product(parts, parts):
        _check_lengths(one.name, one.shortest, other.name, other.longest)
        both = sorted(one.needed & other.banned)
        if both:
            raise ValueError(
                f"{one.name} needs tokens which {other.name} bans: no answer satisfies both. "
                f"Received: {both} in both"
            )
    for one, other in itertools.combinations(parts, 2):
        _check_forced(one, other)


def _parts(controls) -> tuple:
    return tuple(part for control in controls for part in control.parts or (control,))


def _check_lengths(needs: str, least: Any, allows: str, most: Any) -> None:
    """least and most: None, a number, or an array [B]."""
    if least is None or most is None:
        return
    if np.ndim(least) and np.ndim(most) and len(least) != len(most):
        raise ValueError(
            f"{needs} and {allows} must speak of the same B sources. "
            f"Received: {len(least)} and {len(most)} lengths"
        )
    least, most = np.broadcast_arrays(np.atleast_1d(least), np.atleast_1d(most))
    wrong = np.flatnonzero(least > most)
    if wrong.size:
        source = f" for source {wrong[0]}" if least.size > 1 else ""
        least, most = least[wrong[0]], most[wrong[0]]
        raise ValueError(
            f"{needs} needs {least} tokens and {allows} allows {most}{source}, the end token "
            f"counted: no answer satisfies both. Received: {least} > {most}"
        )


def _check_forced(one: Control, other: Control) -> None:
    """What both say of a position, for sources that both speak of, must be one token."""
    if one.forced is None or other.forced is None:
        return
    tables = [np.atleast_2d(control.forced) for control in (one, other)]  # [1 or B, P]
    if len({len(table) for table in tables} - {1}) > 1:
        raise ValueError(
            f"{one.name} and {other.name} must speak of the same B sources. "
            f"Received: {len(tables[0])} and {len(tables[1])} rows"
        )
    both = min(table.shape[1] for table in tables)
    first, second = np.broadcast_arrays(*(table[:, :both] for table in tables))
    wrong = np.argwhere((first >= 0) & (second >= 0) & (first != second))
    if len(wrong):
        row, position = wrong[0]
        raise ValueError(
            f"{one.name} and {other.name} need different tokens at position {position}: no answer "
            f"satisfies both. Received: {first[row, position]} and {second[row, position]}"
        )
