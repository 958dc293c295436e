"""gMLP: at first the gate is open; trained, it is its equation."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.layers import GatedMLPBlock, PatchEmbedding, SpatialGatingUnit


def _drawn(layer, x):
    layer(x)
    for weight in layer.weights:
        weight.assign(np.random.normal(size=weight.shape))
    return layer


def test_a_new_block_passes_the_first_half():
    x = np.random.normal(size=(2, 5, 4)).astype("float32")
    block = GatedMLPBlock(24)
    found = block(x)
    first = block.u(block.normalize(x))[..., :12]
    np.testing.assert_allclose(found, x + block.v(first), atol=1e-3)
    assert (block.gate.b.numpy() == 1).all() and 0 < np.abs(block.gate.w).max() < 1e-4


@pytest.mark.parametrize("causal", [False, True])
def test_the_gate_is_one_half_seen_at_all_places(causal):
    x = np.random.normal(size=(2, 5, 8))
    unit = _drawn(SpatialGatingUnit(causal=causal, dtype="float64"), x)
    w = np.tril(unit.w.numpy()) if causal else unit.w.numpy()
    normal = unit.normalize(x[..., 4:]).numpy()
    expected = np.zeros((2, 5, 4))
    for b, i, d in np.ndindex(2, 5, 4):
        expected[b, i, d] = x[b, i, d] * (w[i] @ normal[b, :, d] + unit.b.numpy()[i])
    np.testing.assert_allclose(unit(x), expected, atol=1e-9)


@pytest.mark.parametrize("attention_width", [0, 3])
def test_a_causal_block_never_sees_later_steps(attention_width):
    x = tf.random.normal([1, 5, 4])
    block = _drawn(GatedMLPBlock(6, causal=True, attention_width=attention_width), x)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        outputs = [tf.reduce_sum(tf.square(step)) for step in tf.unstack(block(x)[0])]
    seen = [np.abs(tape.gradient(output, x)[0]).max(-1) > 0 for output in outputs]
    np.testing.assert_array_equal(seen, np.tril(np.ones((5, 5))))


def test_a_tiny_attention_adds_to_the_gate():
    x = np.random.normal(size=(2, 5, 4)).astype("float32")
    block = _drawn(GatedMLPBlock(6, attention_width=2), x)
    wide = block.u(block.normalize(x))
    gated = block.gate(wide) + wide[..., :3] * block.attention(block.normalize(x))
    np.testing.assert_allclose(block(x), x + block.v(gated), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("attention_width", [0, 3])
def test_a_shorter_sequence_is_one_with_its_end_masked(attention_width):
    x = np.random.normal(size=(1, 5, 4)).astype("float32")
    block = _drawn(GatedMLPBlock(6, 5, attention_width=attention_width), x)
    masked = block(x, mask=np.array([[True] * 3 + [False] * 2]))
    np.testing.assert_allclose(block(x[:, :3]), masked[:, :3], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    "size, width, published",
    [("Ti", 128, 5_867_328), ("S", 256, 19_422_656), ("B", 512, 73_075_392)],
)
def test_a_gmlp_of_these_blocks_has_the_published_number_of_weights(size, width, published):
    embedding, block = PatchEmbedding(width, 16), GatedMLPBlock(6 * width)
    embedding.build((None, 224, 224, 3))
    block.build((None, 196, width))
    norm_and_head = 2 * width + width * 1000 + 1000
    assert embedding.count_params() + 30 * block.count_params() + norm_and_head == published


def test_a_saved_model_gives_the_same(tmp_path):
    inputs = keras.Input([5, 4])
    model = keras.Model(inputs, SpatialGatingUnit(causal=True)(inputs))
    model.save(tmp_path / "model.keras")
    x = tf.random.normal([2, 5, 4])
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "model.keras")(x), model(x))


def test_lengths_and_widths_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="longest S must be known"):
        GatedMLPBlock(6).build((None, None, 4))
    with pytest.raises(ValueError, match="Received: S=6, length=5"):
        SpatialGatingUnit(5)(tf.zeros([1, 6, 4]))
    with pytest.raises(ValueError, match="must be even"):
        SpatialGatingUnit()(tf.zeros([1, 6, 3]))
    with pytest.raises(ValueError, match="width must be even.*width=5"):
        GatedMLPBlock(5)
