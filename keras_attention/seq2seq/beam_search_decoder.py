"""`BeamSearchDecoder`: the K best continuations of every source, step by step."""

import collections
import functools
from typing import Any, Callable

import tensorflow as tf

from keras_attention.functional import log_normalizer, top_k, widen
from keras_attention.seq2seq._keras import deserialize, register, same_structure, serialize
from keras_attention.seq2seq._panels import in_panels
from keras_attention.seq2seq.basic_decoder import _build
from keras_attention.seq2seq.beam_search_ops import (
    gather_beams,
    gather_tree,
    gather_tree_from_array,
    tile_batch,
)
from keras_attention.seq2seq.decoder import BaseDecoder

__all__ = [
    "AlignedBeamSearchDecoderOutput",
    "BeamSearchDecoder",
    "BeamSearchDecoderOutput",
    "BeamSearchDecoderState",
    "FinalBeamSearchDecoderOutput",
    "gather_tree",
    "gather_tree_from_array",
    "tile_batch",
]


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


class AlignedBeamSearchDecoderOutput(
    collections.namedtuple(
        "AlignedBeamSearchDecoderOutput", ("scores", "predicted_ids", "parent_ids", "alignments")
    )
):
    """A `BeamSearchDecoderOutput` with the step's alignments [B, K, S], of the chosen parents."""

    __slots__ = ()


class FinalBeamSearchDecoderOutput(
    collections.namedtuple(
        "FinalBeamSearchDecoderOutput", ("predicted_ids", "beam_search_decoder_output")
    )
):
    """predicted_ids [B, T, K], traced back and best first; and what every step gave."""

    __slots__ = ()


