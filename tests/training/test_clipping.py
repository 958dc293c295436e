import numpy as np
import pytest
import tensorflow as tf

from keras_attention.training import clip_by_global_norm, global_norm


def repeated():
    values = tf.constant([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    return tf.IndexedSlices(values, tf.constant([2, 0, 2]), tf.constant([4, 2]))


def numbers(gradients):
    return [tf.convert_to_tensor(g).numpy() for g in gradients]


def test_norm_13_is_clipped_to_5():
    clipped, norm = clip_by_global_norm([tf.constant([3.0, 4.0]), tf.constant([12.0])], 5.0)
    assert float(norm) == 13.0
    found = np.concatenate(numbers(clipped))
    np.testing.assert_allclose(found, [1.153846, 1.538462, 4.615385], rtol=1e-6)


@pytest.mark.parametrize("limit", [0.01, 3.0, 7.0, 49.0, 1e6])
def test_dense_gradients_are_clipped_as_tensorflow_does(limit):
    random = np.random.default_rng(0)
    shapes = [(), (3,), (4, 5), (0, 2)]
    gradients = [tf.constant(random.normal(size=shape), tf.float32) for shape in shapes]
    ours, our_norm = clip_by_global_norm(gradients, limit)
    theirs, their_norm = tf.clip_by_global_norm(gradients, limit)
    assert float(our_norm) == float(their_norm)
    for mine, other in zip(numbers(ours), numbers(theirs)):
        np.testing.assert_allclose(mine, other, rtol=2e-7)


def test_gradients_within_the_limit_are_not_touched_at_all():
    gradient = tf.random.normal([50])
    clipped, _ = clip_by_global_norm([gradient], 49.0)
    np.testing.assert_array_equal(clipped[0], gradient)


def test_repeated_rows_count_as_their_sum():
    dense = tf.convert_to_tensor(repeated())
    assert float(global_norm([repeated()])) == float(tf.norm(dense))
    clipped, _ = clip_by_global_norm([repeated(), tf.ones([3])], 1.0)
    expected, _ = clip_by_global_norm([dense, tf.ones([3])], 1.0)
    np.testing.assert_allclose(numbers(clipped)[0], numbers(expected)[0], rtol=1e-6)
    np.testing.assert_allclose(float(global_norm(clipped)), 1.0, rtol=1e-6)


def test_a_sparse_gradient_stays_sparse_with_distinct_rows():
    clipped, _ = clip_by_global_norm([repeated()], 1.0)
    assert isinstance(clipped[0], tf.IndexedSlices)
    assert sorted(clipped[0].indices.numpy()) == [0, 2]


def test_a_sparse_gradient_without_rows_is_zero():
    empty = tf.IndexedSlices(tf.zeros([0, 2]), tf.zeros([0], tf.int32), tf.constant([4, 2]))
    clipped, norm = clip_by_global_norm([empty, tf.constant([2.0])], 1.0)
    assert float(norm) == 2.0
    assert clipped[0].values.shape == [0, 2]


def test_an_absent_gradient_keeps_its_place():
    clipped, norm = clip_by_global_norm([None, tf.constant([4.0]), None], 2.0)
    assert clipped[0] is None and clipped[2] is None
    assert (float(norm), float(clipped[1][0])) == (4.0, 2.0)


@pytest.mark.parametrize("gradients", [[], [None], [np.zeros([3], "f")]])
def test_nothing_to_clip_has_norm_zero(gradients):
    clipped, norm = clip_by_global_norm(gradients, 1.0)
    assert float(norm) == 0.0
    assert all(g is None or not np.isnan(g).any() for g in clipped)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_bad_number_makes_every_gradient_nan(bad):
    clipped, _ = clip_by_global_norm([tf.constant([1.0, bad]), tf.ones([2]), repeated()], 1.0)
    assert np.isnan(clipped[0]).all() and np.isnan(clipped[1]).all()
    assert np.isnan(clipped[2].values).all()


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16])
def test_half_precision_norms_do_not_overflow(dtype):
    gradients = [tf.fill([100], tf.constant(6e4, dtype))]
    clipped, norm = clip_by_global_norm(gradients, 1.0)
    np.testing.assert_allclose(float(norm), 6e5, rtol=1e-2)
    assert clipped[0].dtype == dtype
    np.testing.assert_allclose(tf.cast(clipped[0], tf.float32), 0.1, rtol=1e-2)


def test_float64_is_computed_in_float64():
    clipped, norm = clip_by_global_norm([tf.fill([2], tf.constant(1e-3, tf.float64))], 1e-3)
    assert norm.dtype == clipped[0].dtype == tf.float64
    np.testing.assert_allclose(clipped[0], 1e-3 / np.sqrt(2), rtol=1e-14)


def test_clipping_compiles():
    clip = tf.function(clip_by_global_norm, jit_compile=True)
    values, indices = repeated().values, repeated().indices

    @tf.function(jit_compile=True)
    def compiled(values, indices):
        sparse = tf.IndexedSlices(values, indices, tf.constant([4, 2]))
        clipped, norm = clip_by_global_norm([sparse], 1.0)
        return tf.convert_to_tensor(clipped[0]), norm

    expected, norm = clip_by_global_norm([repeated()], 1.0)
    found, found_norm = compiled(values, indices)
    np.testing.assert_allclose(found, tf.convert_to_tensor(expected[0]), rtol=1e-6)
    np.testing.assert_allclose(found_norm, norm, rtol=1e-6)
    np.testing.assert_allclose(clip([tf.constant([3.0, 4.0])], 1.0)[0][0], [0.6, 0.8], rtol=1e-6)


@pytest.mark.parametrize("limit", [0, -1.0, np.inf, np.nan])
def test_a_limit_that_is_not_positive_and_finite_is_refused(limit):
    with pytest.raises(ValueError, match="norm must be positive and finite"):
        clip_by_global_norm([tf.ones([1])], limit)
