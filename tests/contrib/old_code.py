"""A translator as it was written for TensorFlow 1: nothing but the imports is new."""

import tensorflow.compat.v1 as tf  # was: import tensorflow as tf
from keras.layers import Dense  # was: from tensorflow.layers import Dense

from keras_attention.contrib import rnn, seq2seq  # was: from tensorflow.contrib import rnn, ...

VOCABULARY, UNITS, BEAMS = 11, 8, 3
START, END = 1, 2


def stack(keep_prob):
    cells = [rnn.LSTMCell(UNITS) for _ in range(2)]
    return rnn.MultiRNNCell([rnn.DropoutWrapper(c, input_keep_prob=keep_prob) for c in cells])


def translate(mode, embedding, source, lengths, target=None, target_lengths=None, keep_prob=1.0):
    """The loss when training, the ids of greedy or of beam search otherwise."""
    batch_size = tf.shape(source)[0]
    with tf.variable_scope("encoder"):
        embedded = tf.nn.embedding_lookup(embedding, source)
        memory, state = tf.nn.dynamic_rnn(
            stack(keep_prob), embedded, sequence_length=lengths, dtype=tf.float32
        )
    with tf.variable_scope("decoder"):
        rows = batch_size
        if mode == "beam":
            memory = seq2seq.tile_batch(memory, multiplier=BEAMS)
            state = seq2seq.tile_batch(state, multiplier=BEAMS)
            lengths = seq2seq.tile_batch(lengths, multiplier=BEAMS)
            rows = batch_size * BEAMS
        mechanism = seq2seq.BahdanauAttention(
            UNITS, memory, memory_sequence_length=lengths, normalize=True
        )
        cell = seq2seq.AttentionWrapper(
            stack(keep_prob), mechanism, attention_layer_size=UNITS, name="attention"
        )
        first = cell.zero_state(rows, tf.float32).clone(cell_state=state)
        output_layer = Dense(VOCABULARY, use_bias=False)
        if mode == "train":
            given = tf.pad(target[:, :-1], [[0, 0], [1, 0]], constant_values=START)
            helper = seq2seq.TrainingHelper(
                tf.nn.embedding_lookup(embedding, given), target_lengths
            )
            decoder = seq2seq.BasicDecoder(cell, helper, first, output_layer=output_layer)
            outputs, _, _ = seq2seq.dynamic_decode(
                decoder, impute_finished=True, maximum_iterations=tf.reduce_max(target_lengths)
            )
            steps = tf.shape(outputs.rnn_output)[1]
            weights = tf.sequence_mask(target_lengths, steps, dtype=tf.float32)
            return seq2seq.sequence_loss(outputs.rnn_output, target[:, :steps], weights)
        starts = tf.fill([batch_size], START)
        if mode == "greedy":
            helper = seq2seq.GreedyEmbeddingHelper(embedding, starts, END)
            decoder = seq2seq.BasicDecoder(cell, helper, first, output_layer=output_layer)
            outputs, _, lengths = seq2seq.dynamic_decode(decoder, maximum_iterations=6)
            return outputs.sample_id
        decoder = seq2seq.BeamSearchDecoder(
            cell, embedding, starts, END, first, BEAMS, output_layer, length_penalty_weight=1.0
        )
        outputs, _, _ = seq2seq.dynamic_decode(decoder, maximum_iterations=6)
        return outputs.predicted_ids
