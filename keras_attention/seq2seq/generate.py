"""`generate`: the best answers of any model that can `encode` and has a `cell`."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import tensorflow as tf

from keras_attention.seq2seq import _frozen
from keras_attention.seq2seq._keras import no_autograph
from keras_attention.seq2seq._prompt import as_beginning
from keras_attention.seq2seq._token_cell import TokenCell, begin, one_control
from keras_attention.seq2seq.beam_search_decoder import BeamSearchDecoder
from keras_attention.seq2seq.beam_search_step import _get_scores
from keras_attention.seq2seq.choosers import Chooser, diverse
from keras_attention.seq2seq.controls import Control, prefix
from keras_attention.seq2seq.sampler_base import as_tensors

__all__ = ["Model", "SearchResult", "alternatives", "generate"]


class Model(Protocol):
    """What `generate` asks of a model."""

    start_id: int
    end_id: int  # outside of the vocabulary, such as -1: no answer ends before `max_length`
    pad_id: int

    def encode(self, source: Any) -> tuple[Any, Any]:
        """-> (memory, state): what every step may look at (or None), and the first state; None for
        a cell that begins with `get_initial_state(batch_size, max_length, beam_width, memory)`.
        """

    def embed(self, tokens: tf.Tensor) -> tf.Tensor:
        """Target ids [N] -> inputs of the cell [N, D]."""

    def project(self, output: tf.Tensor) -> tf.Tensor:
        """Outputs of the cell [..., D'] -> logits [..., V]."""

    # (inputs, state, memory=, beam_width=) -> (output, state); and perhaps
    # reorder(state, parents [B, K]) -> state, if it need not be gathered
    cell: Callable

    # A model may also have
    # - `projection() -> project`, which does before the loop what can be done before it;
    # - `prompt(source) -> ids [B, P]`, `pad_id` on the right: how its answers begin, which count it
    #   in their ids, lengths and scores. A decoder alone has nothing else of its source;
    # - `target_vocab_size`, V: controls of tokens that it does not have are then refused at once.


class SearchResult(NamedTuple):
    """The n best answers of every source, best first."""

    ids: tf.Tensor  # [B, K, T] int32, the pad id after the end token
    lengths: tf.Tensor  # [B, K] int32, the end token counted
    # [B, K] float32: log p / length penalty + coverage; -inf: no such answer
    scores: tf.Tensor
    alignments: Any  # [B, K, T, S], zeros after the end token; None if not asked for
    finished: Any = None  # [B, K] bool: it says its end token; False: cut off, or stuck in controls


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
    controls: Control | Sequence[Control] = (),
    chooser: Chooser | None = None,
    pad_to_max_length: bool = False,
) -> SearchResult:
    """Search for the answers that a model finds best, or draw from those it could give.

    score = log p(answer | source) / ((5 + T) / 6)^length_penalty + coverage_penalty *
    sum_s log min(sum_t alignment_ts, 1), where T counts the end token (Wu et al., 2016, eq. 14).

    Args:
        model: see `Model`.
        source: what `model.encode` takes, for B sources: ids [B, S], or a nest of such tensors.
        beam_width: K hypotheses per source; 1 is greedy. There may be fewer answers than K: then
            the places of those missing are empty, their length is 0 and their score -inf.
        max_length: the longest answer in tokens, the end token counted; an int or a scalar.
        length_penalty, coverage_penalty: 0 is none; numbers or scalars.
        n_best: how many answers to return, at most (and by default) K. A search for fewer than K
            ends as soon as these are certain.
        return_alignments: also return what each token looked at.
        controls: what may be said, and how likely: see `controls`.
        chooser: who picks the next tokens: `best()` (the default: beam search), `sample()`,
            `stochastic()`, `diverse()`.
        pad_to_max_length: in a graph, T is max_length however short the answers are, as it always
            is under XLA. A graph that LiteRT or XLA is to compile later needs it.

    Returns a `SearchResult`. An answer cut off at `max_length` has no end token; where controls
    leave nothing to say an answer stops, comes after all others, and is no more `finished`.

    Raises ValueError for a beam width below 1, a max_length below 1, n_best not in 1..K, and for
    controls that contradict each other, naming both; TypeError for a chooser that is none.

    >>> from models import RNNSeq2Seq
    >>> model, source = RNNSeq2Seq(vocab_size=20, units=8), tf.constant([[5, 6, 2], [7, 2, 0]])
    >>> found = generate(model, source, beam_width=3, max_length=4, length_penalty=0.6)
    >>> found.ids.shape[:2], bool((found.scores[:, 0] >= found.scores[:, 1]).numpy().all())
    (TensorShape([2, 3]), True)
    """
    n_best = beam_width if n_best is None else n_best
    check_sizes(beam_width, max_length, n_best)
    control, source = one_control(model, controls, max_length), as_tensors(source)
    memory, state = begin(model, source, beam_width, max_length, control)
    batch_size = tf.shape(tf.nest.flatten(source)[0])[0]
    decoder = BeamSearchDecoder(
        TokenCell(model, memory, beam_width, control),
        beam_width,
        embedding_fn=tf.identity,
        length_penalty_weight=length_penalty,
        coverage_penalty_weight=coverage_penalty,
        output_alignments=return_alignments,
        normalize=control is None,
        chooser=chooser,
        n_best=n_best if n_best < beam_width else None,
        maximum_iterations=max_length,
        enable_tflite_convertible=pad_to_max_length,
        autocast=False,  # the state has the types of the model, whatever the global policy is
    )
    with _frozen.weights(model):
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


