"""What every attention owes as an attention: weights that are shares of what may be seen.

The other universal tests (padding, nothing to see, gradients, saving, precision, graphs) are asked
of layers in `test_layers.py`; here of the functions, of which layers are made. A function that
shows no weights shows them as its context, where the values are the unit vectors.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from keras_attention.functional import (
    additive,
    attend,
    banded_attention,
    causal,
    chunked_attention,
    cosine,
    dot,
    entmax15,
    fixed,
    fixed_attention,
    general,
    hardmax,
    linear_attention,
    relative_context,
    relative_scores,
    scaled_dot,
    softmax,
    sparsemax,
    strided,
    strided_attention,
    window,
)
from tests.conformance.test_layers import ROWS, example

WIDTH, STEPS = 4, 6


# -- layers


class Shown:
    """A layer that is asked for its weights, and keeps them."""

    def __init__(self, layer):
        self.layer, self.weights = layer, []

    def __call__(self, *inputs, **more):
        output, weights, *_ = self.layer(*inputs, return_weights=True, **more)
        self.weights += [part for part in tf.nest.flatten(weights) if part is not None]
        return output

    def __getattr__(self, name):
        return getattr(self.layer, name)


def shows_weights(name):
    layer = ROWS[name].make("float32")
    core = getattr(layer, "core", None)
    takes_it = "return_weights" in inspect.signature(layer.call).parameters
    return takes_it and (core is None or core.returns_weights)


NO_SHARES = {
    "non_local_dot": "divides products by their number instead of normalising them",
    "non_local_concatenation": "the same",
    "non_local_embedded": "pools what is looked at, and its mask with it",
    "sagan": "the same",
    "window": "has its weights window by window",
    "encoder": "shows the weights of its memory, and has none",
    "max": "has no weights, and says so",
}
SUM_TO_LESS = ("attention_monotonic", "local_predictive")  # as their papers have it
SHARES = """
    attention_additive attention_causal attention_general attention_location attention_monotonic
    attention_scaled decoder decoder_pre directional distance hierarchical intra_decoder
    local_monotonic local_predictive mean multi_head multi_head_causal non_local_gaussian pooling
    relative relative_per_head snail_attention structured temporal
