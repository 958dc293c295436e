import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.layers import SAGANAttention
from tests import oracles

VARIANTS = ["paper", "v1", "official"]
each = pytest.mark.parametrize("variant", VARIANTS)


def _drawn(layer, x):
    layer(x)
    for weight in layer.weights:
        weight.assign(np.random.normal(size=weight.shape))
    return layer


@each
def test_a_new_layer_is_the_identity_and_gamma_learns(variant):
    x = tf.random.normal([2, 4, 4, 16])
    layer = SAGANAttention(variant)
    np.testing.assert_array_equal(layer(x), x)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(layer(x) - 1))
    gamma = tape.gradient(loss, layer.gamma.value)
    assert gamma.shape == () and gamma != 0


@each
def test_the_widths_are_those_of_the_variant(variant):
    layer = SAGANAttention(variant)
    layer.build((None, None, None, 32))
    parts = [part for part in "fghv" if getattr(layer, part) is not None]
    kernels = {part: tuple(getattr(layer, part).kernel.shape) for part in parts}
    assert (
        kernels
        == {
            "paper": {"f": (32, 4), "g": (32, 4), "h": (32, 4), "v": (4, 32)},
            "v1": {"f": (32, 4), "g": (32, 4), "h": (32, 32)},
            "official": {"f": (32, 4), "g": (32, 4), "h": (32, 16), "v": (16, 32)},
        }[variant]
    )
    assert layer.count_params() == sum(a * b for a, b in kernels.values()) + 1


@each
def test_every_place_is_the_equation(variant):
    x = np.random.normal(size=(2, 4, 6, 8))
    layer = _drawn(SAGANAttention(variant, dtype="float64"), x)
    flat = x.reshape(2, 24, 8)
    keys, values = flat @ layer.f.kernel.numpy(), flat @ layer.h.kernel.numpy()
    if variant == "official":
        keys, values = (
            part.reshape(2, 2, 2, 3, 2, -1).max((2, 4)).reshape(2, 6, -1) for part in (keys, values)
        )
    queries = flat @ layer.g.kernel.numpy()
    beta = oracles.softmax(np.einsum("bjd,bid->bji", queries, keys))
    o = beta @ values
    if layer.v is not None:
        o = o @ layer.v.kernel.numpy()
    output, weights = layer(x, return_weights=True)
    np.testing.assert_allclose(weights, beta, atol=1e-12)
    np.testing.assert_allclose(output, x + layer.gamma.numpy() * o.reshape(x.shape), atol=1e-12)
    np.testing.assert_allclose(weights.numpy().sum(-1), 1)


def test_every_kernel_ends_with_a_largest_singular_value_of_one():
    x = tf.random.normal([2, 4, 4, 16])
    layer = _drawn(SAGANAttention("official", spectral_norm=True), x)
    for _ in range(50):
        layer(x, training=True)
    for part in (layer.f, layer.g, layer.h, layer.v):
        largest = np.linalg.svd(part.kernel.numpy(), compute_uv=False)[0]
        assert abs(largest - 1) < 0.02


def test_spectral_normalisation_rests_outside_of_training():
    x = tf.random.normal([2, 4, 4, 16])
    layer = _drawn(SAGANAttention(spectral_norm=True), x)
    before = layer.get_weights()
    layer(x)
    for old, new in zip(before, layer.get_weights()):
        np.testing.assert_array_equal(old, new)


@each
@pytest.mark.parametrize("spectral_norm", [False, True])
def test_a_saved_model_gives_the_same(variant, spectral_norm, tmp_path):
    inputs = keras.Input([None, None, 8])
    layer = SAGANAttention(variant, spectral_norm)
    model = keras.Model(inputs, layer(inputs))
    _drawn(layer, tf.ones([1, 4, 4, 8]))
    x = tf.random.normal([2, 4, 6, 8])
    model(x, training=True)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(x), model(x))


def test_unknown_variants_and_inputs_without_places_are_refused():
    with pytest.raises(ValueError, match="'paper', 'v1', 'official'.*Received: variant='v2'"):
        SAGANAttention("v2")
    with pytest.raises(ValueError, match=r"axis of positions.*\(2, 8\)"):
        SAGANAttention()(tf.zeros([2, 8]))
