"""The search of `generate` and `stream`: from the steps of a model to its best answers.

`dynamic_decode` runs the loop and calls `AnswerSearch.step` once per token. A step has two forms:

- a beam search with more hypotheses than groups (`beam()`, `diverse_beam()`, K > groups) runs
  `AnswerSearch._beam_step`: it calls `strategy.choose_unfinished` and stores finished answers
  separately (`finished_answers`);
- every other search (K = 1, one hypothesis per group, `sample()`, `stochastic_beam()`) runs
  `search_step.search_step`: it calls `strategy.choose`, and finished hypotheses stay in the beam.
"""

import functools
from typing import Any, NamedTuple

import tensorflow as tf

from keras_attention.backend.keras import in_xla, same_structure
from keras_attention.decoding import finished_answers
from keras_attention.decoding.beams import gather_beams, trace_back
from keras_attention.decoding.finished_answers import FinishedAnswers
from keras_attention.decoding.loop import Decoder
from keras_attention.decoding.penalties import gnmt_length_penalty, penalized_scores
from keras_attention.decoding.search_state import Hypotheses, SearchState, first_hypotheses
from keras_attention.decoding.search_step import (
    attention_probs,
    complete_parents,
    repeated_token,
    search_step,
)
from keras_attention.decoding.strategies import Continuations, Strategy, beam
from keras_attention.functional.likelihood import log_normalizer

__all__ = ["Answers", "AnswerSearch", "StepOutput"]


class StepOutput(NamedTuple):
    """The output of a step of the search, or its shapes and dtypes."""

    ids: Any  # [B, K]
    parents: Any  # [B, K]
    alignments: Any  # [B, K, S]: attention weights of each hypothesis before the selection; or ()


class Answers(NamedTuple):
    """The n best answers of every source, best first; samples in the order drawn."""

    ids: tf.Tensor  # [B, n, T] int32, arbitrary after an answer's end
    lengths: tf.Tensor  # [B, n] int32, including the end token; 0: missing answer
    scores: tf.Tensor  # [B, n], -inf: missing answer
    alignments: Any  # [B, n, T, S], arbitrary after an answer's end; or ()
    finished: tf.Tensor  # [B, n] bool: it has its end token


