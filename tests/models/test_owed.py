"""What every encoder-decoder of the papers owes to Keras and to the decoding loop."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.decoding import min_new_tokens, stream
from tests.models.small import ENCODER_DECODERS, V

SOURCE = np.array([[5, 6, 7, 2], [9, 2, 0, 0]])
TARGET = np.array([[1, 4, 3], [1, 8, 0]])
each = pytest.mark.parametrize("name", ENCODER_DECODERS)
pytestmark = pytest.mark.full


@each
def test_it_is_a_part_of_a_functional_model_of_any_sizes(name):
    model = ENCODER_DECODERS[name]()
    width = V + 2 * (name == "Summarizer")
    assert model.compute_output_shape(((None, None), (None, None))) == (None, None, width)
    assert not model.built
    inputs = tuple(keras.Input([None], dtype="int32") for _ in range(2))
    outer = keras.Model(inputs, model(inputs))
    found = outer.predict((SOURCE, TARGET), verbose=0)
    np.testing.assert_allclose(found, model((SOURCE, TARGET)), atol=1e-5)
    longer = np.pad(SOURCE, [[0, 1], [0, 2]], constant_values=3), np.pad(TARGET, [[0, 1], [0, 1]])
    np.testing.assert_allclose(outer(longer), model(longer), atol=1e-5)


@each
def test_ids_are_whole_numbers(name):
    model = ENCODER_DECODERS[name]()
    wanted = model((SOURCE, TARGET))
    given = tf.constant(SOURCE, tf.float32), tf.constant(TARGET, tf.int64)
    np.testing.assert_array_equal(model(given), wanted)
    with pytest.raises(ValueError, match="source must be .*whole numbers"):
        model((SOURCE + 0.5, TARGET))
    with pytest.raises(ValueError, match="target_in must be .*strings"):
        model((SOURCE, tf.constant([["hello"]])))


@each
def test_it_streams_what_a_greedy_search_finds_under_a_processor(name):
    model = ENCODER_DECODERS[name]()
    settings = dict(max_length=6, processors=min_new_tokens(2))
    attends = name != "Seq2Seq"
    found = model.generate(SOURCE, return_alignments=attends, **settings)
    assert not attends or found.alignments.shape[::3] == (2, 4)
    steps = np.stack([*stream(model, SOURCE, **settings)], 1)
    np.testing.assert_array_equal(steps[:, : found.ids.shape[2]], found.ids[:, 0])


@each
def test_it_is_trained_and_decodes_in_mixed_precision(name):
    policy = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy("mixed_bfloat16")
        model = ENCODER_DECODERS[name]()
    finally:
        keras.config.set_dtype_policy(policy)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.cast(model((SOURCE, TARGET), training=True), tf.float32) ** 2)
    assert np.isfinite(loss)
    gradients = tape.gradient(loss, model.trainable_weights)
    for weight, gradient in zip(model.trainable_weights, gradients):
        assert np.isfinite(tf.cast(tf.convert_to_tensor(gradient), tf.float32)).all(), weight.path
    assert model.generate(SOURCE, beam_width=2, max_length=4).ids.shape[:2] == (2, 2)
