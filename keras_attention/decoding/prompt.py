"""The prompt of a language model: the beginning of its answers, given by the source."""

from typing import Any

import numpy as np
import tensorflow as tf

from keras_attention.decoding.processors import LogitsProcessor, SearchInfo
from keras_attention.decoding.processors._log_probs import force_token
from keras_attention.decoding.processors._rows import Progress, gather_at, padded
from keras_attention.decoding.processors._settings import describe_value, static_value
from keras_attention.functional import as_ids


def prompt_of(model: Any, source: Any, max_length: Any) -> tf.Tensor | None:
    """The checked prompt of each source, ids [B, P] with -1 for its padding; None without one."""
    if not hasattr(model, "prompt"):
        return None
    size = getattr(model, "target_vocab_size", None)
    return as_prompt(model.prompt(source), model.pad_id, max_length, "prompt", vocab_size=size)


def after_prompt(processor: LogitsProcessor | None) -> LogitsProcessor:
    """Force the tokens of the prompt, and apply the processor to the tokens after it.

    The processor receives the prompt's tokens, so lengths, positions and repetitions count from the
    first of them. An end token inside of the prompt does not end it.
    """

    def init(search: SearchInfo) -> Progress:
        rest = () if processor is None else processor.init(search)
        return Progress.first(search, (padded(search.prompt, search, "the prompt"), rest))

    def given(state: Progress) -> tf.Tensor:
        """[N], -1: the prompt is over."""
        return gather_at(state.extra[0], state.length)

    def apply(log_probs: tf.Tensor, state: Progress) -> tf.Tensor:
        token, rest = given(state), state.extra[1]
        free = log_probs if processor is None else processor.apply(log_probs, rest)
        return tf.where((token >= 0)[:, None], force_token(log_probs, token), free)

    def advance(state: Progress, tokens: tf.Tensor) -> Progress:
        rows, rest = state.extra
        rest = () if processor is None else processor.advance(rest, tokens)
        return state.step(tokens)._replace(extra=(rows, rest))

    return LogitsProcessor(
        init,
        apply,
        advance,
        name="the prompt",
        in_prompt=lambda state: given(state) >= 0,
        raises_scores=processor is not None and processor.raises_scores,
    )


def as_prompt(
    ids: Any,
    pad_id: int,
    max_length: Any,
    name: str,
    left: int = 0,
    vocab_size: int | None = None,
) -> tf.Tensor:
    """Beginnings of answers, ids [B, P], as int32 with -1 for their padding.

    ValueError for static ids, and InvalidArgumentError when a graph runs: for padding before a
    token, an id that is not in 0..V-1, or a row of more than `max_length - left` tokens.
    """
    ids = as_ids(ids, f"A {name}", "B P", pad_id)
    known, limit = static_value(ids), static_value(max_length)
    checks = []
    if known is not None:
        for wrong, rule in _broken(known, pad_id, name, left, vocab_size, limit):
            if np.any(wrong):
                row = int(np.argwhere(wrong)[0, 0])
                ids_shown = describe_value(known[row])
                raise ValueError(f"{rule} Received: row {row} is {ids_shown}, max_length={limit}")
    if known is None or limit is None:
        for wrong, rule in _broken(ids, pad_id, name, left, vocab_size, max_length):
            found = [f"{rule} Received:", ids, "max_length", max_length]
            checks.append(tf.debugging.Assert(~tf.reduce_any(wrong), found))
    with tf.control_dependencies([check for check in checks if check is not None]):
        return tf.where(ids == pad_id, -1, tf.cast(ids, tf.int32))


def _broken(ids, pad_id, name, left, vocab_size, limit):
    """[B, P] of NumPy or TensorFlow -> (where a rule is broken, the rule) of each rule."""
    real = ids != pad_id
    yield (
        real[:, 1:] & ~real[:, :-1],
        f"{name} must be padded on the right: a row has the pad id {pad_id} before a token "
        "(Hugging Face pads decoder-only prompts on the left).",
    )
    yield real & (ids < 0), f"The ids of {name} must not be negative."
    if vocab_size is not None:
        wanted = f"below the size of the vocabulary, V = {vocab_size}"
        yield real & (ids >= vocab_size), f"{name} needs ids {wanted}."
    if limit is not None:
        more = f" plus {left}" if left else ""
        rule = f"max_length must be >= the {name} length{more}: it includes the {name}."
        yield real[:, limit - left :], rule
