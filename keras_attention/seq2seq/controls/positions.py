"""Controls of single positions; the first token of an answer stands at position 0."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_attention.seq2seq._keras import no_autograph
from keras_attention.seq2seq.controls._rows import (
    called,
    demand,
    demand_ids,
    demand_in_vocabulary,
    fact,
    fill,
    is_end,
    keep,
    only,
    padded,
    per_row,
    row_of,
    static,
    strike,
)
from keras_attention.seq2seq.controls.control import Control, Search


@no_autograph
def force(tokens: Mapping[int, int]) -> Control:
    """{position: id}: what must be said there. No answer ends before the last of them.

    Raises ValueError for positions or ids below 0, and in `init` for ids that the vocabulary does
    not have and for the end token: `length_between` says where an answer ends.

    >>> control = force({0: 2})
    >>> state = control.init(Search(1, 1, max_length=4, end_id=0, vocab_size=3))
    >>> state = control.advance(state, tf.constant([1]))  # the start token
    >>> control.apply(tf.zeros([1, 3]), state).numpy().tolist()
    [[-inf, -inf, 0.0]]
    """
    name = f"force({dict(tokens)})"
    ids = demand_ids(tokens.values(), name)
    positions = demand_ids(tokens.keys(), f"the positions of {name}")
    table = np.full(max(positions, default=-1) + 1, -1, np.int32)
    table[list(positions)] = ids
    return _forced(table, name)


@no_autograph
def prefix(ids: Any, pad_id: int = 0) -> Control:
    """How every answer begins: ids [P], or [B, P] for each source its own.

    Rows may have different lengths, filled up with `pad_id`, where anything may be said; a row of
    it alone is free. No answer ends within its prefix.

    Raises ValueError for negative ids, and in `init` as `force` does. Of ids given at run time
    nothing is checked: one that the vocabulary does not have leaves nothing to say.

    >>> control = prefix([[2], [0]])
    >>> state = control.init(Search(2, 1, max_length=4, end_id=1, vocab_size=3))
    >>> state = control.advance(state, tf.constant([1, 1]))  # the start tokens
    >>> control.apply(tf.zeros([2, 3]), state).numpy().tolist()
    [[-inf, -inf, 0.0], [0.0, 0.0, 0.0]]
    """
    name, known = called("prefix", ids), static(ids)
    rank = np.ndim(known) if known is not None else ids.shape.rank
    if rank not in (1, 2):
        raise ValueError(f"prefix needs ids [P] or [B, P]. Received: {rank} axes")
    demand(
        ids,
        lambda x: (x == np.floor(x)) & ((x >= 0) | (x == pad_id)),
        f"The ids of {name} must be whole numbers and not be negative.",
    )
    if known is not None:
        return _forced(np.where(known == pad_id, -1, known).astype(np.int32), name)
    return _forced(tf.where(ids == pad_id, -1, tf.cast(ids, tf.int32)), name)


class _Forced(NamedTuple):
    at: tf.Tensor  # [N] int32
    end: tf.Tensor  # [N] int32
    table: tf.Tensor  # [N, P + 1] int32, -1: free
    until: tf.Tensor  # [N] int32: the position after the last that is forced


def _forced(table: Any, name: str) -> Control:
    """Tokens by their position, -1 where any will do: [P] or [B, P]."""
    known = static(table)
    facts = {}
    if known is not None:
        until = np.max(np.where(known >= 0, np.arange(1, known.shape[-1] + 1), 0), -1, initial=0)
        facts["shortest"], facts["cut_off"] = fact(until + 1), fact(until)
        facts["needed"] = frozenset(known[known >= 0].tolist())
        facts["forced"] = known

    def init(search: Search) -> _Forced:
        if known is not None:
            demand_in_vocabulary(known, search.vocab_size, name)
            demand(
                known,
                lambda x: x != search.end_id,
                f"{name} must not hold the end token {search.end_id}: use length_between.",
            )
        rows = padded(table, search, name)
        places = tf.range(1, tf.shape(rows)[1] + 1)
        until = tf.reduce_max(tf.where(rows >= 0, places, 0), 1)
        return _Forced(fill(search, -1), fill(search, search.end_id), rows, until)

    def apply(log_probs: tf.Tensor, state: _Forced) -> tf.Tensor:
        if known is not None:
            demand_in_vocabulary(known, log_probs.shape[-1], name)
        token = row_of(state.table, state.at)
        too_early = (token < 0) & (state.at < state.until)
        return only(strike(log_probs, too_early, is_end(log_probs, state.end)), token)

    def advance(state: _Forced, tokens: tf.Tensor) -> _Forced:
        return state._replace(at=state.at + 1)

    return Control(init, apply, advance, name, **facts)


@no_autograph
def allowed_at(mask: Any) -> Control:
    """Which tokens each position may have: [T, V] bool, or [B, T, V] for each source its own.

    The end token is one of them: it may come where the mask says so, and after T it alone may.

    Raises ValueError for a mask of another rank or without positions, and in `init` for one of
    another vocabulary.

    >>> control = allowed_at([[False, True, True], [True, True, False]])
    >>> state = control.init(Search(1, 1, max_length=4, end_id=0, vocab_size=3))
    >>> state = control.advance(state, tf.constant([1]))  # the start token
    >>> control.apply(tf.zeros([1, 3]), state).numpy().tolist()
    [[-inf, 0.0, 0.0]]
    """
    known, mask = static(mask), tf.convert_to_tensor(mask, tf.bool)
    shape = tuple(mask.shape)
    name = f"allowed_at({'x'.join(str(size) for size in shape)} mask)"
    if len(shape) not in (2, 3) or shape[-2] == 0:
        raise ValueError(f"allowed_at needs a mask [T, V] or [B, T, V]. Received: shape {shape}")
    facts = {} if shape[-2] is None else {"longest": shape[-2] + 1}
    if known is not None:
        ever = known.reshape(-1, shape[-1]).any(0)
        facts["banned"] = frozenset(np.flatnonzero(~ever).tolist())
    steps = tf.shape(mask)[-2]

    def demand_all(size: int | None) -> None:
        if None not in (shape[-1], size) and shape[-1] != size:
            raise ValueError(
                f"{name} must say something of each of the V = {size} tokens. "
                f"Received: shape {shape}"
            )

    def init(search: Search) -> _Masked:
        demand_all(search.vocab_size)
        sources = 0
        if len(shape) == 3:
            sources = tf.range(search.batch_size if shape[0] is None else shape[0])
        return _Masked(
            fill(search, -1), fill(search, search.end_id), per_row(sources, search, name)
        )

    def apply(log_probs: tf.Tensor, state: _Masked) -> tf.Tensor:
        demand_all(log_probs.shape[-1])
        place = tf.clip_by_value(state.at, 0, steps - 1)
        if len(shape) == 2:
            allowed = tf.gather(mask, place)
        else:
            allowed = tf.gather_nd(mask, tf.stack([state.source, place], 1))
        beyond = (state.at >= steps)[:, None]
        end = is_end(log_probs, state.end)[None]
        return keep(log_probs, tf.where(beyond, end, allowed))

    def advance(state: _Masked, tokens: tf.Tensor) -> _Masked:
        return state._replace(at=state.at + 1)

    return Control(init, apply, advance, name, ends_by=lambda search: steps + 1, **facts)


class _Masked(NamedTuple):
    at: tf.Tensor  # [N] int32
    end: tf.Tensor  # [N] int32
    source: tf.Tensor  # [N] int32: the mask itself stays where it is, and follows no hypothesis