@register
class BeamSearchDecoder(BaseDecoder):
    """Keep the `beam_width` best hypotheses of every source.

    score = log p / ((5 + length) / 6)^w + c * sum_s log min(sum_t alignment_ts, 1), with w the
    length and c the coverage penalty weight (the latter counted for finished hypotheses).
    Source: Wu et al., 2016 (GNMT), eq. 14.

    Args:
        cell: an RNN cell. Its state is given for B*K rows: `tile_batch` an encoder's.
        beam_width: K.
        embedding_fn: ids -> inputs; without it the embedding matrix is an argument of the call.
        output_layer: a layer from the cell's output to logits, or None.
        length_penalty_weight, coverage_penalty_weight: w and c; 0 is none.
        reorder_tensor_arrays: put alignment histories in the order of the final hypotheses.
        output_all_scores: scores of all continuations, [B, K, V], instead of the chosen ones.
        output_alignments: steps also give alignments, and the final ones follow the beams.
        normalize: whether the cell gives logits; False if it gives log-probabilities already.

    Call: `decoder(embedding, start_tokens=[B], end_token=e, initial_state=state, memory=None)` ->
    `(FinalBeamSearchDecoderOutput, BeamSearchDecoderState, lengths [B, K])`. `memory` is not
    tiled: the K hypotheses of a source share it.

    >>> import keras
    >>> cell = keras.layers.GRUCell(8)
    >>> decoder = BeamSearchDecoder(cell, 3, output_layer=keras.layers.Dense(5), maximum_iterations=4)
    >>> state = tile_batch(cell.get_initial_state(batch_size=2), 3)
    >>> outputs, _, lengths = decoder(
    ...     tf.eye(5), start_tokens=[1, 1], end_token=0, initial_state=state)
    >>> outputs.predicted_ids.shape[0::2], lengths.shape
    (TensorShape([2, 3]), TensorShape([2, 3]))
    """

    def __init__(
        self,
        cell: Any,
        beam_width: int,
        embedding_fn: Callable | None = None,
        output_layer: Any = None,
        length_penalty_weight: Any = 0.0,
        coverage_penalty_weight: Any = 0.0,
        reorder_tensor_arrays: bool = True,
        output_all_scores: bool = False,
        output_alignments: bool = False,
        normalize: bool = True,
        **kwargs,
    ):
        kwargs.setdefault("dtype", getattr(cell, "dtype_policy", None))  # states are the cell's
        super().__init__(**kwargs)
        if not callable(cell):
            raise TypeError(f"cell must be an RNN cell. Received: {type(cell).__name__}")
        if isinstance(beam_width, int) and beam_width < 1:
            raise ValueError(f"beam_width must be at least 1. Received: beam_width={beam_width}")
        for argument, value in (("output_layer", output_layer), ("embedding_fn", embedding_fn)):
            if value is not None and not callable(value):
                raise TypeError(f"{argument} must be callable or None. Received: {value!r}")
        self.cell = cell
        self.beam_width = beam_width
        self.embedding_fn = embedding_fn
        self.output_layer = output_layer
        self.length_penalty_weight = length_penalty_weight
        self.coverage_penalty_weight = coverage_penalty_weight
        self.reorder_tensor_arrays = reorder_tensor_arrays
        self.output_all_scores = output_all_scores
        self.output_alignments = output_alignments
        self.normalize = normalize
        self._step_cell = cell
        self._project = output_layer
        self._alignment_steps = None
        self._vocabulary = None

    # -- sizes

    @property
    def batch_size(self):
        return self._batch_size

    @property
    def _rows_per_entry(self):
        return self.beam_width

    @property
    def output_size(self):
        width = tf.TensorShape([self.beam_width])
        scores = width
        if self.output_all_scores:
            scores = width.concatenate(self._rnn_output_size()[-1:])
        sizes = BeamSearchDecoderOutput(scores, width, width)
        if self.output_alignments:
            return AlignedBeamSearchDecoderOutput(*sizes, width.concatenate(self._alignment_steps))
        return sizes

    @property
    def output_dtype(self):
        dtypes = BeamSearchDecoderOutput(self._score_dtype, tf.int32, tf.int32)
        if self.output_alignments:
            return AlignedBeamSearchDecoderOutput(*dtypes, self._alignment_dtype)
        return dtypes

    def _rnn_output_size(self) -> tf.TensorShape:
        size = tf.TensorShape(self.cell.output_size)
        if self.output_layer is None or not hasattr(self.output_layer, "compute_output_shape"):
            return size
        return tf.TensorShape(
            self.output_layer.compute_output_shape((None, *size.as_list()))
        )[1:]

    @property
    def tracks_own_finished(self) -> bool:
        """Beams change places, and with them whether they have finished."""
        return True

    # -- the three acts

    def initialize(
        self, embedding=None, start_tokens=None, end_token=None, initial_state=None, memory=None
    ):
        """Every source begins with one live hypothesis; the others wait at log p = -inf."""
        if initial_state is None or start_tokens is None or end_token is None:
            raise ValueError(
                "BeamSearchDecoder needs start_tokens, end_token and initial_state. Received: "
                f"start_tokens={start_tokens}, end_token={end_token}, "
                f"initial_state={'given' if initial_state is not None else None}"
            )
        if embedding is None and self.embedding_fn is None:
            raise ValueError(
                "BeamSearchDecoder needs an embedding matrix at the call, or embedding_fn in the "
                "constructor. Received: neither."
            )
        start_tokens = tf.convert_to_tensor(start_tokens, tf.int32)
        self.end_token = tf.convert_to_tensor(end_token, tf.int32)
        if start_tokens.shape.rank != 1:
            raise ValueError(f"start_tokens must be a vector. Received: shape {start_tokens.shape}")
        if self.end_token.shape.rank != 0:
            raise ValueError(f"end_token must be a scalar. Received: shape {self.end_token.shape}")
        self._embed = self.embedding_fn or (lambda ids: tf.nn.embedding_lookup(embedding, ids))
        self._project = in_panels(self.output_layer)
        self._step_cell = self.cell
        if memory is not None:
            self._step_cell = functools.partial(
                self.cell, memory=memory, beam_width=self.beam_width
            )
        self._batch_size = tf.size(start_tokens)
        start = tf.repeat(start_tokens[:, None], self.beam_width, axis=1)  # [B, K]
        inputs = self._embed(start)
        _build(self.cell, inputs[:, 0], memory)
        state = self._initial_search_state(initial_state)
        return state.finished, inputs, state

    def _initial_search_state(self, cell_state) -> BeamSearchDecoderState:
        floats = [leaf.dtype for leaf in tf.nest.flatten(cell_state) if leaf.dtype.is_floating]
        self._score_dtype = widen(tf.zeros([], floats[0] if floats else tf.float32)).dtype
        first = tf.one_hot(
            tf.zeros([self._batch_size], tf.int32), self.beam_width, on_value=True, off_value=False
        )  # [B, K]
        cell_state = tf.nest.map_structure(self._split, cell_state)
        attention = _attention_probs(cell_state)
        coverage = tf.get_static_value(self.coverage_penalty_weight) != 0.0
        if (coverage or self.output_alignments) and attention is None:
            raise ValueError(
                "Coverage penalty and output_alignments need a cell that attends: an "
                "AttentionWrapper, or one whose state has `alignments`. Received: "
                f"{type(self.cell).__name__}"
            )
        if attention is not None:
            self._alignment_steps, self._alignment_dtype = attention.shape[-1:], attention.dtype
        return BeamSearchDecoderState(
            cell_state=cell_state,
            log_probs=tf.where(
                first, tf.zeros([], self._score_dtype), tf.constant(-float("inf"), self._score_dtype)
            ),
            finished=~first,
            lengths=tf.zeros([self._batch_size, self.beam_width], tf.int64),
            accumulated_attention_probs=(
                tf.zeros_like(attention, self._score_dtype) if coverage else ()
            ),
        )

    def step(self, time, inputs, state, training=None, name=None):
        """Extend every hypothesis by every token and keep the best K."""
        with tf.name_scope(name or "BeamSearchDecoderStep"):
            cell_state = tf.nest.map_structure(self._merge, state.cell_state)
            inputs = tf.nest.map_structure(self._merge, inputs)
            output, next_state = self._step_cell(inputs, cell_state, training=training)
            cell_state = same_structure(cell_state, next_state)
            if self.output_layer is not None:
                output = self._project(output)
            logits = self._split(output)
            cell_state = tf.nest.map_structure(self._split, cell_state)
            outputs, state = _beam_search_step(
                time=time,
                logits=logits,
                next_cell_state=cell_state,
                beam_state=state,
                batch_size=self._batch_size,
                beam_width=self.beam_width,
                end_token=self.end_token,
                length_penalty_weight=self.length_penalty_weight,
                coverage_penalty_weight=self.coverage_penalty_weight,
                output_all_scores=self.output_all_scores,
                normalize=self.normalize,
            )
            if self.output_alignments:
                # The chosen hypotheses' states came along with their parents' alignments.
                alignments = _attention_probs(state.cell_state)
                outputs = AlignedBeamSearchDecoderOutput(*outputs, alignments)
            return outputs, state, self._embed(outputs.predicted_ids), state.finished

    def finalize(self, outputs, final_state, sequence_lengths):
        """Trace the hypotheses back, and what was recorded along them."""
        parents = _walkable(outputs.predicted_ids, outputs.parent_ids)
        steps, batch, beams = tf.unstack(tf.shape(parents))
        # Finished hypotheses may still change places: the way back begins at the last step.
        ids = gather_tree(outputs.predicted_ids, parents, tf.fill([batch], steps), self.end_token)
        whole = tf.fill([batch, beams], steps)
        if self.reorder_tensor_arrays:
            cell_state = tf.nest.map_structure(
                lambda leaf: self._ordered(leaf, parents, whole), final_state.cell_state
            )
            final_state = final_state._replace(cell_state=cell_state)
        if self.output_alignments:
            alignments = gather_tree_from_array(outputs.alignments, parents, whole)
            outputs = outputs._replace(alignments=alignments)
        return FinalBeamSearchDecoderOutput(ids, outputs), final_state

    def _ordered(self, leaf, parent_ids, lengths):
        if not isinstance(leaf, tf.TensorArray):
            return leaf
        recorded = leaf.stack()  # [T, B*K, S]
        shape = tf.concat([tf.shape(parent_ids), tf.shape(recorded)[2:]], 0)
        # The cell wrote before the step chose: an entry stands under the parent of its beam.
        recorded = tf.gather(tf.reshape(recorded, shape), parent_ids, batch_dims=2)
        return gather_tree_from_array(recorded, parent_ids, lengths)

    # -- [B*K, ...] <-> [B, K, ...]

    def _split(self, x):
        if isinstance(x, tf.TensorArray) or x.shape.rank == 0:
            return x
        rows = x.shape[0]
        if rows is not None and isinstance(self.beam_width, int) and rows % self.beam_width:
            raise ValueError(
                "The state of a beam search has beam_width rows for each source; tile_batch an "
                f"encoder's state. Received: {rows} rows, beam_width={self.beam_width}"
            )
        split = tf.reshape(
            x, tf.concat([[self._batch_size, self.beam_width], tf.shape(x)[1:]], 0)
        )
        split.set_shape([None, self.beam_width, *x.shape[1:]])
        return split

    def _merge(self, x):
        if isinstance(x, tf.TensorArray) or x.shape.rank == 0:
            return x
        merged = tf.reshape(
            x, tf.concat([[self._batch_size * self.beam_width], tf.shape(x)[2:]], 0)
        )
        merged.set_shape(tf.TensorShape([None]).concatenate(x.shape[2:]))
        return merged

    def get_config(self) -> dict:
        parts = ("cell", "embedding_fn", "output_layer")
        plain = (
            "beam_width",
            "length_penalty_weight",
            "coverage_penalty_weight",
            "reorder_tensor_arrays",
            "output_all_scores",
            "output_alignments",
            "normalize",
        )
        return {
            **super().get_config(),
            **{name: serialize(getattr(self, name)) for name in parts},
            **{name: getattr(self, name) for name in plain},
        }

    @classmethod
    def from_config(cls, config: dict):
        parts = ("cell", "embedding_fn", "output_layer")
        return cls(**{k: deserialize(v) if k in parts else v for k, v in config.items()})


