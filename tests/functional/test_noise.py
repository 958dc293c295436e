"""Random numbers: strictly inside of (0, 1), whatever bits they are made of."""

import numpy as np
import pytest
import tensorflow as tf

from keras_attention.functional.noise import _open_unit, gumbel, uniform
from tests.sampled import full

# Of this stream number 21 has all of its 24 highest bits set.
HIGHEST, PLACE = [395435, 0], 21


@pytest.mark.parametrize("lowest_bits", [0, *full(0xFF)])
def test_all_2_to_24_values_lie_in_the_open_unit_interval(lowest_bits):
    bits = (np.arange(2**24, dtype=np.uint32) << 8) | np.uint32(lowest_bits)
    numbers = _open_unit(tf.constant(bits)).numpy()
    assert numbers.min() > 0 and numbers.max() < 1
    assert (np.diff(numbers) >= 0).all() and len(np.unique(numbers)) == 2**23
    np.testing.assert_allclose(numbers.mean(dtype=np.float64), 0.5, rtol=1e-6)
    assert np.isfinite(-tf.math.log(-tf.math.log(numbers)).numpy()).all()


@pytest.mark.parametrize("jit", [False, True])
def test_the_highest_bits_give_a_number_below_one_and_finite_noise(jit):
    def both():
        return uniform(tf.constant(HIGHEST), 0, [64]), gumbel(tf.constant(HIGHEST), 0, [64])

    numbers, noise = tf.function(both, jit_compile=jit)()
    assert np.argmax(numbers) == PLACE and 0.9999999 < numbers[PLACE] < 1
    assert np.isfinite(noise).all()


def test_the_numbers_of_a_row_with_its_own_seed_do_not_depend_on_other_rows():
    seeds = tf.constant([[7, 0], [7, 1], [8, 0]])
    rows = uniform(seeds, 4, [3, 2, 5]).numpy()
    for row, seed in zip(rows, seeds):
        assert (row[None] == uniform(seed, 4, [1, 2, 5]).numpy()).all()
    assert len(np.unique(rows)) == rows.size
