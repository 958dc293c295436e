"""Logits processors of phrases: forbidden, or more or less likely."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_attention.backend.keras import no_autograph
from keras_attention.decoding.processors._automaton import (
    Phrases,
)
from keras_attention.decoding.processors._log_probs import (
    keep_allowed,
    mask_tokens,
    one_of,
    selected_ids,
    sum_at,
)
from keras_attention.decoding.processors._rows import Progress, per_hypothesis
from keras_attention.decoding.processors._settings import (
    check_ids,
    check_in_vocabulary,
    check_value,
    describe_call,
)
from keras_attention.decoding.processors.logits_processor import LogitsProcessor, SearchInfo


@no_autograph
def ban(tokens: Iterable[int]) -> LogitsProcessor:
    """Forbid these ids.

    Raises ValueError for ids below 0, and in `init` for ids outside of the vocabulary.

    >>> ban([0, 2]).apply(tf.zeros([1, 3]), ()).numpy().tolist()
    [[-inf, 0.0, -inf]]
    """
    ids = check_ids(tokens, "ban")
    name = describe_call("ban", list(ids))

    def init(search: SearchInfo) -> tuple:
        check_in_vocabulary(ids, search.vocab_size, name)
        return ()

    def apply(log_probs: tf.Tensor, state: tuple) -> tf.Tensor:
        check_in_vocabulary(ids, log_probs.shape[-1], name)
        return mask_tokens(
            log_probs, tf.ones_like(log_probs[:, 0], tf.bool), one_of(log_probs, ids)
        )

    banned = frozenset((token,) for token in ids)
    return LogitsProcessor(init, apply, lambda state, tokens: state, name, banned=banned)


@no_autograph
def ban_phrases(phrases: Iterable[Sequence[int]]) -> LogitsProcessor:
    """Forbid these sequences of ids; the end token may be the last of a phrase.

    Raises ValueError for an empty phrase and for ids below 0, and in `init` for ids outside of the
    vocabulary.

    >>> processor = ban_phrases([[1, 2], [0]])
    >>> state = processor.init(SearchInfo(1, 1, max_length=4, end_id=3, vocab_size=4))
    >>> for token in (1, 1):  # the start token, and one of the answer
    ...     state = processor.advance(state, tf.constant([token]))
    >>> processor.apply(tf.zeros([1, 4]), state).numpy().tolist()
    [[-inf, 0.0, -inf, 0.0]]
    """
    phrases = check_phrases(phrases, "ban_phrases")
    name = describe_call("ban_phrases", [list(phrase) for phrase in phrases])
    init, completions, advance = _phrases(phrases, name)

    def apply(log_probs: tf.Tensor, state: Progress) -> tf.Tensor:
        return keep_allowed(log_probs, ~selected_ids(log_probs, *completions(log_probs, state)))

    return LogitsProcessor(init, apply, advance, name, banned=frozenset(phrases))


@no_autograph
def sequence_bias(biases: Mapping[Sequence[int], float]) -> LogitsProcessor:
    """Add a bias to sequences: {ids: bias}, for the last id if the answer ends in the others.

    As `sequence_bias` of Hugging Face's `generate`. A bias above 0 makes the sequence likelier,
    below 0 less likely, -inf impossible; the biases of several sequences add up. A single token is
    a sequence of one id: `{(7,): -2.0}`. The start token is no part of a sequence; the end token
    may be its last. Log p is not normalised again: with a bias above 0 it may exceed 0, and a beam
    search goes on to `max_length`.

    Raises ValueError for an empty sequence, for ids below 0, for a bias that is NaN or +inf, and in
    `init` for ids that the vocabulary does not have.

    >>> processor = sequence_bias({(1, 2): 3.0, (0,): -1.0})
    >>> state = processor.init(SearchInfo(1, 1, max_length=4, end_id=3, vocab_size=4))
    >>> for token in (1, 1):  # the start token, and one of the answer
    ...     state = processor.advance(state, tf.constant([token]))
    >>> processor.apply(tf.zeros([1, 4]), state).numpy().tolist()
    [[-1.0, 0.0, 3.0, 0.0]]
    """
    phrases = check_phrases(biases, "sequence_bias")
    values = np.array(list(biases.values()), np.float32)
    name = describe_call("sequence_bias", dict(zip(phrases, values.tolist())))
    check_value(values, lambda x: x < np.inf, f"{name} needs numbers as biases, or -inf.")
    init, completions, advance = _phrases(phrases, name)

    def apply(log_probs: tf.Tensor, state: Progress) -> tf.Tensor:
        ids, which = completions(log_probs, state)
        added = tf.where(which, tf.cast(values, log_probs.dtype), tf.zeros([], log_probs.dtype))
        return log_probs + sum_at(log_probs, ids, added)

    return LogitsProcessor(
        init, apply, advance, name, scope="score", order=0, raises_scores=bool(np.any(values > 0))
    )


def _phrases(phrases: Phrases, name: str) -> tuple:
    """-> init, completions, advance, with the last tokens of each answer as their state.

    completions(log p [N, V], state) -> the last id of each phrase [N, P], and whether the answer
    ends in the ids before it, so that this one completes the phrase [N, P].
    """
    before = max((len(phrase) for phrase in phrases), default=1) - 1
    begins = np.full([len(phrases), before], -2, np.int32)  # [P, L - 1], -2: any token
    for begin, phrase in zip(begins, phrases):
        begin[before + 1 - len(phrase) :] = phrase[:-1]
    last = np.array([phrase[-1] for phrase in phrases], np.int32)

    def init(search: SearchInfo) -> Progress:
        check_in_vocabulary(ids_of(phrases), search.vocab_size, name)
        return Progress.first(
            search, tf.repeat(per_hypothesis(search, -1)[:, None], before, axis=1)
        )

    def completions(log_probs: tf.Tensor, state: Progress) -> tuple[tf.Tensor, tf.Tensor]:
        check_in_vocabulary(ids_of(phrases), log_probs.shape[-1], name)
        same = (state.extra[:, None] == begins) | (begins == -2)  # [N, P, L - 1]
        begun = tf.reduce_all(same, 2)
        return tf.zeros_like(begun, tf.int32) + last, begun

    def advance(state: Progress, tokens: tf.Tensor) -> Progress:
        token = tf.where(state.length < 0, -1, tokens)  # the start token is not part of a phrase
        recent = tf.concat([state.extra, token[:, None]], 1)[:, 1:]
        return state.step(tokens)._replace(extra=recent)

    return init, completions, advance


def check_phrases(phrases: Any, name: str) -> list[tuple[int, ...]]:
    phrases = list(phrases)
    if not all(np.ndim(phrase) == 1 for phrase in phrases) or not all(map(len, phrases)):
        raise ValueError(f"{name} needs lists of at least one id. Received: {phrases}")
    return [check_ids(phrase, name) for phrase in phrases]


def ids_of(phrases: Phrases) -> tuple[int, ...]:
    return tuple(dict.fromkeys(token for phrase in phrases for token in phrase))
