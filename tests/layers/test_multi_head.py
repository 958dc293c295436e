import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.layers import (
    Cache,
    LinearAttention,
    MemoryEfficientAttention,
    MultiHeadAttention,
    RelativeAttention,
)
from keras_attention.layers.multi_head import write_slots

B, T, S, D, H = 2, 3, 5, 8, 4
MASK = np.arange(S) < np.array([[S], [2]])


def drawn(*shape):
    return np.random.normal(size=shape).astype("float32")


def with_drawn_weights(layer, *shapes):
    layer.build(*shapes)
    layer.set_weights([drawn(*weight.shape) for weight in layer.weights])
    return layer


def copy_from_keras(ours, theirs):
    """Keras keeps the heads of a projection on an axis of their own."""
    dense = (ours.query, ours.key, ours.value, ours.output_layer)
    weights = iter(theirs.get_weights())
    for layer in dense:
        for own in layer.weights:
            own.assign(np.reshape(next(weights), own.shape))


# -- beside Keras


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no_bias"])
@pytest.mark.parametrize(
    "widths", [dict(key_width=3), dict(key_width=3, value_width=5, output_width=6)]
)
def test_it_is_keras_multi_head_attention(bias, widths):
    query, memory = drawn(B, T, D), drawn(B, S, 6)
    theirs = keras.layers.MultiHeadAttention(
        H, widths["key_width"], widths.get("value_width"), output_shape=widths.get("output_width"),
        use_bias=bias,
    )  # fmt: skip
    theirs.build(query.shape, memory.shape)
    theirs.set_weights([drawn(*weight.shape) for weight in theirs.weights])
    ours = MultiHeadAttention(H, **widths, use_bias=bias)
    ours.build(query.shape, memory.shape)
    copy_from_keras(ours, theirs)
    mask = np.random.random([B, T, S]) < 0.7
    mask[..., 0] = True
    expected = theirs(query, memory, attention_mask=mask, return_attention_scores=True)
    found = ours(query, memory, mask=mask, return_weights=True)
    np.testing.assert_allclose(found[0], expected[0], atol=1e-5)
    np.testing.assert_allclose(found[1], expected[1], atol=1e-5)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_it_is_keras_grouped_query_attention(groups):
    x = drawn(B, S, D)
    theirs = keras.layers.GroupQueryAttention(3, H, groups)
    theirs.build(x.shape, x.shape)
    theirs.set_weights([drawn(*weight.shape) for weight in theirs.weights])
    ours = MultiHeadAttention(H, key_width=3, num_key_heads=groups)
    ours.build(x.shape)
    copy_from_keras(ours, theirs)
    expected = theirs(x, x, use_causal_mask=True)
    np.testing.assert_allclose(ours(x, causal=True), expected, atol=1e-5)


def test_the_base_size_has_the_parameters_of_keras_and_torch():
    layer = MultiHeadAttention(8, key_width=64)
    layer.build((None, None, 512))
    assert layer.count_params() == 1_050_624


# -- what follows from the definition


