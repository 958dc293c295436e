"""`stream`: an answer token by token, while it is decoded."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_attention.backend.keras import no_autograph, tensors_of
from keras_attention.decoding.generate import (
    Model,
    check_penalties,
    check_sizes,
    check_strategy,
)
from keras_attention.decoding.processors import LogitsProcessor
from keras_attention.decoding.prompt import prompt_of
from keras_attention.decoding.search import AnswerSearch
from keras_attention.decoding.strategies import Strategy, beam
from keras_attention.decoding.token_cell import (
    TokenCell,
    check_model,
    combine_processors,
    start_search,
)

__all__ = ["Stream", "stream"]


def stream(model: Model, source: Any, **settings: Any) -> Iterator:
    """Yield the tokens of one answer to each of B sources, each as soon as it is decoded.

    Settings: those of `Stream`. Each call traces the step again: for several sources, create a
    `Stream` once.

    >>> from models import RNNSeq2Seq
    >>> model = RNNSeq2Seq(vocab_size=20, units=8)
    >>> source = tf.constant([[5, 6, 2], [7, 2, 0]])
    >>> tokens = list(stream(model, source, max_length=4))
    >>> bool((np.stack(tokens, 1) == model.generate(source, max_length=4).ids[:, 0]).numpy().all())
    True
    """
    return Stream(model, **settings)(source)


class Stream:
    """Decode a model token by token.

    The tokens are those of `generate` with beam_width=1 and the same settings: the step of the same
    search, run once for each token.

    Args:
        model: see `generate.Model`.
        max_length: maximum number of tokens of an answer, including the end token; an int.
        length_penalty, coverage_penalty: of `generate`. They do not change the tokens of a single
            hypothesis, because all its continuations have the same length.
        processors: logits processors, see `decoding.processors`. A setting that is given for each
            source, [B], binds the stream to this batch size.
        strategy: `beam()` (the default: greedy) or `sample(seed)`.
        return_alignments: whether to yield the attention weights of each token, too.

    Call: `stream(source)` -> an iterator of tokens [B], int32 arrays, or of pairs (tokens [B],
    alignments [B, S]). A finished row yields the pad id; the iterator ends when all have finished.
    The first call traces the step; later calls, also with other shapes, mostly do not.

    Raises ValueError for a model without the attributes of `Model`, a max_length below 1, and
    processors that contradict each other; TypeError for a strategy that is not a `Strategy`.
    """

    def __init__(
        self,
        model: Model,
        *,
        max_length: int = 64,
        length_penalty: Any = 0.0,
        coverage_penalty: Any = 0.0,
        processors: LogitsProcessor | Sequence[LogitsProcessor] = (),
        strategy: Strategy | None = None,
        return_alignments: bool = False,
    ):
        check_sizes(1, max_length, 1)
        check_penalties(length_penalty, coverage_penalty)
        check_strategy(strategy)
        self._processor = combine_processors(model, processors, max_length)
        check_model(model)
        self._model, self._max_length = model, int(max_length)
        self._strategy = beam() if strategy is None else strategy
        self._return_alignments = return_alignments
        self._penalties = {
            "length_penalty": length_penalty,
            "coverage_penalty": coverage_penalty,
        }
        trace = dict(autograph=False, reduce_retracing=True)
        self._start, self._step = (
            tf.function(self._first, **trace),
            tf.function(self._next, **trace),
        )

    @no_autograph
    def __call__(self, source: Any) -> Iterator:
        """See the class."""
        source = tensors_of(source)
        prompt_of(self._model, source, self._max_length)  # raise here, not when a graph runs
        return self._tokens(source)

    def _tokens(self, source):
        memory, inputs, state = self._start(source)
        for time in range(self._max_length):
            emitted, inputs, state, ended = self._step(tf.constant(time), memory, inputs, state)
            emitted = tuple(part.numpy() for part in emitted)
            yield emitted if self._return_alignments else emitted[0]
            if np.all(ended):
                return

    def _first(self, source):
        """-> memory, the first inputs, the first state."""
        memory, state = start_search(self._model, source, 1, self._max_length, self._processor)
        batch_size = tf.shape(tf.nest.flatten(source)[0])[0]
        start = tf.fill([batch_size], self._model.start_id), state
        _, inputs, state = self._search(memory, start).initialize()
        return memory, inputs, state

    def _next(self, time, memory, inputs, state):
        """-> (tokens [B], perhaps alignments [B, S]), the next inputs and state, ended [B]."""
        before = state.lengths
        found, state, inputs, finished = self._search(memory).step(time, inputs, state)
        real = (state.lengths > before)[:, 0]  # [B]
        emitted = [tf.where(real, found.ids[:, 0], self._model.pad_id)]
        if self._return_alignments:
            attended = found.alignments[:, 0]
            emitted.append(tf.where(real[:, None], attended, tf.zeros([], attended.dtype)))
        return emitted, inputs, state, finished[:, 0]

    def _search(self, memory, start=None):
        model, processor = self._model, self._processor
        return AnswerSearch(
            # `model.projection` would repeat its preparation for every token.
            TokenCell(model, memory, 1, processor, project=model.project),
            1,
            model.end_id,
            start=start,
            return_alignments=self._return_alignments,
            normalize=processor is None,
            strategy=self._strategy,
            **self._penalties,
        )
