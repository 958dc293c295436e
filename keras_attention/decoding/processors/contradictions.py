"""Contradictions between processors, found before a search begins."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_attention.decoding.processors._settings import static_value
from keras_attention.decoding.processors.logits_processor import LogitsProcessor
from keras_attention.decoding.processors.needed import merge_needed


def check(processors: Sequence[LogitsProcessor], max_length: Any = None) -> None:
    """Raise ValueError for processors that no answer can satisfy together, naming both.

    They contradict each other if one needs more tokens than another, or `max_length`, allows; if
    one needs a phrase that another bans or allows only once; if one forces a token at a position
    where another forbids it; or if required phrases do not fit beside the forced tokens.

    >>> from keras_attention.seq2seq import length_between
    >>> check([length_between(minimum=5)], max_length=4)
    Traceback (most recent call last):
    ...
    ValueError: length_between(minimum=5) needs 5 tokens, but max_length=4 allows 4, including the
    end token: no answer satisfies both. Received: 5 > 4
    """
    parts = flat(processors)
    limit = None if max_length is None else static_value(max_length)
    for one in parts:
        _check_room(one, parts, limit)
    for one, other in itertools.product(parts, parts):
        _check_texts(one, other)
        _check_positions(one, other)
    if any(part.needed for part in parts):
        bound = [part for part in parts if part.needed or part.forced is not None]
        (whole,) = (part for part in merge_needed(parts) if part.needed)
        name = " + ".join(part.name for part in bound)
        _check_room(whole._replace(name=name), parts, limit)


def flat(processors: Sequence[LogitsProcessor]) -> tuple:
    """The parts of combined processors, in one tuple."""
    return tuple(part for processor in processors for part in processor.parts or (processor,))


def _check_room(one: LogitsProcessor, others: Sequence[LogitsProcessor], limit: Any) -> None:
    least = one.shortest if one.cut_off is None else one.cut_off
    _check_lengths(one.name, least, f"max_length={limit}", limit)
    for other in others:
        _check_lengths(one.name, one.shortest, other.name, other.longest)


def _check_texts(one: LogitsProcessor, other: LogitsProcessor) -> None:
    """Required phrases must not contain a banned phrase, or an n-gram more often than allowed."""
    forced = [] if one.forced is None else np.atleast_2d(one.forced).tolist()
    for text in (*one.needed, *map(tuple, forced)):  # -1 in a forced text is any token
        most = max(map(len, other.banned), default=0)
        spans = {text[i : i + n] for n in range(1, most + 1) for i in range(len(text) - n + 1)}
        held = sorted(spans & other.banned)
        if held:
            raise ValueError(
                f"{one.name} requires tokens that {other.name} bans: no answer satisfies both. "
                f"Received: {_conflict(held[0], text)}"
            )
        n = other.no_repeat_ngram or len(text) + 1
        grams = [text[i : i + n] for i in range(len(text) - n + 1)]
        grams = [gram for gram in grams if -1 not in gram]
        if len(grams) > len(set(grams)):
            raise ValueError(
                f"{one.name} requires an n-gram twice that {other.name} allows once: no answer "
                f"satisfies both. Received: {list(text)}"
            )


def _conflict(held: Sequence[int], text: Sequence[int]) -> str:
    """Which tokens two processors contradict each other about."""
    tokens = f"token {held[0]}" if len(held) == 1 else f"the tokens {list(held)}"
    return f"both concern {tokens}" + (f" of {list(text)}" if len(text) > len(held) else "")


def _check_positions(one: LogitsProcessor, other: LogitsProcessor) -> None:
    """Forced tokens must be allowed at their positions."""
    if one.forced is None or other.forbids is None:
        return
    wrong = np.argwhere(other.forbids(one.forced))
    if len(wrong):
        row, position = wrong[0]
        table = np.atleast_2d(one.forced)
        raise ValueError(
            f"{one.name} forces a token at position {position} that {other.name} does not allow "
            f"there: no answer satisfies both. Received: {table[row % len(table), position]}"
        )


def _check_lengths(needs: str, least: Any, allows: str, most: Any) -> None:
    """least and most: None, a number, or an array [B]."""
    if least is None or most is None:
        return
    if np.ndim(least) and np.ndim(most) and len(least) != len(most):
        raise ValueError(
            f"{needs} and {allows} must be for the same number of sources B. "
            f"Received: {len(least)} and {len(most)} lengths"
        )
    least, most = np.broadcast_arrays(np.atleast_1d(least), np.atleast_1d(most))
    wrong = np.flatnonzero(least > most)
    if wrong.size:
        source = f" for source {wrong[0]}" if least.size > 1 else ""
        least, most = least[wrong[0]], most[wrong[0]]
        raise ValueError(
            f"{needs} needs {least} tokens, but {allows} allows {most}{source}, including the end "
            f"token: no answer satisfies both. Received: {least} > {most}"
        )
