"""One step of beam search, on tensors alone: score every continuation, keep the best K."""

import collections

import tensorflow as tf

from keras_attention.functional import log_normalizer, top_k, widen
from keras_attention.seq2seq.beam_search_ops import gather_beams


class BeamSearchDecoderState(
    collections.namedtuple(
        "BeamSearchDecoderState",
        ("cell_state", "log_probs", "finished", "lengths", "accumulated_attention_probs"),
    )
):
    """cell_state: a nest of [B, K, ...]; log_probs [B, K] (no penalty in them), finished [B, K],
    lengths [B, K] int64 with the end token counted, accumulated_attention_probs [B, K, S] or ().
    """

    __slots__ = ()


class BeamSearchDecoderOutput(
    collections.namedtuple("BeamSearchDecoderOutput", ("scores", "predicted_ids", "parent_ids"))
):
    """One step of the search: scores [B, K] with penalties, ids [B, K], parents [B, K]."""

    __slots__ = ()


def _beam_search_step(
    time,
    logits,
    next_cell_state,
    beam_state,
    batch_size,
    beam_width,
    end_token,
    length_penalty_weight,
    coverage_penalty_weight,
    output_all_scores=False,
    normalize=True,
):
    """Choose the K best continuations.  logits [B, K, V] -> output, state.

    The best of a row in logits are its best in probability, so each row offers its K best tokens
    (and the end token, whose score counts another length) and V is never scored as a whole.
    """
    end_token = tf.convert_to_tensor(end_token, tf.int32)
    logits = tf.cast(logits, beam_state.log_probs.dtype)
    never = tf.constant(-float("inf"), logits.dtype)
    norm = log_normalizer(logits) if normalize else 0.0
    finished, lengths = beam_state.finished, beam_state.lengths
    coverage = ()
    if tf.get_static_value(coverage_penalty_weight) != 0.0:
        attention = tf.cast(_attention_probs(next_cell_state), logits.dtype)
        attention *= tf.cast(~finished, logits.dtype)[..., None]
        coverage = beam_state.accumulated_attention_probs + attention

    def scored(ids, log_probs):
        """ids [B, K, C] or [1, 1, C], log p of the token [B, K, C] -> total log p, score."""
        ends = ids == end_token
        frozen = tf.where(ends, tf.zeros([], log_probs.dtype), never)
        log_probs = tf.where(finished[..., None], frozen, log_probs)
        total = beam_state.log_probs[..., None] + log_probs
        grows = tf.cast(~ends & ~finished[..., None], lengths.dtype)
        scores = _get_scores(
            total,
            lengths[..., None] + grows,
            length_penalty_weight,
            coverage_penalty_weight,
            finished,
            coverage,
        )
        return total, scores

    ids, candidates = _candidates(logits, beam_width, end_token)
    total, scores = scored(ids, candidates - norm)
    # An end token that is among the best as well is no other continuation.
    repeated = tf.concat(
        [ids[..., :-1] == end_token, tf.zeros_like(ids[..., -1:], tf.bool)], axis=2
    )
    total, scores = tf.where(repeated, never, total), tf.where(repeated, never, scores)

    choices = tf.shape(ids)[2]
    flat = [batch_size, beam_width * choices]
    next_scores, chosen = tf.math.top_k(tf.reshape(scores, flat), k=beam_width)  # [B, K]
    next_scores.set_shape([None, beam_width])
    chosen.set_shape([None, beam_width])
    parents = chosen // choices

    def of_chosen(x):
        return tf.gather(tf.reshape(x, flat), chosen, batch_dims=1)

    next_ids, next_log_probs = of_chosen(ids), of_chosen(total)
    parent_finished = gather_beams(finished, parents)
    next_state = BeamSearchDecoderState(
        cell_state=tf.nest.map_structure(lambda leaf: _follow(leaf, parents), next_cell_state),
        log_probs=next_log_probs,
        finished=parent_finished | (next_ids == end_token) | (next_log_probs == never),
        lengths=gather_beams(lengths, parents) + tf.cast(~parent_finished, lengths.dtype),
        accumulated_attention_probs=()
        if isinstance(coverage, tuple)
        else gather_beams(coverage, parents),
    )
    if output_all_scores:
        everything = tf.range(tf.shape(logits)[2])[None, None]
        next_scores = scored(everything, logits - norm)[1]
    return BeamSearchDecoderOutput(next_scores, next_ids, parents), next_state


def _candidates(logits, beam_width, end_token):
    """The K+1 likeliest tokens of each row, and the end token.  [B, K, V] -> ids, logits."""
    vocabulary = logits.shape[-1]
    if vocabulary is None:
        raise ValueError(f"The width of the logits must be known. Received: shape {logits.shape}")
    values, ids = top_k(logits, min(beam_width + 1, vocabulary))
    end = tf.gather(logits, end_token, axis=2)[..., None]  # [B, K, 1]
    end_ids = tf.zeros_like(ids[..., :1]) + end_token
    return tf.concat([ids, end_ids], 2), tf.concat([values, end], 2)


def _follow(leaf, parents):
    if isinstance(leaf, tf.TensorArray) or leaf.shape.rank is not None and leaf.shape.rank < 2:
        return leaf
    return gather_beams(leaf, parents)


def _get_scores(
    log_probs,
    sequence_lengths,
    length_penalty_weight,
    coverage_penalty_weight,
    finished,
    accumulated_attention_probs,
):
    """log p with both penalties.  [B, K, C], lengths [B, K, C], coverage [B, K, S] -> [B, K, C]."""
    scores = log_probs / tf.cast(
        _length_penalty(sequence_lengths, length_penalty_weight), log_probs.dtype
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


def _length_penalty(sequence_lengths, penalty_factor):
    """((5 + length) / 6)^w (Wu et al., 2016); 1 where w is 0."""
    factor = tf.convert_to_tensor(penalty_factor, tf.float32)
    if factor.shape.rank != 0:
        raise ValueError(f"penalty_factor should be a scalar. Received: shape {factor.shape}")
    if tf.get_static_value(factor) == 0.0:
        return 1.0
    return ((5.0 + tf.cast(sequence_lengths, tf.float32)) / 6.0) ** factor


def _mask_probs(probs, eos_token, finished):
    """Finished rows give all their mass to the end token.  [B, K, V], [B, K] -> [B, K, V]."""
    row = tf.one_hot(
        eos_token,
        tf.shape(probs)[2],
        dtype=probs.dtype,
        on_value=tf.zeros([], probs.dtype),
        off_value=probs.dtype.min,
    )
    return tf.where(finished[..., None], row, probs)


def _attention_probs(state) -> tf.Tensor | None:
    """The alignments in a cell's state, the mean of them if there are several.  [B, K, S]."""
    found = _find_alignments(state)
    if not found:
        return None
    if len(found) == 1:
        return found[0]
    lengths = {alignments.shape[-1] for alignments in found} - {None}
    if len(lengths) > 1:
        raise ValueError(
            "Coverage penalty and output_alignments need mechanisms that look at memories of one "
            f"length, for they take the mean of the alignments. Received: lengths {sorted(lengths)}"
        )
    return tf.add_n([widen(alignments) for alignments in found]) / len(found)


def _find_alignments(state) -> list:
    if hasattr(state, "alignments"):
        return tf.nest.flatten(state.alignments)
    if isinstance(state, (list, tuple)):
        return [leaf for part in state for leaf in _find_alignments(part)]
    return []
