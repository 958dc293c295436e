"""The targets of old checkpoints: small models of keras_attention's parts."""

import keras
import numpy as np
import tensorflow as tf

from keras_attention.seq2seq import (
    AttentionWrapper,
    BahdanauAttention,
    BasicDecoder,
    BeamSearchDecoder,
    LuongAttention,
    TrainingSampler,
    tile_batch,
)

SOURCE_WORDS, TARGET_WORDS, EMBEDDING, UNITS = 11, 12, 5, 6
CELLS = {
    "lstm": keras.layers.LSTMCell,
    "gru": lambda units: keras.layers.GRUCell(units, reset_after=False),
    "basic": keras.layers.SimpleRNNCell,
}


@keras.saving.register_keras_serializable("tests")
class Seq2Seq(keras.Model):
    """Call: (source [B, S], target [B, T]) -> logits [B, T, V]; 0 is the padding."""

    def __init__(
        self, cell, layers=1, two_way=False, luong=False, attention_units=UNITS, mix=None, **kwargs
    ):
        super().__init__(**kwargs)
        self.config = dict(
            cell=cell,
            layers=layers,
            two_way=two_way,
            luong=luong,
            attention_units=attention_units,
            mix=mix,
        )

        def stack():
            cells = [CELLS[cell](UNITS) for _ in range(layers)]
            return cells[0] if layers == 1 else keras.layers.StackedRNNCells(cells)

        self.source_embedding = keras.layers.Embedding(SOURCE_WORDS, EMBEDDING)
        self.target_embedding = keras.layers.Embedding(TARGET_WORDS, EMBEDDING)
        self.encoder = keras.layers.RNN(stack(), return_sequences=True, return_state=True)
        if two_way:
            self.encoder = keras.layers.Bidirectional(self.encoder)
        mechanism = (
            LuongAttention(UNITS, scale=True)
            if luong
            else BahdanauAttention(attention_units, normalize=True)
        )
        self.cell = AttentionWrapper(stack(), mechanism, attention_layer_size=mix)
        self.output_layer = keras.layers.Dense(TARGET_WORDS, use_bias=not luong)

    def encode(self, source):
        mask = source != 0
        encoded, *states = self.encoder(self.source_embedding(source), mask=mask)
        states = states[-1:] if self.config["two_way"] else states  # the backward one
        memory = self.cell.prepare_memory(encoded, memory_mask=mask)
        begin = self.cell.get_initial_state(batch_size=tf.shape(source)[0], memory=memory)
        flat = tf.nest.flatten(states)
        return memory, begin.clone(cell_state=tf.nest.pack_sequence_as(begin.cell_state, flat))

    def call(self, inputs):
        source, target = inputs
        memory, state = self.encode(source)
        decoder = BasicDecoder(self.cell, TrainingSampler(), self.output_layer)
        embedded = self.target_embedding(target)
        return decoder(embedded, initial_state=state, memory=memory)[0].rnn_output

    def search(self, source, beams=3, steps=7):
        """(ids [B, T, K], log p [B, K], lengths [B, K]) of the legacy decoder."""
        memory, state = self.encode(source)
        decoder = BeamSearchDecoder(
            self.cell, beams, output_layer=self.output_layer, maximum_iterations=steps
        )
        found, final, _ = decoder(
            self.target_embedding.embeddings,
            start_tokens=np.full([len(source)], 1, np.int32),
            end_token=2,
            initial_state=tile_batch(state, beams),
            memory=memory,
        )
        return found.predicted_ids, final.log_probs, final.lengths

    def build(self, input_shape=None):
        if not self.built:
            self.built = True
            self((tf.ones([1, 2], tf.int32), tf.ones([1, 2], tf.int32)))

    def get_build_config(self):
        return {"input_shape": None, "known": True}

    def build_from_config(self, config):
        self.build()

    def get_config(self):
        return {**super().get_config(), **self.config}


def built(**settings):
    model = Seq2Seq(**settings)
    model.build()
    return model


def tf1_lstm():
    return built(cell="lstm", layers=2, attention_units=UNITS + 1, mix=UNITS + 2)


def tf1_gru():
    return built(cell="gru", two_way=True, luong=True)


def tf1_basic():
    return built(cell="basic", attention_units=UNITS + 1, mix=UNITS + 2)


def tfa_lstm():
    return built(cell="lstm", layers=2, mix=UNITS + 2)


def assert_same_logits(found, expected):
    """To 1e-5, and the small ones as exactly as the large terms allow that they are sums of."""
    expected = np.asarray(expected)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-6 * np.abs(expected).max())
