"""Packing changes the speed of a stack, not the numbers of real tokens."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.functional.dropout import dropout
from keras_attention.functional.packing import pack, packing_of
from keras_attention.layers import (
    MultiHeadAttention,
    RelativeAttention,
    RestrictedAttention,
    TransformerStack,
)
from tests.sampled import full

B, T, S, D = 3, 5, 4, 8
TARGET = np.arange(T) < np.array([[T], [2], [3]])
SOURCE = np.array([[1, 1, 1, 1], [0, 1, 0, 1], [1, 1, 0, 0]], bool)  # padding anywhere


def drawn(*shape):
    return np.random.normal(size=shape).astype("float32")


def pair(variant=None, **settings):
    """The same encoder and decoder, packed and padded."""
    found = []
    if variant is not None:
        settings["self_attention"] = variant()
    for packed in (True, False):
        keras.utils.set_random_seed(1)
        shared = dict(layers=2, heads=2, ff_width=6, packed=packed, **settings)
        encoder = TransformerStack(**shared)
        decoder = TransformerStack(**shared, causal=True, cross=True)
        encoder.build((None, None, D))
        decoder.build((None, None, D), (None, None, D))
        found.append((encoder, decoder))
    return found


def run(stacks, source, target, training=True):
    """The hidden states of real tokens, the weights of the cross-attentions, and all gradients."""
    encoder, decoder = stacks
    weights = [weight.value for stack in stacks for weight in stack.trainable_variables]
    source, target = tf.convert_to_tensor(source), tf.convert_to_tensor(target)
    with tf.GradientTape() as tape:
        tape.watch([source, target])
        encoded = encoder(source, mask=SOURCE, training=training)
        hidden, looked_at = decoder(
            target,
            memory=encoded,
            mask=TARGET,
            memory_mask=SOURCE,
            return_weights=True,
            training=training,
        )
        real = tf.boolean_mask(hidden, TARGET)
        loss = tf.reduce_sum(tf.cast(real, tf.float32) ** 2 * np.arange(D))
    gradients = tape.gradient(loss, [source, target, *weights])
    seen = [tf.boolean_mask(tf.transpose(w, [0, 2, 1, 3]), TARGET) for w in looked_at]
    return [real, *seen, *gradients]


@pytest.mark.parametrize(
    "settings",
    [
        dict(dropout=0.4),
        dict(dropout=0.4, norm="pre", attention_bias=True, key_heads=1),
        *full(
            dict(dropout=0.0, variant=lambda: RelativeAttention(2, 3, dropout=0.3)),
            dict(dropout=0.2, variant=lambda: RestrictedAttention(2, 1), positions=None),
        ),
    ],
    ids=["paper", "pre_grouped", "relative", "restricted"],
)
@pytest.mark.parametrize("graph", [False, True])
def test_packed_is_padded_with_its_dropout_and_gradients(settings, graph):
    source, target = drawn(B, S, D), drawn(B, T, D)
    call = tf.function(run) if graph else run
    results = [call(stacks, source, target) for stacks in pair(**settings)]
    for packed, padded in zip(*results):
        np.testing.assert_allclose(packed, padded, rtol=1e-3, atol=1e-4)


def test_packed_is_padded_under_mixed_precision():
    source, target = drawn(B, S, D), drawn(B, T, D)
    stacks = pair(dropout=0.0, dtype="mixed_bfloat16")
    packed, padded = (run(each, source, target)[0] for each in stacks)
    assert packed.dtype == tf.bfloat16
    np.testing.assert_allclose(tf.cast(packed, "float32"), tf.cast(padded, "float32"), atol=0.1)


def test_padding_may_hold_nan_and_gets_zeros():
    (encoder, _), _ = pair()
    x = np.where(SOURCE[..., None], drawn(B, S, D), np.nan)
    output = encoder(x, mask=SOURCE, training=True).numpy()
    assert np.isfinite(output).all()
    np.testing.assert_array_equal(output[~SOURCE], 0)


def test_rows_of_padding_alone_and_no_rows_are_possible():
    (encoder, decoder), _ = pair()
    for rows in (2, 0):
        x, mask = drawn(rows, S, D), np.zeros([rows, S], bool)
        encoded = encoder(x, mask=mask, training=True)
        np.testing.assert_array_equal(encoded, np.zeros([rows, S, D]))
        full = np.ones([rows, T], bool)
        hidden = decoder(
            drawn(rows, T, D), memory=encoded, mask=full, memory_mask=mask, training=True
        )
        assert np.isfinite(hidden).all()


def count(graph, kind):
    return sum(op.type == kind for op in graph.get_operations())


def test_auto_packs_in_training_alone_and_never_under_xla():
    stack = TransformerStack(1, heads=2, ff_width=6)
    x, mask = tf.constant(drawn(B, S, D)), tf.constant(SOURCE)

    def packs(training, mask=mask, **options):
        call = tf.function(lambda x: stack(x, mask=mask, training=training), **options)
        return count(call.get_concrete_function(x).graph, "Where") > 0

    stack(x)
    assert packs(True) and not packs(False) and not packs(None)
    assert not packs(True, None)
    assert not packs(True, mask[:, None] & mask[:, :, None])
    assert not packs(True, jit_compile=True)


def test_a_mask_of_keras_packs_too():
    embed = keras.layers.Embedding(9, D, mask_zero=True)
    (encoder, _), (padded, _) = pair(dropout=0.0)
    ids = np.array([[3, 4, 0], [5, 0, 0]])
    found, expected = (stack(embed(ids), training=True) for stack in (encoder, padded))
    np.testing.assert_allclose(found[ids > 0], expected[ids > 0], atol=1e-5)
    np.testing.assert_array_equal(found[ids == 0], 0)
    inputs = keras.Input((None,), dtype="int32")
    model = keras.Model(inputs, encoder(embed(inputs)))
    np.testing.assert_allclose(model(ids), found, atol=1e-6)


class Own(MultiHeadAttention):
    """An attention of a user, with a call of its own."""

    def call(self, query, mask=None, causal=False, training=None):
        return super().call(query, mask=mask, causal=causal, training=training)


def test_true_says_what_prevents_packing():
    x = drawn(B, S, D)
    stack = TransformerStack(1, heads=2, ff_width=6, packed=True)
    with pytest.raises(ValueError, match=r"packed='auto'. Received: a mask of pairs"):
        stack(x, mask=np.ones([B, S, S], bool))
    with pytest.raises(ValueError, match="Received: XLA"):
        tf.function(lambda x: stack(x, mask=SOURCE), jit_compile=True)(x)
    own = dict(layers=1, heads=2, ff_width=6, self_attention=Own(2))
    with pytest.raises(ValueError, match="Received: Own, which defines its own call"):
        TransformerStack(**own, packed=True)(x, mask=SOURCE)
    assert TransformerStack(**own)(x, mask=SOURCE, training=True).shape == (B, S, D)
    with pytest.raises(ValueError, match="packed must be 'auto', True or False"):
        TransformerStack(packed="always")
    with pytest.raises(ValueError, match=r"mask must be \[B, T\]"):
        stack(x, mask=np.ones([B, S + 1], bool))


def test_a_token_has_its_dropout_wherever_it_stands():
    seed, x = tf.constant([1, 7]), tf.ones([B, S, 6])
    packed = dropout(pack(x, packing_of(SOURCE)), 0.5, seed, packing=packing_of(SOURCE))
    np.testing.assert_array_equal(packed, dropout(x, 0.5, seed)[SOURCE])
    share = packing_of(SOURCE[1:])
    rest = dropout(pack(x[1:], share), 0.5, seed, first=1, packing=share)
    np.testing.assert_array_equal(rest, packed[SOURCE[0].sum() :])
    with pytest.raises(ValueError, match="noise_shape"):
        dropout(x[0], 0.5, seed, noise_shape=(None, 1), packing=packing_of(SOURCE))


def test_the_switch_is_saved():
    stack = TransformerStack(1, heads=2, ff_width=6, packed=False)
    assert TransformerStack.from_config(stack.get_config()).packed is False


def test_packed_stacks_are_rematerialized():
    def gradients(scope):
        keras.utils.set_random_seed(1)
        with scope:
            stack = TransformerStack(2, heads=2, ff_width=6, dropout=0.0)
            stack.build((None, None, D))
        weights = [weight.value for weight in stack.trainable_variables]
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(stack(x, mask=SOURCE, training=True) ** 2 * np.arange(D))
        return tape.gradient(loss, weights)

    x = tf.constant(drawn(B, S, D))
    plain = gradients(keras.RematScope(mode=None))
    for one, other in zip(gradients(keras.RematScope(mode="full")), plain):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
