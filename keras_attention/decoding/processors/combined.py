"""Combine several processors: their order, and facts that one needs of the others."""

import functools
import itertools
from typing import Any

import numpy as np
import tensorflow as tf

from keras_attention.backend.keras import no_autograph
from keras_attention.decoding.processors._settings import static_value
from keras_attention.decoding.processors.contradictions import check, flat
from keras_attention.decoding.processors.logits_processor import LogitsProcessor, SearchInfo
from keras_attention.decoding.processors.needed import merge_needed


@no_autograph
def combine(*processors: LogitsProcessor) -> LogitsProcessor:
    """Apply several processors one after the other.

    They act in the order of Hugging Face's `generate`, whatever the order of the arguments:

    1. changes of single scores: `sequence_bias`, `encoder_repetition_penalty`,
       `repetition_penalty`, `exponential_decay_length_penalty`;
    2. rules about single tokens, and `temperature`, in the given order. Draws are the same in
       either order, but a temperature raises the scores of the remaining tokens by the mass of
       those forbidden before it;
    3. truncation of the remaining tokens, at least one of which is kept: `top_k`, `top_p`,
       `min_p`, `typical`, `epsilon_cutoff`, `eta_cutoff`, then user-defined ones in the given
       order.

    Several `must_contain` become one, which takes into account the tokens that the others force and
    ban. Apart from that, processors do not see each other: if together they forbid all tokens,
    the search ends that hypothesis.

    Raises ValueError for processors that contradict each other (see `check`), and for one with an
    attribute that is not a function; in `init` if one bans the end token and another requires it;
    and, naming the processor, for a state without N = B*K rows, and for an `apply` or `advance`
    that returns another shape than it receives.

    >>> from keras_attention.seq2seq import ban, top_k
    >>> processor = combine(top_k(1), ban([1]))
    >>> processor.apply(tf.constant([[-2.0, -0.5, -1.5]]), ((), ())).numpy().tolist()
    [[-inf, -inf, -1.5]]
    >>> processor.name
    'ban([1]) + top_k(1)'
    """
    given = _in_order(flat(processors))
    for part in given:
        _check_functions(part)
    check(given)
    parts = merge_needed(given)

    def ends_by(search: SearchInfo) -> Any:
        limits = [search.ends_by, *(part.ends_by(search) for part in parts if part.ends_by)]
        limits = [tf.cast(limit, tf.int32) for limit in limits if limit is not None]
        return functools.reduce(tf.minimum, limits) if limits else None

    def init(search: SearchInfo) -> tuple:
        _check_end_token(given, search)
        search = search._replace(ends_by=ends_by(search))
        state = tuple(part.init(search) for part in parts)
        for part, part_state in zip(parts, state):
            _check_rows(part, part_state, search)
        return state

    def apply(log_probs: tf.Tensor, state: tuple) -> tf.Tensor:
        for part, part_state in zip(parts, state):
            changed = part.apply(log_probs, part_state)
            _check_log_probs(part, changed, log_probs)
            log_probs = changed
        return log_probs

    def advance(state: tuple, tokens: tf.Tensor) -> tuple:
        following = tuple(part.advance(s, tokens) for part, s in zip(parts, state))
        for part, before, after in zip(parts, state, following):
            _check_same_shapes(part, before, after)
        return following

    name = " + ".join(part.name for part in given) or "combine()"
    raises = any(part.raises_scores for part in given)
    return LogitsProcessor(
        init, apply, advance, name, ends_by=ends_by, parts=given, raises_scores=raises
    )


def _in_order(parts: tuple) -> tuple:
    """Processors of scope "score" first, those of "tail" last; the others in the given order."""

    def rank(part: LogitsProcessor) -> tuple:
        if part.scope in ("score", "tail"):
            return {"score": 0, "tail": 2}[part.scope], part.order
        return 1, 0

    return tuple(sorted(parts, key=rank))


def _check_functions(part: LogitsProcessor) -> None:
    for field in ("init", "apply", "advance"):
        if not callable(getattr(part, field)):
            raise ValueError(
                f"LogitsProcessor {part.name}: {field} must be a function. Without a state use "
                "init=lambda info: () and advance=lambda state, tokens: (). "
                f"Received: {field}={getattr(part, field)!r}"
            )


def _check_rows(part: LogitsProcessor, state: Any, search: SearchInfo) -> None:
    """ValueError for a state whose static shape is not [N, ...]; scalars are for all rows."""
    batch = static_value(search.batch_size)
    if batch is None:
        return
    rows = int(batch) * search.beam_width
    for shape in map(_static_shape, tf.nest.flatten(state)):
        if shape.rank and shape[0] not in (None, rows):
            raise ValueError(
                f"LogitsProcessor {part.name}: its state must have N = B*K = {rows} rows (B = "
                f"{int(batch)}, K = {search.beam_width}). Received: init returned shape "
                f"{tuple(shape)}. Use info.batch_size * info.beam_width rows."
            )


def _check_same_shapes(part: LogitsProcessor, before: Any, after: Any) -> None:
    try:
        tf.nest.assert_same_structure(before, after, check_types=False)
        shapes = (map(_static_shape, tf.nest.flatten(state)) for state in (before, after))
        same = all(old.is_compatible_with(new) for old, new in zip(*shapes))
    except (TypeError, ValueError):
        same = False
    if not same:
        expected, found = (tf.nest.map_structure(_static_shape, x) for x in (before, after))
        raise ValueError(
            f"LogitsProcessor {part.name}: advance must return a state with the structure and "
            f"shapes of the state that it receives, {expected}. Received: {found}"
        )


def _check_log_probs(part: LogitsProcessor, changed: Any, log_probs: Any) -> None:
    expected = _static_shape(log_probs)
    if not hasattr(changed, "shape") or not _static_shape(changed).is_compatible_with(expected):
        found = f"shape {tuple(changed.shape)}" if hasattr(changed, "shape") else repr(changed)
        raise ValueError(
            f"LogitsProcessor {part.name}: apply must return log p [N, V] = {tuple(expected)}, "
            f"the shape that it receives. Received: {found}"
        )


def _static_shape(leaf: Any) -> tf.TensorShape:
    """The static shape of a tensor or a number; that of a TensorArray counts as unknown."""
    if isinstance(leaf, tf.TensorArray):
        return tf.TensorShape(None)
    return tf.TensorShape(leaf.shape if hasattr(leaf, "shape") else np.shape(leaf))


def _check_end_token(parts: tuple, search: SearchInfo) -> None:
    """Raise ValueError if a processor needs an end token that is banned or does not exist."""
    size = search.vocab_size
    if search.end_id < 0 or (size is not None and search.end_id >= size):
        for part in parts:
            if part.ends_by is not None and part.ends_by(search) is not None:
                raise ValueError(
                    f"{part.name} needs an end token inside of the model's vocabulary. "
                    f"Received: end_id={search.end_id}, vocab_size={size}"
                )
    for one, other in itertools.product(parts, parts):
        ends = other.ends_by is not None and other.ends_by(search) is not None
        if ends and one.ends_by is None and (search.end_id,) in one.banned:
            raise ValueError(
                f"{other.name} requires the end token, but {one.name} bans it: no answer satisfies "
                f"both. Received: end_id={search.end_id}"
            )
