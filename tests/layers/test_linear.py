"""Linear attention as a layer and as a recurrent cell."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.functional.heads import head_contexts
from keras_attention.layers import LinearAttention, LinearAttentionCell
from tests.sampled import full


def drawn(**more):
    layer = LinearAttention(2, key_width=3, value_width=5, **more)
    layer.build((None, None, 8))
    layer.set_weights([np.random.normal(size=weight.shape) for weight in layer.weights])
    return layer


def normal(*shape):
    return tf.constant(np.random.normal(size=shape), "float32")


@pytest.mark.parametrize("groups", [2, 1])
def test_it_is_what_its_weights_read(groups):
    layer, query, memory = drawn(num_key_heads=groups), normal(2, 5, 8), normal(2, 7, 8)
    mask = tf.constant([[True] * 7, [True] * 3 + [False] * 4])
    keys, values, _ = layer.project_memory(memory)
    weights = layer.core.weights(layer.split_query(query), keys, mask[:, None, None])
    np.testing.assert_allclose(tf.reduce_sum(weights, -1), np.ones((2, 2, 5)), atol=1e-6)
    expected = layer.join(head_contexts(weights, values))
    np.testing.assert_allclose(layer(query, memory, mask=mask), expected, atol=1e-5)


def test_the_query_is_not_scaled():
    layer, x = drawn(), normal(1, 4, 8)
    flat = tf.reshape(layer.query(x), [1, 4, 2, 3])
    np.testing.assert_allclose(
        layer.split_query(x), tf.transpose(flat, [0, 2, 1, 3]), rtol=1e-5, atol=1e-6
    )


def test_causal_it_is_its_cell_step_by_step_and_in_an_rnn():
    layer, x = drawn(), normal(2, 70, 8)  # more than one block
    expected = layer(x, causal=True)
    cell = LinearAttentionCell(layer)
    state, outputs = cell.get_initial_state(2), []
    for t in range(70):
        output, state = cell(x[:, t], state)
        outputs.append(output)
    np.testing.assert_allclose(tf.stack(outputs, 1), expected, atol=1e-4)
    rnn = keras.layers.RNN(cell, return_sequences=True)
    np.testing.assert_allclose(rnn(x), expected, atol=1e-4)


def test_a_later_step_has_no_gradient():
    layer, x = drawn(), normal(1, 5, 8)
    with tf.GradientTape() as tape:
        tape.watch(x)
        outputs = tf.reduce_sum(layer(x, causal=True), -1)
    jacobian = np.abs(tape.jacobian(outputs, x)[0, :, 0]).sum(-1)  # [T, T]
    assert not np.triu(jacobian, 1).any() and np.tril(jacobian).any(1).all()


def test_the_mask_of_an_embedding_is_honoured():
    ids = keras.Input((None,), dtype="int32")
    embedded = keras.layers.Embedding(9, 8, mask_zero=True)(ids)
    model = keras.Model(ids, LinearAttention(2)(embedded))
    expected = model(np.array([[3, 5]]))
    np.testing.assert_allclose(model(np.array([[3, 5, 0]]))[:, :2], expected, atol=1e-7)


def test_invalid_arguments_are_refused():
    x = normal(1, 3, 8)
    with pytest.raises(ValueError, match="dropout=0.1"):
        LinearAttention(2, dropout=0.1)
    with pytest.raises(ValueError, match=r"mask must be \[B, S\].*shape \(1, 3, 3\)"):
        drawn()(x, mask=tf.ones([1, 3, 3], tf.bool))
    with pytest.raises(ValueError, match="Received: key_width=None"):
        LinearAttentionCell(LinearAttention(2))


@pytest.mark.parametrize("policy", ["mixed_bfloat16", *full("mixed_float16")])
@pytest.mark.full
def test_a_cell_in_low_precision_continues_summing(policy):
    x = tf.random.normal([1, 700, 8])
    wide, narrow = (LinearAttention(2, key_width=4, dtype=dtype) for dtype in ("float32", policy))
    expected = wide(x, causal=True)
    rnn = keras.layers.RNN(LinearAttentionCell(narrow), return_sequences=True, dtype=policy)
    rnn.build(x.shape)
    rnn.set_weights(wide.get_weights())
    found = rnn(x)
    assert found.dtype == policy.removeprefix("mixed_")
    np.testing.assert_allclose(tf.cast(found, tf.float32), expected, atol=0.02)


def test_a_cell_of_shared_heads_is_the_layer():
    attention, x = LinearAttention(4, key_width=3, num_key_heads=2), tf.random.normal([2, 5, 8])
    rnn = keras.layers.RNN(LinearAttentionCell(attention), return_sequences=True)
    np.testing.assert_allclose(rnn(x), attention(x, causal=True), atol=1e-5)


def test_a_configuration_makes_any_number_of_cells():
    config = LinearAttentionCell(LinearAttention(2, key_width=4)).get_config()
    assert (
        LinearAttentionCell.from_config(config).state_size
        == LinearAttentionCell.from_config(config).state_size
    )


def test_a_cell_trains_under_xla():
    cell = LinearAttentionCell(LinearAttention(2, key_width=4))
    model = keras.Sequential([keras.Input([3, 4]), keras.layers.RNN(cell)])
    model.compile("sgd", "mse", jit_compile=True)
    assert np.isfinite(model.train_on_batch(np.ones((2, 3, 4)), np.zeros((2, 4))))
