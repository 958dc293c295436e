import numpy as np
import pytest
import tensorflow as tf

from keras_attention.functional import monotonic_attention, safe_cumprod
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
