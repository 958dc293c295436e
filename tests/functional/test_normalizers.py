import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.functional import hardmax, softmax
from tests import oracles

PAIRS = [(softmax, oracles.softmax), (hardmax, oracles.hardmax)]
each = pytest.mark.parametrize("normalize, oracle", PAIRS, ids=["softmax", "hardmax"])


@each
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_weights_are_those_of_the_oracle(normalize, oracle, dtype):
    scores = (4 * np.random.normal(size=(3, 5, 7))).astype(dtype)
    mask = np.random.random((3, 5, 7)) < 0.6
    mask[0, 0] = False
    for seen in (None, mask, mask[:, :1]):
        found = normalize(scores, seen)
        assert found.dtype == dtype
        np.testing.assert_allclose(found, oracle(scores, seen), atol=1e-6)


@each
def test_weights_sum_to_one_on_what_may_be_seen_and_are_exactly_zero_elsewhere(normalize, oracle):
    mask = np.random.random((50, 6)) < 0.5
    mask[:, 2] = True
    weights = normalize(100 * np.random.normal(size=(50, 6)), mask).numpy()
    assert (weights >= 0).all() and (weights[~mask] == 0).all()
    np.testing.assert_allclose(weights.sum(-1), 1)


@each
def test_a_row_that_may_see_nothing_is_zero_and_so_is_its_gradient(normalize, oracle):
    scores = tf.Variable(np.random.normal(size=(2, 3)))
    mask = np.array([[False, False, False], [True, True, False]])
    with tf.GradientTape() as tape:
        weights = normalize(scores, mask)
        total = tf.reduce_sum(weights * [1.0, 2.0, 3.0])
    assert (weights.numpy()[0] == 0).all()
    gradient = tape.gradient(total, scores)
    if normalize is softmax:  # a hard choice has no gradient
        assert (gradient.numpy()[0] == 0).all()
        assert np.isfinite(gradient).all() and (gradient.numpy()[1] != 0).any()


@each
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_narrow_types_are_normalised_in_float32(normalize, oracle, dtype):
    scores = tf.cast(tf.random.normal([2, 3000]), dtype)
    weights = normalize(scores)
    assert weights.dtype == tf.float32
    expected = oracle(tf.cast(scores, tf.float64).numpy())
    np.testing.assert_allclose(weights, expected, rtol=1e-4, atol=1e-9)


@each
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_scores_at_the_end_of_their_range_give_no_nan(normalize, oracle, dtype):
    largest = np.finfo(dtype).max
    scores = np.array([[largest, -largest, 0], [-largest] * 3, [largest] * 3], dtype)
    for mask in (None, [[True, False, True]], [[False, False, False]]):
        weights = normalize(scores, mask).numpy()
        assert np.isfinite(weights).all() and (weights >= 0).all()


@each
def test_padding_never_changes_the_weights(normalize, oracle):
    scores = np.random.normal(size=(2, 3, 4))
    junk = np.full((2, 3, 5), 1e6)
    mask = np.arange(9) < 4
    padded = normalize(np.concatenate([scores, junk], -1), mask)
    np.testing.assert_allclose(padded[..., :4], normalize(scores), atol=1e-6)
    assert (padded.numpy()[..., 4:] == 0).all()


def test_hardmax_takes_the_first_of_equals():
    assert hardmax([[1.0, 2.0, 2.0]]).numpy().tolist() == [[0, 1, 0]]
    assert hardmax([[1.0, 2.0, 2.0]], [[True, False, True]]).numpy().tolist() == [[0, 0, 1]]


@each
def test_normalizers_are_known_to_keras(normalize, oracle):
    saved = keras.saving.serialize_keras_object(normalize)
    assert keras.saving.deserialize_keras_object(saved) is normalize


@each
def test_eager_graph_and_xla_agree(normalize, oracle):
    scores, mask = np.random.normal(size=(2, 4)), np.array([[True] * 4, [False] * 4])
    for jit in (False, True):
        compiled = tf.function(normalize, jit_compile=jit, autograph=False)
        np.testing.assert_allclose(compiled(scores, mask), normalize(scores, mask), atol=1e-12)
