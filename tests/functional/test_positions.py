import numpy as np
import pytest
import tensorflow as tf

from keras_attention.functional import alibi, distance_decay, dot, relative_index, rotary, softmax

QUERY, SLOT = np.indices((6, 6))


def test_a_relative_index_is_the_clipped_distance():
    for reach in (0, 1, 3, 9):
        expected = np.clip(SLOT - QUERY, -reach, reach) + reach
        np.testing.assert_array_equal(relative_index(6, reach), expected)
        np.testing.assert_array_equal(relative_index(2, reach, offset=4), expected[4:])


def test_relative_attention_with_the_index_gives_the_values_of_the_paper():
    x = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    of_keys = np.array([[0.1, 0], [0, 0.2], [-0.1, 0.3]])
    of_values = np.array([[1.0, 0], [0, 0], [0, 1.0]])
    index = relative_index(3, 1).numpy()
    scores = (x @ x.T + np.einsum("id,ijd->ij", x, of_keys[index])) / np.sqrt(2)
    weights = softmax(scores).numpy()
    alpha = [[0.418211, 0.192129, 0.38966], [0.171128, 0.39979, 0.429083]]
    np.testing.assert_allclose(weights[:2], alpha, atol=1e-5)
    z = weights @ x + np.einsum("ij,ijd->id", weights, of_values[index])
    expected = [[0.807871, 1.163579], [0.771338, 1.257955], [1.239423, 0.760577]]
    np.testing.assert_allclose(z, expected, atol=1e-5)


def test_a_reach_below_zero_is_refused():
    with pytest.raises(ValueError, match="reach must be at least 0. Received: reach=-1"):
        relative_index(3, -1)


def test_decay_alone_gives_the_weights_of_the_paper():
    found = softmax(distance_decay(4, 1.5))[0, 0]
    np.testing.assert_allclose(found, [0.7788, 0.173774, 0.038774, 0.008652], atol=1e-5)
    np.testing.assert_allclose(distance_decay(6, 0.7)[0], -0.7 * abs(QUERY - SLOT), rtol=1e-6)
    np.testing.assert_array_equal(distance_decay(2, 0.7, offset=4), distance_decay(6, 0.7)[:, 4:])


def test_alibi_has_a_slope_for_each_head():
    np.testing.assert_allclose(-alibi(2, 8)[:, 1, 0], [2.0**-h for h in range(1, 9)])
    # Twelve heads, from the authors' code: the eight, then every other one of sixteen.
    more = [2.0**-0.5, 2.0**-1.5, 2.0**-2.5, 2.0**-3.5]
    np.testing.assert_allclose(-alibi(2, 12)[8:, 1, 0], more, rtol=1e-6)
    np.testing.assert_allclose(alibi(6, 2)[0], -abs(QUERY - SLOT) / 16)
    assert alibi(3, 5, offset=2).shape == (5, 3, 5)
    with pytest.raises(ValueError, match="H must be at least 1"):
        alibi(3, 0)


each_layout = pytest.mark.parametrize("layout", ["interleaved", "concatenated"])


@each_layout
def test_rotary_multiplies_complex_numbers(layout):
    x = np.random.normal(size=(2, 5, 8))
    positions = np.array([0, 3, 1, 100, 7])
    rates = 10000.0 ** (-np.arange(4) / 4)
    a, b = (x[..., ::2], x[..., 1::2]) if layout == "interleaved" else np.split(x, 2, -1)
    turned = (a + 1j * b) * np.exp(1j * positions[:, None] * rates)
    found = rotary(x, positions, layout).numpy()
    c, d = (
        (found[..., ::2], found[..., 1::2]) if layout == "interleaved" else np.split(found, 2, -1)
    )
    np.testing.assert_allclose(c, turned.real, atol=1e-5)
    np.testing.assert_allclose(d, turned.imag, atol=1e-5)


@each_layout
def test_turned_queries_and_keys_know_only_how_far_apart_they_are(layout):
    query, keys = np.random.normal(size=(1, 3, 8)), np.random.normal(size=(1, 4, 8))
    here = dot(rotary(query, [5, 6, 7], layout), rotary(keys, range(4), layout))
    there = dot(rotary(query, [25, 26, 27], layout), rotary(keys, range(20, 24), layout))
    np.testing.assert_allclose(here, there, atol=1e-5)
    lengths = np.linalg.norm(rotary(query, [5, 6, 7], layout), axis=-1)
    np.testing.assert_allclose(lengths, np.linalg.norm(query, axis=-1), rtol=1e-6)


def test_positions_of_rotary_count_from_zero_and_may_differ_between_rows_and_heads():
    x = np.random.normal(size=(2, 3, 5, 4))
    np.testing.assert_array_equal(rotary(x), rotary(x, np.arange(5)))
    positions = np.random.randint(0, 9, (2, 1, 5))
    found = rotary(x, positions)
    for row in range(2):
        np.testing.assert_allclose(found[row], rotary(x[row], positions[row, 0]))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_rotary_keeps_the_type_and_works_in_a_graph_of_unknown_lengths(dtype):
    x = tf.cast(np.random.normal(size=(2, 3, 4)), dtype)
    call = tf.function(rotary, input_signature=[tf.TensorSpec([None, None, 4], dtype)])
    found = call(x)
    assert found.dtype == dtype and call(x[:, :0]).shape == (2, 0, 4)
    expected = rotary(tf.cast(x, tf.float64))
    np.testing.assert_allclose(tf.cast(found, tf.float64), expected, atol=2e-2)


def test_an_odd_width_or_another_layout_of_rotary_is_refused():
    with pytest.raises(ValueError, match="D must be known and even.*Received: D=3"):
        rotary(tf.zeros([1, 2, 3]))
    with pytest.raises(ValueError, match="layout='half'"):
        rotary(tf.zeros([1, 2, 4]), layout="half")
