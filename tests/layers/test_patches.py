import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.layers import PatchEmbedding, PatchMerging


@pytest.mark.parametrize("patch", [1, 2, 4])
def test_embedding_patches_is_a_convolution_of_their_stride(patch):
    x = np.random.normal(size=(2, 8, 12, 3)).astype("float32")
    embedding, convolution = PatchEmbedding(5, patch), keras.layers.Conv2D(5, patch, patch)
    convolution(x), embedding(x)
    kernel, bias = np.random.normal(size=(patch, patch, 3, 5)), np.random.normal(size=5)
    convolution.set_weights([kernel, bias])
    embedding.set_weights([kernel.reshape(-1, 5), bias])
    np.testing.assert_allclose(embedding(x), convolution(x), atol=1e-4)
    flat = PatchEmbedding(5, patch, flatten=True)
    flat(x)
    flat.set_weights(embedding.get_weights())
    np.testing.assert_array_equal(flat(x), np.reshape(embedding(x), (2, -1, 5)))


def test_merging_joins_neighbours_in_the_order_of_the_published_weights():
    x = np.random.normal(size=(2, 4, 6, 3))
    merging = PatchMerging(dtype="float64")
    merging(x)
    kernel = np.random.normal(size=(12, 6))
    gamma, beta = np.random.normal(size=(2, 12))
    merging.set_weights([gamma, beta, kernel])
    for y, u in np.ndindex(2, 3):
        corners = [x[:, 2 * y + row, 2 * u + col] for row, col in ((0, 0), (1, 0), (0, 1), (1, 1))]
        joined = np.concatenate(corners, -1)
        mean, variance = joined.mean(-1, keepdims=True), joined.var(-1, keepdims=True)
        normal = (joined - mean) / np.sqrt(variance + 1e-5) * gamma + beta
        np.testing.assert_allclose(merging(x)[:, y, u], normal @ kernel, atol=1e-9)


def test_an_odd_axis_gets_zeros():
    x = np.random.normal(size=(1, 3, 5, 4)).astype("float32")
    merging = PatchMerging(units=7)
    padded = np.pad(x, [[0, 0], [0, 1], [0, 1], [0, 0]])
    np.testing.assert_array_equal(merging(x), merging(padded))
    assert merging(x).shape == (1, 2, 3, 7)


LAYERS = {
    "embedding": lambda dtype: PatchEmbedding(5, 2, dtype=dtype),
    "flat": lambda dtype: PatchEmbedding(5, 2, flatten=True, dtype=dtype),
    "merging": lambda dtype: PatchMerging(dtype=dtype),
}
each = pytest.mark.parametrize("name", LAYERS)


@each
def test_a_saved_model_of_unknown_sizes_gives_the_same(name, tmp_path):
    inputs = keras.Input([None, None, 3])
    model = keras.Model(inputs, LAYERS[name]("float32")(inputs))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    xla = tf.function(model, jit_compile=True)
    for shape in ((1, 2, 4, 3), (3, 6, 8, 3)):
        x = tf.random.normal(shape)
        np.testing.assert_array_equal(loaded(x), model(x))
        np.testing.assert_allclose(xla(x), model(x), atol=1e-5)


@each
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_computes_narrow_and_stays_close(name, policy):
    x = tf.random.normal([2, 4, 6, 3])
    wide, narrow = LAYERS[name]("float32"), LAYERS[name](policy)
    wide(x), narrow(x)
    narrow.set_weights(wide.get_weights())
    assert narrow(x).dtype == policy.removeprefix("mixed_")
    np.testing.assert_allclose(tf.cast(narrow(x), tf.float32), wide(x), atol=0.05)


def test_sizes_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="X must be a multiple.*Received: X=5, P=2"):
        PatchEmbedding(4, 2)(tf.zeros([1, 4, 5, 3]))
    with pytest.raises(ValueError, match="patch=0"):
        PatchEmbedding(4, 0)
    with pytest.raises(ValueError, match="units=0"):
        PatchMerging(0)
    for layer in (PatchEmbedding(4, 2), PatchMerging()):
        with pytest.raises(ValueError, match=r"Received: shape \(1, 4, 4\)"):
            layer(tf.zeros([1, 4, 4]))
