"""Arguments in the spelling of Keras' own layers get an error that names ours."""

import keras
import numpy as np
import pytest

from keras_attention.layers import (
    Attention,
    AttentionPooling,
    HardAttention,
    LinearAttention,
    LocalMonotonicAttention,
    MultiHeadAttention,
    RelativeAttention,
    TransformerBlock,
    TransformerStack,
)

QUERY, VALUE = np.ones([2, 3, 4], "f"), np.ones([2, 5, 4], "f")
MASK = np.ones([2, 5], bool)


@pytest.mark.parametrize(
    ("make", "ours"),
    [
        (lambda: MultiHeadAttention(2, key_dim=4), "key_width"),
        (lambda: RelativeAttention(2, 1, value_dim=4), "value_width"),
        (lambda: MultiHeadAttention(num_query_heads=2, num_heads=2), "num_heads"),
        (lambda: LinearAttention(2, output_shape=4), "output_width"),
        (lambda: MultiHeadAttention(2, num_key_value_heads=1), "num_key_heads"),
        (lambda: Attention(score_mode="concat"), "AdditiveScore"),
        (lambda: Attention(use_scale=True), "scaled_dot"),
        (lambda: TransformerBlock(2, 8, intermediate_dim=8), "ff_width"),
        (lambda: TransformerStack(2, num_heads=2, ff_width=8), "heads"),
    ],
)
def test_an_argument_of_keras_gets_an_error_with_our_name(make, ours):
    with pytest.raises(ValueError, match=f"the name in Keras.*{ours}.*Received"):
        make()


@pytest.mark.parametrize("build", [False, True])
@pytest.mark.parametrize(
    ("layer", "call", "ours"),
    [
        (Attention, lambda layer: layer([QUERY, VALUE]), "layer.query, memory."),
        (HardAttention, lambda layer: layer([QUERY, VALUE, VALUE]), "list of 3"),
        (LocalMonotonicAttention, lambda layer: layer((QUERY, VALUE)), "tuple of 2"),
        (lambda: MultiHeadAttention(2), lambda layer: layer([QUERY, VALUE]), "not a list"),
        (lambda: MultiHeadAttention(2), lambda layer: layer(QUERY, value=VALUE), "'memory'"),
        (lambda: LinearAttention(2), lambda layer: layer(QUERY, VALUE, key=VALUE), "'memory'"),
        (lambda: MultiHeadAttention(2), lambda layer: layer(QUERY, VALUE, VALUE), "third"),
        (Attention, lambda layer: layer(QUERY, VALUE, VALUE), "third"),
        (Attention, lambda layer: layer(QUERY, VALUE, attention_mask=MASK), "'mask'"),
        (Attention, lambda layer: layer(QUERY, VALUE, mask=[None, MASK]), "memory_mask="),
        (Attention, lambda layer: layer(QUERY, VALUE, value_mask=MASK), "'memory_mask'"),
        (Attention, lambda layer: layer(QUERY, QUERY, use_causal_mask=True), "functional.causal"),
        (
            lambda: MultiHeadAttention(2),
            lambda layer: layer(QUERY, VALUE, value_mask=MASK),
            "'mask'",
        ),
        (
            lambda: MultiHeadAttention(2),
            lambda layer: layer(QUERY, use_causal_mask=True),
            "'causal'",
        ),
        (
            lambda: AttentionPooling(2),
            lambda layer: layer(QUERY, return_attention_scores=True),
            "'return_weights'",
        ),
    ],
)
def test_a_call_argument_of_keras_gets_an_error_with_our_name(layer, call, ours, build):
    layer = layer()
    if build:
        layer(QUERY) if isinstance(layer, AttentionPooling) else layer(QUERY, VALUE)
    with pytest.raises(ValueError, match=f"Keras(.|\\n)*{ours}|{ours}(.|\\n)*Keras"):
        call(layer)


def test_symbolic_calls_are_refused_too():
    query, value = keras.Input([3, 4]), keras.Input([5, 4])
    with pytest.raises(ValueError, match="not a list"):
        Attention()([query, value])


def test_a_memory_by_hand_and_masks_as_lists_of_bools_are_none_of_this():
    layer = MultiHeadAttention(2)
    expected = layer(QUERY, VALUE, mask=MASK)
    rows = [[True] * 5] * 2
    np.testing.assert_array_equal(layer(QUERY, layer.project_memory(VALUE), mask=rows), expected)
    attention = Attention()
    memory = attention.project_memory(VALUE)
    np.testing.assert_array_equal(attention(QUERY, memory), attention(QUERY, VALUE))


@pytest.mark.parametrize("given", [{}, {"memory": VALUE}])
def test_a_call_without_its_query_names_it(given):
    with pytest.raises(TypeError, match="missing.*query"):
        MultiHeadAttention(2)(**given)


def test_a_setting_that_nobody_knows_is_refused_by_keras():
    with pytest.raises((TypeError, ValueError), match="nothing"):
        MultiHeadAttention(2, nothing=1)
    with pytest.raises(TypeError, match="nothing"):
        MultiHeadAttention(2)(QUERY, nothing=1)
