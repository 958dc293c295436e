import importlib

import numpy as np
import pytest
import tensorflow as tf

from keras_attention.functional import linear_cross_entropy
from keras_attention.functional.likelihood import cross_entropy

WAYS = {"eager": {}, "graph": {"jit_compile": False}, "jit": {"jit_compile": True}}


def compiled(way, function):
    return function if way == "eager" else tf.function(function, autograph=False, **WAYS[way])


def case(dtype="float64", transposed=False, tokens=11, width=4, vocab_size=7):
    """Hidden states, matrix, bias, labels and weights; tokens 1, 4 and 10 do not count."""
    rng = np.random.default_rng(0)
    wide = "float64" if dtype == "float64" else "float32"
    shape = (vocab_size, width) if transposed else (width, vocab_size)
    weights = rng.uniform(0.5, 2, tokens)
    weights[[1, 4, -1]] = 0
    return (
        tf.constant(rng.normal(size=(tokens, width)), dtype),
        tf.constant(rng.normal(size=shape), wide),
        tf.constant(rng.normal(size=vocab_size), wide),
        tf.constant(rng.integers(0, vocab_size, tokens)),
        tf.constant(weights, wide),
    )


def with_gradients(function, way, *inputs):
    """The results of the function, and the gradients of the first for all inputs."""

    def both():
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            results = function(*inputs)
        return results, tape.gradient(results[0], inputs)

    return compiled(way, both)()


def by_logits(hidden, matrix, bias, labels, weights, smoothing=0.0, transposed=False):
    """The same with all logits: what is summed, log p and correctness of each token."""
    counted = weights != 0
    logits = tf.matmul(hidden, tf.cast(matrix, hidden.dtype), transpose_b=transposed)
    logits = tf.cast(logits, weights.dtype) + (0 if bias is None else bias)
    total = tf.reduce_sum(weights * cross_entropy(labels, logits, smoothing, counted))
    correct = counted & (tf.argmax(logits, -1) == labels)
    return total, -cross_entropy(labels, logits, 0.0, counted), correct


@pytest.mark.parametrize(
    "way, dtype, transposed, smoothing, biased, chunk",
    [
        ("eager", "float64", False, 0.0, True, 3),
        ("graph", "float64", True, 0.1, False, None),
        ("graph", "float64", False, 0.1, True, 4),
        ("jit", "float64", True, 0.1, True, 3),
        ("eager", "float32", True, 0.0, False, 1),
        ("graph", "float32", False, 0.1, True, 100),
        ("jit", "float32", False, 0.0, False, None),
        ("graph", "float16", True, 0.1, True, 3),
        ("jit", "float16", False, 0.0, True, 3),
        ("graph", "bfloat16", False, 0.0, True, 3),
        ("jit", "bfloat16", True, 0.1, True, 3),
    ],
)
def test_it_is_the_cross_entropy_of_the_logits(way, dtype, transposed, smoothing, biased, chunk):
    hidden, matrix, bias, labels, weights = case(dtype, transposed)
    tolerance = {"float64": 1e-10, "float32": 1e-5, "float16": 2e-3, "bfloat16": 2e-2}[dtype]

    def ours(hidden, matrix, weights, bias=None):
        return linear_cross_entropy(
            hidden, matrix, labels, bias, weights, smoothing, transposed, chunk
        )

    def theirs(hidden, matrix, weights, bias=None):
        return by_logits(hidden, matrix, bias, labels, weights, smoothing, transposed)

    inputs = hidden, matrix, weights, *([bias] if biased else [])
    results, gradients = with_gradients(ours, way, *inputs)
    expected, expected_gradients = with_gradients(theirs, "graph", *inputs)
    for found, wanted in zip((*results[:2], *gradients), (*expected[:2], *expected_gradients)):
        assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
        found, wanted = (tf.cast(x, tf.float64).numpy() for x in (found, wanted))
        np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance)
    np.testing.assert_array_equal(results[2], expected[2])


def test_the_gradients_are_those_of_finite_differences():
    hidden, matrix, bias, labels, weights = case(tokens=5, width=2, vocab_size=3)

    @tf.function
    def total(hidden, matrix, bias):
        return linear_cross_entropy(hidden, matrix, labels, bias, weights, 0.1, chunk=2).total

    analytic, numeric = tf.test.compute_gradient(total, [hidden, matrix, bias], 1e-5)
    for one, other in zip(analytic, numeric):
        np.testing.assert_allclose(one, other, atol=1e-8)


