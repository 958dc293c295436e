"""Length and coverage penalties of a search (Wu et al., 2016), and the early-stopping test."""

from typing import Any

import tensorflow as tf

from keras_attention.decoding.search_state import SearchState


def penalized_scores(
    log_probs,
    sequence_lengths,
    length_penalty_weight,
    coverage_penalty_weight,
    finished,
    accumulated_attention_probs,
):
    """log p with both penalties.  [B, K, C], lengths [B, K, C], coverage [B, K, S] -> [B, K, C]."""
    scores = log_probs / tf.cast(
        gnmt_length_penalty(sequence_lengths, length_penalty_weight), log_probs.dtype
    )
    weight = tf.convert_to_tensor(coverage_penalty_weight)
    if weight.shape.rank != 0:
        raise ValueError(
            f"coverage_penalty_weight should be a scalar. Received: shape {weight.shape}"
        )
    if tf.get_static_value(weight) == 0.0:
        return scores
    seen = tf.cast(accumulated_attention_probs, log_probs.dtype)
    seen = tf.where(seen == 0.0, tf.ones([], seen.dtype), seen)  # zero is padding
    penalty = tf.reduce_sum(tf.math.log(tf.minimum(seen, 1.0)), axis=2)  # [B, K]
    penalty *= tf.cast(finished, penalty.dtype) * tf.cast(weight, penalty.dtype)
    return scores + penalty[..., None]


def gnmt_length_penalty(sequence_lengths, penalty_factor):
    """((5 + length) / 6)^w (Wu et al., 2016); 1 where w is 0."""
    factor = tf.convert_to_tensor(penalty_factor, tf.float32)
    if factor.shape.rank != 0:
        raise ValueError(f"penalty_factor should be a scalar. Received: shape {factor.shape}")
    if tf.get_static_value(factor) == 0.0:
        return 1.0
    return ((5.0 + tf.cast(sequence_lengths, tf.float32)) / 6.0) ** factor


def cannot_be_overtaken(
    state: SearchState, n_best: int, max_length: Any, length_weight: Any, coverage_weight: Any
) -> tf.Tensor:
    """Whether the n best hypotheses have finished, and no live one can overtake them.  [B] bool.

    The log p of a hypothesis never increases. With a length penalty its score may still increase,
    at most to the score of its current log p at `max_length` tokens, or at any length if None.
    """
    beams = state.beams
    lengths = beams.lengths[..., None]
    coverage = beams.accumulated_attention_probs
    never = tf.constant(-float("inf"), beams.log_probs.dtype)
    ended = beams.finished & ~state.stuck

    def scores(lengths, coverage_weight):
        total = beams.log_probs[..., None]
        return penalized_scores(total, lengths, length_weight, coverage_weight, ended, coverage)[
            ..., 0
        ]

    reached = tf.where(ended, scores(lengths, coverage_weight), never)
    limit = tf.int64.max if max_length is None else max_length
    longest = tf.maximum(lengths, tf.cast(limit, lengths.dtype))
    bound = tf.maximum(scores(lengths, 0.0), scores(longest, 0.0))
    bound = tf.where(beams.finished, never, bound)
    worst = tf.math.top_k(reached, n_best)[0][:, -1]
    return (worst > never) & (worst >= tf.reduce_max(bound, 1))
