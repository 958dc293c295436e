"""`generate`: the best answers of any model that can `encode` and has a `cell`."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import tensorflow as tf

from keras_attention.functional import widen
from keras_attention.seq2seq._keras import no_autograph
from keras_attention.seq2seq.beam_search_decoder import BeamSearchDecoder
from keras_attention.seq2seq.beam_search_ops import tile_batch
from keras_attention.seq2seq.beam_search_step import _get_scores
from keras_attention.seq2seq.controls import Control

__all__ = ["Model", "SearchResult", "generate"]


class Model(Protocol):
    """What `generate` asks of a model."""

    start_id: int
    end_id: int
    pad_id: int

    def encode(self, source: Any) -> tuple[Any, Any]:
        """-> (memory, state): what every step may look at (or None), and the first state."""

    def embed(self, tokens: tf.Tensor) -> tf.Tensor:
        """Target ids [N] -> inputs of the cell [N, D]."""

    def project(self, output: tf.Tensor) -> tf.Tensor:
        """Outputs of the cell [..., D'] -> logits [..., V]."""

    cell: Callable  # (inputs, state, memory=, beam_width=) -> (output, state)


class SearchResult(NamedTuple):
    """The n best answers of every source, best first."""

    ids: tf.Tensor  # [B, K, T] int32, the pad id after the end token
    lengths: tf.Tensor  # [B, K] int32, the end token counted
    scores: tf.Tensor  # [B, K] float32: log p / length penalty + coverage; -inf: no such answer
    alignments: Any  # [B, K, T, S], zeros after the end token; None if not asked for


class _TokenState(NamedTuple):
    cell: Any
    control: Any


@no_autograph
def generate(
    model: Model,
    source: Any,
    *,
    beam_width: int = 1,
    max_length: Any = 64,
    length_penalty: float = 0.0,
    coverage_penalty: float = 0.0,
    n_best: int | None = None,
    return_alignments: bool = False,
    control: Control | None = None,
) -> SearchResult:
    """Search for the answers that a model finds best.

    score = log p(answer | source) / ((5 + T) / 6)^length_penalty + coverage_penalty *
    sum_s log min(sum_t alignment_ts, 1), where T counts the end token (Wu et al., 2016, eq. 14).

    Args:
        model: see `Model`.
        source: what `model.encode` takes, for B sources.
        beam_width: K hypotheses per source; 1 is greedy.
        max_length: the longest answer in tokens, the end token counted; an int or a scalar.
        length_penalty, coverage_penalty: 0 is none.
        n_best: how many answers to return, at most (and by default) K.
        return_alignments: also return what each token looked at.
        control: a `Control` that says which tokens are allowed.

    Returns a `SearchResult`. An answer cut off at `max_length` has no end token.

    Raises ValueError for a beam width below 1, a max_length below 1, or n_best not in 1..K.
    """
    n_best = beam_width if n_best is None else n_best
    _check(beam_width, max_length, n_best)
    memory, state = model.encode(source)
    batch_size = tf.shape(tf.nest.flatten(state)[0])[0]
    state = _TokenState(
        tile_batch(state, beam_width), () if control is None else control.init(beam_width)
    )
    decoder = BeamSearchDecoder(
        _token_cell(model, memory, beam_width, control),
        beam_width,
        embedding_fn=tf.identity,
        length_penalty_weight=length_penalty,
        coverage_penalty_weight=coverage_penalty,
        output_alignments=return_alignments,
        normalize=control is None,
        maximum_iterations=max_length,
        autocast=False,  # the state has the types of the model, whatever the global policy is
    )
    found, final, lengths = decoder(
        None,
        start_tokens=tf.fill([batch_size], model.start_id),
        end_token=model.end_id,
        initial_state=state,
        training=False,
    )
    alignments = found.beam_search_decoder_output.alignments if return_alignments else None
    return _result(
        model, found.predicted_ids, alignments, final, length_penalty, coverage_penalty, n_best
    )


def _check(beam_width, max_length, n_best) -> None:
    if beam_width < 1:
        raise ValueError(f"beam_width must be at least 1. Received: beam_width={beam_width}")
    if isinstance(max_length, int) and max_length < 1:
        raise ValueError(f"max_length must be at least 1. Received: max_length={max_length}")
    if not 1 <= n_best <= beam_width:
        raise ValueError(
            "n_best must be between 1 and beam_width. Received: "
            f"n_best={n_best}, beam_width={beam_width}"
        )


def _token_cell(model, memory, beam_width, control):
    """The model's step from token to next token's log p:  [N], state -> [N, V], state.

    With a control the step begins by telling it the token, so that its state lies with the
    cell's and follows the hypotheses. What is forbidden is struck out of the probabilities
    without raising the others: a score stays the model's own log p.
    """
    looks = {} if memory is None else {"memory": memory, "beam_width": beam_width}

    def step(tokens, state, training=None):
        output, cell_state = model.cell(model.embed(tokens), state.cell, training=False, **looks)
        logits = widen(model.project(output))
        if control is None:
            return logits, _TokenState(cell_state, ())
        control_state = control.advance(state.control, tokens)
        log_probs = control.apply(tf.nn.log_softmax(logits), control_state)
        return log_probs, _TokenState(cell_state, control_state)

    return step


def _result(model, ids, alignments, final, length_penalty, coverage_penalty, n_best):
    """[B, T, K] hypotheses -> SearchResult, scored with their full lengths and sorted."""
    lengths = tf.cast(final.lengths, tf.int32)  # [B, K]
    scores = _get_scores(
        final.log_probs[..., None],
        lengths[..., None],
        length_penalty,
        coverage_penalty,
        tf.ones_like(final.finished),  # an answer cut off at the limit has looked at as much, too
        final.accumulated_attention_probs,
    )[..., 0]
    scores, order = tf.math.top_k(tf.cast(scores, tf.float32), n_best)
    lengths = tf.gather(lengths, order, batch_dims=1)
    lengths = tf.where(scores > -float("inf"), lengths, 0)
    ids = tf.gather(tf.transpose(ids, [0, 2, 1]), order, batch_dims=1)  # [B, K, T]
    real = tf.sequence_mask(lengths, tf.shape(ids)[2])
    ids = tf.where(real, ids, model.pad_id)
    if alignments is not None:
        alignments = tf.gather(tf.transpose(alignments, [0, 2, 1, 3]), order, batch_dims=1)
        alignments = tf.where(real[..., None], alignments, tf.zeros([], alignments.dtype))
    return SearchResult(ids, lengths, scores, alignments)
