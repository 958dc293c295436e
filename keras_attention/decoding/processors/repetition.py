"""Logits processors of repeated tokens."""

from typing import Any

import numpy as np
import tensorflow as tf

from keras_attention.backend.keras import no_autograph
from keras_attention.decoding.processors._log_probs import (
    force_token,
    keep_allowed,
    penalized,
    selected_ids,
)
from keras_attention.decoding.processors._rows import History, gather_at, padded
from keras_attention.decoding.processors._settings import (
    align_tables,
    check_number,
    check_value,
    describe_call,
    static_value,
)
from keras_attention.decoding.processors.logits_processor import LogitsProcessor, SearchInfo


@no_autograph
def repetition_penalty(w: Any) -> LogitsProcessor:
    """Multiply the log p of tokens already in the answer by w (Keskar et al., 2019, on log p).

    w > 1 makes them less likely, w < 1 more likely. A prompt counts as part of the answer, the
    start token does not. In `combine` it acts before `temperature`, as in Hugging Face's
    `generate`. w is a number or a scalar. Raises ValueError unless it is finite and above 0.

    >>> processor = repetition_penalty(2.0)
    >>> state = processor.init(SearchInfo(1, 1, max_length=4, end_id=0, vocab_size=3))
    >>> for token in (1, 2):  # the start token, and one of the answer
    ...     state = processor.advance(state, tf.constant([token]))
    >>> processor.apply(tf.constant([[-1.0, -1.0, -1.0]]), state).numpy().tolist()
    [[-1.0, -1.0, -2.0]]
    """
    check_number(
        w, lambda w: (w > 0) & np.isfinite(w), "repetition_penalty needs one number w > 0."
    )

    def apply(log_probs: tf.Tensor, history: History) -> tf.Tensor:
        again = selected_ids(log_probs, history.tokens, _filled(history))
        return tf.where(again, penalized(log_probs, tf.cast(w, log_probs.dtype)), log_probs)

    name = describe_call("repetition_penalty", w)
    return LogitsProcessor(_begin, apply, History.append, name, scope="score", order=2)


def _begin(search: SearchInfo) -> History:
    return History.empty(search, search.max_length)


@no_autograph
def no_repeat_ngram(n: int) -> LogitsProcessor:
    """Forbid n-grams that the answer already contains (Paulus et al., 2018).

    With n = 1 every token occurs at most once. Raises ValueError unless n is a whole number >= 1.

    >>> processor = no_repeat_ngram(2)
    >>> state = processor.init(SearchInfo(1, 1, max_length=4, end_id=0, vocab_size=3))
    >>> for token in (0, 1, 2, 1):  # the start token, and 1 2 1
    ...     state = processor.advance(state, tf.constant([token]))
    >>> processor.apply(tf.zeros([1, 3]), state).numpy().tolist()
    [[0.0, 0.0, -inf]]
    """
    known = check_number(
        n, lambda n: (n >= 1) & (n == np.floor(n)), "no_repeat_ngram needs one whole number >= 1."
    )
    n = int(n if known is None else known)

    def init(search: SearchInfo) -> tuple[History, tf.Tensor]:
        history = History.empty(search, search.max_length)
        return history, tf.zeros_like(history.tokens)

    def apply(log_probs: tf.Tensor, state: tuple) -> tf.Tensor:
        history, alike = state
        return keep_allowed(
            log_probs, ~selected_ids(log_probs, history.tokens, _filled(history) & (alike >= n - 1))
        )

    def advance(state: tuple, tokens: tf.Tensor) -> tuple:
        history, alike = state  # [N, T]: length of the match between this position and the end
        same = _filled(history) & (history.tokens == tokens[:, None])
        alike = tf.pad(tf.where(same, alike + 1, 0)[:, :-1], [[0, 0], [1, 0]])
        return history.append(tokens), alike

    return LogitsProcessor(
        init, apply, advance, describe_call("no_repeat_ngram", n), no_repeat_ngram=n
    )


def _filled(history: History) -> tf.Tensor:
    """Where the answer has tokens.  [N, T] bool."""
    return tf.range(tf.shape(history.tokens)[1]) < history.length[:, None]


@no_autograph
def repetition_pattern(pattern: Any) -> LogitsProcessor:
    """Repeat tokens at given positions: pattern[t] is the position to copy, or -1 for any token.

    `pattern` is [T], or [B, T] for each source. After T any token is allowed; the end token is
    allowed wherever any token is.

    Raises ValueError unless -1 <= pattern[t] < t.

    >>> processor = repetition_pattern([-1, 0])
    >>> state = processor.init(SearchInfo(1, 1, max_length=4, end_id=0, vocab_size=3))
    >>> for token in (0, 2):  # the start token, and one of the answer
    ...     state = processor.advance(state, tf.constant([token]))
    >>> processor.apply(tf.zeros([1, 3]), state).numpy().tolist()
    [[-inf, -inf, 0.0]]
    """
    name = describe_call("repetition_pattern", pattern)
    check_value(
        pattern,
        lambda p: (p.ndim in (1, 2)) and (p >= -1) & (p < np.arange(p.shape[-1])),
        "repetition_pattern needs [T] or [B, T] of positions before t, or -1.",
    )

    known = static_value(pattern)

    def forbids(table: np.ndarray) -> np.ndarray:
        first, token = align_tables(known, table, name)
        again = np.take_along_axis(token, np.maximum(first, 0), 1)
        return (first >= 0) & (token >= 0) & (again >= 0) & (token != again)

    def init(search: SearchInfo) -> tuple[History, tf.Tensor]:
        first = padded(pattern, search, name)
        return History.empty(search, tf.shape(first)[1]), first

    def apply(log_probs: tf.Tensor, state: tuple) -> tf.Tensor:
        history, first = state
        place = gather_at(first, history.length)
        return force_token(log_probs, tf.where(place >= 0, gather_at(history.tokens, place), -1))

    def advance(state: tuple, tokens: tf.Tensor) -> tuple:
        return state[0].append(tokens), state[1]

    return LogitsProcessor(init, apply, advance, name, forbids=None if known is None else forbids)
