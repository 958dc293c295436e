"""Write small checkpoints of TFA models, and what these models answer.

    python tests/parity/checkpoint_tfa.py tests/parity/checkpoints

runs in TensorFlow 2.15 with tensorflow-addons 0.23. NAME.npz holds inputs, logits of teacher
forcing and beams; the weights of one model are written in every way Keras 2 has:

    tfa_lstm          model.save_weights(path), object based
    tfa_lstm.h5, tfa_lstm.weights.h5    the same with that ending
    tfa_training-1    tf.train.Checkpoint(model=, optimizer=), with Adam's slots

and tfa_rnn is of a model with the parts of models.RNNSeq2Seq.
"""

import os
import sys

import numpy as np
import tensorflow as tf

try:
    import tensorflow_addons as tfa
except ImportError:  # where this file is only looked through for doctests
    tfa = None

START, END, BEAMS, STEPS = 1, 2, 3, 7
UNITS, SOURCE_WORDS, TARGET_WORDS, EMBEDDING = 6, 11, 12, 5


def inputs():
    random = np.random.RandomState(1)
    lengths = np.array([6, 3, 5], np.int32)
    source = random.randint(3, SOURCE_WORDS, [3, 6]).astype(np.int32)
    source *= np.arange(6) < lengths[:, None]  # 0 is the padding
    target = random.randint(3, TARGET_WORDS, [3, 5]).astype(np.int32)
    target[:, 0] = START
    return source, lengths, target


def cells():
    return [tf.keras.layers.LSTMCell(UNITS) for _ in range(2)]


class Seq2Seq(tf.keras.Model):
    """Two layers of LSTM on each side, attention between them."""

    def __init__(self, normalize, **attention):
        super().__init__()
        self.embedder = tf.keras.layers.Embedding(SOURCE_WORDS, EMBEDDING)
        self.encoder = tf.keras.layers.RNN(cells(), return_sequences=True, return_state=True)
        self.target_embedder = tf.keras.layers.Embedding(TARGET_WORDS, EMBEDDING)
        self.mechanism = tfa.seq2seq.BahdanauAttention(UNITS, normalize=normalize)
        self.decoder_cell = tfa.seq2seq.AttentionWrapper(
            tf.keras.layers.StackedRNNCells(cells()), self.mechanism, **attention
        )
        self.fc = tf.keras.layers.Dense(TARGET_WORDS)

    def begin(self, source, lengths, beams=1):
        """Set the memory up; the first state of the decoder."""
        mask = tf.sequence_mask(lengths, source.shape[1])
        encoded, *states = self.encoder(self.embedder(source), mask=mask)
        encoded, lengths, states = tfa.seq2seq.tile_batch((encoded, lengths, states), beams)
        self.mechanism(encoded, mask=tf.sequence_mask(lengths, source.shape[1]), setup_memory=True)
        state = self.decoder_cell.get_initial_state(batch_size=3 * beams, dtype=tf.float32)
        return state.clone(cell_state=tuple(states))

    def call(self, inputs):
        source, lengths, target = inputs
        state = self.begin(source, lengths)
        decoder = tfa.seq2seq.BasicDecoder(
            self.decoder_cell, tfa.seq2seq.TrainingSampler(), output_layer=self.fc
        )
        return decoder(self.target_embedder(target), initial_state=state)[0].rnn_output

    def search(self, source, lengths):
        state = self.begin(source, lengths, BEAMS)
        decoder = tfa.seq2seq.BeamSearchDecoder(
            self.decoder_cell, BEAMS, output_layer=self.fc, maximum_iterations=STEPS
        )
        found, final, _ = decoder(
            self.target_embedder.embeddings,
            start_tokens=tf.fill([3], START),
            end_token=END,
            initial_state=state,
        )
        return found.predicted_ids, final.log_probs, final.lengths


def drawn(seed, **settings):
    """A model whose weights, biases too, all show in the answers; beams of many lengths."""
    model, random = Seq2Seq(**settings), np.random.RandomState(seed)
    model(tuple(map(tf.constant, inputs())))
    for variable in model.trainable_variables:
        variable.assign(random.normal(0, 1, variable.shape))
    return model


def answer(model, path):
    source, lengths, target = inputs()
    ids, log_probs, found_lengths = model.search(tf.constant(source), tf.constant(lengths))
    np.savez_compressed(
        path,
        source=source,
        source_lengths=lengths,
        target=target,
        logits=model((tf.constant(source), tf.constant(lengths), tf.constant(target))),
        ids=ids,
        log_probs=log_probs,
        lengths=found_lengths,
    )


def main(folder):
    model = drawn(35, normalize=True, attention_layer_size=UNITS + 2)
    optimizer = tf.keras.optimizers.legacy.Adam(1e-4)
    optimizer.apply_gradients([(tf.ones_like(v), v) for v in model.trainable_variables])
    model.save_weights(os.path.join(folder, "tfa_lstm"))
    model.save_weights(os.path.join(folder, "tfa_lstm.h5"))
    model.save_weights(os.path.join(folder, "tfa_lstm.weights.h5"))
    tf.train.Checkpoint(model=model, optimizer=optimizer).save(os.path.join(folder, "tfa_training"))
    answer(model, os.path.join(folder, "tfa_lstm.npz"))

    tanh = tf.keras.layers.Dense(UNITS, "tanh", use_bias=False)
    model = drawn(2, normalize=False, attention_layer=tanh)
    model.save_weights(os.path.join(folder, "tfa_rnn"))
    answer(model, os.path.join(folder, "tfa_rnn.npz"))
    os.remove(os.path.join(folder, "checkpoint"))  # it names the last of them only


if __name__ == "__main__":
    main(sys.argv[1])
