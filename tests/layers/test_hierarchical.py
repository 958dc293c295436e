"""Words make sentences, and sentences a document."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.layers import HierarchicalAttention

LENGTHS = [[4, 2, 1], [3, 0, 0]]  # words of each sentence; the second document has one


def two_way(units):
    return keras.layers.Bidirectional(keras.layers.GRU(units, return_sequences=True))


def example():
    documents = np.random.normal(size=(2, 3, 4, 5)).astype("float32")
    return documents, np.arange(4) < np.array(LENGTHS)[..., None]


def drawn(words=True, sentences=True):
    layer = HierarchicalAttention(two_way(3) if words else None, two_way(2) if sentences else None)
    layer(example()[0])
    layer.set_weights([np.random.normal(size=weight.shape) for weight in layer.weights])
    return layer


@pytest.mark.parametrize("encoders", [(True, True), (True, False), (False, True), (False, False)])
def test_a_padded_document_is_the_loop_over_its_sentences(encoders):
    layer, (documents, mask) = drawn(*encoders), example()
    found, on_sentences, on_words = layer(documents, mask=mask, return_weights=True)
    for row, lengths in enumerate(LENGTHS):
        vectors = []
        for place, length in enumerate(filter(None, lengths)):
            words = documents[row : row + 1, place, :length]
            if layer.word_encoder is not None:
                words = layer.word_encoder(words)
            vector, weights = layer.word_pooling(words, return_weights=True)
            np.testing.assert_allclose(on_words[row, place, :length], weights[0], atol=1e-5)
            assert not np.any(on_words[row, place, length:])
            vectors.append(vector)
        sentences = tf.stack(vectors, 1)
        if layer.sentence_encoder is not None:
            sentences = layer.sentence_encoder(sentences)
        expected, weights = layer.sentence_pooling(sentences, return_weights=True)
        np.testing.assert_allclose(found[row], expected[0], atol=1e-5)
        np.testing.assert_allclose(on_sentences[row, : len(vectors)], weights[0], atol=1e-5)
        assert not np.any(on_sentences[row, len(vectors) :])


def test_padding_of_both_axes_never_changes_a_document():
    layer, (documents, mask) = drawn(), example()
    pads = [[0, 0], [0, 2], [0, 3]]
    more = np.pad(documents, [*pads, [0, 0]], constant_values=7)
    found = layer(more, mask=np.pad(mask, pads))
    np.testing.assert_allclose(found, layer(documents, mask=mask), atol=1e-6)


def test_one_sentence_of_one_word_gets_all_the_weight():
    layer = drawn()
    document = np.random.normal(size=(1, 1, 1, 5)).astype("float32")
    _, sentences, words = layer(document, return_weights=True)
    assert float(sentences[0, 0]) == 1 and float(words[0, 0, 0]) == 1


def test_without_queries_and_encoders_a_document_is_a_mean_of_means():
    layer, (documents, mask) = drawn(False, False), example()
    for pooling in (layer.word_pooling, layer.sentence_pooling):
        pooling.query.set_weights([np.zeros((100, 1))])
    found = layer(documents, mask=mask)
    means = [documents[0, place, :length].mean(0) for place, length in enumerate(LENGTHS[0])]
    np.testing.assert_allclose(found[0], np.mean(means, 0), atol=1e-6)


def test_a_document_without_words_is_zero_and_its_gradients_finite():
    layer, (documents, mask) = drawn(), example()
    mask[1] = False
    with tf.GradientTape() as tape:
        found = layer(documents, mask=mask)
        loss = tf.reduce_sum(tf.square(found))
    assert not np.any(found[1]) and np.any(found[0])
    for gradient in tape.gradient(loss, layer.trainable_variables):
        assert np.isfinite(gradient).all()


def test_it_takes_ids_of_any_size_and_survives_saving(tmp_path):
    ids = keras.Input((None, None), dtype="int32")
    embedded = keras.layers.Embedding(9, 5, mask_zero=True)(ids)
    document = HierarchicalAttention(two_way(3), two_way(2), units=6)(embedded)
    assert document.shape == (None, 4)
    model = keras.Model(ids, document)
    short, padded = [[[3, 5], [4, 0]]], [[[3, 5, 0], [4, 0, 0], [0, 0, 0]]]
    expected = model(np.array(short))
    np.testing.assert_allclose(model(np.array(padded)), expected, atol=1e-6)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(np.array(short)), expected)


def test_inputs_without_sentences_are_refused():
    with pytest.raises(ValueError, match=r"\[B, L, S, D\].*Received.*\(2, 4, 5\)"):
        HierarchicalAttention(None, None)(np.ones((2, 4, 5)))
