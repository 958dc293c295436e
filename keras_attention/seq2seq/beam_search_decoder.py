"""`BeamSearchDecoder`: the beam search of TFA, with its names."""

import collections
import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_attention.backend.keras import (
    check_cell,
    deserialize,
    listed_cells,
    register,
    same_structure,
    serialize,
    step,
    track,
)
from keras_attention.backend.per_thread import PerThread
from keras_attention.backend.saving import renamed
from keras_attention.backend.states import row_count
from keras_attention.decoding import strategies
from keras_attention.decoding.beams import (
    gather_beams,
    gather_tree,
    gather_tree_from_array,
    tile_batch,
)
from keras_attention.decoding.initial_state import check_initial_state
from keras_attention.decoding.penalties import cannot_be_overtaken
from keras_attention.decoding.projector import projector_of
from keras_attention.decoding.search_state import SearchState, first_hypotheses
from keras_attention.decoding.search_step import attention_probs, complete_parents, search_step
from keras_attention.decoding.strategies import Strategy, beam
from keras_attention.seq2seq.basic_decoder import (
    build_cell,
    build_output_layer,
    first_state,
    measure,
    only_one_state,
    output_shape,
    prepare,
)
from keras_attention.seq2seq.beam_search_functions import (
    BeamSearchDecoderOutput,
    BeamSearchDecoderState,
)

# tfa has these functions here.
from keras_attention.seq2seq.beam_search_functions import _beam_search_step as _beam_search_step
from keras_attention.seq2seq.beam_search_functions import _check_batch_beam as _check_batch_beam
from keras_attention.seq2seq.beam_search_functions import (
    _check_static_batch_beam_maybe as _check_static_batch_beam_maybe,
)
from keras_attention.seq2seq.beam_search_functions import _get_scores as _get_scores
from keras_attention.seq2seq.beam_search_functions import _mask_probs as _mask_probs
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


class AlignedBeamSearchDecoderOutput(
    collections.namedtuple(
        "AlignedBeamSearchDecoderOutput", ("scores", "predicted_ids", "parent_ids", "alignments")
    )
):
    """A `BeamSearchDecoderOutput` with the alignments [B, K, S] of the selected parents."""

    __slots__ = ()


class FinalBeamSearchDecoderOutput(
    collections.namedtuple(
        "FinalBeamSearchDecoderOutput", ("predicted_ids", "beam_search_decoder_output")
    )
):
    """predicted_ids [B, T, K], traced back and best first; and the output of every step."""

    __slots__ = ()


