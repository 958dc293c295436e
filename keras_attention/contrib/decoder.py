"""tf.contrib.seq2seq's decoders, which get their data in the constructor."""

from typing import Any

import tensorflow as tf

from keras_attention import seq2seq
from keras_attention.seq2seq import Decoder


class _WrappedDecoder(Decoder):
    """A decoder of `keras_attention.seq2seq`, with the arguments of its `initialize`."""

    def __init__(self, decoder, *data, **named_data):
        self._decoder, self._data, self._named_data = decoder, data, named_data

    @property
    def cell(self):
        """The cell; `dynamic_decode` draws the dropout masks inside of it."""
        return self._decoder.cell

    @property
    def batch_size(self):
        return self._decoder.batch_size

    @property
    def output_size(self):
        return self._decoder.output_size

    @property
    def output_dtype(self):
        return self._decoder.output_dtype

    @property
    def tracks_own_finished(self) -> bool:
        return self._decoder.tracks_own_finished

    @property
    def _rows_per_entry(self) -> int:
        return getattr(self._decoder, "_rows_per_entry", 1)

    def initialize(self, name=None):
        return self._decoder.initialize(*self._data, **self._named_data)

    def step(self, time, inputs, state, training=None, name=None):
        return self._decoder.step(time, inputs, state, training)

    def finalize(self, outputs, final_state, sequence_lengths):
        return self._decoder.finalize(outputs, final_state, sequence_lengths)


class BasicDecoder(_WrappedDecoder):
    """Decode with a cell and a helper, starting at `initial_state`.

    `output_layer` is a layer from the cell's output to logits, or None.

    >>> from keras_attention.contrib import rnn, seq2seq
    >>> cell = rnn.GRUCell(4)
    >>> helper = seq2seq.TrainingHelper(tf.ones([2, 3, 5]), [3, 1])
    >>> decoder = BasicDecoder(cell, helper, cell.zero_state(2, tf.float32))
    >>> outputs, state, lengths = seq2seq.dynamic_decode(decoder)
    >>> outputs.rnn_output.shape, lengths.numpy().tolist()
    (TensorShape([2, 3, 4]), [3, 1])
    """

    def __init__(self, cell: Any, helper: Any, initial_state: Any, output_layer: Any = None):
        decoder = seq2seq.BasicDecoder(cell, helper, output_layer)
        super().__init__(decoder, None, initial_state=initial_state)


class BeamSearchDecoder(_WrappedDecoder):
    """Beam search; see `keras_attention.seq2seq.BeamSearchDecoder`.

    `embedding` is a function ids -> inputs or a matrix [V, D]; start tokens [B]. The state, and
    the memory of an AttentionWrapper, have B*K rows: use `tile_batch`.
    """

    def __init__(
        self,
        cell: Any,
        embedding: Any,
        start_tokens: Any,
        end_token: Any,
        initial_state: Any,
        beam_width: int,
        output_layer: Any = None,
        length_penalty_weight: Any = 0.0,
        coverage_penalty_weight: Any = 0.0,
        reorder_tensor_arrays: bool = True,
    ):
        decoder = seq2seq.BeamSearchDecoder(
            cell,
            beam_width,
            embedding if callable(embedding) else None,
            output_layer,
            length_penalty_weight,
            coverage_penalty_weight,
            reorder_tensor_arrays,
        )
        super().__init__(
            decoder,
            None if callable(embedding) else embedding,
            start_tokens=start_tokens,
            end_token=end_token,
            initial_state=initial_state,
        )

    def finalize(self, outputs, final_state, sequence_lengths):
        """As in ours; a history has one row for each hypothesis, [T, B*K, S]."""
        grown = final_state.cell_state
        outputs, final_state = super().finalize(outputs, final_state, sequence_lengths)
        cell_state = tf.nest.map_structure(_in_rows, grown, final_state.cell_state)
        return outputs, final_state._replace(cell_state=cell_state)


def _in_rows(before, after):
    """Reshape arrays of [B*K, ...] back after their hypotheses were reordered."""
    if not isinstance(before, tf.TensorArray) or isinstance(after, tf.TensorArray):
        return after
    shape, inner = tf.shape(after), before.element_shape[1:]
    rows = tf.reshape(after, tf.concat([shape[:1], [-1], shape[tf.rank(after) - inner.rank :]], 0))
    rows.set_shape(tf.TensorShape([None, None]).concatenate(inner))
    return rows


class _HiddenLengths(_WrappedDecoder):
    """A decoder whose state is nested, so that `dynamic_decode` does not find its lengths."""

    def initialize(self, name=None):
        finished, inputs, state = self._decoder.initialize()
        return finished, inputs, (state,)

    def step(self, time, inputs, state, training=None, name=None):
        outputs, state, inputs, finished = self._decoder.step(time, inputs, state[0])
        return outputs, (state,), inputs, finished

    def finalize(self, outputs, final_state, sequence_lengths):
        try:
            return self._decoder.finalize(outputs, final_state[0], sequence_lengths)
        except NotImplementedError:
            return outputs, final_state[0]


def dynamic_decode(
    decoder: Decoder,
    output_time_major: bool = False,
    impute_finished: bool = False,
    maximum_iterations: Any = None,
    parallel_iterations: int = 32,
    swap_memory: bool = False,
    scope: Any = None,
    **kwargs,
):
    """`keras_attention.seq2seq.dynamic_decode` with contrib's lengths.

    These are the steps until the index [N] or [B, K] was finished, also if hypotheses changed
    places: the lengths of hypotheses of a beam search are `final_state.lengths`. `scope` is a name
    or a `tf.compat.v1.variable_scope`.
    """
    if not isinstance(decoder, (Decoder, seq2seq.BaseDecoder)):
        raise TypeError(f"decoder must be a Decoder. Received: {type(decoder).__name__}")
    if isinstance(decoder, Decoder) and decoder.tracks_own_finished:
        decoder = _HiddenLengths(decoder)
    return seq2seq.dynamic_decode(
        decoder,
        output_time_major=output_time_major,
        impute_finished=impute_finished,
        maximum_iterations=maximum_iterations,
        parallel_iterations=parallel_iterations,
        swap_memory=swap_memory,
        scope=getattr(scope, "name", scope),
        **kwargs,
    )
