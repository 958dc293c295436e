"""The prompt of a language model: the beginning that a source itself gives its answers."""

from typing import Any

import numpy as np
import tensorflow as tf

from keras_attention.seq2seq.controls import Control, Search
from keras_attention.seq2seq.controls._rows import Place, only, padded, row_of, static


def after_prompt(control: Control | None, pad_id: int) -> Control:
    """The prompt of the search is said whatever the rules are; these hold for what follows it.

    The control is told of its tokens, so that lengths, positions and repetitions count from the
    first of them.
    """

    def init(search: Search) -> Place:
        rest = () if control is None else control.init(search)
        check_beginning(search.prompt, pad_id, search.max_length, "prompt")
        rows = tf.where(search.prompt == pad_id, -1, tf.cast(search.prompt, tf.int32))
        return Place.first(search, (padded(rows, search, "the prompt"), rest))

    def apply(log_probs: tf.Tensor, state: Place) -> tf.Tensor:
        rows, rest = state.of
        token = row_of(rows, state.at)  # -1: the prompt is over
        free = log_probs if control is None else control.apply(log_probs, rest)
        return tf.where((token >= 0)[:, None], only(log_probs, token), free)

    def advance(state: Place, tokens: tf.Tensor) -> Place:
        rows, rest = state.of
        rest = () if control is None else control.advance(rest, tokens)
        return state.onward(tokens)._replace(of=(rows, rest))

    return Control(init, apply, advance, name="the prompt")


def check_beginning(ids: Any, pad_id: int, max_length: Any, name: str, left: int = 0) -> None:
    """ValueError for what is known to be no beginning of answers, ids [B, P].

    It has padding on its right alone, and of `max_length` tokens leaves at least so many.
    """
    if ids.shape.rank != 2:
        raise ValueError(
            f"A {name} must be ids [B, P], a row for each source. Received: shape {ids.shape}"
        )
    known, limit = static(ids), static(max_length)
    if known is None:
        return
    real = known != pad_id
    if np.any(real[:, 1:] & ~real[:, :-1]):
        raise ValueError(
            f"A {name} has the pad id {pad_id} on its right alone. Received: {known.tolist()}"
        )
    longest = int(real.sum(1).max(initial=0))
    if limit is not None and longest > limit - left:
        raise ValueError(
            f"A {name} counts towards max_length, of which it must leave at least {left} tokens. "
            f"Received: {longest} tokens, max_length={limit}"
        )
