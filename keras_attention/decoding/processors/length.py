"""Logits processors that limit the length of an answer, including the end token."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from keras_attention.backend.keras import no_autograph
from keras_attention.decoding.processors._log_probs import keep_allowed, mask_tokens
from keras_attention.decoding.processors._rows import Progress, per_row, prompt_lengths
from keras_attention.decoding.processors._settings import (
    as_number,
    check_all,
    check_lengths,
    check_number,
    check_value,
    describe_call,
)
from keras_attention.decoding.processors.logits_processor import LogitsProcessor, SearchInfo


@no_autograph
def length_between(minimum: Any = 0, maximum: Any = None) -> LogitsProcessor:
    """Allow answers of at least `minimum` and at most `maximum` tokens, including the end token.

    Each limit is a number, a scalar or [B], one for each source; `maximum=None` is no limit. As the
    last allowed token only the end token is possible, so an answer is ended and not cut off. The
    tokens of a prompt count; `min_new_tokens` and `max_new_tokens` count those after it.

    Raises ValueError for a limit that is not a whole number, a minimum below 0 or above the
    maximum, a maximum below 1, and in `init` for a maximum that leaves no room after the prompt.

    >>> processor = length_between(minimum=2, maximum=2)
    >>> state = processor.init(SearchInfo(1, 1, max_length=9, end_id=0, vocab_size=2))
    >>> state = processor.advance(state, tf.constant([1]))  # the start token
    >>> processor.apply(tf.zeros([1, 2]), state).numpy().tolist()
    [[-inf, 0.0]]
    >>> state = processor.advance(state, tf.constant([1]))
    >>> processor.apply(tf.zeros([1, 2]), state).numpy().tolist()
    [[0.0, -inf]]
    """
    wanted = "length_between needs whole numbers as its"
    least, most = check_lengths(minimum, 0, f"{wanted} minimum, at least 0"), None
    if maximum is not None:
        most = check_lengths(maximum, 1, f"{wanted} maximum, at least 1")
    if least is not None and not np.any(least):
        minimum = None
    settings = {"minimum": minimum, "maximum": maximum}
    name = describe_call("length_between", **{k: v for k, v in settings.items() if v is not None})
    if least is not None and most is not None and np.any(least > most):
        raise ValueError(
            f"{name} has a minimum above its maximum. Received: {least.tolist()} > {most.tolist()}"
        )
    return _between(
        lambda search: (minimum, maximum),
        name=name,
        shortest=None if minimum is None else as_number(least),
        longest=as_number(most),
    )


@no_autograph
def relative_length(low: float, high: float, extra: Any = 0) -> LogitsProcessor:
    """Allow answers of `low` to `high` times the tokens of their source, plus at most `extra`.

    For a source of L tokens: ceil(low L) <= tokens of the answer <= floor(high L + extra), both
    without their end tokens. If no whole number lies between, the length is ceil(low L).

    Raises ValueError unless 0 <= low <= high and extra >= 0, all finite, and in `init` if the
    lengths of the sources are unknown.

    >>> processor = relative_length(0.5, 1.0)
    >>> processor.ends_by(SearchInfo(2, 1, 9, 0, 5, source_lengths=[4, 2])).numpy().tolist()
    [5, 3]
    """
    name = describe_call(
        "relative_length", low, high, **({"extra": extra} if np.any(extra) else {})
    )
    low_known = check_value(low, lambda x: (x >= 0) & np.isfinite(x), f"{name} needs low >= 0.")
    check_value(extra, lambda x: (x >= 0) & np.isfinite(x), f"{name} needs extra >= 0.")
    if low_known is not None:
        check_value(high, lambda x: (x >= low_known) & np.isfinite(x), f"{name} needs high >= low.")

    def limits(search: SearchInfo) -> tuple[tf.Tensor, tf.Tensor]:
        if search.source_lengths is None:
            raise ValueError(
                f"{name} needs the lengths of the sources: use a model whose source is ids [B, S], "
                "or use length_between. Received: source_lengths=None"
            )
        source = tf.cast(search.source_lengths, tf.float32)
        slack = 1e-4  # tolerance for rounding errors of a product that should be whole
        least = tf.math.ceil(tf.cast(low, tf.float32) * source - slack)
        most = tf.floor(tf.cast(high, tf.float32) * source + tf.cast(extra, tf.float32) + slack)
        return tf.cast(least, tf.int32) + 1, tf.cast(tf.maximum(least, most), tf.int32) + 1

    return _between(limits, name=name)


@no_autograph
def min_new_tokens(n: Any) -> LogitsProcessor:
    """At least `n` tokens after the prompt, and then the end token.

    As `min_new_tokens` of Hugging Face's `generate`. `n` is a number, a scalar or [B]. Of a model
    without prompts all tokens are new. Raises ValueError unless n is a whole number >= 0.

    >>> processor = min_new_tokens(1)
    >>> search = SearchInfo(1, 1, max_length=9, end_id=0, vocab_size=2, prompt=tf.constant([[1]]))
    >>> state = processor.init(search)
    >>> for token in (1, 1):  # the start token, and the prompt
    ...     state = processor.advance(state, tf.constant([token]))
    >>> processor.apply(tf.zeros([1, 2]), state).numpy().tolist()
    [[-inf, 0.0]]
    """
    known = check_lengths(n, 0, "min_new_tokens needs a whole number, at least 0")

    def limits(search: SearchInfo) -> tuple:
        return prompt_lengths(search) + tf.cast(n, tf.int32) + 1, None

    shortest = None if known is None else as_number(known + 1)
    return _between(limits, name=describe_call("min_new_tokens", n), shortest=shortest)


@no_autograph
def max_new_tokens(n: Any) -> LogitsProcessor:
    """At most `n` tokens after the prompt, the end token counted.

    Unlike Hugging Face, the last allowed token must be the end token: an answer is not cut off. `n`
    is a number, a scalar or [B]. Of a model without
    prompts all tokens are new. Raises ValueError unless n is a whole number >= 1.

    >>> processor = max_new_tokens(1)
    >>> search = SearchInfo(1, 1, max_length=9, end_id=0, vocab_size=2, prompt=tf.constant([[1]]))
    >>> state = processor.init(search)
    >>> for token in (1, 1):  # the start token, and the prompt
    ...     state = processor.advance(state, tf.constant([token]))
    >>> processor.apply(tf.zeros([1, 2]), state).numpy().tolist()
    [[0.0, -inf]]
    """
    check_lengths(n, 1, "max_new_tokens needs a whole number, at least 1")

    def limits(search: SearchInfo) -> tuple:
        return None, prompt_lengths(search) + tf.cast(n, tf.int32)

    return _between(limits, name=describe_call("max_new_tokens", n))


def _between(limits: Callable[[SearchInfo], tuple], name: str, **facts: Any) -> LogitsProcessor:
    """A processor from the limits of a search, either of which may be None."""

    def init(search: SearchInfo) -> Progress:
        least, most = limits(search)
        checks = []
        if search.prompt is not None and most is not None:
            taken = prompt_lengths(search)
            rule = f"{name} must leave room for an end token after the prompt, which counts."
            checks += check_all(tf.cast(most, tf.int32) > taken, rule, most, taken)
        if search.ends_by is not None and least is not None:
            rule = (
                f"{name} needs more tokens than other processors allow: no answer satisfies both."
            )
            allowed = tf.cast(search.ends_by, tf.int32)
            checks += check_all(tf.cast(least, tf.int32) <= allowed, rule, least, search.ends_by)
        with tf.control_dependencies(checks):
            rows = (() if x is None else per_row(x, search, name) for x in (least, most))
            return Progress.first(search, tuple(rows))

    def apply(log_probs: tf.Tensor, state: Progress) -> tf.Tensor:
        (shortest, longest), end = state.extra, state.is_end(log_probs)
        if tf.is_tensor(shortest):
            log_probs = mask_tokens(log_probs, state.length + 1 < shortest, end)
        if tf.is_tensor(longest):
            log_probs = mask_tokens(log_probs, state.length + 1 >= longest, ~end)
        return log_probs

    return LogitsProcessor(
        init, apply, Progress.step, name, ends_by=lambda search: limits(search)[1], **facts
    )


@no_autograph
def exponential_decay_length_penalty(start: Any, factor: Any) -> LogitsProcessor:
    """Make the end token more likely with each token after the first `start`.

        log p(end) + |log p(end)| (factor^(t - start) - 1)    after t > start tokens

    As in Hugging Face's `generate`, in log p: a factor above 1 makes answers shorter, below 1
    longer. The tokens of a prompt do not count. Log p is not normalised again: with a factor above
    1 it may exceed 0, and a beam search goes on to `max_length`. The power is limited to 1e30, so
    that no score becomes infinite. Both are numbers or scalars.

    Raises ValueError unless start is a whole number >= 0 and factor is finite and above 0.

    >>> processor = exponential_decay_length_penalty(1, 1.5)
    >>> state = processor.init(SearchInfo(1, 1, max_length=9, end_id=0, vocab_size=2))
    >>> for token in (1, 1, 1):  # the start token, and two of the answer
    ...     state = processor.advance(state, tf.constant([token]))
    >>> processor.apply(tf.constant([[-4.0, -1.0]]), state).numpy().tolist()
    [[-2.0, -1.0]]
    """
    name = describe_call("exponential_decay_length_penalty", start, factor)
    rule = f"{name} needs a whole number start >= 0."
    check_number(start, lambda x: (x >= 0) & (x == np.floor(x)), rule)
    known = check_number(factor, lambda x: x > 0, f"{name} needs a finite factor > 0.")

    def init(search: SearchInfo) -> Progress:
        first = tf.cast(start, tf.int32) + prompt_lengths(search)
        return Progress.first(search, per_row(first, search, name))

    def apply(log_probs: tf.Tensor, state: Progress) -> tf.Tensor:
        beyond = tf.cast(tf.maximum(state.length - state.extra, 0), log_probs.dtype)[:, None]
        power = tf.minimum(tf.pow(tf.cast(factor, log_probs.dtype), beyond), 1e30)
        there = state.is_end(log_probs)[None] & (log_probs > -float("inf"))
        raised = log_probs + tf.abs(log_probs) * (power - 1)
        return tf.where(there, raised, log_probs)

    raises = known is None or bool(known > 1)
    return LogitsProcessor(
        init, apply, Progress.step, name, scope="score", order=3, raises_scores=raises
    )


@no_autograph
def exact_length(lengths: Any, end_token: int, token_lengths: Any) -> LogitsProcessor:
    """Answers of exactly the given lengths: [B] of them, one per source.

    `token_lengths` [V] is the length of each token (for text, its number of characters), -1 for
    tokens which may not be used. A token is allowed while it fits; the end token exactly when
    nothing is left.

    Raises ValueError for lengths that are no whole numbers, or below 0; for token_lengths which are
    not [V], or none of which is 1, for then some lengths could never be met; and in `init` if the
    search ends with another token, or has another vocabulary.

    >>> processor = exact_length([1], end_token=0, token_lengths=[-1, 1, 2])
    >>> state = processor.init(SearchInfo(1, 1, max_length=9, end_id=0, vocab_size=3))
    >>> state = processor.advance(state, tf.constant([1]))  # the start token
    >>> processor.apply(tf.zeros([1, 3]), state).numpy().tolist()
    [[-inf, 0.0, -inf]]
    >>> state = processor.advance(state, tf.constant([1]))
    >>> processor.apply(tf.zeros([1, 3]), state).numpy().tolist()
    [[0.0, -inf, -inf]]
    """
    exact = check_lengths(lengths, 0, "exact_length needs whole numbers as lengths, at least 0")
    adds = tf.convert_to_tensor(token_lengths, tf.int32)
    if adds.shape.rank not in (1, None):
        raise ValueError(
            "exact_length needs token_lengths [V], one for each token. "
            f"Received: token_lengths of shape {tuple(adds.shape)}"
        )
    known = check_value(
        adds,
        lambda adds: 1 in adds,
        "exact_length needs at least one token that adds 1, or some lengths could never be met.",
    )
    name = describe_call("exact_length", lengths)
    lengths = tf.cast(lengths, tf.int32)
    facts = {}
    if known is not None:
        unusable = np.flatnonzero(known < 1).tolist()
        facts["banned"] = frozenset((token,) for token in unusable if token != end_token)
        if exact is not None:
            facts["shortest"] = as_number(-(-exact // known.max()) + 1)
    if exact is not None:
        facts["longest"] = as_number(exact + 1)

    def check_vocab_size(size: int | None) -> None:
        if None not in (adds.shape[0], size) and adds.shape[0] != size:
            raise ValueError(
                f"{name}: token_lengths must have V = {size} entries, one for each token. "
                f"Received: {adds.shape[0]} entries"
            )

    def init(search: SearchInfo) -> Progress:
        check_vocab_size(search.vocab_size)
        if search.end_id != end_token:
            raise ValueError(
                f"{name}: end_token must equal model.end_id = {search.end_id}. "
                f"Received: end_token={end_token}"
            )
        return Progress.first(search, per_row(lengths, search, name))

    def apply(log_probs: tf.Tensor, state: Progress) -> tf.Tensor:
        check_vocab_size(log_probs.shape[-1])
        left = state.extra[:, None]
        fits = (adds > 0) & (adds <= left)  # [N, V]
        return keep_allowed(log_probs, tf.where(state.is_end(log_probs), left == 0, fits))

    def advance(state: Progress, tokens: tf.Tensor) -> Progress:
        added = tf.maximum(tf.gather(adds, tokens), 0)
        added = tf.where(state.length < 0, 0, added)  # the start token is no part of the answer
        return state.step(tokens)._replace(extra=state.extra - added)

    return LogitsProcessor(init, apply, advance, name, ends_by=lambda search: lengths + 1, **facts)
