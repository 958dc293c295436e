"""Shaw's relative positions: distances in keys and values."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.functional import relative_index
from keras_attention.layers import MultiHeadAttention, RelativeAttention

# The reference: projections that leave everything as it is, k = 1.
ALPHA = [
    [0.418211, 0.192129, 0.38966],
    [0.171128, 0.39979, 0.429083],
    [0.239423, 0.239423, 0.521155],
]
Z = [[0.807871, 1.163579], [0.771338, 1.257955], [1.239423, 0.760577]]


def drawn(layer, width=8):
    """Built, with weights that are none of them 0."""
    layer.build((None, None, width))
    layer.set_weights([np.random.normal(size=weight.shape) for weight in layer.weights])
    return layer


def normal(*shape):
    return tf.constant(np.random.normal(size=shape), "float32")


def test_the_reference():
    layer = RelativeAttention(1, reach=1, use_bias=False)
    layer.build((None, None, 2))
    keys, values = [[0.1, 0], [0, 0.2], [-0.1, 0.3]], [[1.0, 0], [0, 0], [0, 1.0]]
    for part in (layer.query, layer.key, layer.value, layer.output_layer):
        part.set_weights([np.eye(2)])
    layer.key_table.assign(keys)
    layer.value_table.assign(values)
    steps = np.array([[1.0, 0], [0, 1], [1, 1]])
    output, weights = layer(tf.constant(steps[None], "float32"), return_weights=True)
    np.testing.assert_allclose(weights[0, 0], ALPHA, atol=1e-5)
    np.testing.assert_allclose(output[0], Z, atol=1e-5)


@pytest.mark.parametrize("share_heads", [True, False])
@pytest.mark.parametrize("groups", [2, 1])
def test_it_is_the_sum_over_pairs(share_heads, groups):
    layer = drawn(RelativeAttention(2, 2, share_heads, value_width=3, num_key_heads=groups))
    x = normal(2, 5, 8)
    output = layer(x, causal=True)
    query = layer.split_query(x).numpy()
    keys, values, _ = layer.project_memory(x)
    keys, values = (np.repeat(part, 2 // groups, 1) for part in (keys, values))
    of_keys, of_values = (
        np.broadcast_to(table, (2, 5, table.shape[-1]))[:, relative_index(5, 2)]
        for table in (layer.key_table, layer.value_table)
    )
    scores = np.einsum("bhid,bhijd->bhij", query, keys[:, :, None] + of_keys)
    powers = np.exp(scores) * np.tril(np.ones((5, 5)))
    weights = powers / powers.sum(-1, keepdims=True)
    context = np.einsum("bhij,bhijd->bihd", weights, values[:, :, None] + of_values)
    expected = layer.output_layer(context.reshape(2, 5, 6).astype("float32"))
    np.testing.assert_allclose(output, expected, atol=1e-4)


def test_tables_of_zeros_leave_plain_attention():
    layer, plain = drawn(RelativeAttention(2, 3)), drawn(MultiHeadAttention(2))
    for part in ("query", "key", "value", "output_layer"):
        getattr(layer, part).set_weights(getattr(plain, part).get_weights())
    for table in (layer.key_table, layer.value_table):
        table.assign(tf.zeros_like(table))
    x, mask = normal(2, 5, 8), tf.constant([[True] * 5, [True, True, False, False, False]])
    for found, expected in zip(
        layer(x, mask=mask, return_weights=True), plain(x, mask=mask, return_weights=True)
    ):
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_beyond_the_ends_of_the_sequence_the_reach_is_not_used():
    near, far = drawn(RelativeAttention(2, 4)), RelativeAttention(2, 9)
    far.build((None, None, 8))
    names = {weight.path.split("/", 1)[1]: weight for weight in near.weights}
    for weight in far.weights:
        own = names[weight.path.split("/", 1)[1]].numpy()
        more = (weight.shape[0] - own.shape[0]) // 2
        if more:  # what is farther than any two of five steps
            own = np.pad(own, [[more, more], [0, 0]], constant_values=1e3)
        weight.assign(own)
    x = normal(2, 5, 8)
    np.testing.assert_allclose(far(x), near(x), atol=1e-5)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(far(x) ** 2)
    for gradient in tape.gradient(loss, [far.key_table, far.value_table]):
        gradient = tf.convert_to_tensor(gradient).numpy()
        assert not gradient[:5].any() and not gradient[-5:].any() and gradient[5:-5].any(1).all()


def test_a_reach_of_zero_knows_no_positions():
    layer, x = drawn(RelativeAttention(2, 0)), normal(1, 5, 8)
    turned = np.roll(np.arange(5), 2)
    np.testing.assert_allclose(
        tf.gather(layer(x), turned, axis=1), layer(tf.gather(x, turned, axis=1)), atol=1e-5
    )


def test_padding_in_front_shifts_the_output_and_nothing_else():
    layer, x = drawn(RelativeAttention(2, 2)), normal(2, 4, 8)
    padded = tf.concat([normal(2, 3, 8), x], 1)
    mask = tf.constant([[False] * 3 + [True] * 4] * 2)
    np.testing.assert_allclose(layer(padded, mask=mask)[:, 3:], layer(x), atol=1e-5)


@pytest.mark.parametrize("share_heads", [True, False])
def test_two_tables_cost_so_many_parameters(share_heads):
    layer = drawn(RelativeAttention(2, 3, share_heads))
    more = layer.count_params() - drawn(MultiHeadAttention(2)).count_params()
    assert more == 2 * (2 * 3 + 1) * 4 * (1 if share_heads else 2)


def test_step_by_step_it_is_the_whole_sequence():
    layer, x = drawn(RelativeAttention(2, 2)), normal(2, 5, 8)
    cache, outputs = layer.empty_cache(2, 5), []
    for t in range(5):
        seen = (tf.range(5) <= t)[None, None, None]
        output, cache = layer.step(x[:, t : t + 1], cache, t, seen)
        outputs.append(output)
    np.testing.assert_allclose(tf.concat(outputs, 1), layer(x, causal=True), atol=1e-5)


def test_queries_are_the_last_steps_of_a_memory():
    layer, x = drawn(RelativeAttention(2, 2)), normal(2, 5, 8)
    np.testing.assert_allclose(layer(x[:, 3:], x), layer(x)[:, 3:], atol=1e-5)
    with pytest.raises(ValueError, match="Received: T=5, S=3"):
        layer(x, x[:, :3])


def test_a_bias_is_added_to_the_distances():
    layer, x = drawn(RelativeAttention(1, 2)), normal(1, 3, 8)
    bias = tf.constant([[[[0.0, 0.0, -1e9]] * 3]])
    expected = layer(x, mask=tf.constant([[True, True, False]]))
    for given in (bias, lambda heads: bias):
        np.testing.assert_allclose(layer(x, bias=given), expected, atol=1e-6)


def test_in_a_functional_model_with_unknown_lengths():
    inputs = keras.Input((None, 8))
    model = keras.Model(inputs, RelativeAttention(2, 3)(inputs))
    for steps in (1, 6):
        assert model(normal(2, steps, 8)).shape == (2, steps, 8)


def test_a_reach_below_zero_is_refused():
    with pytest.raises(ValueError, match="Received: reach=-1"):
        RelativeAttention(2, reach=-1)
