import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.functional import (
    monotonic_attention,
    monotonic_hard,
    monotonic_parallel,
    monotonic_recursive,
    safe_cumprod,
)
from tests import oracles

MODES = ["recursive", "parallel", "hard"]


def draw(mode, *shape, low=0.05):
    """Probabilities of stopping, and where the pointer stood."""
    p = np.random.uniform(low, 1 - low, size=shape)
    previous = np.random.uniform(size=shape)
    if mode == "hard":
        p, previous = p > 0.5, np.eye(shape[-1])[np.random.randint(shape[-1], size=shape[:-1])]
    else:
        previous /= previous.sum(-1, keepdims=True)
    return p.astype(np.float64), previous.astype(np.float64)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", [(3, 7), (2, 1), (1, 2), (2, 3, 5), (0, 4)])
def test_attention_is_that_of_the_recurrence(mode, shape):
    p, previous = draw(mode, *shape)
    expected = oracles.monotonic(p, previous)
    np.testing.assert_allclose(monotonic_attention(p, previous, mode), expected, atol=1e-9)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_every_type_comes_out_as_it_went_in(mode, dtype):
    p, previous = draw(mode, 2, 5)
    found = monotonic_attention(tf.cast(p, dtype), tf.cast(previous, dtype), mode)
    assert found.dtype == dtype
    expected = oracles.monotonic(p, previous)
    np.testing.assert_allclose(tf.cast(found, tf.float64), expected, atol=2e-2)


def test_the_recursion_is_exact_where_the_closed_form_is_not():
    p, previous = np.full((1, 60), 0.9), np.full((1, 60), 1 / 60)
    expected = oracles.monotonic(p, previous)
    recursive = monotonic_attention(p, previous, "recursive")
    np.testing.assert_allclose(recursive, expected, rtol=1e-12)
    parallel = monotonic_attention(p, previous, "parallel")
    assert np.max(np.abs(parallel - expected)) > 1e-3


@pytest.mark.parametrize("mode", MODES)
def test_stopping_surely_and_never_are_finite_with_their_gradients(mode):
    p = tf.constant([[0.0, 1.0, 0.0, 1.0], [1.0] * 4, [0.0] * 4])
    previous = tf.constant([[1.0, 0.0, 0.0, 0.0]] * 3)
    with tf.GradientTape() as tape:
        tape.watch(p)
        attention = monotonic_attention(p, previous, mode)
    np.testing.assert_allclose(attention, [[0, 1, 0, 0], [1, 0, 0, 0], [0] * 4], atol=1e-6)
    assert np.isfinite(tape.gradient(attention, p)).all()


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_unknown_lengths_and_xla_change_nothing(mode, jit):
    call = tf.function(
        lambda p, previous: monotonic_attention(p, previous, mode),
        input_signature=[tf.TensorSpec([None, None])] * 2,
        jit_compile=jit,
    )
    for length in (1, 4):
        p, previous = (x.astype(np.float32) for x in draw(mode, 2, length))
        expected = oracles.monotonic(p, previous)
        np.testing.assert_allclose(call(p, previous), expected, atol=1e-5)


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="'recursive', 'parallel', or 'hard'"):
        monotonic_attention([[0.5]], [[1.0]], "soft")


@pytest.mark.parametrize("kwargs", [{}, {"exclusive": True}, {"reverse": True}, {"axis": 1}])
def test_the_safe_product_is_the_product(kwargs):
    x = np.random.uniform(size=(3, 8))
    np.testing.assert_allclose(safe_cumprod(x, **kwargs), tf.math.cumprod(x, **kwargs), rtol=1e-9)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_the_safe_product_has_a_gradient_at_zero(dtype):
    x = tf.constant([0.5, 0.0, 0.5], dtype)
    with tf.GradientTape() as tape:
        tape.watch(x)
        product = safe_cumprod(x)
    assert product.dtype == dtype
    assert np.isfinite(tf.cast(tape.gradient(product, x), tf.float32)).all()


NORMALIZERS = {
    "recursive": monotonic_recursive,
    "parallel": monotonic_parallel,
    "hard": monotonic_hard,
}
each_normalizer = pytest.mark.parametrize("mode", NORMALIZERS)


def walk(mode, scores, mask):
    """The pointer of the oracle at each of the queries in a row.  [B, T, S]."""
    stops = scores > 0 if mode == "hard" else 1 / (1 + np.exp(-scores))
    stops = np.where(mask, stops, 0.0)
    state = np.zeros_like(stops[:, 0])
    state[:, 0] = 1
    steps = []
    for t in range(scores.shape[1]):
        state = oracles.monotonic(stops[:, t], state)
        steps.append(state)
    return np.stack(steps, 1)


@each_normalizer
def test_as_a_normalizer_the_pointer_continues_from_query_to_query(mode):
    scores = np.random.normal(size=(3, 4, 6))
    mask = oracles.padding([6, 4, 0], 6)[:, None]
    weights, state = NORMALIZERS[mode](scores, mask)
    expected = walk(mode, scores, mask)
    np.testing.assert_allclose(weights, expected, atol=1e-10)
    np.testing.assert_array_equal(state, weights[:, -1])
    assert (weights.numpy()[2] == 0).all()


@each_normalizer
def test_all_queries_at_once_are_the_repeated_step(mode):
    scores = np.random.normal(size=(3, 4, 6))
    whole, last = NORMALIZERS[mode](scores)
    state, steps = None, []
    for t in range(4):
        weights, state = NORMALIZERS[mode](scores[:, t : t + 1], None, state)
        steps.append(weights)
    np.testing.assert_allclose(np.concatenate(steps, 1), whole)
    np.testing.assert_allclose(state, last)


@each_normalizer
def test_a_normalizer_with_a_state_is_known_to_keras_and_runs_in_any_graph(mode):
    saved = keras.saving.serialize_keras_object(NORMALIZERS[mode])
    assert keras.saving.deserialize_keras_object(saved) is NORMALIZERS[mode]
    scores = tf.random.normal([2, 3, 5])
    unknown = [tf.TensorSpec([None, None, None])]
    expected = NORMALIZERS[mode](scores)[0]
    for call in (
        tf.function(lambda x: NORMALIZERS[mode](x), input_signature=unknown),
        tf.function(lambda x: NORMALIZERS[mode](x), jit_compile=True, autograph=False),
    ):
        np.testing.assert_allclose(call(scores)[0], expected, atol=1e-6)


@each_normalizer
def test_without_queries_the_pointer_does_not_move(mode):
    weights, state = NORMALIZERS[mode](np.zeros((1, 0, 2)), None, np.array([[0.25, 0.5]]))
    assert weights.shape == (1, 0, 2) and state.numpy().tolist() == [[0.25, 0.5]]