@pytest.mark.parametrize("groups", [1, 2])
def test_shared_key_heads_are_repeated_key_heads(groups):
    x = drawn(B, S, D)
    shared = with_drawn_weights(MultiHeadAttention(H, 3, num_key_heads=groups), x.shape)
    full = MultiHeadAttention(H, 3)
    full.build(x.shape)
    for name in ("query", "key", "value", "output_layer"):
        weights = getattr(shared, name).get_weights()
        if name in ("key", "value"):
            repeated = [np.reshape(w, [*w.shape[:-1], groups, 3]) for w in weights]
            repeated = [np.repeat(w, H // groups, -2) for w in repeated]
            weights = [np.reshape(w, [*w.shape[:-2], H * 3]) for w in repeated]
        getattr(full, name).set_weights(weights)
    found, expected = (layer(x, mask=MASK, return_weights=True) for layer in (shared, full))
    np.testing.assert_allclose(found[0], expected[0], atol=1e-5)
    np.testing.assert_allclose(found[1], expected[1], atol=1e-6)


def test_one_head_of_identities_is_scaled_dot_product_attention():
    query, memory = drawn(B, T, D), drawn(B, S, D)
    layer = MultiHeadAttention(1, use_bias=False)
    layer.build(query.shape)
    layer.set_weights([np.eye(D)] * 4)
    scores = query @ memory.transpose(0, 2, 1) / np.sqrt(D)
    weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    np.testing.assert_allclose(layer(query, memory), weights @ memory, atol=1e-5)


def test_the_order_of_what_is_attended_to_is_nothing_to_it():
    query, memory = drawn(B, T, D), drawn(B, S, 6)
    layer = with_drawn_weights(MultiHeadAttention(H), query.shape, memory.shape)
    order = np.random.permutation(S)
    expected = layer(query, memory, mask=MASK)
    found = layer(query, memory[:, order], mask=MASK[:, order])
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_sequence_in_another_order_is_the_output_in_that_order():
    x, order = drawn(B, S, D), np.random.permutation(S)
    layer = with_drawn_weights(MultiHeadAttention(H), x.shape)
    np.testing.assert_allclose(layer(x[:, order]), layer(x).numpy()[:, order], atol=1e-5)


# -- masks and biases


def test_a_mask_may_be_of_slots_of_pairs_or_of_heads():
    query, memory = drawn(B, T, D), drawn(B, S, D)
    layer = with_drawn_weights(MultiHeadAttention(H), query.shape)
    expected = layer(query, memory, mask=MASK)
    pairs = np.repeat(MASK[:, None], T, 1)
    heads = np.repeat(pairs[:, None], H, 1)
    for mask in (pairs, heads, pairs[:, None]):
        np.testing.assert_array_equal(layer(query, memory, mask=mask), expected)


def test_padding_and_the_future_are_joined():
    x = drawn(B, S, D)
    layer = with_drawn_weights(MultiHeadAttention(H), x.shape)
    _, weights = layer(x, mask=MASK, causal=True, return_weights=True)
    seen = np.tril(np.ones([S, S], bool)) & MASK[:, None]
    np.testing.assert_array_equal(
        weights.numpy() > 0, np.broadcast_to(seen[:, None], weights.shape)
    )


def test_a_query_without_visible_slots_gets_the_bias_of_the_output():
    query, memory = drawn(B, T, D), drawn(B, S, D)
    layer = with_drawn_weights(MultiHeadAttention(H), query.shape)
    mask = MASK & np.array([[True], [False]])
    output, weights = layer(query, memory, mask=mask, return_weights=True)
    assert not weights[1].numpy().any()
    np.testing.assert_array_equal(output[1], np.broadcast_to(layer.output_layer.bias, (T, D)))


def test_an_empty_memory_is_nothing_to_see():
    layer = with_drawn_weights(MultiHeadAttention(H), (B, T, D))
    output = layer(drawn(B, T, D), np.zeros([B, 0, D], "float32"))
    np.testing.assert_array_equal(output, np.broadcast_to(layer.output_layer.bias, (B, T, D)))


def test_a_bias_is_added_to_the_scores_of_scaled_queries():
    query, memory = drawn(B, T, D), drawn(B, S, D)
    layer = with_drawn_weights(MultiHeadAttention(H), query.shape)
    table = drawn(S, D // H)

    def by_content(heads):
        return heads @ table.T

    biases = by_content(layer.split_query(query))
    scores = layer.split_query(query) @ tf.transpose(
        layer.project_memory(memory).keys, [0, 1, 3, 2]
    )
    expected = tf.nn.softmax(scores + biases)
    for bias in (by_content, biases):
        _, weights = layer(query, memory, bias=bias, return_weights=True)
        np.testing.assert_allclose(weights, expected, atol=1e-6)


def test_a_mask_is_as_good_as_a_bias_of_minus_infinity():
    query, memory = drawn(B, T, D), drawn(B, S, D)
    layer = with_drawn_weights(MultiHeadAttention(H), query.shape)
    bias = np.where(MASK, 0.0, -1e9)[:, None, None].astype("float32")
    found = layer(query, memory, mask=MASK)
    np.testing.assert_allclose(found, layer(query, memory, bias=bias), atol=1e-6)


def test_weights_are_returned_as_they_are_before_dropout():
    x = drawn(B, S, D)
    layer = with_drawn_weights(MultiHeadAttention(H, dropout=0.9), x.shape)
    quiet, before = layer(x, return_weights=True)
    noisy, weights = layer(x, return_weights=True, training=True)
    np.testing.assert_array_equal(weights, before)
    assert (quiet.numpy() != noisy.numpy()).any()


def test_a_memory_projected_before_is_the_memory():
    query, memory = drawn(B, T, D), drawn(B, S, 6)
    layer = with_drawn_weights(MultiHeadAttention(H), query.shape, memory.shape)
    once = layer.project_memory(memory, MASK)
    np.testing.assert_array_equal(layer(query, once), layer(query, memory, mask=MASK))


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_keys_are_wide_whatever_the_policy(policy):
    layer = MultiHeadAttention(H, dtype=policy)
    layer.build((B, T, D))
    memory, cache = layer.project_memory(drawn(B, S, D)), layer.empty_cache(B, S)
    assert memory.keys.dtype == cache.keys.dtype == tf.float32
    assert memory.values.dtype == cache.values.dtype == policy.removeprefix("mixed_")
    output, weights = layer(drawn(B, T, D), memory, return_weights=True)
    assert (output.dtype, weights.dtype) == (policy.removeprefix("mixed_"), tf.float32)


# -- step by step


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("at_a_time", [1, 2])
def test_steps_with_a_cache_are_causal_attention(groups, at_a_time):
    x = drawn(B, 6, D)
    layer = with_drawn_weights(MultiHeadAttention(H, num_key_heads=groups), x.shape)
    cache, outputs = layer.empty_cache(B, 6), []
    for t in range(0, 6, at_a_time):
        seen = np.arange(6) <= np.arange(t, t + at_a_time)[:, None]
        output, cache = layer.step(x[:, t : t + at_a_time], cache, t, seen[None, None])
        outputs.append(output)
    np.testing.assert_allclose(tf.concat(outputs, 1), layer(x, causal=True), atol=1e-5)


def test_a_cache_is_as_large_as_it_says():
    layer = MultiHeadAttention(H, key_width=3, value_width=5, num_key_heads=2)
    layer.build((None, None, D))
    cache = layer.empty_cache(7, 11)
    assert isinstance(cache, Cache)
    assert (cache.keys.shape, cache.values.shape) == ((7, 2, 11, 3), (7, 2, 11, 5))


def test_slots_are_written_where_they_are_and_nowhere_else():
    slots, new = drawn(B, 2, 7, 3), drawn(B, 2, 2, 3)
    expected = slots.copy()
    expected[:, :, 4:6] = new
    np.testing.assert_array_equal(write_slots(slots, new, 4), expected)


# -- errors


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(num_heads=0), "num_heads=0"),
        (dict(num_heads=4, key_width=0), "key_width=0"),
        (dict(num_heads=4, num_key_heads=3), "H=4, G=3"),
    ],
)
def test_what_cannot_be_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        MultiHeadAttention(**settings)


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="H=3, D=8"):
        MultiHeadAttention(3).build((None, None, D))