@register
class BeamSearchDecoder(BaseDecoder):
    """Beam search: keep the `beam_width` best hypotheses of every source.

    score = log p / ((5 + length) / 6)^w + c * sum_s log min(sum_t alignment_ts, 1), with w the
    length and c the coverage penalty weight (the latter applies to finished hypotheses).
    Source: Wu et al., 2016 (GNMT), eq. 14.

    Args:
        cell: an RNN cell. Its state has B*K rows: apply `tile_batch` to an encoder's state.
        beam_width: K.
        embedding_fn: ids -> inputs, unless the call gets an embedding matrix.
        output_layer: a layer from the cell's output to logits, or None.
        length_penalty_weight, coverage_penalty_weight: w and c; 0 is off.
        reorder_tensor_arrays: reorder alignment histories like the final hypotheses.
        output_all_scores: return scores of all continuations, [B, K, V], not of the selected ones.
        output_alignments: steps also return alignments, and the final ones are reordered.
        normalize: whether the cell returns logits; False if it returns log-probabilities, of which
            some may be -inf.
        strategy: how hypotheses are selected: see `decoding.strategies`; default `beam()`.
        n_best: how many hypotheses are needed. The search of a source ends when its n best have
            finished and no live hypothesis can overtake them; default K.

    Call: `decoder(embedding, start_tokens=[B], end_token=e, initial_state=None, memory=None)` ->
    `(FinalBeamSearchDecoderOutput, BeamSearchDecoderState, lengths [B, K])`. `memory`, as in
    `BasicDecoder`, is not tiled: the K hypotheses of a source share it. Without `initial_state` the
    cell starts with zeros, and its inner cell with `initial_cell_state=`, one row per source.
    An `end_token` outside of the vocabulary, such as -1, means that no hypothesis ends. Missing
    hypotheses have log p = -inf and length 0.

    >>> import keras
    >>> cell = keras.layers.GRUCell(8)
    >>> decoder = BeamSearchDecoder(
    ...     cell, 3, output_layer=keras.layers.Dense(5), maximum_iterations=4)
    >>> state = tile_batch(cell.get_initial_state(batch_size=2), 3)
    >>> outputs, _, lengths = decoder(
    ...     tf.eye(5), start_tokens=[1, 1], end_token=0, initial_state=state)
    >>> outputs.predicted_ids.shape[0::2], lengths.shape
    (TensorShape([2, 3]), TensorShape([2, 3]))
    """

    # The arguments of a call.
    end_token = PerThread()
    _batch_size = PerThread()
    _embed = PerThread()
    _project = PerThread()
    _step_cell = PerThread()  # with the memory of the call
    cell_output_shape = PerThread(None)  # the shape of one row
    _score_dtype = PerThread()
    _alignment_steps = PerThread(None)
    _alignment_dtype = PerThread(None)

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
        strategy: Strategy | None = None,
        n_best: int | None = None,
        **kwargs,
    ):
        kwargs.setdefault("dtype", getattr(cell, "dtype_policy", None))  # states are the cell's
        super().__init__(**kwargs)
        check_cell(cell)
        if isinstance(beam_width, int) and beam_width < 1:
            raise ValueError(f"beam_width must be an int >= 1. Received: beam_width={beam_width}")
        for argument, value in (("output_layer", output_layer), ("embedding_fn", embedding_fn)):
            if value is not None and not callable(value):
                raise TypeError(f"{argument} must be callable or None. Received: {value!r}")
        if not isinstance(strategy, Strategy | None):
            raise TypeError(
                "strategy must be a Strategy, such as sample() returns, or None. Received: "
                f"strategy={strategy}"
            )
        self.cell = cell
        track(self, "cell", listed_cells(cell))
        self.beam_width = beam_width
        self.embedding_fn = embedding_fn
        self.output_layer = output_layer
        self.length_penalty_weight = length_penalty_weight
        self.coverage_penalty_weight = coverage_penalty_weight
        self.reorder_tensor_arrays = reorder_tensor_arrays
        self.output_all_scores = output_all_scores
        self.output_alignments = output_alignments
        self.normalize = normalize
        self._chooses = strategy is not None
        self.strategy = beam() if strategy is None else strategy
        self.n_best = n_best

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
        size = output_shape(self)
        if self.output_layer is None or not hasattr(self.output_layer, "compute_output_shape"):
            return size
        return tf.TensorShape(self.output_layer.compute_output_shape((None, *size.as_list())))[1:]

    @property
    def tracks_own_finished(self) -> bool:
        """Hypotheses are reordered at each step, and `finished` with them."""
        return True

    # -- initialize, step, finalize

    def call(
        self,
        embedding=None,
        start_tokens=None,
        end_token=None,
        initial_state=None,
        training=None,
        stack_arrays=False,
        **kwargs,
    ):
        """-> (FinalBeamSearchDecoderOutput, BeamSearchDecoderState, lengths): see the class."""
        tokens = {"start_tokens": start_tokens, "end_token": end_token}
        return super().call(embedding, initial_state, training, stack_arrays, **tokens, **kwargs)

    def initialize(
        self,
        embedding=None,
        start_tokens=None,
        end_token=None,
        initial_state=None,
        memory=None,
        memory_sequence_length=None,
        memory_mask=None,
        initial_cell_state=None,
    ):
        """Every source starts with one live hypothesis; the others have log p = -inf."""
        if start_tokens is None or end_token is None:
            raise ValueError(
                "BeamSearchDecoder needs start_tokens and end_token. Received: "
                f"start_tokens={start_tokens}, end_token={end_token}"
            )
        embed = self.embedding_fn
        if embedding is not None:
            embed = lambda ids: tf.nn.embedding_lookup(embedding, ids)  # noqa: E731
        if embed is None:
            raise ValueError(
                "BeamSearchDecoder needs an embedding matrix in the call, or embedding_fn in the "
                "constructor. Received: neither."
            )
        start_tokens = tf.convert_to_tensor(start_tokens, tf.int32)
        self.end_token = tf.convert_to_tensor(end_token, tf.int32)
        if start_tokens.shape.rank != 1:
            raise ValueError(f"start_tokens must be a vector. Received: shape {start_tokens.shape}")
        if self.end_token.shape.rank != 0:
            raise ValueError(f"end_token must be a scalar. Received: shape {self.end_token.shape}")
        self._embed = embed
        only_one_state(initial_state, initial_cell_state)
        memory = prepare(self.cell, memory, memory_sequence_length, memory_mask)
        if initial_state is None:
            rows = tf.size(start_tokens) * self.beam_width
            if initial_cell_state is not None:
                initial_cell_state = tile_batch(initial_cell_state, self.beam_width)
            initial_state = first_state(self.cell, rows, memory, initial_cell_state)
        rows = row_count(start_tokens) * self.beam_width
        initial_state = check_initial_state(self.cell, initial_state, rows, self.beam_width)
        self._step_cell = functools.partial(step, self.cell)
        if memory is not None:
            self._step_cell = functools.partial(
                step, self.cell, memory=memory, beam_width=self.beam_width
            )
        self._batch_size = tf.size(start_tokens)
        start = tf.repeat(start_tokens[:, None], self.beam_width, axis=1)  # [B, K]
        inputs = self._embed(start)
        build_cell(self.cell, inputs[:, 0], memory)
        if self.output_all_scores or self.output_layer is not None:
            rows = tf.nest.map_structure(self._merge, inputs)
            self.cell_output_shape = measure(self.cell, self._step_cell, rows, initial_state)
        self._project = projector_of(self.output_layer)
        state = self._initial_search_state(initial_state)
        finished = state.beams.finished
        return finished, inputs, state.beams if self._has_tfa_state else state

    def build_parts(self) -> None:
        """See `BaseDecoder`."""
        if self.output_layer is not None:
            build_output_layer(self.output_layer, self.cell_output_shape)

    def _initial_search_state(self, cell_state) -> SearchState:
        cell_state = self._split_state(cell_state)
        covers = tf.get_static_value(self.coverage_penalty_weight) != 0.0
        attention: Any = self._attention(cell_state) if covers or self.output_alignments else None
        if attention is not None:
            self._alignment_steps, self._alignment_dtype = attention.shape[-1:], attention.dtype
        state = first_hypotheses(
            cell_state,
            self.strategy,
            self._batch_size,
            self.beam_width,
            attention if covers else None,
        )
        self._score_dtype = state.beams.log_probs.dtype
        return state._replace(beams=BeamSearchDecoderState(*state.beams))

    def _attention(self, cell_state) -> tf.Tensor:
        """The alignments of the current step for every hypothesis.  [B, K, S]."""
        attention = attention_probs(cell_state)
        if attention is None:
            raise ValueError(
                "Coverage penalty and output_alignments need a cell with attention: an "
                "AttentionWrapper, or a cell whose state has `alignments`. Received: "
                f"{type(self.cell).__name__}"
            )
        # Rank 2 if the cell reorders its own state.
        return self._split(attention) if attention.shape.rank == 2 else attention

    def _split_state(self, cell_state):
        """[B*K, ...] -> [B, K, ...], unless the cell reorders its own state."""
        if self._reorder is not None:
            return cell_state
        return tf.nest.map_structure(self._split, cell_state)

    @property
    def _has_tfa_state(self) -> bool:
        """Whether the loop carries tfa's BeamSearchDecoderState, which has no strategy in it."""
        return self.normalize and not self._chooses

    @property
    def _reorder(self):
        return getattr(self.cell, "reorder", None)

    def step(self, time, inputs, state, training=None, name=None):
        """Extend every hypothesis by every token and keep the best K."""
        with tf.name_scope(name or "BeamSearchDecoderStep"):
            if self._has_tfa_state:
                state = SearchState(state, tf.zeros_like(state.finished), ())
            cell_state = state.beams.cell_state
            if self._reorder is None:
                cell_state = tf.nest.map_structure(self._merge, cell_state)
            inputs = tf.nest.map_structure(self._merge, inputs)
            output, next_state = self._step_cell(inputs, cell_state, training=training)
            cell_state = same_structure(cell_state, next_state)
            if self.output_layer is not None:
                output = self._project(output)
            cell_state = self._split_state(cell_state)
            outputs, state = search_step(
                time,
                self._split(output),
                cell_state,
                state,
                self.strategy,
                self.end_token,
                self.length_penalty_weight,
                self.coverage_penalty_weight,
                self.output_all_scores,
                self.normalize,
                self._reorder,
            )
            if self.output_alignments:
                # The alignment of a token is that of its parent hypothesis.
                alignments = gather_beams(self._attention(cell_state), outputs.parent_ids)
                outputs = AlignedBeamSearchDecoderOutput(*outputs, alignments)
            else:
                outputs = BeamSearchDecoderOutput(*outputs)
            finished = state.beams.finished
            if self.n_best is not None and self.strategy.choose_unfinished is not None:
                finished |= cannot_be_overtaken(
                    state,
                    self.n_best,
                    self.maximum_iterations,
                    self.length_penalty_weight,
                    self.coverage_penalty_weight,
                )[:, None]
            state = state.beams if self._has_tfa_state else state
            return outputs, state, self._embed(outputs.predicted_ids), finished

    def finalize(self, outputs, final_state, sequence_lengths):
        """Trace the hypotheses back, and what was recorded along them."""
        if not self._has_tfa_state:
            stuck, final_state = final_state.stuck, final_state.beams
            final_state = final_state._replace(finished=final_state.finished & ~stuck)
        parents = complete_parents(outputs.predicted_ids, outputs.parent_ids)
        steps, batch, beams = tf.unstack(tf.shape(parents))
        # Finished hypotheses may still change places: trace back from the last step.
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
        batch = tf.get_static_value(self._batch_size)
        if not isinstance(leaf, tf.TensorArray) or not _check_static_batch_beam_maybe(
            leaf.element_shape, batch, self.beam_width
        ):
            return leaf
        recorded = leaf.stack()  # [T, B*K, ...]
        rows = tf.reshape(recorded, tf.concat([tf.shape(parent_ids), [-1]], 0))
        # The cell wrote before the step selected: an entry is at the place of the parent.
        chosen = tf.gather(rows, parent_ids, batch_dims=2)
        chosen = tf.ensure_shape(tf.reshape(chosen, tf.shape(recorded)), recorded.shape)
        return gather_tree_from_array(chosen, parent_ids, lengths)

    # -- [B*K, ...] <-> [B, K, ...]

    def _split(self, x):
        if isinstance(x, tf.TensorArray) or x.shape.rank == 0:
            return x
        rows = x.shape[0]
        if rows is not None and isinstance(self.beam_width, int) and rows % self.beam_width:
            raise ValueError(
                "The state of a beam search has beam_width rows for each source: apply tile_batch "
                f"to the encoder's state. Received: {rows} rows, beam_width={self.beam_width}"
            )
        split = tf.reshape(x, tf.concat([[self._batch_size, self.beam_width], tf.shape(x)[1:]], 0))
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
            "n_best",
        )
        return {
            **super().get_config(),
            "strategy": strategies.serialize(self.strategy) if self._chooses else None,
            **{name: serialize(getattr(self, name)) for name in parts},
            **{name: getattr(self, name) for name in plain},
        }

    @classmethod
    def from_config(cls, config: dict):
        config = {renamed(key): value for key, value in config.items()}
        config["strategy"] = strategies.deserialize(config.get("strategy"))
        parts = ("cell", "embedding_fn", "output_layer")
        return cls(**{k: deserialize(v) if k in parts else v for k, v in config.items()})
