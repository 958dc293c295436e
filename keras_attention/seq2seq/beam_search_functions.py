"""The functions beside tfa's `BeamSearchDecoder`, under tfa's names."""

import tensorflow as tf

from keras_attention.decoding.penalties import penalized_scores
from keras_attention.decoding.search_state import Hypotheses, SearchState, StepChoice
from keras_attention.decoding.search_step import search_step
from keras_attention.decoding.strategies import beam


class BeamSearchDecoderState(Hypotheses):
    """The hypotheses of a search, under tf.contrib's name."""

    __slots__ = ()


class BeamSearchDecoderOutput(StepChoice):
    """One step of the search: scores [B, K] with penalties, ids [B, K], parents [B, K]."""

    __slots__ = ()


_get_scores = penalized_scores


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
):
    """Choose the K best continuations.  logits [B, K, V] -> output, state."""
    state = SearchState(beam_state, tf.zeros_like(beam_state.finished), ())
    output, state = search_step(
        time,
        logits,
        next_cell_state,
        state,
        beam(),
        end_token,
        length_penalty_weight,
        coverage_penalty_weight,
        output_all_scores,
    )
    return BeamSearchDecoderOutput(*output), state.beams


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


def _check_static_batch_beam_maybe(shape, batch_size, beam_width) -> bool:
    """Whether a static shape can be [batch, beam, ...] or [batch * beam, ...]."""
    rows = batch_size * beam_width if None not in (batch_size, beam_width) else None
    merged = tf.TensorShape([rows]).concatenate(shape[1:])
    split = tf.TensorShape([batch_size, beam_width])
    return (shape.rank or 0) >= 1 and (
        shape.is_compatible_with(merged)
        or (shape.rank >= 2 and shape[:2].is_compatible_with(split))
    )


def _check_batch_beam(t, batch_size, beam_width):
    """Assert at run time that t is [T, batch * beam, ...] or [T, batch, beam, ...]."""
    shape = tf.shape(t)
    message = (
        "TensorArray reordering expects elements to be reshapable to [batch_size, beam_size, -1]. "
        f"Received: {t.shape}. Pass reorder_tensor_arrays=False to leave them as they are."
    )
    if t.shape.rank == 2:
        good = shape[1] == batch_size * beam_width
    else:
        good = (shape[1] == batch_size * beam_width) | (
            (shape[1] == batch_size) & (shape[2] == beam_width)
        )
    return tf.debugging.assert_equal(good, True, message=message)