def test_a_mask_of_another_rank_is_refused():
    with pytest.raises(ValueError, match="mask"):
        MultiHeadAttention(H)(drawn(B, T, D), mask=np.ones([T], bool))


@pytest.mark.parametrize(
    "make",
    [MultiHeadAttention, lambda heads: MemoryEfficientAttention(heads, chunk=2),
     lambda heads: RelativeAttention(heads, 2), LinearAttention],
)  # fmt: skip
def test_causal_queries_are_the_last_steps_of_a_longer_memory(make):
    layer, x = make(2), tf.random.normal([2, 5, 8])
    every = layer(x, causal=True)
    np.testing.assert_allclose(layer(x[:, 3:], memory=x, causal=True), every[:, 3:], atol=1e-5)
    call = tf.function(
        lambda query, memory: layer(query, memory=memory, causal=True),
        input_signature=[tf.TensorSpec([2, None, 8])] * 2,
    )
    np.testing.assert_allclose(call(x[:, 3:], x), every[:, 3:], atol=1e-5)
    with pytest.raises(ValueError, match="at least T. Received: T=5, S=2"):
        layer(x, memory=x[:, :2], causal=True)


def test_a_bias_of_minus_infinity_hides_like_a_mask():
    layer, x = MultiHeadAttention(1), tf.random.normal([1, 3, 4])
    seen = np.array([[True, False, True], [False, False, False], [True, True, True]])
    bias = np.where(seen, 0.0, -np.inf).astype("float32")
    np.testing.assert_array_equal(layer(x, bias=bias), layer(x, mask=seen[None]))


def test_a_projected_memory_keeps_its_mask_under_a_mask_of_the_call():
    layer, x = MultiHeadAttention(2), tf.random.normal([2, 4, 8])
    own, more = (tf.constant(mask) > 0 for mask in ([[1, 1, 1, 0]] * 2, [[1, 0, 1, 1]] * 2))
    layer(x)
    memory = layer.project_memory(x, own)
    expected = layer(x, memory=x, mask=own & more)
    np.testing.assert_allclose(layer(x, memory=memory, mask=more), expected, atol=1e-6)
    pairs = tf.broadcast_to(more[:, None], [2, 4, 4])
    np.testing.assert_allclose(layer(x, memory=memory, mask=pairs), expected, atol=1e-6)


def test_numbers_in_lists_are_a_sequence():
    assert MultiHeadAttention(1)([[[1.0, 2.0], [3.0, 4.0]]]).shape == (1, 2, 2)
