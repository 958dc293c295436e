"""Controls of what may never be said."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_attention.backend.keras import no_autograph
from keras_attention.decoding.processors._automaton import (
    Phrases,
)
from keras_attention.decoding.processors._rows import (
    Place,
    among,
    called,
    demand_ids,
    demand_in_vocabulary,
    fill,
    keep,
    marked,
    strike,
)
from keras_attention.decoding.processors.control import Control, Search


@no_autograph
def ban(tokens: Iterable[int]) -> Control:
    """Never any of these ids.

    Raises ValueError for ids below 0, and in `init` for ids that the vocabulary does not have.

    >>> ban([0, 2]).apply(tf.zeros([1, 3]), ()).numpy().tolist()
    [[-inf, 0.0, -inf]]
    """
    ids = demand_ids(tokens, "ban")
    name = called("ban", list(ids))

    def init(search: Search) -> tuple:
        demand_in_vocabulary(ids, search.vocab_size, name)
        return ()

    def apply(log_probs: tf.Tensor, state: tuple) -> tf.Tensor:
        demand_in_vocabulary(ids, log_probs.shape[-1], name)
        return strike(log_probs, tf.ones_like(log_probs[:, 0], tf.bool), among(log_probs, ids))

    banned = frozenset((token,) for token in ids)
    return Control(init, apply, lambda state, tokens: state, name, banned=banned)


@no_autograph
def ban_phrases(phrases: Iterable[Sequence[int]]) -> Control:
    """Never any of these ids one after the other; the end token may be the last of a phrase.

    Raises ValueError for an empty phrase and for ids below 0, and in `init` for ids that the
    vocabulary does not have.

    >>> control = ban_phrases([[1, 2], [0]])
    >>> state = control.init(Search(1, 1, max_length=4, end_id=3, vocab_size=4))
    >>> for token in (1, 1):  # the start token, and one of the answer
    ...     state = control.advance(state, tf.constant([token]))
    >>> control.apply(tf.zeros([1, 4]), state).numpy().tolist()
    [[-inf, 0.0, -inf, 0.0]]
    """
    phrases = demand_phrases(phrases, "ban_phrases")
    name = called("ban_phrases", [list(phrase) for phrase in phrases])
    before = max((len(phrase) for phrase in phrases), default=1) - 1
    begins = np.full([len(phrases), before], -2, np.int32)  # [P, L - 1], -2: any token
    for begin, phrase in zip(begins, phrases):
        begin[before + 1 - len(phrase) :] = phrase[:-1]
    last = np.array([phrase[-1] for phrase in phrases], np.int32)

    def init(search: Search) -> Place:
        demand_in_vocabulary(ids_of(phrases), search.vocab_size, name)
        return Place.first(search, tf.repeat(fill(search, -1)[:, None], before, axis=1))

    def apply(log_probs: tf.Tensor, state: Place) -> tf.Tensor:
        demand_in_vocabulary(ids_of(phrases), log_probs.shape[-1], name)
        same = (state.of[:, None] == begins) | (begins == -2)  # [N, P, L - 1]
        begun = tf.reduce_all(same, 2)
        return keep(log_probs, ~marked(log_probs, tf.zeros_like(begun, tf.int32) + last, begun))

    def advance(state: Place, tokens: tf.Tensor) -> Place:
        token = tf.where(state.at < 0, -1, tokens)  # the start token is no part of a phrase
        recent = tf.concat([state.of, token[:, None]], 1)[:, 1:]
        return state.onward(tokens)._replace(of=recent)

    return Control(init, apply, advance, name, banned=frozenset(phrases))


def demand_phrases(phrases: Any, name: str) -> list[tuple[int, ...]]:
    phrases = list(phrases)
    if not all(np.ndim(phrase) == 1 for phrase in phrases) or not all(map(len, phrases)):
        raise ValueError(f"{name} needs lists of ids, each of one id at least. Received: {phrases}")
    return [demand_ids(phrase, name) for phrase in phrases]


def ids_of(phrases: Phrases) -> tuple[int, ...]:
    return tuple(dict.fromkeys(token for phrase in phrases for token in phrase))