""".split()


def test_every_layer_that_shows_weights_is_below():
    assert SHARES == sorted(name for name in ROWS if name not in NO_SHARES and shows_weights(name))


@pytest.mark.parametrize("name", SHARES)
def test_weights_of_a_layer_are_shares_of_visible_slots(name):
    layer, (query, values, mask) = Shown(ROWS[name].make("float32")), example()
    ROWS[name].apply(layer, *map(tf.constant, (query, values, mask)))
    layer.weights.clear()
    for weight in layer.layer.weights:
        weight.assign(np.random.normal(size=weight.shape))
    ROWS[name].apply(layer, *map(tf.constant, (query, values, mask)))
    assert layer.weights
    for weights in layer.weights:
        shares(weights.numpy(), mask, name in SUM_TO_LESS)


def shares(weights, mask, may_sum_to_less=False):
    """Not negative, exactly 0 where masked, and 1 together, or 0 where nothing may be seen."""
    mask = np.reshape(mask, [len(mask), *[1] * (weights.ndim - 2), -1])
    assert (weights >= 0).all()
    assert not weights[~np.broadcast_to(mask, weights.shape)].any()
    sums = weights.sum(-1)
    assert (sums <= 1 + 1e-6).all() and (sums > 0).any()
    if not may_sum_to_less:
        np.testing.assert_allclose(sums, sums > 0, atol=1e-6)


def test_every_exception_is_a_layer_of_the_table():
    assert {*NO_SHARES, *SUM_TO_LESS} <= set(ROWS)


# -- functions


class Function(NamedTuple):
    """`attention(query [B, T, D], keys [B, S, D], values [B, S, D'], mask [B, S])` -> [B, T, D'].

    `places(T)` [1, T, S] is what it lets be seen by place; None: all.
    """

    attention: Callable
    places: Any = None
    smooth: bool = True


def of_heads(function, *settings, **more):
    """One head, the query as it comes."""

    def attention(query, keys, values, mask):
        heads = (x[:, None] for x in (query, keys, values))
        return function(*heads, *settings, mask=mask, **more)[:, 0]

    return attention


def of_all(query, keys, values, mask):
    heads = (x[:, None] for x in (query, keys, values))
    return chunked_attention(*heads, mask[:, None, None], chunk=4)[:, 0]


def of_chunks_before(query, keys, values, mask):
    heads = (x[:, None] for x in (query, keys, values))
    return chunked_attention(*heads, mask[:, None, None], causal=True, chunk=4)[:, 0]


def scored(score, normalize=softmax):
    def attention(query, keys, values, mask):
        return attend(score(query, keys), values, mask[:, None], normalize)[0]

    return attention


def drawn(*shape):
    return np.random.default_rng(2).normal(size=shape)


def with_weights(score, *shapes):
    def weighted(query, keys):
        return score(query, keys, *(tf.cast(drawn(*shape), query.dtype) for shape in shapes))

    return weighted


FUNCTIONS = {
    "dot": Function(scored(dot)),
    "scaled_dot": Function(scored(scaled_dot)),
    "cosine": Function(scored(cosine)),
    "additive": Function(scored(with_weights(additive, [WIDTH]))),
    "general": Function(scored(with_weights(general, [WIDTH, WIDTH]))),
    "sparsemax": Function(scored(dot, sparsemax)),
    "entmax15": Function(scored(dot, entmax15)),
    "hardmax": Function(scored(dot, hardmax), smooth=False),
    "chunked": Function(of_all),
    "chunked_causal": Function(of_chunks_before, causal),
    "banded": Function(of_heads(banded_attention, 2), functools.partial(window, radius=2)),
    "banded_causal": Function(
        of_heads(banded_attention, 2, causal=True), lambda n: window(n, 2) & causal(n)
    ),
    "strided": Function(of_heads(strided_attention, 2), functools.partial(strided, stride=2)),
    "fixed": Function(of_heads(fixed_attention, 3), functools.partial(fixed, stride=3)),
    "linear": Function(of_heads(linear_attention)),
    "linear_causal": Function(of_heads(linear_attention, causal=True, block=4), causal),
}
each = pytest.mark.parametrize("name", FUNCTIONS)


def inputs(dtype="float64", steps=STEPS):
    """query, keys, values, and a mask that leaves all, some, one, and nothing."""
    query, keys, values = (tf.constant(drawn(4, steps, WIDTH) * (i + 1), dtype) for i in range(3))
    return query, keys, values, np.arange(steps) < np.array([[steps], [3], [1], [0]])


@each
def test_weights_of_a_function_are_shares_of_visible_slots(name):
    attention, places, _ = FUNCTIONS[name]
    query, keys, _, mask = inputs()
    weights = attention(query, keys, tf.eye(STEPS, batch_shape=[4], dtype=tf.float64), mask)
    shares(weights.numpy(), mask)
    seen = mask[:, None] & (True if places is None else places(STEPS).numpy())
    assert not weights.numpy()[~np.broadcast_to(seen, weights.shape)].any()
    np.testing.assert_array_equal(
        weights.numpy().any(-1), np.broadcast_to(seen, weights.shape).any(-1)
    )


@each
def test_masked_values_change_not_one_bit(name):
    attention, (query, keys, values, mask) = FUNCTIONS[name].attention, inputs("float32")
    expected = attention(query, keys, values, mask)
    other = [tf.where(mask[..., None], x, 1e3 * x[:, ::-1] + 7) for x in (keys, values)]
    np.testing.assert_array_equal(attention(query, *other, mask), expected)
    # A NaN in a key is a NaN in a score, which the functions of scores do not mask.
    with_nan = tf.where(mask[..., None], values, np.nan)
    np.testing.assert_array_equal(attention(query, keys, with_nan, mask), expected)


@each
def test_a_longer_padding_changes_nothing(name):
    attention, (*arrays, mask) = FUNCTIONS[name].attention, inputs("float32")
    longer = [tf.pad(x, [[0, 0], [0, 5], [0, 0]], constant_values=3.0) for x in arrays]
    found = attention(*longer, np.pad(mask, [[0, 0], [0, 5]]))[:, :STEPS]
    np.testing.assert_allclose(found, attention(*arrays, mask), atol=1e-6)


@each
def test_a_row_without_visible_slots_is_zeros_with_finite_gradients(name):
    attention, (*arrays, mask) = FUNCTIONS[name].attention, inputs("float32")
    with tf.GradientTape() as tape:
        tape.watch(arrays)
        context = attention(*arrays, mask)
        loss = tf.reduce_sum(tf.square(context))
    assert not np.any(context[3])
    for gradient in tape.gradient(loss, arrays):
        assert gradient is None or np.isfinite(gradient).all()


def test_functions_take_numpy_arrays():
    x = np.ones((1, 2, 6, 4), "float32")
    for attention in (chunked_attention, linear_attention):
        assert attention(x, x, x).shape == x.shape
    for attention in (banded_attention, strided_attention, fixed_attention):
        assert attention(x, x, x, 2, mask=np.ones((1, 6), bool)).shape == x.shape
    table = np.ones((3, 4), "float32")
    assert relative_scores(x, table, slots=6).shape == (1, 2, 6, 6)
    assert relative_context(np.ones((1, 2, 6, 6), "float32"), table).shape == x.shape


@each
def test_gradients_are_the_finite_differences(name):
    attention, _, smooth = FUNCTIONS[name]
    *arrays, mask = inputs()
    direction = drawn(4, STEPS, WIDTH)

    def loss(*arrays):
        return tf.reduce_sum(attention(*arrays, mask) * direction)

    with tf.GradientTape() as tape:
        tape.watch(arrays)
        result = loss(*arrays)
    for i, gradient in enumerate(tape.gradient(result, arrays)):
        if not smooth and i < 2:
            continue
        step = 1e-6 * np.random.normal(size=arrays[i].shape)
        above, below = (
            loss(*arrays[:i], arrays[i] + sign * step, *arrays[i + 1 :]) for sign in (1, -1)
        )
        np.testing.assert_allclose((above - below) / 2, np.sum(gradient * step), rtol=1e-4)


@each
def test_half_precision_stays_close_and_finite(name):
    attention, (*arrays, mask) = FUNCTIONS[name].attention, inputs("float16")
    found = attention(*arrays, mask)
    assert found.dtype == tf.float16
    expected = attention(*(tf.cast(x, tf.float32) for x in arrays), mask)
    np.testing.assert_allclose(tf.cast(found, tf.float32), expected, atol=0.02, rtol=0.02)


@each
def test_a_graph_and_xla_gives_the_eager_result(name):
    attention, (*arrays, mask) = FUNCTIONS[name].attention, inputs("float32")
    unknown = [tf.TensorSpec([None, None, WIDTH])] * 3 + [tf.TensorSpec([None, None], tf.bool)]
    graph = tf.function(attention, input_signature=unknown)
    compiled = tf.function(attention, jit_compile=True)
    for call, steps in ((compiled, STEPS), (graph, STEPS), (graph, 1)):
        *arrays, mask = (x[:, :steps] for x in (*arrays, mask))
        expected = attention(*arrays, mask)
        np.testing.assert_allclose(call(*arrays, tf.constant(mask)), expected, atol=1e-5)