def alternatives(
    model: Model,
    source: Any,
    beginning: Any,
    count: int,
    *,
    max_length: Any = 64,
    controls: Control | Sequence[Control] = (),
    **settings: Any,
) -> SearchResult:
    """How else an answer could go on at a position: the `count` likeliest next tokens, each of
    them with the greedy rest of its answer.

    `beginning` [B, P] are the tokens before that position, `model.pad_id` on the right of shorter
    ones; P may be 0. Scores and ids are those of the whole answers, the beginning included, best
    first. Other settings are those of `generate`, whose `beam_width` and `chooser` are decided
    here; a token that there is not leaves its place empty.

    Raises ValueError for a count below 1, a beginning that is not [B, P], has padding before its
    tokens, or leaves no position below `max_length`, as far as it is known; and as `generate`.

    >>> from models import RNNSeq2Seq
    >>> model, source = RNNSeq2Seq(vocab_size=20, units=8), tf.constant([[5, 6, 2]])
    >>> found = alternatives(model, source, [[7, 8]], count=3, max_length=4)
    >>> found.ids[0, :, :2].numpy().tolist(), len(set(found.ids[0, :, 2].numpy()))
    ([[7, 8], [7, 8], [7, 8]], 3)
    """
    if count < 1:
        raise ValueError(f"count must be at least 1. Received: count={count}")
    size = getattr(model, "target_vocab_size", None)
    beginning = as_beginning(beginning, model.pad_id, max_length, "beginning", 1, size)
    position = tf.reduce_sum(tf.cast(beginning >= 0, tf.int32), 1)
    controls = [controls] if isinstance(controls, Control) else list(controls)
    return generate(
        model,
        source,
        beam_width=count,
        max_length=max_length,
        controls=[prefix(beginning, pad_id=-1), *controls],
        chooser=diverse(count, float("inf"), at=position),
        **settings,
    )


def check_sizes(beam_width, max_length, n_best) -> None:
    if beam_width < 1:
        raise ValueError(f"beam_width must be at least 1. Received: beam_width={beam_width}")
    known = tf.get_static_value(max_length) if tf.is_tensor(max_length) else max_length
    if known is not None and not (int(known) == known and known >= 1):
        raise ValueError(f"max_length must be at least 1 and whole. Received: max_length={known}")
    if not 1 <= n_best <= beam_width:
        raise ValueError(
            "n_best must be between 1 and beam_width. Received: "
            f"n_best={n_best}, beam_width={beam_width}"
        )


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
    # What ended neither with the end token nor at the limit had nothing left that it might say.
    stuck = ~final.finished & (lengths < tf.shape(ids)[1])
    scores, finished = tf.cast(scores, tf.float32), final.finished
    order = _best_first(scores, stuck)[:, :n_best]
    scores, lengths, finished = (
        tf.gather(x, order, batch_dims=1) for x in (scores, lengths, finished)
    )
    finished &= scores > -float("inf")
    lengths = tf.where(scores > -float("inf"), lengths, 0)
    # Transposed last: OpenVINO cannot read a gather in a batch of what was transposed.
    ids = tf.transpose(tf.gather(ids, order, axis=2, batch_dims=1), [0, 2, 1])  # [B, K, T]
    real = tf.sequence_mask(lengths, tf.shape(ids)[2])
    ids = tf.where(real, ids, model.pad_id)
    if alignments is not None:
        alignments = tf.gather(alignments, order, axis=2, batch_dims=1)  # [B, T, K, S]
        alignments = tf.transpose(alignments, [0, 2, 1, 3])
        alignments = tf.where(real[..., None], alignments, tf.zeros([], alignments.dtype))
    return SearchResult(ids, lengths, scores, alignments, finished)


def _best_first(scores, last):
    """The places of a row by falling score, those that are to come last behind the others.

    [B, K], [B, K] bool -> [B, K].
    """
    count = scores.shape[1]
    _, order = tf.math.top_k(scores, count)
    behind = tf.cast(tf.gather(last, order, batch_dims=1), tf.int32)
    _, places = tf.math.top_k(-tf.range(count) - count * behind, count)
    return tf.gather(order, places, batch_dims=1)