@pytest.mark.parametrize("way", WAYS)
def test_a_token_with_a_weight_of_0_may_hold_anything(way):
    hidden, matrix, bias, labels, weights = (x.numpy() for x in case())
    counted = weights != 0
    hidden[1], hidden[4], hidden[-1] = np.nan, np.inf, -np.inf
    labels[~counted] = -100, -1, 10**6

    def total(hidden, matrix, weights, bias, labels):
        return linear_cross_entropy(hidden, matrix, labels, bias, weights, 0.1, chunk=3)

    found, gradients = with_gradients(
        lambda *x: total(*x, tf.constant(labels)),
        way,
        *map(tf.constant, (hidden, matrix, weights, bias)),
    )
    expected, of_counted = with_gradients(
        lambda *x: total(*x, tf.constant(labels[counted])),
        "eager",
        *map(tf.constant, (hidden[counted], matrix, weights[counted], bias)),
    )
    np.testing.assert_allclose(found.total, expected.total, rtol=1e-12)
    np.testing.assert_allclose(found.log_p.numpy()[counted], expected.log_p, rtol=1e-12)
    np.testing.assert_allclose(gradients[0].numpy()[counted], of_counted[0], rtol=1e-10)
    np.testing.assert_allclose(gradients[1], of_counted[1], rtol=1e-10)
    np.testing.assert_allclose(gradients[3], of_counted[3], rtol=1e-10)
    assert not found.log_p.numpy()[~counted].any()
    assert not found.correct.numpy()[~counted].any()
    assert not gradients[0].numpy()[~counted].any()


@pytest.mark.parametrize("way", WAYS)
def test_without_tokens_the_sum_and_its_gradients_are_0(way):
    hidden, matrix, bias, labels, weights = case("float32")
    for count in (11, 0):
        inputs = hidden[:count], matrix, 0 * weights[:count], bias

        def total(h, m, w, b):
            return linear_cross_entropy(h, m, labels[: h.shape[0]] - 100, b, w)

        results, gradients = with_gradients(total, way, *inputs)
        assert float(results.total) == 0
        assert results.log_p.shape == [count]
        assert not any(np.any(gradient) for gradient in gradients)


def test_a_vocabulary_of_one_costs_nothing():
    hidden, matrix, _, _, weights = case(vocab_size=1)
    found = linear_cross_entropy(hidden, matrix, tf.zeros([11], tf.int32), weights=weights)
    assert float(found.total) == 0
    np.testing.assert_array_equal(found.correct, weights != 0)


def test_of_equal_logits_the_first_is_the_likeliest():
    found = linear_cross_entropy(tf.ones([3, 2]), tf.zeros([2, 4]), tf.constant([0, 1, 3]))
    assert found.correct.numpy().tolist() == [True, False, False]


def test_a_token_that_the_bias_forbids_has_no_probability():
    bias = tf.constant([0.0, 0.0, -np.inf])
    found, gradients = with_gradients(
        lambda h, m: linear_cross_entropy(h, m, [0, 1], bias), "graph", tf.eye(2), tf.ones([2, 3])
    )
    np.testing.assert_allclose(found.log_p, [-np.log(2)] * 2, rtol=1e-6)
    assert not np.any(gradients[1][:, 2]) and np.isfinite(gradients[0]).all()


def test_axes_of_the_hidden_states_before_the_last_are_tokens():
    hidden, matrix, bias, labels, weights = case(tokens=12)
    flat = linear_cross_entropy(hidden, matrix, labels, bias, weights)

    @tf.function(input_signature=[tf.TensorSpec([None, None, 4], tf.float64)])
    def of_unknown_sizes(hidden):
        rows = (tf.reshape(x, tf.shape(hidden)[:2]) for x in (labels, weights))
        return linear_cross_entropy(hidden, matrix, next(rows), bias, next(rows))

    found = of_unknown_sizes(tf.reshape(hidden, [3, 4, 4]))
    np.testing.assert_allclose(found.total, flat.total, rtol=1e-12)
    np.testing.assert_allclose(tf.reshape(found.log_p, [-1]), flat.log_p, rtol=1e-12)
    one = linear_cross_entropy(hidden[0], matrix, labels[0], bias)
    np.testing.assert_allclose(one.log_p, flat.log_p[0], rtol=1e-12)


