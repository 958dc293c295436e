"""Logits processors of single positions; the first token of an answer has position 0.

With a prompt, position 0 is that of the prompt's first token, and P is the first position after a
prompt of P tokens.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from keras_attention.backend.keras import no_autograph
from keras_attention.decoding.processors._log_probs import (
    force_token,
    keep_allowed,
    mask_tokens,
    one_of,
)
from keras_attention.decoding.processors._rows import (
    History,
    Progress,
    check_sources,
    gather_at,
    padded,
    per_row,
    prompt_lengths,
)
from keras_attention.decoding.processors._settings import (
    align_tables,
    as_number,
    check_all,
    check_ids,
    check_in_vocabulary,
    check_value,
    describe_call,
    static_value,
)
from keras_attention.decoding.processors.logits_processor import LogitsProcessor, SearchInfo


@no_autograph
def force(tokens: Mapping[int, int]) -> LogitsProcessor:
    """Force tokens: {position: id}. No answer ends before the last of them.

    Raises ValueError for positions or ids below 0, and in `init` for ids outside of the vocabulary,
    for the end token (use `length_between`), and for positions inside of a prompt
    (InvalidArgumentError for a prompt given at run time).

    >>> processor = force({0: 2})
    >>> state = processor.init(SearchInfo(1, 1, max_length=4, end_id=0, vocab_size=3))
    >>> state = processor.advance(state, tf.constant([1]))  # the start token
    >>> processor.apply(tf.zeros([1, 3]), state).numpy().tolist()
    [[-inf, -inf, 0.0]]
    """
    name = f"force({dict(tokens)})"
    ids = check_ids(tokens.values(), name)
    positions = check_ids(tokens.keys(), f"the positions of {name}")
    table = np.full(max(positions, default=-1) + 1, -1, np.int32)
    table[list(positions)] = ids
    return _forced(table, name, agrees=False)


@no_autograph
def prefix(ids: Any, pad_id: int = 0) -> LogitsProcessor:
    """Force how every answer begins: ids [P], or [B, P] for each source.

    Shorter rows are padded with `pad_id`, where any token is allowed; a row of padding alone forces
    nothing. No answer ends within its prefix. With a prompt, the prefix includes the tokens of the
    prompt, or ends before they do.

    Raises ValueError for negative ids, and in `init` as `force` does, and for a token that differs
    from the prompt's. Ids given at run time are not checked: with one outside of the vocabulary the
    search finds no token.

    >>> processor = prefix([[2], [0]])
    >>> state = processor.init(SearchInfo(2, 1, max_length=4, end_id=1, vocab_size=3))
    >>> state = processor.advance(state, tf.constant([1, 1]))  # the start tokens
    >>> processor.apply(tf.zeros([2, 3]), state).numpy().tolist()
    [[-inf, -inf, 0.0], [0.0, 0.0, 0.0]]
    """
    name, known = describe_call("prefix", ids), static_value(ids)
    rank = np.ndim(known) if known is not None else ids.shape.rank
    if rank not in (1, 2):
        raise ValueError(f"prefix needs ids [P] or [B, P]. Received: {rank} axes")
    check_value(
        ids,
        lambda x: (x == np.floor(x)) & ((x >= 0) | (x == pad_id)),
        f"The ids of {name} must be whole numbers and not be negative.",
    )
    if known is not None:
        return _forced(np.where(known == pad_id, -1, known).astype(np.int32), name)
    return _forced(tf.where(ids == pad_id, -1, tf.cast(ids, tf.int32)), name)


def _forced(table: Any, name: str, agrees: bool = True) -> LogitsProcessor:
    """Tokens by position, -1 for any: [P] or [B, P].

    `agrees`: whether they may include those of a prompt.
    """
    known = static_value(table)
    facts = {}
    if known is not None:
        until = np.max(np.where(known >= 0, np.arange(1, known.shape[-1] + 1), 0), -1, initial=0)
        facts["shortest"], facts["cut_off"] = as_number(until + 1), as_number(until)
        facts["forced"] = known

        def forbids(table):
            own, table = align_tables(known, table, name)
            return (own >= 0) & (table >= 0) & (own != table)

        facts["forbids"] = forbids

    def init(search: SearchInfo) -> Progress:
        if known is not None:
            check_in_vocabulary(known, search.vocab_size, name)
            check_value(
                known if search.prompt is None else _after_prompt(known, search.prompt),
                lambda x: x != search.end_id,
                f"{name} must not hold the end token {search.end_id}: use length_between.",
            )
        rows = padded(table, search, name)
        with tf.control_dependencies(_prompt_checks(rows, search, name, agrees)):
            rows = tf.identity(rows)
        counts = tf.range(1, tf.shape(rows)[1] + 1)
        until = tf.reduce_max(tf.where(rows >= 0, counts, 0), 1)
        return Progress.first(search, (rows, until))

    def apply(log_probs: tf.Tensor, state: Progress) -> tf.Tensor:
        if known is not None:
            check_in_vocabulary(known, log_probs.shape[-1], name)
        rows, until = state.extra
        token = gather_at(rows, state.length)
        too_early = (token < 0) & (state.length < until)
        return force_token(mask_tokens(log_probs, too_early, state.is_end(log_probs)), token)

    return LogitsProcessor(init, apply, Progress.step, name, **facts)


def _after_prompt(table: np.ndarray, prompt: Any) -> np.ndarray:
    """The tokens [P] or [B, P] after a prompt, -1 elsewhere."""
    prompt = static_value(prompt)
    if prompt is None:
        return table
    lengths = (prompt >= 0).sum(1, keepdims=True)
    return np.where(np.arange(table.shape[-1]) >= lengths, table, -1)


def _prompt_checks(rows: tf.Tensor, search: SearchInfo, name: str, agrees: bool) -> list:
    """Checks that forced tokens [N, P + 1] do not contradict the prompt, or do not overlap it."""
    if search.prompt is None:
        return []
    prompt = padded(search.prompt, search, "the prompt")
    both = tf.minimum(tf.shape(rows)[1], tf.shape(prompt)[1])
    rows, prompt = rows[:, :both], prompt[:, :both]
    free = (rows < 0) | (prompt < 0)
    rule = f"{name} must not force a position of the prompt: they count from its first token."
    if agrees:
        free |= rows == prompt
        rule = f"{name} must have the tokens of the prompt: it holds from its first token."
    known, forced, tokens = (static_value(x) for x in (free, rows, prompt))
    if known is not None and forced is not None and tokens is not None and not known.all():
        row, position = np.argwhere(~known)[0]
        size = int((tokens[row] >= 0).sum())
        found = f"position {position} is inside the {size}-token prompt"
        if agrees:
            found += f", which has the token {tokens[row, position]} there"
            found += f" and not {forced[row, position]}"
        raise ValueError(f"{rule} Received: {found}; the first free position is {size}.")
    return check_all(free, rule, prompt)


@no_autograph
def allowed_at(mask: Any) -> LogitsProcessor:
    """Set the allowed tokens of each position: [T, V] bool, or [B, T, V] for each source.

    The mask also covers the end token. After position T only the end token is allowed.

    Raises ValueError for a mask of another rank or without positions, and in `init` for a mask of
    another vocabulary size.

    >>> processor = allowed_at([[False, True, True], [True, True, False]])
    >>> state = processor.init(SearchInfo(1, 1, max_length=4, end_id=0, vocab_size=3))
    >>> state = processor.advance(state, tf.constant([1]))  # the start token
    >>> processor.apply(tf.zeros([1, 3]), state).numpy().tolist()
    [[-inf, 0.0, 0.0]]
    """
    known, mask = static_value(mask), tf.convert_to_tensor(mask, tf.bool)
    shape = tuple(mask.shape)
    name = f"allowed_at({'x'.join(str(size) for size in shape)} mask)"
    if len(shape) not in (2, 3) or shape[-2] == 0:
        raise ValueError(f"allowed_at needs a mask [T, V] or [B, T, V]. Received: shape {shape}")
    facts = {} if shape[-2] is None else {"longest": shape[-2] + 1}
    if known is not None:
        ever = known.reshape(-1, shape[-1]).any(0)
        facts["banned"] = frozenset((token,) for token in np.flatnonzero(~ever).tolist())

        def forbids(table):
            masks = known.reshape(-1, *shape[-2:])
            rows, table = align_tables(np.zeros([len(masks), shape[-2]], int), table, name)
            source = np.arange(len(rows))[:, None] % len(masks)
            held = np.clip(table, 0, shape[-1] - 1)
            return (table >= 0) & ~masks[source, np.arange(table.shape[1]), held]

        facts["forbids"] = forbids
    steps = tf.shape(mask)[-2]

    def check_vocab_size(size: int | None) -> None:
        if None not in (shape[-1], size) and shape[-1] != size:
            raise ValueError(
                f"{name} needs one column for each of the V = {size} tokens. "
                f"Received: shape {shape}"
            )

    def init(search: SearchInfo) -> Progress:
        check_vocab_size(search.vocab_size)
        if len(shape) == 2:
            return Progress.first(search)
        check_sources(mask.shape, search, name)
        # The mask itself is not part of the state: it is the same for all hypotheses.
        return Progress.first(search, per_row(tf.range(search.batch_size), search, name))

    def apply(log_probs: tf.Tensor, state: Progress) -> tf.Tensor:
        check_vocab_size(log_probs.shape[-1])
        position = tf.clip_by_value(state.length, 0, steps - 1)
        if len(shape) == 2:
            allowed = tf.gather(mask, position)
        else:
            allowed = tf.gather_nd(mask, tf.stack([state.extra, position], 1))
        beyond = (state.length >= steps)[:, None]
        return keep_allowed(log_probs, tf.where(beyond, state.is_end(log_probs)[None], allowed))

    return LogitsProcessor(
        init, apply, Progress.step, name, ends_by=lambda search: steps + 1, **facts
    )


@no_autograph
def suppress_at_begin(tokens: Iterable[int]) -> LogitsProcessor:
    """Forbid these ids as the first token of an answer, or as the first after a prompt.

    As `begin_suppress_tokens` of Hugging Face's `generate`. With the end token among them no answer
    is empty. Raises ValueError for ids below 0, and in `init` for ids that the vocabulary does not
    have.

    >>> processor = suppress_at_begin([0, 2])
    >>> state = processor.init(SearchInfo(1, 1, max_length=4, end_id=0, vocab_size=3))
    >>> state = processor.advance(state, tf.constant([1]))  # the start token
    >>> processor.apply(tf.zeros([1, 3]), state).numpy().tolist()
    [[-inf, 0.0, -inf]]
    """
    ids = check_ids(tokens, "suppress_at_begin")
    name = describe_call("suppress_at_begin", list(ids))

    def init(search: SearchInfo) -> Progress:
        check_in_vocabulary(ids, search.vocab_size, name)
        return Progress.first(search, per_row(prompt_lengths(search), search, name))

    def apply(log_probs: tf.Tensor, state: Progress) -> tf.Tensor:
        check_in_vocabulary(ids, log_probs.shape[-1], name)
        return mask_tokens(log_probs, state.length == state.extra, one_of(log_probs, ids))

    return LogitsProcessor(init, apply, Progress.step, name)


@no_autograph
def allowed_tokens(function: Callable) -> LogitsProcessor:
    """Define the allowed next tokens by a function of the answer so far.

    `function(tokens, lengths, sources)` returns a mask [N, V] bool, True = allowed, for all N = B*K
    hypotheses at once. tokens [N, T] int32 are their answers so far, prompts included, zeros after
    the first lengths [N] int32 tokens; sources [N] int32 are the indices of their sources in the
    batch. The end token must be allowed, too. The function consists of TensorFlow ops, so it runs
    in a graph and in an export; `prefix_allowed_tokens_fn` of Hugging Face's `generate` is Python
    code for one hypothesis at a time.

    Raises ValueError for another result.

    >>> def rising(tokens, lengths, sources):  # each id above the one before it
    ...     last = tf.reduce_max(tokens, 1)  # zeros after the answer
    ...     return tf.range(4)[None] > last[:, None]
    >>> processor = allowed_tokens(rising)
    >>> state = processor.init(SearchInfo(1, 1, max_length=3, end_id=3, vocab_size=4))
    >>> for token in (0, 1):  # the start token, and one of the answer
    ...     state = processor.advance(state, tf.constant([token]))
    >>> processor.apply(tf.zeros([1, 4]), state).numpy().tolist()
    [[-inf, -inf, 0.0, 0.0]]
    """
    name = f"allowed_tokens({getattr(function, '__name__', 'function')})"

    def init(search: SearchInfo) -> tuple[History, tf.Tensor]:
        sources = per_row(tf.range(search.batch_size), search, name)
        return History.empty(search, search.max_length), sources

    def apply(log_probs: tf.Tensor, state: tuple) -> tf.Tensor:
        history, sources = state
        allowed = tf.convert_to_tensor(function(history.tokens, history.length, sources))
        fits = allowed.shape.is_compatible_with(log_probs.shape)
        if allowed.dtype != tf.bool or not fits:
            raise ValueError(
                f"{name} must return a mask [N, V] bool, of shape {tuple(log_probs.shape)}. "
                f"Received: shape {tuple(allowed.shape)}, {allowed.dtype.name}"
            )
        return keep_allowed(log_probs, allowed)

    def advance(state: tuple, tokens: tf.Tensor) -> tuple:
        return state[0].append(tokens), state[1]

    return LogitsProcessor(init, apply, advance, name)
