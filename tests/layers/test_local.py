import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.layers import (
    AdditiveScore,
    Attention,
    GeneralScore,
    LocalMonotonicAttention,
    LocalPredictiveAttention,
)
from tests import oracles

# A memory of five slots and a query, with weights worked out by hand from the paper's formulas.
H = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [-1.0, 0.5], [0.5, -1.0]], np.float32)
QUERY = np.array([0.5, -0.25], np.float32)
WB = np.array([[-0.3, 0.5], [0.1, 0.2]], np.float32)
V = np.array([0.7, -0.6], np.float32)

both = pytest.mark.parametrize("local", [LocalMonotonicAttention, LocalPredictiveAttention])


def predictive(radius, attention=None):
    """W_p and v_p of the paper's example, in which p_t = 2.26595."""
    layer = LocalPredictiveAttention(attention, radius)
    layer.build((1, 1, 2), (1, 5, 2))
    layer.w_p.assign(WB.T)
    layer.v_p.assign(V[:, None])
    return layer


def draw(batch=3, targets=4, steps=7):
    query = np.random.normal(size=(batch, targets, 4)).astype("float32")
    memory = np.random.normal(size=(batch, steps, 4)).astype("float32")
    return query, memory, np.arange(steps) < np.array([steps, 3, 0][:batch])[:, None]


def test_local_m_gives_the_weights_of_the_paper():
    layer = LocalMonotonicAttention(radius=1)
    context, weights = layer(QUERY[None, None], H[None], start=3, return_weights=True)
    expected = [0, 0, 0.370249, 0.154343, 0.475409]
    np.testing.assert_allclose(weights[0, 0], expected, atol=1e-5)
    np.testing.assert_allclose(context[0, 0], np.array(expected) @ H, atol=1e-5)


def test_local_p_gives_the_weights_of_the_paper():
    context, weights = predictive(1)(QUERY[None, None], H[None], return_weights=True)
    expected = [0, 0, 0.612686, 0.100148, 0]
    np.testing.assert_allclose(weights[0, 0], expected, atol=1e-5)
    np.testing.assert_allclose(tf.reduce_sum(weights), 0.712834, atol=1e-5)
    np.testing.assert_allclose(context[0, 0], np.array(expected) @ H, atol=1e-5)


@pytest.mark.parametrize("radius", [1, 2.5, 10])
def test_local_p_is_its_formula_for_every_row(radius):
    query, memory, mask = draw()
    layer = LocalPredictiveAttention(Attention(GeneralScore()), radius, units=3)
    _, found = layer(query, memory, memory_mask=mask, return_weights=True)
    w_p, v_p = layer.w_p.numpy(), layer.v_p.numpy()[:, 0]
    kernel = layer.attention.score.kernel.numpy()
    for b, t in np.ndindex(3, 4):
        length = mask[b].sum()
        place = length / (1 + np.exp(-np.tanh(query[b, t] @ w_p) @ v_p))
        distance = np.arange(7) - place
        scores = memory[b] @ (query[b, t] @ kernel)
        weights = oracles.softmax(scores, mask[b] & (abs(distance) <= radius))
        weights *= np.exp(-(distance**2) / (2 * (radius / 2) ** 2))
        np.testing.assert_allclose(found[b, t], weights, atol=1e-5)


def test_local_m_is_its_window_for_every_row_and_stays_at_the_end_of_a_short_one():
    query, memory, mask = draw()
    _, found = LocalMonotonicAttention(radius=2)(
        query, memory, memory_mask=mask, start=2, return_weights=True
    )
    for b, t in np.ndindex(3, 4):
        place = min(2 + t, mask[b].sum() - 1)
        near = abs(np.arange(7) - place) <= 2
        expected = oracles.softmax(memory[b] @ query[b, t], mask[b] & near)
        np.testing.assert_allclose(found[b, t], expected, atol=1e-5)
    assert (tf.reduce_sum(found, -1).numpy()[1] > 0.99).all()  # t = 5 looks at 3 slots


@both
def test_a_window_without_end_is_global_attention(local):
    query, memory, mask = draw()
    attention = Attention(AdditiveScore(), query_units=3, key_units=3)
    found = local(attention, math.inf)(query, memory, memory_mask=mask)
    np.testing.assert_array_equal(found, attention(query, memory, memory_mask=mask))


