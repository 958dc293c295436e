"""Pointing at the source, as the answer or to copy from it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.functional import additive, taken_before
from keras_attention.layers import CopyHead, PointerHead
from tests import oracles

MASK = np.arange(5) < np.array([5, 3])[:, None]


def pointer(dtype="float32"):
    query, memory = (np.random.normal(size=(2, n, 4)).astype("float32") for n in (3, 5))
    head = PointerHead(6, dtype=dtype)
    head(query, memory)
    head.set_weights([np.random.normal(size=weight.shape) for weight in head.weights])
    return head, query, memory


def test_logits_are_the_scores_of_additive_attention_and_padding_has_no_chance():
    head, query, memory = pointer()
    logits = head(query, memory, memory_mask=MASK)
    scores = additive(head.query(query), head.keys(memory), head.v).numpy()
    allowed = np.broadcast_to(MASK[:, None], scores.shape)
    np.testing.assert_allclose(logits.numpy()[allowed], scores[allowed], atol=1e-6)
    assert (logits.numpy()[~allowed] < -1e30).all() and np.isfinite(logits).all()
    np.testing.assert_allclose(tf.nn.softmax(logits), oracles.softmax(scores, allowed), atol=1e-6)


def test_it_may_point_again_unless_told_not_to():
    head, query, memory = pointer()
    again = tf.repeat(query[:, :1], 3, axis=1)  # the same question three times
    assert len(set(tf.argmax(head(again, memory), -1)[0].numpy())) == 1
    chosen, taken = [], np.zeros((2, 5), bool)
    for _ in range(5):
        logits = head(again[:, :1], memory, taken=taken)
        chosen.append(np.argmax(logits[:, 0], -1))
        taken = taken | (np.arange(5) == chosen[-1][:, None])
    assert (np.sort(np.stack(chosen, 1)) == np.arange(5)).all()


def test_known_answers_at_once_are_one_step_at_a_time():
    head, query, memory = pointer()
    answers = np.array([[4, 0, 2], [1, 2, 0]])
    whole = head(query, memory, memory_mask=MASK, taken=taken_before(answers, 5))
    for step in range(3):
        taken = np.zeros((2, 5), bool)
        for row in range(2):
            taken[row, answers[row, :step]] = True
        found = head(query[:, step : step + 1], memory, memory_mask=MASK, taken=taken)
        np.testing.assert_allclose(found[:, 0], whole[:, step], atol=1e-6)


def test_where_nothing_may_be_chosen_loss_and_gradients_are_finite():
    head, query, memory = pointer()
    with tf.GradientTape() as tape:
        logits = head(query, memory, memory_mask=np.zeros((2, 5), bool))
        loss = tf.reduce_sum(
            keras.losses.sparse_categorical_crossentropy(np.zeros((2, 3)), logits, from_logits=True)
        )
    for gradient in tape.gradient(loss, head.trainable_variables):
        assert np.isfinite(gradient).all()
    assert np.isfinite(logits).all() and np.isfinite(loss)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_logits_are_float32_under_mixed_precision(policy):
    keras.utils.set_random_seed(0)
    wide, query, memory = pointer()
    narrow, _, _ = pointer(policy)
    narrow.set_weights(wide.get_weights())
    logits = narrow(query, memory, memory_mask=MASK)
    assert logits.dtype == tf.float32
    found, expected = tf.nn.softmax(logits), tf.nn.softmax(wide(query, memory, memory_mask=MASK))
    np.testing.assert_allclose(found, expected, atol=0.03)


def test_the_mask_of_the_memory_is_honoured():
    query, ids = keras.Input((None, 3)), keras.Input((None,), dtype="int32")
    memory = keras.layers.Embedding(9, 4, mask_zero=True)(ids)
    model = keras.Model([query, ids], PointerHead(6)(query, memory))
    asked = np.random.normal(size=(1, 2, 3))
    short, padded = np.array([[3, 5]]), np.array([[3, 5, 0, 0]])
    found = tf.nn.softmax(model([asked, padded]))
    np.testing.assert_allclose(found[..., :2], tf.nn.softmax(model([asked, short])), atol=1e-6)
    assert not np.any(found[..., 2:])


def test_a_pointer_learns_where_the_largest_number_is():
    numbers = np.stack([np.random.permutation(6) / 6 for _ in range(256)])
    memory = keras.Input((6, 1))
    query = keras.layers.Lambda(lambda x: tf.ones_like(x[:, :1]))(memory)
    model = keras.Model(memory, PointerHead(16)(query, memory))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.1), loss, metrics=["accuracy"], jit_compile=False)
    model.fit(numbers[..., None], numbers.argmax(-1)[:, None], epochs=25, verbose=0)
    found = np.argmax(model(numbers[..., None])[:, 0], -1)
    assert (found == numbers.argmax(-1)).mean() > 0.95


def copy_head(dtype="float32", copy_slots=2):
    inputs = np.random.normal(size=(2, 3, 4)).astype("float32")
    attention = oracles.softmax(np.random.normal(size=(2, 3, 5))).astype("float32")
    ids = np.array([[7, 8, 1, 7, 0], [2, 2, 7, 3, 1]])
    head = CopyHead(keras.layers.Dense(7, dtype=dtype), copy_slots, dtype=dtype)
    head(inputs, attention, ids)
    head.set_weights([np.random.normal(size=weight.shape) for weight in head.weights])
    return head, inputs, attention, ids


def test_a_copied_word_gets_what_is_attended_to_and_a_generated_one_its_softmax():
    head, inputs, attention, ids = copy_head()
    probabilities, p_gen = head(inputs, attention, ids)
    (w, b), (w_u, b_u) = head.output_layer.get_weights(), head.switch.get_weights()
    copies = 1 / (1 + np.exp(-(inputs @ w_u + b_u)))
    np.testing.assert_allclose(p_gen, 1 - copies, atol=1e-6)
    expected = np.zeros((2, 3, 9))
    expected[..., :7] = (1 - copies) * oracles.softmax(inputs @ w + b)
    for row, step, slot in np.ndindex(2, 3, 5):
        expected[row, step, ids[row, slot]] += copies[row, step, 0] * attention[row, step, slot]
    np.testing.assert_allclose(probabilities, expected, atol=1e-6)
    np.testing.assert_allclose(tf.reduce_sum(probabilities, -1), 1, atol=1e-6)


def test_a_copying_model_is_saved_and_loaded(tmp_path):
    states, attention = keras.Input((None, 4)), keras.Input((None, 5))
    ids = keras.Input((5,), dtype="int32")
    outputs = CopyHead(keras.layers.Dense(7), 2)(states, attention, ids)
    assert outputs[0].shape == (None, None, 9) and outputs[1].shape == (None, None, 1)
    model = keras.Model([states, attention, ids], outputs)
    _, *inputs = copy_head()
    expected = model(inputs)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for found, part in zip(loaded(inputs), expected):
        np.testing.assert_array_equal(found, part)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_probabilities_are_float32_under_mixed_precision(policy):
    head, *inputs = copy_head(policy)
    probabilities, p_gen = head(*inputs)
    assert probabilities.dtype == p_gen.dtype == tf.float32
    np.testing.assert_allclose(tf.reduce_sum(probabilities, -1), 1, atol=1e-2)


def test_invalid_arguments_are_refused():
    with pytest.raises(ValueError, match="Received: units=0"):
        PointerHead(0)
    with pytest.raises(ValueError, match=r"\[B, S\] or \[B, T, S\].*Received.*\(5,\)"):
        head, query, memory = pointer()
        head(query, memory, taken=np.zeros(5, bool))
    with pytest.raises(ValueError, match="output_layer must be a layer"):
        CopyHead(10)
    with pytest.raises(ValueError, match="copy_slots=-1"):
        CopyHead(keras.layers.Dense(3), -1)
