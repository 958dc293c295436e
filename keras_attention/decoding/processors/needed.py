"""The logits processor of required phrases."""

import functools
import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_attention.backend.keras import no_autograph
from keras_attention.decoding.processors._automaton import (
    Phrases,
    automaton,
    minimal_phrases,
    tokens_needed,
)
from keras_attention.decoding.processors._log_probs import (
    keep_allowed,
    mask_tokens,
    one_of,
    selected_ids,
)
from keras_attention.decoding.processors._rows import Progress, per_hypothesis, per_row
from keras_attention.decoding.processors._settings import check_in_vocabulary, describe_call
from keras_attention.decoding.processors.logits_processor import LogitsProcessor, SearchInfo
from keras_attention.decoding.processors.phrases import check_phrases, ids_of

_MOST_PHRASES = 10  # the table has a column for each set of phrases
_MOST_TOKENS = 1000  # and a row for each token


@no_autograph
def must_contain(phrases: Iterable[Sequence[int]]) -> LogitsProcessor:
    """Require each of these phrases to occur, with any tokens before, between and after them.

    Phrases may overlap. A phrase that is given twice, or is part of another, needs to occur once.
    The end token is forbidden until all phrases have occurred. While more than enough tokens are
    left, every other token is allowed. When only just enough tokens are left, only tokens that lead
    to a missing phrase are allowed. No valid answer is excluded.

    An answer that is cut off at `max_length` may contain them without an end token.

    `combine` merges several into one. The shortest way then avoids banned tokens (`ban`,
    `ban_phrases`), includes forced ones (`force`; `prefix`), and ends in time (limits of length).
    Other processors are not taken into account: `no_repeat_ngram`, `repetition_pattern`,
    `allowed_at`, the token lengths of `exact_length`, prefixes with gaps that differ per source.
    With these a narrow beam may miss existing answers: it returns what it has found, with
    `finished` False; a beam of full width misses none.

    Raises ValueError for an empty phrase, ids below 0, more than ten different phrases or a
    thousand tokens, and in `init` for ids outside of the vocabulary and for the end token.

    >>> processor = must_contain([[1, 2], [2, 1]])
    >>> state = processor.init(SearchInfo(1, 1, max_length=3, end_id=0, vocab_size=4))
    >>> state = processor.advance(state, tf.constant([3]))  # the start token
    >>> processor.apply(tf.zeros([1, 4]), state).numpy().tolist()  # 1 2 1 or 2 1 2
    [[-inf, 0.0, 0.0, -inf]]
    """
    given = check_phrases(phrases, "must_contain")
    return contain_phrases(given, describe_call("must_contain", [list(phrase) for phrase in given]))


def contain_phrases(
    given: Phrases, name: str, banned: Phrases = (), forced: Sequence[int] = ()
) -> LogitsProcessor:
    """`must_contain` with banned phrases and forced tokens; -1 forces none."""
    phrases = minimal_phrases(given)
    size = sum(map(len, phrases))
    if len(phrases) > _MOST_PHRASES or size > _MOST_TOKENS:
        raise ValueError(
            f"must_contain takes at most {_MOST_PHRASES} different phrases with {_MOST_TOKENS} "
            f"tokens. Received: {len(phrases)} phrases of {size} tokens"
        )
    ids = ids_of(phrases)
    in_the_way = sorted(phrase for phrase in banned if phrase[-1] in ids)
    machine, need = _tables(tuple(phrases), tuple(in_the_way), tuple(forced))
    everything = (1 << len(phrases)) - 1

    def symbols(tokens: tf.Tensor) -> tf.Tensor:
        """[N] -> [N]: see `Automaton`."""
        same = tokens[:, None] == machine.tokens
        return tf.reduce_sum(tf.where(same, tf.range(1, len(machine.tokens) + 1), 0), 1)

    def init(search: SearchInfo) -> Progress:
        check_in_vocabulary(ids, search.vocab_size, name)
        if search.end_id in ids:
            raise ValueError(
                f"{name} must not hold the end token: nothing follows it in an answer. "
                f"Received: end_id={search.end_id}"
            )
        room = per_row(search.max_length, search, name)
        if search.ends_by is not None:
            room = tf.minimum(room, per_row(search.ends_by, search, name) - 1)
        return Progress.first(
            search, _PhraseState(per_hypothesis(search, 0), per_hypothesis(search, 0), room)
        )

    def apply(log_probs: tf.Tensor, state: Progress) -> tf.Tensor:
        check_in_vocabulary(ids, log_probs.shape[-1], name)
        node, seen, room = state.extra
        after = tf.gather(machine.step, node)  # [N, A + 1]
        then = seen[:, None] | tf.gather(machine.ended, after)
        at = tf.zeros_like(after) + tf.minimum(state.length + 1, len(need) - 1)[:, None]
        still = tf.gather_nd(need, tf.stack([at, after, then], 2))
        left = tf.maximum(room - state.length - 1, 0)  # after this token
        late = still > left[:, None]  # [N, A + 1]
        named = tf.zeros_like(after[:, 1:]) + machine.tokens
        log_probs = keep_allowed(log_probs, ~selected_ids(log_probs, named, late[:, 1:]))
        log_probs = mask_tokens(log_probs, late[:, 0], ~one_of(log_probs, machine.tokens))
        return mask_tokens(log_probs, seen != everything, state.is_end(log_probs))

    def advance(state: Progress, tokens: tf.Tensor) -> Progress:
        node, seen, room = state.extra
        node = tf.gather_nd(machine.step, tf.stack([node, symbols(tokens)], 1))
        node = tf.where(state.length < 0, 0, node)  # the start token is not part of a phrase
        seen |= tf.gather(machine.ended, node)
        return state.step(tokens)._replace(extra=_PhraseState(node, seen, room))

    fewest = int(need[0, 0, 0])
    return LogitsProcessor(
        init, apply, advance, name, shortest=fewest + 1, cut_off=fewest, needed=tuple(given)
    )


def merge_needed(parts: Sequence[LogitsProcessor]) -> tuple:
    """Merge all `must_contain`, given what the other processors ban and force."""
    wanted = [part for part in parts if part.needed]
    if not wanted:
        return tuple(parts)
    phrases = [phrase for part in wanted for phrase in part.needed]
    banned = sorted(frozenset().union(*(part.banned for part in parts)))
    tables = [np.atleast_2d(part.forced) for part in parts if part.forced is not None]
    shared = [table[0].tolist() for table in tables if len(table) == 1]  # the same for each source
    forced = [max(tokens) for tokens in itertools.zip_longest(*shared, fillvalue=-1)]
    whole = contain_phrases(phrases, " + ".join(part.name for part in wanted), banned, forced)
    return tuple(
        whole if part is wanted[0] else part
        for part in parts
        if part is wanted[0] or not part.needed
    )


class _PhraseState(NamedTuple):
    node: tf.Tensor  # [N] int32
    seen: tf.Tensor  # [N] int32: a bit for each phrase
    room: tf.Tensor  # [N] int32: maximum number of tokens before the end token


@functools.lru_cache(maxsize=16)
def _tables(phrases: Phrases, banned: Phrases, forced: Sequence[int]) -> tuple:
    machine = automaton(phrases, banned)
    return machine, tokens_needed(machine, len(phrases), forced)
