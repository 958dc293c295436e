"""`generate`: search for the best answers of any model with `encode` and a `cell`."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import tensorflow as tf

from keras_attention.backend.keras import no_autograph, tensors_of
from keras_attention.backend.precast import precast_weights
from keras_attention.decoding.loop import dynamic_decode
from keras_attention.decoding.processors import LogitsProcessor, prefix
from keras_attention.decoding.processors._settings import check_number, describe_value
from keras_attention.decoding.prompt import as_prompt
from keras_attention.decoding.search import Answers, AnswerSearch
from keras_attention.decoding.strategies import Strategy, diverse_beam
from keras_attention.decoding.token_cell import (
    TokenCell,
    check_model,
    combine_processors,
    start_search,
)

__all__ = ["Model", "SearchResult", "alternatives", "generate"]


class Model(Protocol):
    """The attributes of a model that `generate` needs."""

    start_id: int
    end_id: int  # outside of the vocabulary, such as -1: no answer ends before `max_length`
    pad_id: int

    def encode(self, source: Any) -> tuple[Any, Any]:
        """-> (memory, state): the memory that all steps attend to (or None), and the initial state.

        If state is None, `cell.get_initial_state(batch_size=, max_length=, beam_width=, memory=)`
        is called.
        """
        ...

    def embed(self, tokens: tf.Tensor) -> tf.Tensor:
        """Target ids [N] -> inputs of the cell [N, D]."""
        ...

    def project(self, output: tf.Tensor) -> tf.Tensor:
        """Outputs of the cell [..., D'] -> logits [..., V]."""
        ...

    # (inputs, state, memory=, beam_width=) -> (output, state); optionally with
    # reorder(state, parents [B, K]) -> state, which replaces a gather of the state's tensors
    cell: Callable

    # Optional attributes:
    # - `projection() -> project`: called once before the loop; returns a prepared `project`;
    # - `prompt(source) -> ids [B, P]`, padded with `pad_id` on the right: the beginning of each
    #   answer, included in ids, lengths and scores. For decoder-only models it is the source;
    # - `target_vocab_size`, V: processors with ids of V or more are then refused at once.


class SearchResult(NamedTuple):
    """The n best answers of every source, best first; samples in the order drawn."""

    ids: tf.Tensor  # [B, K, T] int32, the pad id after the end token
    lengths: tf.Tensor  # [B, K] int32, including the end token
    # [B, K] float32: log p / length penalty + coverage; -inf if fewer than K answers exist
    scores: tf.Tensor
    alignments: Any  # [B, K, T, S], zeros after the end token; None if not requested
    # [B, K] bool: has its end token; False: cut off, or processors forbade all tokens
    finished: Any = None


@no_autograph
def generate(
    model: Model,
    source: Any,
    *,
    beam_width: int = 1,
    max_length: Any = 64,
    length_penalty: Any = 0.0,
    coverage_penalty: Any = 0.0,
    n_best: int | None = None,
    return_alignments: bool = False,
    processors: LogitsProcessor | Sequence[LogitsProcessor] = (),
    strategy: Strategy | None = None,
    pad_to_max_length: bool = False,
) -> SearchResult:
    """Search for the best answers of a model, or draw samples from it.

    score = log p(answer | source) / ((5 + T) / 6)^length_penalty + coverage_penalty *
    sum_s log min(sum_t alignment_ts, 1), where T includes the end token (Wu et al., 2016, eq. 14).

    A beam search continues with the K best unfinished hypotheses. If an end token is among the K
    best continuations, the sequence moves to a list of the K best finished answers. The search of a
    source stops when no hypothesis can become one of its n best answers, whatever length up to
    `max_length` it reaches. With a beam width of 1 an answer ends as soon as its end token is the
    likeliest token.

    Args:
        model: see `Model`.
        source: what `model.encode` takes, for B sources: ids [B, S], or a nest of such tensors.
        beam_width: K hypotheses per source; 1 is greedy search. If there are fewer answers than K,
            missing ones are returned with length 0 and score -inf.
        max_length: maximum number of tokens of an answer, including the end token; an int or a
            scalar.
        length_penalty, coverage_penalty: 0 is off; numbers or scalars.
        n_best: how many answers to return, at most (and by default) K. A beam search ends as soon
            as these are certain. Of samples, the first n are returned.
        return_alignments: whether to return the attention weights of each token.
        processors: logits processors: see `decoding.processors`.
        strategy: how the next tokens are selected: `beam()` (the default), `sample()`,
            `stochastic_beam()`, `diverse_beam()`.
        pad_to_max_length: in a graph, pad T to max_length, as is always done under XLA. Needed for
            a graph that LiteRT or XLA will compile later.

    Returns a `SearchResult`. An answer cut off at `max_length` has no end token. A hypothesis for
    which processors forbid all tokens stops, ranks after all others, and is not `finished`.

    If the model has a `prompt`, answers begin with it: `max_length`, T, the score, and the counts
    of processors (lengths, positions, repetitions, n-grams) include its tokens, like `max_length`,
    `min_length`, `repetition_penalty` and `no_repeat_ngram_size` of Hugging Face's `generate` for
    decoders. The processors `min_new_tokens` and `max_new_tokens` count the tokens after it.

    Raises ValueError for a model without the attributes of `Model`, a beam width or n_best that is
    not a Python int >= 1, n_best above K, a max_length below 1, penalties that are not finite,
    processors that contradict each other, naming both, and a processor that returns wrong shapes;
    TypeError for a strategy that is not a `Strategy`.

    >>> from models import RNNSeq2Seq
    >>> model, source = RNNSeq2Seq(vocab_size=20, units=8), tf.constant([[5, 6, 2], [7, 2, 0]])
    >>> found = generate(model, source, beam_width=3, max_length=4, length_penalty=0.6)
    >>> found.ids.shape[:2], bool((found.scores[:, 0] >= found.scores[:, 1]).numpy().all())
    (TensorShape([2, 3]), True)
    """
    n_best = beam_width if n_best is None else n_best
    check_sizes(beam_width, max_length, n_best)
    check_penalties(length_penalty, coverage_penalty)
    check_strategy(strategy)
    processor, source = combine_processors(model, processors, max_length), tensors_of(source)
    check_model(model)
    memory, state = start_search(model, source, beam_width, max_length, processor)
    batch_size = tf.shape(tf.nest.flatten(source)[0])[0]
    search = AnswerSearch(
        TokenCell(model, memory, beam_width, processor),
        beam_width,
        model.end_id,
        start=(tf.fill([batch_size], model.start_id), state),
        n_best=n_best,
        strategy=strategy,
        length_penalty=length_penalty,
        coverage_penalty=coverage_penalty,
        max_length=max_length,
        return_alignments=return_alignments,
        normalize=processor is None,
        padded=pad_to_max_length,
        scores_rise=processor is not None and processor.raises_scores,
    )
    with precast_weights(model):
        found, _, _ = dynamic_decode(
            search,
            output_time_major=True,
            maximum_iterations=max_length,
            training=False,
            enable_tflite_convertible=pad_to_max_length,
        )
    return _result(found, model.pad_id)


def alternatives(
    model: Model,
    source: Any,
    target_prefix: Any,
    count: int,
    *,
    max_length: Any = 64,
    processors: LogitsProcessor | Sequence[LogitsProcessor] = (),
    **settings: Any,
) -> SearchResult:
    """Return the `count` likeliest tokens after a prefix, each completed by a greedy search.

    `target_prefix` [B, P] are the first tokens of each answer, padded with `model.pad_id` on the
    right; P may be 0. Scores and ids are those of the whole answers, prefix included, best first.
    The other settings are those of `generate`, except `beam_width` and `strategy`, which are set
    here. Missing alternatives are returned with length 0 and score -inf.

    Raises ValueError for a count below 1, and for a prefix that is not [B, P], has padding before
    its tokens, or leaves no position below a known `max_length`; and as `generate`.

    >>> from models import RNNSeq2Seq
    >>> model, source = RNNSeq2Seq(vocab_size=20, units=8), tf.constant([[5, 6, 2]])
    >>> found = alternatives(model, source, [[7, 8]], count=3, max_length=4)
    >>> found.ids[0, :, :2].numpy().tolist(), len(set(found.ids[0, :, 2].numpy()))
    ([[7, 8], [7, 8], [7, 8]], 3)
    """
    check_size("count", count)
    check_model(model)
    size = getattr(model, "target_vocab_size", None)
    target_prefix = as_prompt(target_prefix, model.pad_id, max_length, "target_prefix", 1, size)
    position = tf.reduce_sum(tf.cast(target_prefix >= 0, tf.int32), 1)
    processors = [processors] if isinstance(processors, LogitsProcessor) else list(processors)
    return generate(
        model,
        source,
        beam_width=count,
        max_length=max_length,
        processors=[prefix(target_prefix, pad_id=-1), *processors],
        strategy=diverse_beam(count, float("inf"), at=position),
        **settings,
    )


def check_sizes(beam_width, max_length, n_best) -> None:
    check_size("beam_width", beam_width)
    rule = "max_length must be a whole number of at least 1."
    check_number(max_length, lambda x: (x >= 1) & (x == np.floor(x)), rule)
    check_size("n_best", n_best)
    if n_best > beam_width:
        raise ValueError(
            f"n_best must be at most beam_width. Received: n_best={n_best}, beam_width={beam_width}"
        )


def check_size(name, value) -> None:
    """ValueError unless the value is an int >= 1: it is the size of static shapes."""
    if not isinstance(value, (int, np.integer)) or value < 1:
        kind = type(value).__name__
        raise ValueError(
            f"{name} must be a Python int >= 1. Received: {name}={describe_value(value)} of type "
            f"{kind}"
        )


def check_strategy(strategy) -> None:
    if not isinstance(strategy, Strategy | None):
        raise TypeError(
            "strategy must be a Strategy, such as sample() returns, or None. Received: "
            f"strategy={strategy!r}"
        )


def check_penalties(length_penalty, coverage_penalty) -> None:
    for name, value in (("length", length_penalty), ("coverage", coverage_penalty)):
        check_number(value, lambda weight: True, f"{name}_penalty must be one finite number.")


def _result(found: Answers, pad_id: int) -> SearchResult:
    """The result, with padding and zeros after the ends."""
    real = tf.sequence_mask(found.lengths, tf.shape(found.ids)[2])
    ids, alignments = tf.where(real, found.ids, pad_id), None
    if tf.is_tensor(found.alignments):
        zero = tf.zeros([], found.alignments.dtype)
        alignments = tf.where(real[..., None], found.alignments, zero)
    scores = tf.cast(found.scores, tf.float32)
    return SearchResult(ids, found.lengths, scores, alignments, found.finished)
