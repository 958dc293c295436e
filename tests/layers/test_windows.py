"""Attention in windows, against attention over the whole image with the right mask and bias."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.layers import FeedForward, PatchEmbedding, PatchMerging, WindowAttention
from tests import oracles


def _drawn(layer, x):
    layer(x)
    for weight in layer.weights:
        weight.assign(np.random.normal(size=weight.shape))
    return layer


def _whole_image(layer, image, mask=None):
    """[Y, X, D] -> [Y, X, D]: every pair of pixels asked whether it may look, and its bias."""
    (height, width, depth), heads = image.shape, layer.num_heads
    (my, mx), (up, left) = layer.window, layer.shift
    up, left = (0 if height <= my else up), (0 if width <= mx else left)
    tall, wide = -(-height // my) * my, -(-width // mx) * mx
    places = list(itertools.product(range(height), range(width)))
    qkv = image.reshape(-1, depth) @ layer.project.kernel.numpy()
    if layer.use_bias:
        qkv += layer.project.bias.numpy()
    query, key, value = (part.reshape(-1, heads, depth // heads) for part in np.split(qkv, 3, -1))
    table = layer.table.numpy()

    def window_of(y, x):
        """Its window after the shift, and whether it came round an edge to get there."""
        moved_y, moved_x = (y - up) % tall, (x - left) % wide
        return moved_y // my, moved_x // mx, y < up, x < left

    scores = np.einsum("ihd,jhd->hij", query, key) / np.sqrt(depth // heads)
    seen = np.zeros((len(places), len(places)), bool)
    for (i, (y, x)), (j, (v, u)) in itertools.product(enumerate(places), repeat=2):
        if window_of(y, x) == window_of(v, u) and (mask is None or mask[v, u]):
            seen[i, j] = True
            scores[:, i, j] += table[(y - v + my - 1) * (2 * mx - 1) + x - u + mx - 1]
    context = np.einsum("hij,jhd->ihd", oracles.softmax(scores, seen[None]), value)
    joined = context.reshape(len(places), depth)
    output = joined @ layer.output_layer.kernel.numpy() + layer.output_layer.bias.numpy()
    return output.reshape(image.shape)


SETTINGS = [
    dict(window=2),
    dict(window=4, shift=2),
    dict(window=4, shift=(1, 3), use_bias=False),
    dict(window=3, shift=1),  # neither 4 nor 8 is a multiple
    dict(window=(1, 4), shift=(0, 2)),
    dict(window=(4, 8), shift=(2, 4)),  # no axis longer than the window: no shift
]
each = pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: "-".join(map(str, s.values())))


@each
def test_a_window_sees_what_the_whole_image_would_show_it(settings):
    x = np.random.normal(size=(2, 4, 8, 6))
    layer = _drawn(WindowAttention(num_heads=2, dtype="float64", **settings), x)
    found = layer(x)
    for image, output in zip(x, found):
        np.testing.assert_allclose(output, _whole_image(layer, image), atol=1e-9)


@each
def test_a_mask_hides_pixels_from_their_windows(settings):
    x, mask = np.random.normal(size=(1, 4, 8, 6)), np.random.random((1, 4, 8)) < 0.5
    mask[0, :2, :2] = False
    layer = _drawn(WindowAttention(num_heads=2, dtype="float64", **settings), x)
    expected = _whole_image(layer, x[0], mask[0])
    np.testing.assert_allclose(layer(x, mask=mask)[0], expected, atol=1e-9)


def test_one_window_without_bias_is_plain_multi_head_attention():
    x = np.random.normal(size=(2, 4, 4, 6)).astype("float32")
    layer = _drawn(WindowAttention(num_heads=2, window=4), x)
    layer.table.assign(tf.zeros_like(layer.table))
    plain = keras.layers.MultiHeadAttention(2, 3)
    flat = x.reshape(2, 16, 6)
    plain(flat, flat)
    kernel, bias = (weight.numpy() for weight in layer.project.weights)
    out_kernel, out_bias = (weight.numpy() for weight in layer.output_layer.weights)
    qkv = zip(np.split(kernel, 3, 1), np.split(bias, 3))
    parts = [part for w, b in qkv for part in (w.reshape(6, 2, 3), b.reshape(2, 3))]
    plain.set_weights([*parts, out_kernel.reshape(2, 3, 6), out_bias])
    np.testing.assert_allclose(layer(x), np.reshape(plain(flat, flat), x.shape), atol=1e-4)


def test_still_windows_keep_apart_and_shifted_ones_reach_over():
    """Which pixels of row 0 the pixel (0, 3) depends on."""
    x = tf.random.normal([1, 4, 8, 2])
    for shift, expected in ((0, [0, 1, 2, 3]), (2, [2, 3, 4, 5])):
        layer = _drawn(WindowAttention(1, 4, shift), x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            pixel = tf.reduce_sum(tf.square(layer(x)[0, 0, 3]))
        seen = np.abs(tape.gradient(pixel, x)[0, 0]).max(-1)
        assert np.flatnonzero(seen).tolist() == expected


def test_the_table_starts_small_and_its_gradient_is_dense():
    layer, x = WindowAttention(2, 7), tf.random.normal([1, 7, 7, 4])
    layer(x)
    assert layer.table.shape == (169, 2) and 0 < np.abs(layer.table).max() < 0.05
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(layer(x)))
    gradient = tape.gradient(loss, layer.table.value)
    assert isinstance(gradient, tf.Tensor) and (gradient.numpy() != 0).all()


def test_an_image_of_unknown_size_gives_the_same_as_of_a_known_one():
    layer = _drawn(WindowAttention(2, 4, 2), tf.ones([1, 4, 4, 4]))
    spec = [tf.TensorSpec([None, None, None, 4]), tf.TensorSpec([None, None, None], tf.bool)]
    graph = tf.function(lambda x, mask: layer(x, mask=mask), input_signature=spec)
    for batch, height, width in ((1, 4, 4), (2, 8, 5), (3, 1, 9), (0, 4, 4)):
        x = tf.random.normal([batch, height, width, 4])
        mask = tf.random.uniform([batch, height, width]) < 0.7
        np.testing.assert_allclose(graph(x, mask), layer(x, mask=mask), atol=1e-4)


@pytest.mark.parametrize(
    "width, depths, published",
    [
        (96, (2, 2, 6, 2), 28_288_354),
        (96, (2, 2, 18, 2), 49_606_258),
        (128, (2, 2, 18, 2), 87_768_224),
    ],
    ids="TSB",
)
def test_a_swin_of_these_layers_has_the_published_number_of_weights(width, depths, published):
    embedding = PatchEmbedding(width, 4)
    embedding.build((None, 224, 224, 3))
    total = embedding.count_params() + 2 * width
    for stage, depth in enumerate(depths):
        wide = width * 2**stage
        attention, forward = WindowAttention(wide // 32, 7, 3), FeedForward(4 * wide, "gelu")
        attention.build((None, 56 // 2**stage, 56 // 2**stage, wide))
        forward.build((None, None, wide))
        total += depth * (attention.count_params() + forward.count_params() + 4 * wide)
        if stage < 3:
            merging = PatchMerging()
            merging.build((None, None, None, wide))
            total += merging.count_params()
    assert total + 2 * wide + wide * 1000 + 1000 == published


def test_weights_of_every_window_sum_to_one_and_dropout_leaves_them():
    x = tf.random.normal([2, 6, 6, 4])
    layer = WindowAttention(2, 3, 1, dropout=0.5)
    output, weights = layer(x, return_weights=True, training=True)
    assert weights.shape == (2, 4, 2, 9, 9)
    np.testing.assert_allclose(tf.reduce_sum(weights, -1), 1, atol=1e-5)
    assert np.abs(output - layer(x)).max() > 1e-4


def test_settings_and_sizes_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="H must divide D. Received: H=3, D=4"):
        WindowAttention(3, 2)(tf.zeros([1, 4, 4, 4]))
    with pytest.raises(ValueError, match=r"5 positions along X.*Received: X=4, window=\(2, 5\)"):
        WindowAttention(2, (2, 5))(tf.zeros([1, 4, 4, 4]))
    with pytest.raises(ValueError, match="less than the window. Received: shift=2, window=2"):
        WindowAttention(2, 2, 2)
    with pytest.raises(ValueError, match="at least 1. Received: num_heads=2, window=0"):
        WindowAttention(2, 0)
    with pytest.raises(ValueError, match=r"Expected \[B, Y, X, D\]"):
        WindowAttention(2, 2)(tf.zeros([1, 4, 4]))