class AnswerSearch(Decoder):
    """Beam search or sampling with K hypotheses per source; finished answers are stored separately.

    A beam search (a strategy with `choose_unfinished`) continues with the K best unfinished
    hypotheses. If an end token is among the K best continuations of a step, the answer is moved to
    a list of the K best finished answers. The search of a source ends when no live hypothesis can
    still become one of its n best answers. With one hypothesis per group, and with other
    strategies, finished hypotheses keep their index in the beam. With K = 1 this is greedy search.
    Samples are not replaced or reordered.

    Scores are those of `generate`, where T includes the end token: so all continuations of a step
    have the same length.

    Args:
        cell: (tokens [N], state, training=) -> (logits [N, V], state), states of N = B*K rows. It
            may have `reorder(state, parents [B, K])`, and `in_prompt(state) -> [N] bool`: rows
            whose next token is a prompt token. An end token inside the prompt does not finish the
            hypothesis.
        beam_width, n_best, strategy, length_penalty, coverage_penalty, max_length,
            return_alignments: of `generate`.
        end_id: an id outside of the vocabulary means that no answer ends.
        normalize: False if the cell returns log-probabilities, some of which may be -inf.
        padded: whether to pad T to max_length.
        scores_rise: whether a processor may return log p above 0. If True, no early stopping: the
            search runs to `max_length`.
        start: (tokens [B], initial state) for `initialize`.
    """

    batch_size: Any = None
    tracks_own_finished: bool = True

    def __init__(
        self,
        cell: Any,
        beam_width: int,
        end_id: Any,
        *,
        start: tuple[Any, Any] | None = None,
        n_best: int | None = None,
        strategy: Strategy | None = None,
        length_penalty: Any = 0.0,
        coverage_penalty: Any = 0.0,
        max_length: Any = None,
        return_alignments: bool = False,
        normalize: bool = True,
        padded: bool = False,
        scores_rise: bool = False,
    ):
        self._cell, self._beam_width, self._start = cell, beam_width, start
        self._end_token = tf.convert_to_tensor(end_id, tf.int32)
        self._strategy = beam() if strategy is None else strategy
        self._n_best = beam_width if n_best is None else n_best
        self._length_penalty, self._coverage_penalty = length_penalty, coverage_penalty
        self._max_length, self._normalize, self._padded = max_length, normalize, padded
        self._scores_rise = scores_rise
        self._return_alignments = return_alignments
        self._covers = tf.get_static_value(coverage_penalty) != 0.0
        self._in_prompt = getattr(cell, "in_prompt", None)
        apart = beam_width > self._strategy.groups
        self._choose_unfinished = self._strategy.choose_unfinished if apart else None
        self._keeps_finished = self._choose_unfinished is not None

    # -- the loop

    @property
    def output_size(self):
        width = tf.TensorShape([self._beam_width])
        alignments = width.concatenate(self._source_steps) if self._return_alignments else ()
        return StepOutput(width, width, alignments)

    @property
    def output_dtype(self):
        return StepOutput(
            tf.int32, tf.int32, self._alignment_dtype if self._return_alignments else ()
        )

    def initialize(self, name=None):
        """Every source starts with one live hypothesis, one per group, or one per sample."""
        if self._start is None:
            raise ValueError("AnswerSearch.initialize needs start=. Received: start=None")
        tokens, cell_state = self._start
        batch_size, width = tf.shape(tokens)[0], self._beam_width
        attention = None
        if self._covers or self._return_alignments:
            attention = self._attention(cell_state)
            self._source_steps, self._alignment_dtype = attention.shape[-1:], attention.dtype
        covered = attention if self._covers else None
        state = first_hypotheses(cell_state, self._strategy, batch_size, width, covered)
        if self._keeps_finished:
            empty = FinishedAnswers.empty(batch_size, width, state.beams.log_probs.dtype)
            state = state._replace(finished_answers=empty)
        return state.beams.finished, tf.repeat(tokens[:, None], width, axis=1), state

    def step(self, time, inputs, state, training=None, name=None):
        """Extend every hypothesis by every token, and let the strategy select."""
        before = state.beams.cell_state
        logits, cell_state = self._cell(tf.reshape(inputs, [-1]), before, training=False)
        cell_state = same_structure(before, cell_state)
        logits = tf.cast(self._split(logits), state.beams.log_probs.dtype)
        given = None
        if self._in_prompt is not None:
            given = self._split(self._in_prompt(cell_state))
        if self._choose_unfinished is not None:
            choose = self._choose_unfinished
            live, state = self._beam_step(choose, time, logits, cell_state, state, given)
            ids, parents = live.ids, live.parents
        else:
            output, state = search_step(
                time,
                logits,
                cell_state,
                state,
                self._strategy,
                self._end_token,
                self._length_penalty,
                self._coverage_penalty,
                normalize=self._normalize,
                reorder=self._reorder,
                in_prompt=given,
                end_counts=True,
            )
            ids, parents = output.predicted_ids, output.parent_ids
        alignments = self._attention(cell_state) if self._return_alignments else ()
        return StepOutput(ids, parents, alignments), state, ids, state.beams.finished

    def _beam_step(self, choose, time, logits, cell_state, state, given):
        """One step of a beam search that stores finished answers separately (K > groups)."""
        beams, groups = state.beams, self._strategy.groups
        never = tf.constant(-float("inf"), logits.dtype)
        coverage = beams.accumulated_attention_probs
        if self._covers:
            coverage += tf.cast(self._attention(cell_state), coverage.dtype)
        normalizer = functools.partial(log_normalizer, logits)
        if not self._normalize:
            normalizer = lambda likeliest=None: tf.zeros([1, 1, 1], logits.dtype)  # noqa: E731
        continuations = Continuations(
            time=time,
            logits=logits,
            log_normalizer=normalizer,
            log_probs=beams.log_probs,
            finished=beams.finished,
            end_token=self._end_token,
            repeated=repeated_token(self._end_token, logits),
            in_prompt=given,
        )
        live, ends, strategy_state = choose(continuations, state.strategy_state)
        scores, has_end, stuck = self._scores(ends, time + 1, coverage), True, None
        if not self._normalize:  # all tokens of a row may be forbidden
            stuck = (tf.reduce_max(logits, -1) == never) & ~beams.finished
            unextended = self._scores(beams.log_probs, time, beams.accumulated_attention_probs)
            scores, has_end = tf.where(stuck, unextended, scores), ~stuck
        answers = finished_answers.add(state.finished_answers, scores, time, has_end, groups, stuck)
        log_probs = live.log_probs
        if not self._scores_rise:
            over = finished_answers.certain(
                answers,
                log_probs,
                time + 1,
                self._max_length,
                self._n_best,
                self._length_penalty,
                self._coverage_penalty,
                groups,
                may_be_stuck=not self._normalize,
            )
            log_probs = tf.where(over, never, log_probs)
        beams = Hypotheses(
            cell_state=self._reorder(cell_state, live.parents),
            log_probs=log_probs,
            finished=log_probs == never,
            lengths=beams.lengths,  # live hypotheses have one token per step
            accumulated_attention_probs=gather_beams(coverage, live.parents)
            if self._covers
            else (),
        )
        return live, SearchState(beams, state.stuck, strategy_state, answers)

    # -- the end

    def finalize(self, outputs, final_state, sequence_lengths):
        """The answers, traced back from their ends.  -> `Answers`, state."""
        found, lengths = self._found(outputs, final_state)
        stuck = ~found.has_end & (lengths < tf.shape(outputs.ids)[0])
        scores = found.scores
        if not self._strategy.ranked:  # the answers stay in the order drawn
            scores, stuck = tf.zeros_like(scores), stuck | (scores == -float("inf"))
        order = finished_answers.best_first(scores, stuck)[:, : self._n_best]
        lengths, *parts = (
            tf.gather(x, order, batch_dims=1)
            for x in (lengths, found.scores, found.has_end, found.times, found.indices)
        )
        scores, has_end, times, indices = parts
        real = scores > -float("inf")
        lengths, has_end = tf.where(real, lengths, 0), has_end & real
        parents = outputs.parents
        if not self._keeps_finished:
            parents = complete_parents(outputs.ids, parents)
        ids, alignments = self._follow_back(outputs._replace(parents=parents), times, indices)
        # Transpose last: OpenVINO cannot read a batched gather of a transposed tensor.
        ids = tf.transpose(ids, [1, 2, 0])  # [B, n, T]
        if self._return_alignments:
            alignments = tf.transpose(alignments, [1, 2, 0, 3])
        if self._keeps_finished and not (self._padded or in_xla()):  # T may exceed all lengths
            longest = tf.maximum(tf.reduce_max(lengths), 1)
            ids = ids[:, :, :longest]
            alignments = alignments[:, :, :longest] if self._return_alignments else ()
        return Answers(ids, lengths, scores, alignments, has_end), final_state

    def _found(self, outputs, state) -> tuple[FinishedAnswers, tf.Tensor]:
        """All answers, K for each source, and their lengths [B, K]."""
        beams, steps = state.beams, tf.shape(outputs.ids)[0]
        coverage = beams.accumulated_attention_probs
        if self._keeps_finished:  # live hypotheses are cut off at the limit, without an end token
            scores = self._scores(beams.log_probs, steps, coverage)
            # Hypotheses with all tokens forbidden are already among the finished answers.
            stuck = None if self._normalize else tf.zeros_like(beams.finished)
            found = finished_answers.add(
                state.finished_answers, scores, steps, False, self._strategy.groups, stuck
            )
            return found, found.times + tf.cast(found.has_end, tf.int32)
        lengths = tf.cast(beams.lengths, tf.int32)
        scores = self._scores(beams.log_probs, lengths, coverage)
        has_end = tf.cast(beams.finished & ~state.stuck, tf.int32)
        origins = 2 * (steps * self._beam_width + tf.range(self._beam_width)) + has_end
        return FinishedAnswers(scores, origins), lengths

    def _follow_back(self, outputs, times, indices) -> tuple[tf.Tensor, Any]:
        """The tokens of answers, from the step and the index in the beam at which they ended.

        times, indices [B, n] -> ids [T, B, n], alignments [T, B, n, S] or ().
        """
        came_from = trace_back(outputs.parents, times - 1, indices)  # [T, B, n]
        time = tf.range(tf.shape(outputs.ids)[0])[:, None, None]
        over = time >= times
        ids = tf.gather(outputs.ids, came_from, batch_dims=2)
        ids = tf.where(over, self._end_token, ids)
        if not self._return_alignments:
            return ids, ()
        # A step attends before it selects: the alignment of a token is that of its parent.
        attended = tf.gather(outputs.parents, came_from, batch_dims=2)
        attended = tf.where(over, indices, attended)
        return ids, tf.gather(outputs.alignments, attended, batch_dims=2)

    # -- parts of a step

    def _scores(self, log_probs, lengths, coverage):
        """[B, K], lengths [B, K] or a scalar, coverage [B, K, S] or () -> [B, K]."""
        if not self._covers:
            if tf.get_static_value(self._length_penalty) == 0.0:
                return log_probs
            penalty = gnmt_length_penalty(lengths, self._length_penalty)
            return log_probs / tf.cast(penalty, log_probs.dtype)
        lengths = lengths if lengths.shape.rank == 0 else lengths[..., None]
        return penalized_scores(
            log_probs[..., None],
            lengths,
            self._length_penalty,
            self._coverage_penalty,
            tf.ones_like(log_probs),  # the coverage of an answer that was cut off counts, too
            coverage,
        )[..., 0]

    def _attention(self, cell_state):
        """[B, K, S]."""
        attention = attention_probs(cell_state)
        if attention is None:
            raise ValueError(
                "coverage_penalty and return_alignments need a cell with attention: an "
                "AttentionWrapper, or a cell whose state has `alignments`. Received: a cell whose "
                "state has none."
            )
        return self._split(attention) if attention.shape.rank == 2 else attention

    def _reorder(self, cell_state, parents):
        """Each hypothesis takes the state of its parent.  [N, ...], [B, K] -> [N, ...]."""
        if hasattr(self._cell, "reorder"):
            return self._cell.reorder(cell_state, parents)
        first = tf.range(tf.shape(parents)[0]) * self._beam_width  # the rows of each source
        rows = tf.reshape(parents + first[:, None], [-1])

        def follow(leaf):
            fixed = isinstance(leaf, tf.TensorArray) or leaf.shape.rank == 0
            return leaf if fixed else tf.gather(leaf, rows)

        return tf.nest.map_structure(follow, cell_state)

    def _split(self, x):
        """[N, ...] -> [B, K, ...]."""
        shape = [self._beam_width, *x.shape[1:]]
        split = tf.reshape(x, tf.concat([[-1, self._beam_width], tf.shape(x)[1:]], 0))
        split.set_shape([None, *shape])
        return split
