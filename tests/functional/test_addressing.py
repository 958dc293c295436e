"""The heads of a Neural Turing Machine: addressing, reading and writing."""

import numpy as np
import pytest
import tensorflow as tf

from keras_attention.functional import (
    address,
    content_weights,
    interpolate,
    read_memory,
    rotate,
    sharpen,
    write_memory,
)

# The reference of the paper's equations: five slots of width two, one head.
MEMORY = np.array([[[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [-1.0, 0.5], [0.5, -1.0]]])
KEY, STRENGTH, GATE, SHARPNESS = [[[1.0, 0.2]]], [[[3.0]]], [[[0.7]]], [[[2.0]]]
SHIFT, PREVIOUS = [[[0.1, 0.2, 0.7]]], [[[0.0, 0.0, 1.0, 0.0, 0.0]]]
CONTENT = [0.538607, 0.051192, 0.344949, 0.002662, 0.062589]
GATED = [0.377025, 0.035835, 0.541464, 0.001864, 0.043813]
SHIFTED = [0.109657, 0.325231, 0.133563, 0.383779, 0.047770]
WEIGHTS = [0.042161, 0.370871, 0.062548, 0.516418, 0.008001]
READ = [-0.407708, 0.683628]
WRITTEN = [
    [0.991568, -0.016865],
    [0.111261, 0.480780],
    [0.987490, 0.912432],
    [-0.586865, 0.035224],
    [0.500400, -0.995199],
]


def normalised(*shape):
    weights = np.random.random(shape)
    return weights / weights.sum(-1, keepdims=True)


def test_every_stage_of_the_reference():
    content = content_weights(np.array(KEY), MEMORY, np.array(STRENGTH))
    gated = interpolate(content, np.array(PREVIOUS), GATE)
    shifted = rotate(gated, np.array(SHIFT))
    weights = sharpen(shifted, np.array(SHARPNESS))
    for found, expected in (
        (content, CONTENT),
        (gated, GATED),
        (shifted, SHIFTED),
        (weights, WEIGHTS),
        (address(content, np.array(PREVIOUS), GATE, SHIFT, SHARPNESS), WEIGHTS),
        (read_memory(weights, tf.constant(MEMORY)), READ),
    ):
        np.testing.assert_allclose(found[0, 0], expected, atol=1e-5)
    erase, add = np.array([[[0.5, 1.0]]]), np.array([[[0.3, -0.4]]])
    written = write_memory(tf.constant(MEMORY), weights, erase, add)
    np.testing.assert_allclose(written[0], WRITTEN, atol=1e-5)


def test_an_open_gate_without_shift_or_sharpening_is_pure_content():
    content, previous = normalised(2, 3, 6), normalised(2, 3, 6)
    one, stay = np.ones((2, 3, 1)), np.tile([0.0, 1.0, 0.0], (2, 3, 1))
    np.testing.assert_allclose(address(content, previous, one, stay, one), content, atol=1e-9)


@pytest.mark.parametrize("offset", [-2, -1, 1, 2])
def test_a_closed_gate_and_one_shift_roll_the_weights_and_s_of_them_come_round(offset):
    previous, steps = normalised(2, 3, 6), 6
    shift = np.tile(np.eye(5)[offset + 2], (2, 3, 1))
    closed, plain = np.zeros((2, 3, 1)), np.ones((2, 3, 1))
    weights = previous
    for step in range(1, steps + 1):
        weights = address(normalised(2, 3, 6), weights, closed, shift, plain)
        np.testing.assert_allclose(weights, np.roll(previous, step * offset, -1), atol=1e-9)
    np.testing.assert_allclose(weights, previous, atol=1e-9)


def test_no_strength_is_no_preference():
    key, memory = np.random.normal(size=(2, 3, 4)), np.random.normal(size=(2, 5, 4))
    np.testing.assert_allclose(content_weights(key, memory, np.zeros((2, 3, 1))), 0.2)


def test_weights_always_sum_to_one():
    sharpness = 1 + 50 * np.random.random((4, 2, 1))
    weights = address(
        normalised(4, 2, 7),
        normalised(4, 2, 7),
        np.random.random((4, 2, 1)),
        normalised(4, 2, 3),
        sharpness,
    )
    np.testing.assert_allclose(tf.reduce_sum(weights, -1), 1, atol=1e-12)
    assert (weights.numpy() >= 0).all()


def test_writing_nothing_changes_nothing():
    memory, nothing = tf.random.normal([2, 5, 3]), tf.zeros([2, 2, 3])
    written = write_memory(memory, normalised(2, 2, 5).astype("float32"), nothing, nothing)
    np.testing.assert_array_equal(written, memory)


def test_a_sure_head_that_erases_all_replaces_its_slot():
    memory, new = tf.random.normal([1, 4, 3]), tf.random.normal([1, 1, 3])
    written = write_memory(memory, tf.one_hot([[2]], 4), tf.ones([1, 1, 3]), new)
    expected = memory.numpy()
    expected[0, 2] = new[0, 0]
    np.testing.assert_array_equal(written, expected)


def test_all_heads_erase_before_any_of_them_adds():
    memory = np.random.normal(size=(2, 4, 3))
    weights, erase = normalised(2, 3, 4), np.random.random((2, 3, 3))
    add = np.random.normal(size=(2, 3, 3))
    expected = memory.copy()
    for head in range(3):
        expected *= 1 - np.einsum("bs,bd->bsd", weights[:, head], erase[:, head])
    for head in range(3):
        expected += np.einsum("bs,bd->bsd", weights[:, head], add[:, head])
    found = write_memory(tf.constant(memory), weights, erase, add)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    # A head that replaces the slot another one erases: nothing of what was added is lost.
    both = write_memory(
        tf.ones([1, 1, 1]), tf.ones([1, 2, 1]), tf.ones([1, 2, 1]), tf.constant([[[5.0], [0.0]]])
    )
    assert float(both[0, 0, 0]) == 5


def test_a_fresh_memory_and_a_key_of_zeros_have_finite_gradients():
    key, memory = tf.zeros([1, 1, 4]), tf.fill([1, 5, 4], 1e-6)
    one_hot = tf.one_hot([[0]], 5)
    with tf.GradientTape() as tape:
        tape.watch([key, memory, one_hot])
        content = content_weights(key, memory, tf.ones([1, 1, 1]))
        gate, shift = tf.zeros([1, 1, 1]), tf.constant([[[0.0, 1.0, 0.0]]])
        weights = address(content, one_hot, gate, shift, tf.fill([1, 1, 1], 3.0))
        loss = tf.reduce_sum(tf.square(weights)) + tf.reduce_sum(content[..., 0])
    for gradient in tape.gradient(loss, [key, memory, one_hot]):
        assert np.isfinite(gradient).all()


def test_a_fresh_memory_still_has_a_direction():
    memory = tf.fill([1, 2, 20], 1e-6) * tf.constant([[[1.0], [-1.0]]])
    weights = content_weights(tf.ones([1, 1, 20]), memory, tf.constant([[[20.0]]]))
    np.testing.assert_allclose(weights, [[[1, 0]]], atol=1e-6)


def test_an_even_number_of_shifts_is_refused():
    with pytest.raises(ValueError, match=r"2 R \+ 1.*Received.*\(1, 1, 2\)"):
        rotate(tf.ones([1, 1, 4]), tf.ones([1, 1, 2]))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_narrow_types_are_addressed_in_float32(dtype):
    key, memory = tf.random.normal([1, 1, 4]), tf.random.normal([1, 5, 4])
    narrow = content_weights(*(tf.cast(x, dtype) for x in (key, memory, [[[2.0]]])))
    assert narrow.dtype == tf.float32
    assert sharpen(tf.cast(narrow, dtype), [[[2.0]]]).dtype == tf.float32
    np.testing.assert_allclose(narrow, content_weights(key, memory, [[[2.0]]]), atol=2e-2)


def test_eager_graph_and_xla_agree():
    def step(key, memory, previous, erase):
        content = content_weights(key, memory, tf.ones([2, 3, 1], tf.float64))
        shift = tf.constant(0.2, tf.float64) * tf.ones([2, 3, 5], tf.float64)
        weights = address(content, previous, 0.3, shift, [[[2.0]]])
        return write_memory(memory, weights, erase, key)

    inputs = [np.random.normal(size=(2, 3, 4)), np.random.normal(size=(2, 6, 4))]
    inputs += [normalised(2, 3, 6), np.random.random((2, 3, 4))]
    inputs = [tf.constant(x) for x in inputs]
    for jit in (False, True):
        compiled = tf.function(step, jit_compile=jit, autograph=False)
        np.testing.assert_allclose(compiled(*inputs), step(*inputs), atol=1e-12)


def test_vectorized_map_rotates_every_example_equally():
    weights, shift = tf.random.uniform([3, 2, 5]), tf.random.uniform([3, 2, 3])
    each = tf.vectorized_map(lambda pair: rotate(pair[0][None], pair[1][None])[0], (weights, shift))
    np.testing.assert_allclose(each, rotate(weights, shift), atol=1e-6)
