"""What the RNN models have in common: teacher forcing through any cell, and Cho's output."""

from typing import Any

import keras
import tensorflow as tf

from keras_attention.backend.keras import in_xla
from keras_attention.functional import as_ids, right_padded
from keras_attention.functional.shapes import extend
from keras_attention.layers import Dropout
from keras_attention.layers.linear_cross_entropy import dense_logits
from keras_attention.seq2seq import AttentionWrapper, BasicDecoder, TrainingSampler, projector
from keras_attention.seq2seq.fused import can_fuse
from models._base import EncoderDecoder


class RNNDecoder(EncoderDecoder):
    """An encoder-decoder whose `cell` is any RNN cell.

    A subclass has the `cell`, a `dropout` of its outputs, `embed`, `project`, and
    `_encode(source [B, S], training) -> (memory, state)`, S at least 1.
    """

    cell: Any
    dropout: Dropout
    fused: Any = "auto"  # of `seq2seq.BasicDecoder`

    def encode(self, source, training=None):
        """[B, S] ids -> (memory of the decoder, its initial state)."""
        self.build()
        source = as_ids(source, "source", "B S", self.pad_id)
        if not source.shape[1]:  # an RNN needs a step: use padding
            source = self._at_least_one(source)
        return self._encode(source, training)

    def _encode(self, source, training=None) -> tuple[Any, Any]:
        raise NotImplementedError

    def decode(self, target_in, memory, state, training=None, return_alignments=False):
        """Teacher forcing: [B, T] ids, memory and state of `encode` -> logits [B, T, V], and
        alignments [B, T, S] if requested.

        In training the outputs of LSTM and GRU cells for padding are zeros.
        """
        training = training or False  # for None, Keras' cells draw masks and do not use them
        target_in = as_ids(target_in, "target_in", "B T", self.pad_id)
        cell = self.cell
        if return_alignments:
            cell, state = self._recording(memory, state)
        # A loop needs a step. XLA compiles for every T, so it knows a T that the graph does not.
        padded = target_in if target_in.shape[1] else self._at_least_one(target_in)
        steps = padded.shape[1] or tf.shape(padded)[1]
        # A loop over all steps at once need not compute those of padding, except under XLA.
        fused = self.fused
        if fused == "auto" and not training:
            fused = False  # as fast without a gradient, and in exports any runtime knows its loop
        skips = bool(training) and not return_alignments and can_fuse(cell) and not in_xla()
        decoder = BasicDecoder(
            cell,
            TrainingSampler(),
            fused=fused,
            impute_finished=skips,
            maximum_iterations=steps,
        )
        lengths = {}
        if skips:
            real = tf.cast(right_padded(padded, self.pad_id), tf.int32)
            lengths = {"sequence_length": tf.reduce_sum(real, 1)}
        outputs, last, _ = decoder(
            self.embed(padded), initial_state=state, memory=memory, training=training, **lengths
        )

        def of_targets(x):
            """[B, T', ...] -> [B, T, ...]; the loop of an empty batch has no step."""
            if skips:
                x = extend(x, 1, steps - tf.shape(x)[1], 0)
            if None not in target_in.shape and 0 not in target_in.shape:
                return tf.ensure_shape(x, [*target_in.shape, *x.shape[2:]])
            rest = tf.shape(x)[2:]
            rows = tf.reshape(
                x[:, : tf.shape(target_in)[1]], tf.concat([tf.shape(target_in), rest], 0)
            )
            return tf.ensure_shape(rows, [*target_in.shape, *x.shape[2:]])

        # The output layer is applied after the loop: one product instead of T.
        hidden = of_targets(outputs.rnn_output)
        logits = self.project(self.dropout(hidden, training=training))
        if not return_alignments:
            return logits
        alignments = tf.transpose(last.alignment_history.stack(), [1, 0, 2])
        return logits, of_targets(alignments)

    def _at_least_one(self, ids):
        """Ids [B, T] -> [B, T], or [B, 1] of padding if T is 0."""
        missing = tf.maximum(1 - tf.shape(ids)[1], 0)
        return tf.pad(ids, [[0, 0], [0, missing]], constant_values=self.pad_id)

    def _recording(self, memory, state):
        """The same cell with `alignment_history`, and its state."""
        wrapper = self.cell
        if not isinstance(wrapper, AttentionWrapper):
            raise ValueError(
                "Alignments need an AttentionWrapper, which a model with attention=None has not. "
                f"Received: return_alignments=True for a cell of type {type(wrapper).__name__}. "
                "Models with a cell of their own return them from generate(return_alignments=True)."
            )
        cell = AttentionWrapper(
            wrapper.cell,
            wrapper.attention_mechanism,
            alignment_history=True,
            cell_input_fn=wrapper.step_functions.cell_input_fn,
            attention_layer=wrapper.attention_layer,
            dtype=self.dtype_policy,
        )
        empty = cell.get_initial_state(batch_size=tf.shape(state.attention)[0], memory=memory)
        return cell, state._replace(alignment_history=empty.alignment_history)

    def _build_parts(self):
        ids = tf.fill([1, 2], self.start_id)
        self.decode(ids, *self._encode(ids))


