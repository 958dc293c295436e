"""Non-local blocks: a new one changes nothing, a trained one is its equation."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.layers import (
    ConcatenationNonLocal,
    DotProductNonLocal,
    EmbeddedGaussianNonLocal,
    GaussianNonLocal,
    NonLocal,
)
from tests import oracles

KINDS = [GaussianNonLocal, EmbeddedGaussianNonLocal, DotProductNonLocal, ConcatenationNonLocal]
each = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


def _drawn(layer, x):
    """A built layer whose weights are anything but their first values."""
    layer(x)
    for weight in layer.weights:
        weight.assign(np.random.uniform(0.1, 1, weight.shape))
    return layer


@each
@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_a_new_block_is_the_identity(kind, batch_norm, training):
    x = tf.random.normal([2, 3, 4, 6])
    block = kind(batch_norm=batch_norm, pool=2)
    np.testing.assert_array_equal(block(x, training=training), x)


@each
def test_a_new_block_can_learn(kind):
    block, x = kind(), tf.random.normal([2, 3, 4, 6])
    block(x)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(block(x, training=True) - 1))
    gradients = tape.gradient(loss, [block.norm.gamma])
    assert np.abs(gradients[0]).max() > 0


def _equation(block, x, mask):
    """Place by place, [S, D] -> [S, D], f and C of the paper."""
    kernels = {name: getattr(block, name).kernel.numpy() for name in ("g", "z")}
    theta, phi = (
        (x @ getattr(block, name).kernel.numpy() if block.embeds else x)
        for name in ("theta", "phi")
    )
    y = np.zeros((len(x), kernels["g"].shape[1]))
    for i in range(len(x)):
        f = np.zeros(len(x))
        for j in range(len(x)):
            if isinstance(block, ConcatenationNonLocal):
                f[j] = max(0, block.w.numpy()[:, 0] @ np.concatenate([theta[i], phi[j]]))
            else:
                f[j] = theta[i] @ phi[j]
        if isinstance(block, (GaussianNonLocal, EmbeddedGaussianNonLocal)):
            f = np.exp(f) * mask
            normalizer = f.sum()
        else:
            normalizer = mask.sum()
        y[i] = (f * mask) @ (x @ kernels["g"]) / normalizer
    return y @ kernels["z"] + x


@each
def test_every_place_is_the_equation_of_its_instantiation(kind):
    x = np.random.normal(size=(1, 2, 3, 4))
    block = _drawn(kind(3, batch_norm=False, dtype="float64"), x)
    mask = np.array([[[True, False, True], [True, True, False]]])
    for seen in (np.ones_like(mask), mask):
        expected = _equation(block, x.reshape(6, 4), seen.ravel())
        np.testing.assert_allclose(block(x, mask=seen)[0].numpy().reshape(6, 4), expected)


def test_embedded_gaussian_is_softmax_attention_without_a_scale():
    x = np.random.normal(size=(2, 5, 4)).astype("float32")
    block = _drawn(EmbeddedGaussianNonLocal(3, batch_norm=False), x)
    query, key = block.theta(x), block.phi(x)
    context = keras.layers.Attention(use_scale=False)([query, block.g(x), key])
    np.testing.assert_allclose(block(x), x + block.z(context), atol=1e-5)


def test_the_dot_product_is_an_average_over_places():
    """Each place twice: the same sums over twice as many."""
    x = np.random.normal(size=(1, 5, 4)).astype("float32")
    block = _drawn(DotProductNonLocal(3, batch_norm=False), x)
    twice = block(np.concatenate([x, x], 1))
    np.testing.assert_allclose(twice[:, :5], block(x), atol=1e-5)


@each
def test_pooling_attends_to_maxima_of_blocks(kind):
    x = np.random.normal(size=(2, 4, 6, 4)).astype("float32")
    block = _drawn(kind(3, pool=2, batch_norm=False), x)
    _, weights = block(x, return_weights=True)
    assert weights.shape == (2, 24, 6)
    pool = keras.layers.MaxPooling2D(2)
    keys = tf.reshape(pool(block.phi(x) if block.embeds else x), [2, 6, -1])
    query = tf.reshape(block.theta(x) if block.embeds else x, [2, 24, -1])
    values = tf.reshape(pool(block.g(x)), [2, 6, 3])
    relation = block.normalize(block.score(query, keys))
    np.testing.assert_allclose(weights, relation, atol=1e-6)
    expected = x + tf.reshape(block.z(tf.matmul(relation, values)), x.shape)
    np.testing.assert_allclose(block(x), expected, atol=1e-5)


@each
def test_a_sequence_an_image_and_a_video_of_the_same_places_are_the_same(kind):
    x = np.random.normal(size=(2, 12, 4)).astype("float32")
    block = _drawn(kind(3, batch_norm=False), x)
    for shape in ((2, 3, 4, 4), (2, 3, 2, 2, 4)):
        found = block(x.reshape(shape))
        np.testing.assert_allclose(np.reshape(found, x.shape), block(x), atol=1e-5)


@each
def test_masked_values_never_reach_a_pooled_block(kind):
    x, mask = np.random.normal(size=(1, 4, 4, 4)), np.random.random((1, 4, 4)) < 0.5
    block = _drawn(kind(3, pool=2, batch_norm=False), x.astype("float32"))
    other = np.where(mask[..., None], x, 50 * np.random.normal(size=x.shape))
    found, expected = (block(image.astype("float32"), mask=mask) for image in (other, x))
    np.testing.assert_array_equal(found.numpy()[mask], expected.numpy()[mask])


def test_batch_norm_ends_the_block_and_learns_its_statistics():
    x = tf.random.normal([8, 4, 4, 6])
    block = _drawn(EmbeddedGaussianNonLocal(), x)
    before = block.norm.moving_mean.numpy()
    added = block(x, training=True) - x
    np.testing.assert_allclose(tf.reduce_mean(added, [0, 1, 2]), block.norm.beta, atol=1e-4)
    assert (block.norm.moving_mean.numpy() != before).all()


def test_a_model_with_a_block_of_batch_norm_is_saved_whole(tmp_path):
    inputs = keras.Input([None, None, 6])
    block = EmbeddedGaussianNonLocal(3, pool=(2, 1), use_bias=True)
    model = keras.Model(inputs, block(inputs))
    _drawn(block, tf.ones([1, 4, 4, 6]))
    model.save(tmp_path / "model.keras")
    x = tf.random.normal([2, 4, 6, 6])
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.layers[1].get_config() == block.get_config()
    np.testing.assert_array_equal(loaded(x), model(x))


def test_the_mask_of_the_layer_before_is_honoured_and_an_explicit_one_wins():
    embedding = keras.layers.Embedding(9, 4, mask_zero=True)
    ids = np.array([[3, 5, 0, 0]])
    embedded = embedding(ids)
    block = _drawn(GaussianNonLocal(3, batch_norm=False), embedded)
    implicit = block(embedding(ids))
    np.testing.assert_allclose(implicit[:, :2], block(embedding(ids[:, :2])), atol=1e-6)
    explicit = block(embedding(ids), mask=np.array([[True] * 4]))
    assert np.abs(explicit - implicit).max() > 1e-3
    weights = block(embedding(ids), return_weights=True)[1][0]
    scores = np.array(embedded[0]) @ np.array(embedded[0]).T
    np.testing.assert_allclose(weights, oracles.softmax(scores, ids > 0), atol=1e-6)


def test_bad_settings_and_inputs_are_refused():
    with pytest.raises(ValueError, match="units=0"):
        GaussianNonLocal(0)
    with pytest.raises(ValueError, match=r"axis of positions.*\(2, 4\)"):
        GaussianNonLocal()(tf.zeros([2, 4]))
    with pytest.raises(NotImplementedError, match="four subclasses"):
        NonLocal()(tf.zeros([2, 3, 4]))


def test_batch_norm_counts_only_the_places_of_the_mask():
    x, mask = np.random.normal(size=(2, 5, 4)).astype("float32"), np.arange(5) < [[5], [2]]
    block = DotProductNonLocal(3)
    block.build(x.shape)
    block.norm.gamma.assign(tf.ones(4))
    other = np.where(mask[..., None], x, 100.0).astype("float32")
    found, expected = (block(tf.constant(y), mask=mask, training=True) for y in (other, x))
    np.testing.assert_allclose(found.numpy()[mask], expected.numpy()[mask], atol=1e-5)
