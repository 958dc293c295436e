"""The MLP-Mixer block: its equation, its symmetry, its size."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.layers import MixerBlock, PatchEmbedding


def _drawn(layer, x):
    layer(x)
    for weight in layer.weights:
        weight.assign(np.random.normal(size=weight.shape))
    return layer


def test_places_mix_and_then_features():
    x = np.random.normal(size=(2, 5, 4))
    block = _drawn(MixerBlock(3, 7, dtype="float64"), x)
    w1, b1, w2, b2 = (weight.numpy() for weight in (block.w1, block.b1, block.w2, block.b2))
    first, second = (norm(x).numpy() for norm in block.norms[:1]), block.norms[1]
    (normal,) = first
    u = x.copy()
    for b, d in np.ndindex(2, 4):
        u[b, :, d] += w2.T @ tf.nn.gelu(w1.T @ normal[b, :, d] + b1).numpy() + b2
    w3, b3 = (weight.numpy() for weight in block.channels.hidden.weights)
    w4, b4 = (weight.numpy() for weight in block.channels.output_layer.weights)
    expected = u + tf.nn.gelu(second(u).numpy() @ w3 + b3).numpy() @ w4 + b4
    np.testing.assert_allclose(block(x), expected, atol=1e-9)


def test_places_in_another_order_with_their_weights_give_the_same():
    x = np.random.normal(size=(2, 6, 4))
    block = _drawn(MixerBlock(3, 7, dtype="float64"), x)
    expected, order = block(x).numpy(), np.random.permutation(6)
    block.w1.assign(block.w1.numpy()[order])
    block.w2.assign(block.w2.numpy()[:, order])
    block.b2.assign(block.b2.numpy()[order])
    np.testing.assert_allclose(block(x[:, order]), expected[:, order], atol=1e-9)


def test_a_shorter_sequence_is_one_with_its_end_masked():
    x = np.random.normal(size=(1, 5, 4)).astype("float32")
    block = _drawn(MixerBlock(3, 7, length=5), x)
    short = block(x[:, :3])
    masked = block(x, mask=np.array([[True] * 3 + [False] * 2]))
    np.testing.assert_allclose(short, masked[:, :3], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    "size, patch, depth, width, token_width, published",
    [("S/32", 32, 8, 512, 256, 19_104_624), ("S/16", 16, 8, 512, 256, 18_528_264),
     ("B/32", 32, 12, 768, 384, 60_293_428), ("B/16", 16, 12, 768, 384, 59_880_472),
     ("L/16", 16, 24, 1024, 512, 208_196_168)],
)  # fmt: skip
def test_a_mixer_of_these_blocks_has_the_published_number_of_weights(
    size, patch, depth, width, token_width, published
):
    embedding, block = PatchEmbedding(width, patch), MixerBlock(token_width, 4 * width)
    embedding.build((None, 224, 224, 3))
    block.build((None, (224 // patch) ** 2, width))
    norm_and_head = 2 * width + width * 1000 + 1000
    assert embedding.count_params() + depth * block.count_params() + norm_and_head == published


def test_a_model_of_known_length_needs_no_length(tmp_path):
    inputs = keras.Input([5, 4])
    model = keras.Model(inputs, MixerBlock(3, 7)(inputs))
    model.save(tmp_path / "model.keras")
    x = tf.random.normal([2, 5, 4])
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "model.keras")(x), model(x))


def test_lengths_and_widths_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="longest S must be known: pass length="):
        MixerBlock(3, 7).build((None, None, 4))
    with pytest.raises(ValueError, match="Received: S=6, length=5"):
        MixerBlock(3, 7, length=5)(tf.zeros([1, 6, 4]))
    with pytest.raises(ValueError, match="token_width=0"):
        MixerBlock(0, 7)
