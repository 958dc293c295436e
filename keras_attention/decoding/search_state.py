"""The state of a search, and its initial value."""

from typing import Any, NamedTuple

import tensorflow as tf

from keras_attention.functional.dtypes import widen


class Hypotheses(NamedTuple):
    """The K hypotheses of every source."""

    cell_state: Any  # a nest of [B, K, ...], or any structure if the cell has `reorder`
    log_probs: Any  # [B, K], without penalties; -inf: no hypothesis
    finished: Any  # [B, K] bool
    lengths: Any  # [B, K] int64, including the end token
    accumulated_attention_probs: Any  # [B, K, S], or () without a coverage penalty


class StepChoice(NamedTuple):
    """The selection of a step."""

    scores: Any  # [B, K], or [B, K, V] of all continuations, with penalties
    predicted_ids: Any  # [B, K]
    parent_ids: Any  # [B, K]


class SearchState(NamedTuple):
    """The hypotheses of a search, and its other state."""

    beams: Hypotheses
    stuck: Any  # [B, K] bool: True if the processors forbade every token of this hypothesis
    strategy_state: Any  # the state that the strategy returned
    finished_answers: Any = ()  # `FinishedAnswers`, if the search stores them separately

    @property
    def lengths(self):
        return self.beams.lengths


def first_hypotheses(
    cell_state: Any, strategy: Any, batch_size: Any, beam_width: int, attention: Any = None
) -> SearchState:
    """One live hypothesis for each source, group or sample; the others have log p = -inf.

    attention [B, K, S]: the alignments in `cell_state` if a coverage penalty sums them, else None.
    Scores are float32, or float64 if the cell's state is.
    """
    floats = [leaf.dtype for leaf in tf.nest.flatten(cell_state) if leaf.dtype.is_floating]
    dtype = widen(tf.zeros([], floats[0] if floats else tf.float32)).dtype
    live = tf.broadcast_to(tf.constant(strategy.live(beam_width)), [batch_size, beam_width])
    hypotheses = Hypotheses(
        cell_state=cell_state,
        log_probs=tf.where(live, tf.zeros([], dtype), tf.constant(-float("inf"), dtype)),
        finished=~live,
        lengths=tf.zeros([batch_size, beam_width], tf.int64),
        accumulated_attention_probs=() if attention is None else tf.zeros_like(attention, dtype),
    )
    return SearchState(hypotheses, tf.zeros_like(live), strategy.init(batch_size, beam_width))
