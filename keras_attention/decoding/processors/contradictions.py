"""Contradictions between processors, found before a search begins."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_attention.decoding.processors._rows import static_value
from keras_attention.decoding.processors.logits_processor import LogitsProcessor
from keras_attention.decoding.processors.needed import met_together


def check(processors: Sequence[LogitsProcessor], max_length: Any = None) -> None:
    """Refuse processors that no answer could satisfy.

    Raises ValueError, naming those which contradict each other: one needs more tokens than another,
    or `max_length`, allows; one needs a phrase that another bans, or will not have said twice; one
    forces a token where another does not allow it; what must be said leaves no room for what is
    forced.

    >>> from keras_attention.seq2seq import length_between
    >>> check([length_between(minimum=5)], max_length=4)
    Traceback (most recent call last):
    ...
    ValueError: length_between(minimum=5) needs 5 tokens and max_length=4 allows 4, the end token
    counted: no answer satisfies both. Received: 5 > 4
    """
    parts = flat(processors)
    limit = None if max_length is None else static_value(max_length)
    for one in parts:
        _check_room(one, parts, limit)
    for one, other in itertools.product(parts, parts):
        _check_texts(one, other)
        _check_places(one, other)
    if any(part.needed for part in parts):
        bound = [part for part in parts if part.needed or part.forced is not None]
        (whole,) = (part for part in met_together(parts) if part.needed)
        name = " + ".join(part.name for part in bound)
        _check_room(whole._replace(name=name), parts, limit)


def flat(processors: Sequence[LogitsProcessor]) -> tuple:
    """What they were combined of, side by side."""
    return tuple(part for processor in processors for part in processor.parts or (processor,))


def _check_room(one: LogitsProcessor, others: Sequence[LogitsProcessor], limit: Any) -> None:
    least = one.shortest if one.cut_off is None else one.cut_off
    _check_lengths(one.name, least, f"max_length={limit}", limit)
    for other in others:
        _check_lengths(one.name, one.shortest, other.name, other.longest)


def _check_texts(one: LogitsProcessor, other: LogitsProcessor) -> None:
    """What one needs to be said must not hold what the other bans, nor say anything too often."""
    forced = [] if one.forced is None else np.atleast_2d(one.forced).tolist()
    for text in (*one.needed, *map(tuple, forced)):  # in what is forced -1 is any token
        most = max(map(len, other.banned), default=0)
        spans = {text[i : i + n] for n in range(1, most + 1) for i in range(len(text) - n + 1)}
        held = sorted(spans & other.banned)
        if held:
            raise ValueError(
                f"{one.name} needs tokens which {other.name} bans: no answer satisfies both. "
                f"Received: {list(held[0])} in {list(text)}"
            )
        n = other.no_repeat_ngram or len(text) + 1
        grams = [text[i : i + n] for i in range(len(text) - n + 1)]
        grams = [gram for gram in grams if -1 not in gram]
        if len(grams) > len(set(grams)):
            raise ValueError(
                f"{one.name} needs something twice which {other.name} allows once: no answer "
                f"satisfies both. Received: {list(text)}"
            )


def _check_places(one: LogitsProcessor, other: LogitsProcessor) -> None:
    """What one forces must be what the other allows there."""
    if one.forced is None or other.forbids is None:
        return
    wrong = np.argwhere(other.forbids(one.forced))
    if len(wrong):
        row, position = wrong[0]
        table = np.atleast_2d(one.forced)
        raise ValueError(
            f"{one.name} needs a token at position {position} that {other.name} does not allow "
            f"there: no answer satisfies both. Received: {table[row % len(table), position]}"
        )


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
