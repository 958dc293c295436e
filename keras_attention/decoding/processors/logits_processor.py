"""The definition of a logits processor, and the facts about a search that it receives."""

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf


class SearchInfo(NamedTuple):
    """Facts about a search that a processor receives before it begins."""

    batch_size: Any  # B, a number or a scalar
    beam_width: int  # K
    max_length: Any  # maximum tokens of an answer, including the end token: a number or a scalar
    end_id: int
    vocab_size: int | None  # V, where known
    source_lengths: Any = None  # [B] int32: real tokens of each source without its end token
    ends_by: Any = None  # a number or [B]: maximum length that the processors together allow
    # ids [B, P] int32, padded with -1 on the right: the prompt of a language model, see `Model`
    prompt: Any = None
    source: Any = None  # ids [B, S] int32, -1 for padding and the end token; None: not of ids


class LogitsProcessor(NamedTuple):
    """Three functions that change the log p of the next token, and facts about their effect.

    N = B*K rows, the hypotheses of a source side by side. The state is a nest of tensors [N, ...]
    that is reordered with the hypotheses, like the state of a cell. `advance` receives every token
    that enters the model, the start token first: a count of tokens starts at -1. Finished rows
    receive the end token, and their state is ignored. `apply` must return values of at most 0, like
    log p, unless `raises_scores` is True: a beam search relies on this to stop early.

    `combine` applies processors of scope "score" first and those of scope "tail" last, and passes
    the banned and forced tokens to `must_contain`. All other facts serve to find contradictions
    before a search begins (`check`). Lengths include the end token, and may be arrays [B].
    """

    init: Callable[[SearchInfo], Any]  # -> state
    apply: Callable[[tf.Tensor, Any], tf.Tensor]  # log p [N, V], state -> log p, -inf: forbidden
    advance: Callable[[Any, tf.Tensor], Any]  # state, tokens [N] int32 -> state
    name: str = "processor"  # the call that made it, for messages
    # "token": changes tokens independently; "score": the same, but before all others; "all":
    # normalises over all tokens; "tail": truncates what the others leave
    scope: str = "token"
    shortest: Any = None  # minimum length of an answer
    longest: Any = None  # maximum length
    cut_off: Any = None  # minimum length of an answer without an end, if less than `shortest`
    ends_by: Callable[[SearchInfo], Any] | None = None  # `longest`, if it depends on the search
    banned: frozenset = frozenset()  # phrases that never occur
    no_repeat_ngram: int | None = None  # n-grams of this size occur at most once
    needed: tuple = ()  # phrases that must occur
    forced: Any = None  # required tokens by position: ids [P] or [B, P], -1: any token
    forbids: Callable[[Any], Any] | None = None  # such ids -> [., P] bool: which are not allowed
    parts: tuple = ()  # the processors it was combined of
    # state -> [N] bool: rows whose next token belongs to a given prompt, which no token ends
    in_prompt: Callable[[Any], tf.Tensor] | None = None
    # among those of scope "score" or "tail": the lower acts first, user-defined ones last
    order: int = 9
    raises_scores: bool = False  # `apply` may return values above 0: no beam search stops early
