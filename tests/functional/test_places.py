import numpy as np
import pytest
import tensorflow as tf

from keras_attention.functional import flatten_places, pool_places


@pytest.mark.parametrize("shape", [(2, 5, 3), (2, 4, 5, 3), (2, 2, 3, 4, 3)])
def test_places_of_any_kind_become_one_axis(shape):
    x = np.random.normal(size=shape)
    np.testing.assert_array_equal(flatten_places(x), x.reshape(2, -1, 3))
    np.testing.assert_array_equal(pool_places(x, 1)[0], x.reshape(2, -1, 3))


def _by_hand(x, steps):
    blocks = [-(-n // step) for n, step in zip(x.shape[1:-1], steps)]
    rows = []
    for block in np.ndindex(*blocks):
        cut = tuple(slice(b * s, (b + 1) * s) for b, s in zip(block, steps))
        rows.append(x[(slice(None), *cut)].reshape(x.shape[0], -1, x.shape[-1]).max(1))
    return np.stack(rows, 1)


@pytest.mark.parametrize(
    "shape, pool",
    [((2, 5, 3), 2), ((2, 4, 6, 3), 2), ((2, 5, 7, 3), (2, 3)), ((2, 3, 4, 5, 3), (1, 2, 2))],
)
def test_pooling_takes_the_largest_of_each_block_also_of_one_that_sticks_out(shape, pool):
    x = np.random.normal(size=shape)
    steps = pool if isinstance(pool, tuple) else (pool,) * (len(shape) - 2)
    np.testing.assert_array_equal(pool_places(x, pool)[0], _by_hand(x, steps))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_masked_values_are_not_the_largest(dtype):
    x = tf.constant([[[9.0], [-1.0], [9.0], [9.0], [-3.0]]])
    mask = tf.constant([[False, True, False, False, True]])
    pooled, seen = pool_places(tf.cast(x, dtype), 2, mask)
    assert tf.cast(pooled, tf.float32)[0, :, 0].numpy().tolist() == [-1, 0, -3]
    assert seen.numpy().tolist() == [[True, False, True]]


def test_a_pool_for_another_number_of_axes_is_refused():
    with pytest.raises(ValueError, match="2 axes of positions"):
        pool_places(tf.zeros([1, 4, 4, 1]), (2, 2, 2))
    with pytest.raises(ValueError, match="at least 1"):
        pool_places(tf.zeros([1, 4, 1]), 0)


def test_vectorized_map_pools_every_example_equally():
    x = -tf.random.uniform([3, 5, 3, 2])  # below 0, so that a wrong filling would win
    each = tf.vectorized_map(lambda image: pool_places(image[None], 2)[0][0], x)
    np.testing.assert_array_equal(each, pool_places(x, 2)[0])