def _walkable(ids, parent_ids):
    """The parents of every step taken; a step that was not taken is walked straight through.

    XLA's outputs are as long as the limit and zero beyond the last step. In a step that was taken
    the K chosen ones differ, so that they are not all token 0 of parent 0.  [T, B, K].
    """
    taken = tf.reduce_any((ids != 0) | (parent_ids != 0), axis=[1, 2], keepdims=True)
    return tf.where(taken, parent_ids, tf.range(tf.shape(parent_ids)[2]))


def _attention_probs(state) -> tf.Tensor | None:
    """The alignments in a cell's state, the mean of them if there are several.  [B, K, S]."""
    found = _find_alignments(state)
    if not found:
        return None
    if len(found) == 1:
        return found[0]
    return tf.add_n([widen(alignments) for alignments in found]) / len(found)


def _find_alignments(state) -> list:
    if hasattr(state, "alignments"):
        return tf.nest.flatten(state.alignments)
    if isinstance(state, (list, tuple)):
        return [leaf for part in state for leaf in _find_alignments(part)]
    return []


# -- one step, on tensors alone


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
        cell_state=tf.nest.map_structure(
            lambda leaf: _follow(leaf, parents), next_cell_state
        ),
        log_probs=next_log_probs,
        finished=parent_finished | (next_ids == end_token) | (next_log_probs == never),
        lengths=gather_beams(lengths, parents) + tf.cast(~parent_finished, lengths.dtype),
        accumulated_attention_probs=() if isinstance(coverage, tuple) else gather_beams(
            coverage, parents
        ),
    )
    if output_all_scores:
        everything = tf.range(tf.shape(logits)[2])[None, None]
        next_scores = scored(everything, logits - norm)[1]
    return BeamSearchDecoderOutput(next_scores, next_ids, parents), next_state


def _candidates(logits, beam_width, end_token):
    """The K+1 likeliest tokens of each row, and the end token.  [B, K, V] -> ids, logits."""
    vocabulary = logits.shape[-1]
    if vocabulary is None:
        raise ValueError("The width of the logits must be known. Received: shape "
                         f"{logits.shape}")
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