@pytest.mark.parametrize("way", ["graph", "jit"])
def test_logits_that_would_not_fit_into_any_memory_are_never_formed(way):
    # 2^19 tokens of 2^17 ids: 256 GiB of logits, but only three tokens count.
    count = 2**19
    weights = tf.scatter_nd([[5], [70_000], [count - 1]], [1.0, 2.0, 1.0], [count])
    matrix = tf.random.stateless_normal([2, 2**17], (0, 1))
    hidden = tf.random.stateless_normal([count, 2], (0, 2))
    real = np.flatnonzero(weights)

    def total(hidden, matrix):
        labels = tf.zeros([tf.shape(hidden)[0]], tf.int32)
        some = weights if hidden.shape[0] == count else tf.gather(weights, real)
        return linear_cross_entropy(hidden, matrix, labels, weights=some, chunk=64)

    found, gradients = with_gradients(total, way, hidden, matrix)
    expected, of_real = with_gradients(total, "eager", tf.gather(hidden, real), matrix)
    np.testing.assert_allclose(found.total, expected.total, rtol=1e-5)
    np.testing.assert_allclose(gradients[1], of_real[1], rtol=1e-4, atol=1e-6)


def test_a_graph_that_does_not_use_the_gradients_does_not_compute_them(monkeypatch):
    hidden, matrix, _, labels, _ = case("float32", tokens=12)
    module = importlib.import_module("keras_attention.functional.linear_cross_entropy")
    own, calls = module._gradients, []  # noqa: SLF001

    def counting(x):
        calls.append(1)
        return x

    def gradients(*args):
        to_hidden, to_matrix = own(*args)
        seen = tf.numpy_function(counting, [to_matrix], to_matrix.dtype, stateful=False)
        return to_hidden, tf.ensure_shape(seen, to_matrix.shape)

    monkeypatch.setattr(module, "_gradients", gradients)

    def total(hidden, matrix):
        return linear_cross_entropy(hidden, matrix, labels, chunk=4)

    train = tf.function(lambda: with_gradients(total, "eager", hidden, matrix))
    evaluate = tf.function(lambda: train()[0])
    evaluate()
    assert not calls
    train()
    assert len(calls) == 3


def test_what_has_no_gradient_says_so():
    hidden, matrix, _, labels, weights = case("float32")
    inputs = hidden, matrix
    with pytest.raises(LookupError, match="Use the gradient of total"):
        with_gradients(lambda *x: linear_cross_entropy(*x, labels)[1:2], "graph", *inputs)
    with pytest.raises(LookupError, match="gradient=False"):
        with_gradients(
            lambda *x: linear_cross_entropy(*x, labels, gradient=False), "eager", *inputs
        )
    with pytest.raises(LookupError, match="second derivative"):
        with_gradients(
            lambda *x: with_gradients(
                lambda *x: linear_cross_entropy(*x, labels), "eager", *x
            )[1],
            "graph", *inputs,
        )  # fmt: skip
    without = linear_cross_entropy(*inputs, labels, weights=weights, gradient=False)
    full = linear_cross_entropy(*inputs, labels, weights=weights)
    assert float(without.total) == float(full.total)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"hidden": np.zeros([2, 3], np.float32)}, "hidden must be .*D.*Received: hidden of shape"),
        ({"matrix": np.zeros([5, 4], np.float32)}, "hidden must be .*D.*Received: hidden of shape"),
        ({"bias": np.zeros([4])}, r"bias must be \[V\] with V = 5"),
        ({"labels": np.zeros([3], np.int32)}, "labels must be"),
        ({"labels": np.zeros([2, 1], np.int32)}, "labels must be"),
        ({"weights": np.zeros([3])}, "weights must be"),
        ({"chunk": 0}, "chunk must be at least 1"),
        (
            {"labels": np.array([0, 5])},
            "an id from 0 to V - 1. Received: ids from 0 to 5 for V = 5",
        ),
        ({"labels": np.array([0.5, 0], np.float32)}, "integer ids"),
    ],
)
def test_bad_input_is_refused(change, words):
    good = {"hidden": tf.zeros([2, 4]), "matrix": tf.zeros([4, 5]), "labels": tf.constant([0, 1])}
    with pytest.raises(ValueError, match=words):
        linear_cross_entropy(**{**good, **change})


def test_in_a_graph_bad_labels_are_refused_when_it_runs():
    inputs = tf.zeros([1, 4]), tf.zeros([4, 5])
    with pytest.raises(tf.errors.InvalidArgumentError, match="an id from 0 to V - 1"):
        tf.function(linear_cross_entropy)(*inputs, tf.constant([5]))
    compiled = tf.function(linear_cross_entropy, jit_compile=True)
    assert np.isnan(compiled(*inputs, tf.constant([5])).total)
