"""Several controls as one: in which order they act, and what they tell each other."""

import functools
import itertools
from typing import Any

import tensorflow as tf

from keras_attention.backend.keras import no_autograph
from keras_attention.decoding.processors.contradictions import check, flat
from keras_attention.decoding.processors.control import Control, Search
from keras_attention.decoding.processors.needed import met_together


@no_autograph
def combine(*controls: Control) -> Control:
    """Several controls, one after the other, as one.

    They act in the order of Hugging Face's `generate`, in whatever order they are given:

    1. `repetition_penalty`;
    2. what rules out single tokens, and `temperature`, in the order given: a draw is the same in
       either order, but a temperature raises the scores of what is left by what was ruled out
       before it;
    3. what cuts off a tail, from what is left, so that something is left that may be said: `top_k`,
       `top_p`, `min_p`, `typical`, then those of one's own in the order given.

    Several `must_contain` are one, which makes room in time for what the others force, by ways that
    they do not ban, before they let an answer end. Apart from that none knows of the others: where
    together they leave nothing to say, the search ends that hypothesis.

    Raises ValueError for controls that contradict each other (see `check`), and in `init` where one
    bans the end token and another needs it in time.

    >>> from keras_attention.seq2seq import ban, top_k
    >>> control = combine(top_k(1), ban([1]))
    >>> control.apply(tf.constant([[-2.0, -0.5, -1.5]]), ((), ())).numpy().tolist()
    [[-inf, -inf, -1.5]]
    >>> control.name
    'ban([1]) + top_k(1)'
    """
    given = _in_turn(flat(controls))
    check(given)
    parts = met_together(given)

    def ends_by(search: Search) -> Any:
        limits = [search.ends_by, *(part.ends_by(search) for part in parts if part.ends_by)]
        limits = [tf.cast(limit, tf.int32) for limit in limits if limit is not None]
        return functools.reduce(tf.minimum, limits) if limits else None

    def init(search: Search) -> tuple:
        _demand_an_end(given, search)
        search = search._replace(ends_by=ends_by(search))
        return tuple(part.init(search) for part in parts)

    def apply(log_probs: tf.Tensor, state: tuple) -> tf.Tensor:
        for part, its in zip(parts, state):
            log_probs = part.apply(log_probs, its)
        return log_probs

    def advance(state: tuple, tokens: tf.Tensor) -> tuple:
        return tuple(part.advance(its, tokens) for part, its in zip(parts, state))

    name = " + ".join(part.name for part in given) or "combine()"
    return Control(init, apply, advance, name, ends_by=ends_by, parts=given)


def _in_turn(parts: tuple) -> tuple:
    """Scores first and tails last, each in its turn; else in the order given."""

    def turn(part: Control) -> tuple:
        if part.bears_on == "tail":
            return 2, part.turn
        return {"score": 0}.get(part.bears_on, 1), 0

    return tuple(sorted(parts, key=turn))


def _demand_an_end(parts: tuple, search: Search) -> None:
    """Which token is the end is known in a search only."""
    size = search.vocab_size
    if search.end_id < 0 or (size is not None and search.end_id >= size):
        for part in parts:
            if part.ends_by is not None and part.ends_by(search) is not None:
                raise ValueError(
                    f"{part.name} needs an end token, and that of the model is outside of its "
                    f"vocabulary. Received: end_id={search.end_id}, vocab_size={size}"
                )
    for one, other in itertools.product(parts, parts):
        ends = other.ends_by is not None and other.ends_by(search) is not None
        if ends and one.ends_by is None and (search.end_id,) in one.banned:
            raise ValueError(
                f"{other.name} needs the end token, which {one.name} bans: no answer satisfies "
                f"both. Received: end_id={search.end_id}"
            )
