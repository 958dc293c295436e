"""Logits processors that read the source: its real tokens, without padding and the end token.

Source and target need one vocabulary. The source of a language model is its prompt.
"""

from typing import Any

import numpy as np
import tensorflow as tf

from keras_attention.backend.keras import no_autograph
from keras_attention.decoding.processors._log_probs import keep_allowed, penalized, selected_ids
from keras_attention.decoding.processors._rows import Progress, per_hypothesis, per_row
from keras_attention.decoding.processors._settings import check_number, describe_call
from keras_attention.decoding.processors.logits_processor import LogitsProcessor, SearchInfo


@no_autograph
def encoder_no_repeat_ngram(n: int) -> LogitsProcessor:
    """Forbid n-grams that occur in the source.

    As `encoder_no_repeat_ngram_size` of Hugging Face's `generate`, which also counts the end token
    and the padding of the source. With n = 1 no token of the source is generated.

    Raises ValueError unless n is a whole number >= 1, and in `init` if the source is not one tensor
    of ids [B, S].

    >>> processor = encoder_no_repeat_ngram(2)
    >>> search = SearchInfo(1, 1, 4, end_id=0, vocab_size=4, source=tf.constant([[1, 2, 3]]))
    >>> state = processor.init(search)
    >>> for token in (1, 2):  # the start token, and one of the answer
    ...     state = processor.advance(state, tf.constant([token]))
    >>> processor.apply(tf.zeros([1, 4]), state).numpy().tolist()
    [[0.0, 0.0, 0.0, -inf]]
    """
    rule = "encoder_no_repeat_ngram needs one whole number >= 1."
    known = check_number(n, lambda n: (n >= 1) & (n == np.floor(n)), rule)
    n = int(n if known is None else known)
    name = describe_call("encoder_no_repeat_ngram", n)

    def init(search: SearchInfo) -> Progress:
        nothing = tf.repeat(
            per_hypothesis(search, -2)[:, None], n - 1, axis=1
        )  # no token of a source
        return Progress.first(search, (_source(search, name), nothing))

    def apply(log_probs: tf.Tensor, state: Progress) -> tf.Tensor:
        source, recent = state.extra
        repeats = tf.ones_like(source, tf.bool)  # [N, S]: the n - 1 previous tokens match
        for back in range(1, n):
            before = tf.pad(source, [[0, 0], [back, 0]], constant_values=-1)
            repeats &= before[:, : tf.shape(source)[1]] == recent[:, n - 1 - back, None]
        return keep_allowed(log_probs, ~_mark_source(log_probs, source, repeats))

    def advance(state: Progress, tokens: tf.Tensor) -> Progress:
        source, recent = state.extra
        token = tf.where(state.length < 0, -2, tokens)  # the start token is not part of the answer
        recent = tf.concat([recent, token[:, None]], 1)[:, 1:]
        return state.step(tokens)._replace(extra=(source, recent))

    return LogitsProcessor(init, apply, advance, name)


@no_autograph
def encoder_repetition_penalty(w: Any) -> LogitsProcessor:
    """Divide log p of the tokens in the source by w: w > 1 makes them more likely.

    As `encoder_repetition_penalty` of Hugging Face's `generate`, which also counts the end token of
    the source: it keeps an answer close to its source. w is a number or a scalar. It acts before
    `repetition_penalty`. Raises ValueError unless w is finite and above 0, and in `init` if the
    source is not one tensor of ids [B, S].

    >>> processor = encoder_repetition_penalty(2.0)
    >>> search = SearchInfo(1, 1, 4, end_id=0, vocab_size=3, source=tf.constant([[2, -1]]))
    >>> processor.apply(tf.constant([[-1.0, -1.0, -1.0]]), processor.init(search)).numpy().tolist()
    [[-1.0, -1.0, -0.5]]
    """
    check_number(w, lambda w: w > 0, "encoder_repetition_penalty needs one number w > 0.")
    name = describe_call("encoder_repetition_penalty", w)

    def apply(log_probs: tf.Tensor, source: tf.Tensor) -> tf.Tensor:
        there = _mark_source(log_probs, source, tf.ones_like(source, tf.bool))
        return tf.where(there, penalized(log_probs, 1 / tf.cast(w, log_probs.dtype)), log_probs)

    return LogitsProcessor(
        lambda search: _source(search, name),
        apply,
        lambda source, tokens: source,
        name,
        scope="score",
        order=1,
    )


def _source(search: SearchInfo, name: str) -> tf.Tensor:
    """The source ids [N, S] int32, -1 for padding and the end token."""
    if search.source is None:
        raise ValueError(
            f"{name} needs sources that are one tensor of ids [B, S]. Received: source=None in the "
            "SearchInfo, as of a model with other sources"
        )
    return per_row(search.source, search, name)


def _mark_source(log_probs: tf.Tensor, source: tf.Tensor, which: tf.Tensor) -> tf.Tensor:
    """Mark the source tokens at the selected steps.  [N, V], [N, S], [N, S] bool -> [N, V]."""
    size = tf.shape(log_probs)[1]
    which &= (source >= 0) & (source < size)
    return selected_ids(log_probs, tf.clip_by_value(source, 0, size - 1), which)