def test_a_window_longer_than_the_source_is_global_attention_and_nearly_so_with_a_gaussian():
    query, memory, mask = draw()
    expected = Attention()(query, memory, memory_mask=mask)
    found = LocalMonotonicAttention(radius=7)(query, memory, memory_mask=mask)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    found = LocalPredictiveAttention(radius=1e5)(query, memory, memory_mask=mask)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@both
def test_padding_on_either_side_moves_no_window(local):
    query, memory, _ = draw(batch=1)
    layer = local(radius=2)
    expected = layer(query, memory)
    junk = np.full((1, 3, 4), 50.0, "float32")
    for padded, mask in (
        ([memory, junk], [True] * 7 + [False] * 3),
        ([junk, memory], [False] * 3 + [True] * 7),
    ):
        found = layer(query, np.concatenate(padded, 1), memory_mask=np.array([mask]))
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_one_query_at_a_time_from_its_start_is_all_at_once():
    query, memory, mask = draw()
    layer = LocalMonotonicAttention(radius=1)
    whole = layer(query, memory, memory_mask=mask)
    prepared = layer.project_memory(memory, mask)
    for t in range(4):
        step = layer(query[:, t : t + 1], prepared, start=tf.fill([3], t))
        np.testing.assert_allclose(step, whole[:, t : t + 1], atol=1e-6)
    one = layer.attention(query[1:2, 3:], memory[1:2, 1:3])
    np.testing.assert_allclose(whole[1:2, 3:], one, atol=1e-6)  # beyond its end: the last window


def test_the_place_learns_by_the_gaussian_alone():
    query, memory, _ = draw()
    narrow, wide = LocalPredictiveAttention(radius=2), LocalPredictiveAttention(radius=math.inf)
    for layer, learns in ((narrow, True), (wide, False)):
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(layer(query, memory) ** 2)
        gradients = tape.gradient(total, [layer.w_p, layer.v_p])
        assert all((g is not None and np.abs(g).max() > 0) == learns for g in gradients)


@both
def test_keras_masks_are_honoured_and_forwarded(local):
    ids = np.array([[1, 2, 3, 0], [3, 0, 0, 0]])
    embedded = keras.layers.Embedding(4, 4, mask_zero=True)(ids)
    layer = local(radius=1)
    found = layer(embedded, embedded)
    raw = embedded.numpy()
    np.testing.assert_allclose(found, layer(raw, raw, memory_mask=ids != 0), atol=1e-6)
    np.testing.assert_array_equal(found._keras_mask, ids != 0)


@both
def test_a_model_with_a_window_survives_its_file(local, tmp_path):
    query, memory, _ = draw()
    inputs = [keras.Input([None, 4]), keras.Input([None, 4])]
    for radius in (2, math.inf):
        layer = local(Attention(GeneralScore(), value_units=3), radius)
        model = keras.Model(inputs, layer(*inputs))
        model.save(tmp_path / "model.keras")
        again = keras.saving.load_model(tmp_path / "model.keras")
        np.testing.assert_array_equal(again([query, memory]), model([query, memory]))


@both
def test_a_radius_that_may_leave_nothing_is_refused(local):
    for radius in (0, -3, 0.5, math.nan):
        with pytest.raises(ValueError, match=f"radius D must be at least 1.*radius={radius}"):
            local(radius=radius)


def test_units_below_one_are_refused():
    with pytest.raises(ValueError, match="units must be at least 1. Received: units=0"):
        LocalPredictiveAttention(units=0)


@pytest.mark.parametrize("layer", [LocalMonotonicAttention, LocalPredictiveAttention])
def test_a_mask_of_the_call_counts_as_one_of_the_projection(layer):
    layer, query, memory = layer(radius=1), tf.random.normal([2, 3, 4]), tf.random.normal([2, 6, 4])
    mask = tf.constant([[1, 1, 0, 0, 0, 0], [0, 1, 1, 1, 0, 0]]) > 0
    expected = layer(query, memory, memory_mask=mask)
    found = layer(query, layer.project_memory(memory), memory_mask=mask)
    np.testing.assert_array_equal(found, expected)
