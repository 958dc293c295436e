"""What a processor is, and what it is told."""

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf


class SearchInfo(NamedTuple):
    """What a processor is told before a search begins."""

    batch_size: Any  # B, a number or a scalar
    beam_width: int  # K
    max_length: Any  # the longest answer in tokens, the end token counted: a number or a scalar
    end_id: int
    vocab_size: int | None  # V, where known
    source_lengths: Any = None  # [B] int32: real tokens of each source without its end token
    ends_by: Any = None  # a number or [B]: what the processors together allow an answer to have
    # ids [B, P] int32, -1 on the right of the shorter: how a language model's answers begin, see
    # `Model`
    prompt: Any = None
    source: Any = None  # ids [B, S] int32, -1 for padding and the end token; None: not of ids


class LogitsProcessor(NamedTuple):
    """What a search may say next: three functions and what is known of their answers.

    N = B*K rows, the hypotheses of a source side by side. The state is a nest of tensors [N, ...]
    which follows the hypotheses like the state of a cell. `advance` is told every token that enters
    the model, so the start token first: what counts tokens begins at -1. Rows that have ended are
    fed the end token, and what becomes of them does not matter. What `apply` returns is at most 0,
    as a log p is: a beam search relies on that when it stops early, unless `raises_scores` is True.

    `combine` puts what changes scores first and what cuts off a tail last, and tells what must be
    said of what is banned and forced. Else a fact is only used to refuse what contradicts it before
    a search begins (`check`). Those about lengths count the end token, and may be arrays [B].
    """

    init: Callable[[SearchInfo], Any]  # -> state
    apply: Callable[[tf.Tensor, Any], tf.Tensor]  # log p [N, V], state -> log p, -inf: forbidden
    advance: Callable[[Any, tf.Tensor], Any]  # state, tokens [N] int32 -> state
    name: str = "processor"  # as a caller wrote it
    # "token": each by itself; "score": so, and before all others; "all": it normalises; "tail":
    # cuts off the tail of what all others leave
    scope: str = "token"
    shortest: Any = None  # the fewest tokens that an answer can have
    longest: Any = None  # the most
    cut_off: Any = None  # the fewest tokens of an answer without an end, if fewer than `shortest`
    ends_by: Callable[[SearchInfo], Any] | None = None  # `longest` where the search must tell it
    banned: frozenset = frozenset()  # phrases that can never be said
    no_repeat_ngram: int | None = None  # so many tokens in a row are never said twice
    needed: tuple = ()  # phrases that must be said
    forced: Any = None  # what must be said where: ids [P] or [B, P], -1: anything
    forbids: Callable[[Any], Any] | None = None  # such ids -> [., P] bool: those it does not allow
    parts: tuple = ()  # what it was combined of
    # state -> [N] bool: rows whose next token belongs to a given beginning, which nothing ends
    in_prompt: Callable[[Any], tf.Tensor] | None = None
    # among those of scope "score" or "tail": the lower acts first, user-defined ones last
    order: int = 9
    raises_scores: bool = False  # `apply` may return more than 0: no beam search stops early
