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
    """Three functions: `apply` receives log p [N, V] of the next token and returns it changed.

    `init(info)` returns the state before the first step, `advance(state, tokens)` the next state,
    `apply(log_probs, state)` the changed log p. In each step `advance` is called before `apply`.
    A processor without a state has `init=lambda info: ()` and `advance=lambda state, tokens: ()`.

    N = B*K rows, the hypotheses of a source side by side. The state is a nest of tensors [N, ...]
    that is reordered with the hypotheses, like the state of a cell: `init` returns
    N = info.batch_size * info.beam_width rows, and `advance` the same shapes. `advance` receives
    every token that enters the model, the start token first: a count of tokens starts at -1.
    Finished rows receive the end token, and their state is ignored. `apply` must return values of
    at most 0, like log p, unless `raises_scores` is True: a beam search relies on this to stop
    early.

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
    # facts about the effect, used to find contradictions before a search
    shortest: Any = None  # minimum length of an answer
    longest: Any = None  # maximum length
    cut_off: Any = None  # minimum length if the answer is cut off at max_length (no end token)
    ends_by: Callable[[SearchInfo], Any] | None = None  # `longest`, if it depends on the search
    banned: frozenset = frozenset()  # phrases that never occur
    no_repeat_ngram: int | None = None  # n-grams of this size occur at most once
    needed: tuple = ()  # phrases that must occur
    forced: Any = None  # required tokens by position: ids [P] or [B, P], -1: any token
    # table like `forced` -> bool table, True where this processor forbids the token
    forbids: Callable[[Any], Any] | None = None
    parts: tuple = ()  # the processors that `combine` received
    # state -> [N] bool: True while the next token is a prompt token; an end token there does not
    # finish the row
    in_prompt: Callable[[Any], tf.Tensor] | None = None
    # among those of scope "score" or "tail": the lower acts first, user-defined ones last
    order: int = 9
    raises_scores: bool = False  # `apply` may return values above 0: no beam search stops early