class MaxoutOutput:
    """p(y) = softmax(W_o max(t~_{2k-1}, t~_{2k})), t~ = V_o x, of outputs x of the cell.

    (Goodfellow et al., 2013; Cho et al., 2014.) With a `target_embedding`, for `embed`.
    """

    target_embedding: keras.layers.Embedding
    dtype_policy: Any
    compute_dtype: Any

    def make_output(self, maxout_units: int | None, vocab_size: int, dropout: float) -> None:
        """The layers, of l maxout units, or None: p(y) = softmax(W_o x)."""
        policy = self.dtype_policy
        self.dropout = Dropout(dropout, dtype=policy)
        self.maxout_layer = None
        if maxout_units is not None:
            self.maxout_layer = keras.layers.Dense(2 * maxout_units, dtype=policy, name="maxout")
        self.output_layer = keras.layers.Dense(vocab_size, dtype=policy, name="output")

    def maxout(self, output) -> tf.Tensor:
        """[..., D] -> [..., l]."""
        if self.maxout_layer is None:
            return output
        pairs = self.maxout_layer(output)
        shape = tf.concat([tf.shape(pairs)[:-1], [pairs.shape[-1] // 2, 2]], 0)
        largest = tf.reduce_max(tf.reshape(pairs, shape), -1)
        return tf.ensure_shape(largest, [*pairs.shape[:-1], pairs.shape[-1] // 2])

    def embed(self, tokens) -> tf.Tensor:
        """Target ids -> inputs of the cell.  [...] -> [..., m]."""
        return self.target_embedding(tokens)

    def project(self, output) -> tf.Tensor:
        """Outputs of the cell -> logits.  [..., D] -> [..., V]."""
        return dense_logits(self.output_layer, self.maxout(output))

    def projection(self):
        """`project`, with the part that can be done before a loop already done."""
        layer = self.output_layer
        project = projector(layer.kernel, layer.bias, self.compute_dtype)
        return lambda output: project(self.maxout(output))


def embedding(vocab_size: int, width: int, dtype: Any, name: str) -> keras.layers.Embedding:
    """An embedding whose values are large enough for RNN cells to learn in the first epochs."""
    normal = keras.initializers.RandomNormal(stddev=0.3)
    return keras.layers.Embedding(vocab_size, width, normal, dtype=dtype, name=name)


def reverse(x, mask) -> tf.Tensor:
    """The rows backwards within their lengths.  [B, S, ...], padding mask [B, S]."""
    lengths = tf.reduce_sum(tf.cast(mask, tf.int32), 1)
    return tf.reverse_sequence(x, lengths, seq_axis=1, batch_axis=0)
