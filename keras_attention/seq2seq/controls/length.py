"""Controls of how long an answer is, the end token counted."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_attention.seq2seq._keras import no_autograph
from keras_attention.seq2seq.controls._rows import (
    called,
    demand,
    fact,
    fill,
    is_end,
    keep,
    per_row,
    static,
    strike,
)
from keras_attention.seq2seq.controls.control import Control, Search


@no_autograph
def length_between(minimum: Any = 0, maximum: Any = None) -> Control:
    """Answers of at least `minimum` and at most `maximum` tokens, the end token counted.

    Each is a number, a scalar or [B], one for each source; no maximum: None. At the last token
    allowed the end token alone is left, so an answer is ended, and not cut off.

    Raises ValueError for a minimum below 0, a maximum below 1, or a minimum above the maximum.

    >>> control = length_between(minimum=2, maximum=2)
    >>> state = control.init(Search(1, 1, max_length=9, end_id=0, vocab_size=2))
    >>> state = control.advance(state, tf.constant([1]))  # the start token
    >>> control.apply(tf.zeros([1, 2]), state).numpy().tolist()
    [[-inf, 0.0]]
    >>> control.apply(tf.zeros([1, 2]), control.advance(state, tf.constant([1]))).numpy().tolist()
    [[0.0, -inf]]
    """
    least = demand(minimum, lambda x: x >= 0, "length_between needs a minimum of at least 0.")
    most = None
    if maximum is not None:
        most = demand(maximum, lambda x: x >= 1, "length_between needs a maximum of at least 1.")
    if least is not None and not np.any(least):
        minimum = None
    settings = {"minimum": minimum, "maximum": maximum}
    name = called("length_between", **{k: v for k, v in settings.items() if v is not None})
    if least is not None and most is not None and np.any(least > most):
        raise ValueError(
            f"{name} has a minimum above its maximum. Received: {least.tolist()} > {most.tolist()}"
        )
    return _between(
        lambda search: (minimum, maximum),
        name=name,
        shortest=None if minimum is None else fact(least),
        longest=fact(most),
    )


@no_autograph
def relative_length(low: float, high: float, extra: Any = 0) -> Control:
    """Answers of `low` to `high` times the tokens of their source, and `extra` more at most.

    With L tokens in a source: ceil(low L) <= tokens of the answer <= floor(high L + extra), the end
    tokens of both not counted. Where no whole number lies between, it is ceil(low L).

    Raises ValueError unless 0 <= low <= high and extra >= 0, and in `init` if the search cannot
    tell how long the sources are.

    >>> control = relative_length(0.5, 1.0)
    >>> control.ends_by(Search(2, 1, 9, 0, 5, source_lengths=[4, 2])).numpy().tolist()
    [5, 3]
    """
    name = called("relative_length", low, high, **({"extra": extra} if np.any(extra) else {}))
    low_known = demand(low, lambda x: x >= 0, f"{name} needs low >= 0.")
    demand(extra, lambda x: x >= 0, f"{name} needs extra >= 0.")
    if low_known is not None:
        demand(high, lambda x: x >= low_known, f"{name} needs high >= low.")

    def limits(search: Search) -> tuple[tf.Tensor, tf.Tensor]:
        if search.source_lengths is None:
            raise ValueError(
                f"{name} must know how long the sources are: let the model tell, or use "
                "length_between. Received: source_lengths=None"
            )
        source = tf.cast(search.source_lengths, tf.float32)
        slack = 1e-4  # what a product that should be whole may be off
        least = tf.math.ceil(tf.cast(low, tf.float32) * source - slack)
        most = tf.floor(tf.cast(high, tf.float32) * source + tf.cast(extra, tf.float32) + slack)
        return tf.cast(least, tf.int32) + 1, tf.cast(tf.maximum(least, most), tf.int32) + 1

    return _between(limits, name=name)


class _Length(NamedTuple):
    at: tf.Tensor  # [N] int32: how many tokens the answer has, -1 before the start token
    end: tf.Tensor  # [N] int32
    shortest: Any  # [N] int32, or () if there is no such limit
    longest: Any


def _between(limits: Callable[[Search], tuple], name: str, **facts: Any) -> Control:
    """A control from what a search says of the limits, either of which may be None."""

    def init(search: Search) -> _Length:
        rows = (() if x is None else per_row(x, search, name) for x in limits(search))
        return _Length(fill(search, -1), fill(search, search.end_id), *rows)

    def apply(log_probs: tf.Tensor, state: _Length) -> tf.Tensor:
        end, grown = is_end(log_probs, state.end), state.at + 1
        if tf.is_tensor(state.shortest):
            log_probs = strike(log_probs, grown < state.shortest, end)
        if tf.is_tensor(state.longest):
            log_probs = strike(log_probs, grown >= state.longest, ~end)
        return log_probs

    def advance(state: _Length, tokens: tf.Tensor) -> _Length:
        return state._replace(at=state.at + 1)

    return Control(init, apply, advance, name, ends_by=lambda search: limits(search)[1], **facts)


@no_autograph
def exact_length(lengths: Any, end_token: int, token_lengths: Any) -> Control:
    """Answers of exactly the given lengths: [B] of them, one per source.

    `token_lengths` [V] says how much each token adds (for text, how many characters), -1 for
    tokens which may not be used. A token is allowed while it fits; the end token exactly when
    nothing is left. For every length to be reachable, some token must add 1 (ValueError if not).

    >>> control = exact_length([1], end_token=0, token_lengths=[-1, 1, 2])
    >>> state = control.init(Search(1, 1, max_length=9, end_id=0, vocab_size=3))
    >>> control.apply(tf.zeros([1, 3]), state).numpy().tolist()
    [[-inf, 0.0, -inf]]
    >>> control.apply(tf.zeros([1, 3]), control.advance(state, tf.constant([1]))).numpy().tolist()
    [[0.0, -inf, -inf]]
    """
    adds = tf.convert_to_tensor(token_lengths, tf.int32)
    known, asked = static(adds), static(lengths)
    if known is not None and 1 not in known:
        raise ValueError(
            "exact_length needs at least one token that adds 1, or some lengths could never be "
            f"met. Received: token_lengths with values {sorted(set(known.tolist()))}"
        )
    lengths = tf.convert_to_tensor(lengths, tf.int32)
    name = called("exact_length", lengths)
    facts = {}
    if known is not None:
        facts["banned"] = frozenset(np.flatnonzero(known < 1).tolist()) - {end_token}
        if asked is not None:
            facts["shortest"] = fact(-(-asked // known.max()) + 1)
    if asked is not None:
        facts["longest"] = fact(asked + 1)

    def init(search: Search) -> tf.Tensor:
        return per_row(lengths, search, name)

    def apply(log_probs: tf.Tensor, left: tf.Tensor) -> tf.Tensor:
        fits = (adds > 0) & (adds <= left[:, None])  # [N, V]
        ends = tf.range(tf.shape(adds)[0]) == end_token
        return keep(log_probs, tf.where(ends, left[:, None] == 0, fits))

    def advance(left: tf.Tensor, tokens: tf.Tensor) -> tf.Tensor:
        return left - tf.maximum(tf.gather(adds, tokens), 0)

    return Control(init, apply, advance, name, ends_by=lambda search: lengths + 1, **facts)
