"""Controls of words: what may never be said, and what must be."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_attention.seq2seq._keras import no_autograph
from keras_attention.seq2seq.controls._automaton import automaton, needful, tokens_needed
from keras_attention.seq2seq.controls._rows import (
    called,
    demand_ids,
    demand_in_vocabulary,
    fill,
    is_end,
    keep,
    marked,
    per_row,
    strike,
    vocabulary,
)
from keras_attention.seq2seq.controls.control import Control, Search

_MOST_PHRASES = 10  # the table has a column for each set of phrases


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
        banned = _among(vocabulary(log_probs), ids)
        return strike(log_probs, tf.ones_like(log_probs[:, 0], tf.bool), banned)

    return Control(init, apply, lambda state, tokens: state, name, banned=frozenset(ids))


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
    phrases = _demand_phrases(phrases, "ban_phrases")
    name = called("ban_phrases", [list(phrase) for phrase in phrases])
    before = max((len(phrase) for phrase in phrases), default=1) - 1
    begins = np.full([len(phrases), before], -2, np.int32)  # [P, L - 1], -2: any token
    for begin, phrase in zip(begins, phrases):
        begin[before + 1 - len(phrase) :] = phrase[:-1]
    last = np.array([phrase[-1] for phrase in phrases], np.int32)

    def init(search: Search) -> _Recent:
        demand_in_vocabulary(_ids(phrases), search.vocab_size, name)
        at = fill(search, -1)
        return _Recent(at, tf.repeat(at[:, None], before, axis=1))

    def apply(log_probs: tf.Tensor, state: _Recent) -> tf.Tensor:
        demand_in_vocabulary(_ids(phrases), log_probs.shape[-1], name)
        same = (state.tokens[:, None] == begins) | (begins == -2)  # [N, P, L - 1]
        begun = tf.reduce_all(same, 2)
        return keep(log_probs, ~marked(log_probs, tf.zeros_like(begun, tf.int32) + last, begun))

    def advance(state: _Recent, tokens: tf.Tensor) -> _Recent:
        token = tf.where(state.at < 0, -1, tokens)  # the start token is no part of a phrase
        recent = tf.concat([state.tokens, token[:, None]], 1)[:, 1:]
        return _Recent(state.at + 1, recent)

    alone = frozenset(phrase[0] for phrase in phrases if len(phrase) == 1)
    return Control(init, apply, advance, name, banned=alone)


class _Recent(NamedTuple):
    at: tf.Tensor  # [N] int32
    tokens: tf.Tensor  # [N, L - 1] int32, the last one last, -1 before there were any


@no_autograph
def must_contain(phrases: Iterable[Sequence[int]]) -> Control:
    """Each of these phrases occurs, with whatever before, between and after them.

    Phrases may overlap, in their own text and in the answer; one that is given twice, or lies in
    another, is said where it occurs once. The end is closed until all are said. When the tokens
    left just suffice, those alone are left which lead there on a shortest way; before, everything
    may be said, so that no answer which holds them all is lost.

    An answer cut off at `max_length` may hold them without an end. Controls of length that come
    along in `combine` are reckoned with; others can make it impossible, which ends a hypothesis.

    Raises ValueError for an empty phrase, for ids below 0, for more than ten different phrases,
    and in `init` for ids that the vocabulary does not have and for the end token.

    >>> control = must_contain([[1, 2], [2, 1]])
    >>> state = control.init(Search(1, 1, max_length=3, end_id=0, vocab_size=4))
    >>> state = control.advance(state, tf.constant([3]))  # the start token
    >>> control.apply(tf.zeros([1, 4]), state).numpy().tolist()  # 1 2 1 or 2 1 2
    [[-inf, 0.0, 0.0, -inf]]
    """
    given = _demand_phrases(phrases, "must_contain")
    name, phrases = called("must_contain", [list(p) for p in given]), needful(given)
    if len(phrases) > _MOST_PHRASES:
        raise ValueError(
            f"must_contain takes {_MOST_PHRASES} different phrases at most. "
            f"Received: {len(phrases)} phrases"
        )
    machine, everything = automaton(phrases), (1 << len(phrases)) - 1
    need = tokens_needed(machine, len(phrases))  # [Q, 2^P]

    def symbols(tokens: tf.Tensor) -> tf.Tensor:
        """[M] -> [M]: see `Automaton`."""
        same = tokens[:, None] == machine.tokens
        return tf.reduce_sum(tf.where(same, tf.range(1, len(machine.tokens) + 1), 0), 1)

    def init(search: Search) -> _Saying:
        demand_in_vocabulary(_ids(phrases), search.vocab_size, name)
        if search.end_id in _ids(phrases):
            raise ValueError(
                f"{name} must not hold the end token: an answer has nothing after it. "
                f"Received: end_id={search.end_id}"
            )
        room = per_row(search.max_length, search, name)
        if search.ends_by is not None:
            room = tf.minimum(room, per_row(search.ends_by, search, name) - 1)
        nothing = fill(search, 0)
        return _Saying(nothing - 1, fill(search, search.end_id), nothing, nothing, room)

    def apply(log_probs: tf.Tensor, state: _Saying) -> tf.Tensor:
        demand_in_vocabulary(_ids(phrases), log_probs.shape[-1], name)
        after = tf.gather(machine.step, state.node)  # [N, A + 1]
        said = state.said[:, None] | tf.gather(machine.said, after)
        still = tf.gather_nd(need, tf.stack([after, said], 2))
        left = tf.maximum(state.room - state.at - 1, 0)  # after this token
        late = still > left[:, None]  # [N, A + 1]
        ids = tf.zeros_like(after[:, 1:]) + machine.tokens
        log_probs = keep(log_probs, ~marked(log_probs, ids, late[:, 1:]))
        log_probs = strike(log_probs, late[:, 0], symbols(vocabulary(log_probs)) == 0)
        return strike(log_probs, state.said != everything, is_end(log_probs, state.end))

    def advance(state: _Saying, tokens: tf.Tensor) -> _Saying:
        node = tf.gather_nd(machine.step, tf.stack([state.node, symbols(tokens)], 1))
        node = tf.where(state.at < 0, 0, node)  # the start token is no part of a phrase
        said = state.said | tf.gather(machine.said, node)
        return state._replace(at=state.at + 1, node=node, said=said)

    fewest = int(need[0, 0])
    return Control(
        init,
        apply,
        advance,
        name,
        shortest=fewest + 1,
        cut_off=fewest,
        needed=frozenset(_ids(phrases)),
    )


class _Saying(NamedTuple):
    at: tf.Tensor  # [N] int32
    end: tf.Tensor  # [N] int32
    node: tf.Tensor  # [N] int32
    said: tf.Tensor  # [N] int32: a bit for each phrase
    room: tf.Tensor  # [N] int32: how many tokens there are room for before the end


def _demand_phrases(phrases: Any, name: str) -> list[tuple[int, ...]]:
    phrases = list(phrases)
    if not all(np.ndim(phrase) == 1 for phrase in phrases) or not all(map(len, phrases)):
        raise ValueError(f"{name} needs lists of ids, each of one id at least. Received: {phrases}")
    return [demand_ids(phrase, name) for phrase in phrases]


def _ids(phrases: list[tuple[int, ...]]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(token for phrase in phrases for token in phrase))


def _among(tokens: tf.Tensor, ids: tuple[int, ...]) -> tf.Tensor:
    return tf.reduce_any(tokens[:, None] == tf.constant(ids, tf.int32), 1)
