"""In one process with tensorflow_addons: the same decoder, trained by both, loses the same."""

import keras
import numpy as np
import pytest
import tensorflow as tf

tfa = pytest.importorskip("tensorflow_addons")

from keras_attention import seq2seq

UNITS, WIDTH, VOCABULARY, ROWS, SOURCE, STEPS = 8, 6, 11, 12, 7, 5
CELLS = {
    "lstm": lambda: keras.layers.LSTMCell(UNITS),
    "gru": lambda: keras.layers.GRUCell(UNITS),
    "stacked_lstm": lambda: keras.layers.StackedRNNCells(
        [keras.layers.LSTMCell(UNITS) for _ in range(2)]
    ),
}


class Translator(keras.Model):
    """What users of tfa.seq2seq wrote, over the library that is handed in."""

    def __init__(self, library, cell, mechanism, **settings):
        super().__init__()
        self.embedding = keras.layers.Embedding(VOCABULARY, WIDTH)
        self.encoder = keras.layers.GRU(UNITS, return_sequences=True)
        self.cell = CELLS[cell]()
        self.mechanism = getattr(library, mechanism)(UNITS, **settings)
        self.attend = keras.layers.Dense(UNITS, "tanh", use_bias=False)
        self.head = keras.layers.Dense(VOCABULARY)
        self.wrapper = library.AttentionWrapper(
            self.cell, self.mechanism, attention_layer=self.attend
        )
        self.decoder = library.BasicDecoder(
            self.wrapper, library.TrainingSampler(), output_layer=self.head
        )

    def call(self, inputs):
        source, lengths, target = inputs
        self.mechanism([self.encoder(self.embedding(source)), lengths], setup_memory=True)
        state = self.wrapper.get_initial_state(batch_size=tf.shape(source)[0], dtype=tf.float32)
        outputs, _, _ = self.decoder(self.embedding(target), initial_state=state)
        return outputs.rnn_output

    def parts(self):
        """Every weight, in an order that does not depend on the library."""
        layers = [self.embedding, self.encoder, self.cell, self.attend, self.head]
        layers += [self.mechanism.memory_layer, self.mechanism.query_layer]
        weights = [weight for layer in layers if layer is not None for weight in layer.weights]
        known = {id(weight) for weight in weights}
        own = [weight for weight in self.mechanism.weights if id(weight) not in known]
        return weights + sorted(own, key=lambda weight: weight.name.split("/")[-1])


def losses(model, library, data):
    """The loss of every epoch of `fit`."""

    def loss(target, logits):
        return library.sequence_loss(logits, target, tf.cast(target > 0, tf.float32))

    model.compile(keras.optimizers.Adam(0.02), loss)
    return model.fit(*data, batch_size=4, epochs=6, shuffle=False, verbose=0).history["loss"]


@pytest.mark.parametrize(
    "cell, mechanism, settings",
    [
        ("lstm", "LuongAttention", {"scale": True}),
        ("gru", "BahdanauAttention", {}),
        ("stacked_lstm", "BahdanauAttention", {"normalize": True}),
    ],
)
def test_both_learn_in_one_process_and_lose_the_same(cell, mechanism, settings):
    source = np.random.randint(1, VOCABULARY, (ROWS, SOURCE))
    lengths = np.random.randint(1, SOURCE + 1, ROWS)
    target = source[:, :STEPS][:, ::-1] * (np.arange(STEPS) < lengths[:, None])
    inputs = (source, lengths, np.roll(target, 1, axis=1))
    ours, theirs = (
        Translator(library, cell, mechanism, **settings) for library in (seq2seq, tfa.seq2seq)
    )
    for model in (ours, theirs):
        model(inputs)
    assert len(ours.parts()) == len(ours.weights) == len(theirs.weights)
    for one, other in zip(ours.parts(), theirs.parts(), strict=True):
        one.assign(other)
    found = losses(ours, seq2seq, (inputs, target))
    np.testing.assert_allclose(found, losses(theirs, tfa.seq2seq, (inputs, target)), rtol=1e-5)
    assert found[-1] < found[0]


def test_weights_find_their_way_through_an_h5_file_of_keras_2(tmp_path):
    """Such a file tells the weights of a layer apart by their names alone."""
    one, other = (Translator(seq2seq, "lstm", "BahdanauAttention") for _ in range(2))
    inputs = (np.ones((2, SOURCE)), np.array([3, SOURCE]), np.ones((2, STEPS)))
    expected = one(inputs)
    one.save_weights(tmp_path / "weights.h5")
    assert np.any(other(inputs) != expected)
    other.load_weights(tmp_path / "weights.h5")
    np.testing.assert_array_equal(other(inputs), expected)
