"""Packed tokens are the real tokens of padded rows, and the gradients are exact."""

import numpy as np
import pytest
import tensorflow as tf

from keras_attention.functional.heads import join_heads, split_heads
from keras_attention.functional.packing import (
    pack,
    pack_heads,
    packing_of,
    right_padded,
    unpack,
    unpack_heads,
)

MASKS = {
    "right": [[1, 1, 0], [1, 1, 1], [1, 0, 0]],
    "holes": [[0, 1, 0], [0, 0, 0], [1, 0, 1]],
    "full": [[1, 1, 1]],
    "empty": [[0, 0, 0], [0, 0, 0]],
    "no_rows": np.zeros([0, 3]),
    "no_steps": np.zeros([2, 0]),
}
HEADS, WIDTH = 2, 3


@pytest.fixture(params=MASKS)
def mask(request):
    return np.array(MASKS[request.param], bool)


def drawn(*shape):
    return np.random.normal(size=shape)


def test_packing_is_selection_and_unpacking_puts_zeros_between(mask):
    packing = packing_of(mask)
    x = drawn(*mask.shape, HEADS * WIDTH)
    packed = pack(tf.constant(x), packing)
    np.testing.assert_array_equal(packed, x[mask])
    np.testing.assert_array_equal(unpack(packed, packing), np.where(mask[..., None], x, 0))
    ids = np.arange(mask.size).reshape(mask.shape)
    np.testing.assert_array_equal(pack(tf.constant(ids), packing), ids[mask])


def test_heads_are_those_of_padded_rows(mask):
    packing = packing_of(mask)
    x = drawn(*mask.shape, HEADS * WIDTH)
    zeroed = tf.constant(np.where(mask[..., None], x, 0))
    heads = unpack_heads(pack(tf.constant(x), packing), HEADS, packing)
    np.testing.assert_array_equal(heads, split_heads(zeroed, HEADS))
    np.testing.assert_array_equal(pack_heads(heads, packing), join_heads(heads).numpy()[mask])


def test_padding_may_hold_anything_and_has_no_gradient(mask):
    packing = packing_of(mask)
    x = tf.constant(np.where(mask[..., None], drawn(*mask.shape, 4), np.nan))
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = tf.reduce_sum(unpack(pack(x, packing), packing) ** 2)
    gradient = tape.gradient(y, x).numpy()
    np.testing.assert_allclose(gradient, np.where(mask[..., None], 2 * x, 0))


@pytest.mark.parametrize("compiled", [False, True])
def test_gradients_are_right_also_the_second(compiled):
    mask = np.array(MASKS["holes"], bool)
    packing = packing_of(mask)
    functions = {
        "pack": (lambda x: pack(x, packing), drawn(3, 3, 4)),
        "unpack": (lambda x: unpack(x, packing), drawn(3, 4)),
        "unpack_heads": (lambda x: unpack_heads(x, 2, packing), drawn(3, 4)),
        "pack_heads": (lambda x: pack_heads(x, packing), drawn(3, 2, 3, 4)),
    }
    for name, (function, x) in functions.items():
        factors = tf.constant(0.1 * drawn(*function(tf.constant(x)).shape))

        def loss(x, function=function, factors=factors):
            return tf.reduce_sum(factors * function(x) ** 3)

        def gradient(x, loss=loss):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = loss(x)
            return tape.gradient(y, x)

        found = tf.function(gradient) if compiled else gradient
        for f in (loss, lambda x, found=found: tf.reduce_sum(found(x) ** 2)):
            theory, numbers = tf.test.compute_gradient(f, [tf.constant(x)])
            np.testing.assert_allclose(theory[0], numbers[0], rtol=1e-4, atol=1e-6, err_msg=name)


def test_sizes_may_be_unknown_in_a_graph():
    @tf.function(
        input_signature=[tf.TensorSpec([None, None, 4]), tf.TensorSpec([None, None], bool)]
    )
    def roundtrip(x, mask):
        packing = packing_of(mask)
        heads = unpack_heads(pack(x, packing), 2, packing)
        assert heads.shape.as_list() == [None, 2, None, 2]
        return unpack(pack_heads(heads, packing), packing)

    for mask in MASKS.values():
        mask = np.array(mask, bool)
        x = drawn(*mask.shape, 4).astype("float32")
        np.testing.assert_array_equal(roundtrip(x, mask), np.where(mask[..., None], x, 0))


def test_padding_is_what_follows_the_last_token():
    ids = [[1, 5, 0, 0], [0, 5, 0, 6], [0, 0, 0, 0], [0, 3, 0, 0]]
    expected = [[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 0, 0]]
    np.testing.assert_array_equal(right_padded(tf.constant(ids), 0), np.array(expected, bool))
    assert right_padded(tf.zeros([2, 0], tf.int32), 0).shape == (2, 0)
