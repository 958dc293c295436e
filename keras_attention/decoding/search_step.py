"""One step of a search whose finished hypotheses stay in the beam, on tensors.

Called by `seq2seq.BeamSearchDecoder`, and by `search.AnswerSearch` (of `generate` and `stream`) for
greedy search, one hypothesis per group, and samples. A beam search of `generate` with K > groups
does not run this step: see `search.AnswerSearch._beam_step`.
"""

import functools

import tensorflow as tf

from keras_attention.decoding.beams import gather_beams
from keras_attention.decoding.penalties import penalized_scores
from keras_attention.decoding.search_state import StepChoice
from keras_attention.decoding.strategies import Continuations
from keras_attention.functional.dtypes import widen
from keras_attention.functional.likelihood import log_normalizer

# Score penalty that ranks hypotheses with all tokens forbidden last; float32 still distinguishes
# their scores.
_STUCK_PENALTY = 1e4


def search_step(
    time,
    logits,
    next_cell_state,
    state,
    strategy,
    end_token,
    length_penalty_weight=0.0,
    coverage_penalty_weight=0.0,
    output_all_scores=False,
    normalize=True,
    reorder=None,
    in_prompt=None,
    end_counts=False,
):
    """Let the strategy select the next hypotheses.  logits [B, K, V] -> output, state.

    `normalize`: False if `logits` are log-probabilities already. `reorder(cell_state, parents)`:
    reorders the cell's state, instead of a gather of its leaves [B, K, ...]. `in_prompt` [B, K]
    bool: rows whose next token is a prompt token; an end token there does not finish the
    hypothesis. `end_counts`: whether
    the length of a continuation by the end token includes that token; in tfa it does not.
    """
    beams = state.beams
    end_token = tf.convert_to_tensor(end_token, tf.int32)
    logits = tf.cast(logits, beams.log_probs.dtype)
    never = tf.constant(-float("inf"), logits.dtype)
    finished, stuck = beams.finished, state.stuck
    if not normalize:  # a row whose tokens are all forbidden ends here
        all_forbidden = tf.reduce_max(logits, -1) == never
        stuck |= all_forbidden & ~finished
    coverage = ()
    if tf.get_static_value(coverage_penalty_weight) != 0.0:
        attention = tf.cast(attention_probs(next_cell_state), logits.dtype)
        attention = tf.reshape(attention, tf.shape(beams.accumulated_attention_probs))
        attention *= tf.cast(~finished, logits.dtype)[..., None]
        coverage = beams.accumulated_attention_probs + attention
    over = finished | stuck
    repeated = repeated_token(end_token, logits)

    def scored(ids, log_probs):
        """ids [B, K, C] or [1, 1, C], log p of the token [B, K, C] -> total log p, score."""
        ends = ids == end_token
        if in_prompt is not None:
            ends &= ~in_prompt[..., None]
        frozen = tf.where(ids == repeated, tf.zeros([], log_probs.dtype), never)
        log_probs = tf.where(over[..., None], frozen, log_probs)
        total = beams.log_probs[..., None] + log_probs
        grows = ~over[..., None] if end_counts else ~ends & ~over[..., None]
        grows = tf.cast(grows, beams.lengths.dtype)
        scores = penalized_scores(
            total,
            beams.lengths[..., None] + grows,
            length_penalty_weight,
            coverage_penalty_weight,
            finished,
            coverage,
        )
        if not normalize:
            scores -= _STUCK_PENALTY * tf.cast(stuck, scores.dtype)[..., None]
        return total, scores

    normalizer = functools.partial(log_normalizer, logits)
    if not normalize:
        normalizer = lambda likeliest=None: tf.zeros([], logits.dtype)  # noqa: E731
    continuations = Continuations(
        time=time,
        logits=logits,
        log_normalizer=normalizer,
        log_probs=beams.log_probs,
        finished=over,
        end_token=end_token,
        repeated=repeated,
        scored=scored,
    )
    choice, strategy_state = strategy.choose(continuations, state.strategy_state)
    parents = choice.parents
    parent_over = gather_beams(over, parents)
    ended = choice.ids == end_token
    if in_prompt is not None:
        ended &= ~gather_beams(in_prompt, parents)
    follow = functools.partial(tf.nest.map_structure, lambda leaf: _follow(leaf, parents))
    dead = choice.log_probs == never
    lengths = gather_beams(beams.lengths, parents) + tf.cast(~parent_over, beams.lengths.dtype)
    next_beams = beams._replace(
        cell_state=reorder(next_cell_state, parents) if reorder else follow(next_cell_state),
        log_probs=choice.log_probs,
        finished=parent_over | ended | dead,
        lengths=tf.where(dead, tf.zeros([], lengths.dtype), lengths),
        accumulated_attention_probs=()
        if isinstance(coverage, tuple)
        else gather_beams(coverage, parents),
    )
    scores = choice.scores
    if output_all_scores:
        everything = tf.range(tf.shape(logits)[2])[None, None]
        scores = scored(everything, logits - normalizer())[1]
    next_state = state._replace(
        beams=next_beams, stuck=gather_beams(stuck, parents), strategy_state=strategy_state
    )
    return StepChoice(scores, choice.ids, parents), next_state


def repeated_token(end_token, logits):
    """The token that finished hypotheses repeat: the end token, or 0 if it is no id below V.

    An end token outside of the vocabulary means that no hypothesis ends.
    """
    known = (end_token >= 0) & (end_token < tf.shape(logits)[-1])
    return tf.where(known, end_token, tf.zeros_like(end_token))


def complete_parents(ids, parent_ids):
    """The parents, with the identity for steps that were not taken.  [T, B, K].

    XLA's outputs always have the maximum length, with zeros after the last step. In a step that was
    taken the K selected hypotheses differ, so they are not all token 0 of parent 0.
    """
    taken = tf.reduce_any((ids != 0) | (parent_ids != 0), axis=[1, 2], keepdims=True)
    return tf.where(taken, parent_ids, tf.range(tf.shape(parent_ids)[2]))


def _follow(leaf, parents):
    if isinstance(leaf, tf.TensorArray) or leaf.shape.rank is not None and leaf.shape.rank < 2:
        return leaf
    return gather_beams(leaf, parents)


def attention_probs(state) -> tf.Tensor | None:
    """The alignments in a cell's state, the mean of them if there are several.  [B, K, S]."""
    found = _find_alignments(state)
    if not found:
        return None
    if len(found) == 1:
        return found[0]
    lengths = {alignments.shape[-1] for alignments in found} - {None}
    if len(lengths) > 1:
        raise ValueError(
            "Coverage penalty and output_alignments average the alignments of all mechanisms, so "
            f"their memories must have the same length. Received: lengths {sorted(lengths)}"
        )
    return tf.add_n([widen(alignments) for alignments in found]) / len(found)


def _find_alignments(state) -> list:
    if hasattr(state, "alignments"):
        return tf.nest.flatten(state.alignments)
    if isinstance(state, (list, tuple)):
        return [leaf for part in state for leaf in _find_alignments(part)]
    return []
