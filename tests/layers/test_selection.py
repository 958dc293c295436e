import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.functional import chosen, directional, reinforce, softmax
from keras_attention.layers import Selection, TokenSelector


def draw(batch=3, steps=5):
    inputs = np.random.normal(size=(batch, steps, 4)).astype("float32")
    return inputs, np.arange(steps) < np.array([steps, 2, 0][:batch])[:, None]


def by_hand(layer, tokens):
    """p of each of the real tokens of one row.  [S, D] -> [S]."""
    mean = np.tile(tokens.mean(0), [len(tokens), 1])
    beside = np.concatenate([tokens, mean, tokens * mean], -1)
    (w, b), (v, c) = layer.hidden.get_weights(), layer.logit.get_weights()
    hidden = beside @ w + b
    hidden = np.where(hidden > 0, hidden, np.exp(np.minimum(hidden, 0)) - 1)
    return 1 / (1 + np.exp(-(hidden @ v + c)))[:, 0]


def test_the_probability_is_that_of_the_paper():
    inputs, mask = draw()
    layer = TokenSelector(units=6)
    selection = layer(inputs, mask=mask)
    for row, length in enumerate([5, 2]):
        expected = by_hand(layer, inputs[row, :length])
        np.testing.assert_allclose(selection.probability[row, :length], expected, rtol=1e-5)
    assert (selection.probability.numpy()[~mask] == 0).all()


def test_where_it_answers_the_likelier_is_taken():
    inputs, mask = draw()
    selection = TokenSelector()(inputs, mask=mask)
    np.testing.assert_array_equal(selection.selected, selection.probability > 0.5)


def test_in_training_tokens_are_sampled_with_their_probability():
    inputs, mask = (np.tile(x[:1], [20_000, 1, 1][: x.ndim]) for x in draw())
    selection = TokenSelector()(inputs, mask=mask, training=True)
    np.testing.assert_allclose(
        selection.selected.numpy().mean(0), selection.probability[0], atol=0.02
    )


@pytest.mark.parametrize("training", [False, True])
def test_log_prob_and_fraction_count_real_tokens_alone(training):
    inputs, mask = draw()
    selection = TokenSelector()(inputs, mask=mask, training=training)
    p, z = selection.probability.numpy(), selection.selected.numpy()
    each = np.where(z, np.log(np.maximum(p, 1e-30)), np.log1p(-p))
    np.testing.assert_allclose(selection.log_prob, (each * mask).sum(-1), atol=1e-5)
    np.testing.assert_allclose(selection.fraction, z.sum(-1) / [5, 2, 1], rtol=1e-6)
    assert not z[~mask].any()


def test_padding_changes_nothing():
    inputs, _ = draw(batch=1)
    layer = TokenSelector()
    expected = layer(inputs)
    padded = np.concatenate([inputs, np.full((1, 2, 4), np.nan, "float32")], 1)
    found = layer(padded, mask=np.array([[True] * 5 + [False] * 2]))
    np.testing.assert_array_equal(found.selected[:, :5], expected.selected)
    np.testing.assert_allclose(found.log_prob, expected.log_prob, rtol=1e-6)


def test_only_the_reward_teaches_a_selector():
    inputs, mask = draw()
    layer = TokenSelector()
    with tf.GradientTape(persistent=True) as tape:
        selection = layer(inputs, mask=mask, training=True)
        soft = tf.reduce_sum(tf.cast(selection.selected, tf.float32)[..., None] * inputs)
        reward = tf.constant([1.0, -2.0, 3.0]) - 0.006 * selection.fraction
        loss = tf.reduce_sum(reinforce(selection.log_prob, reward))
    assert tape.gradient(soft, layer.trainable_variables) == [None] * 4
    for gradient in tape.gradient(loss, layer.trainable_variables):
        assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0


def test_reward_alone_teaches_which_tokens_to_take():
    """A token is worth its first number."""
    inputs, layer = np.random.normal(size=(256, 6, 4)).astype("float32"), TokenSelector()
    optimizer = keras.optimizers.Adam(0.02)
    layer(inputs)
    optimizer.build(layer.trainable_variables)

    @tf.function(autograph=False)
    def step():
        with tf.GradientTape() as tape:
            selection = layer(inputs, training=True)
            worth = tf.reduce_sum(tf.where(selection.selected, inputs[..., 0], 0.0), 1)
            loss = tf.reduce_mean(reinforce(selection.log_prob, worth))
        gradients = tape.gradient(loss, layer.trainable_variables)
        optimizer.apply_gradients(zip(gradients, layer.trainable_variables))

    for _ in range(150):
        step()
    right = layer(inputs).selected.numpy() == (inputs[..., 0] > 0)
    assert right.mean() > 0.9


def test_two_selections_and_a_direction_make_the_mask_of_resan():
    inputs, mask = draw()
    looking, seen = (TokenSelector()(inputs, mask=mask, training=True).selected for _ in range(2))
    may_look = chosen(looking, seen) & directional(5)
    weights = softmax(tf.zeros([3, 5, 5]), may_look).numpy()
    assert np.isfinite(weights).all() and (weights[2] == 0).all()
    for b, i, j in np.ndindex(3, 5, 5):
        assert may_look[b, i, j] == (looking[b, i] and seen[b, j] and j < i)


def test_the_keras_mask_is_honoured_and_a_graph_of_unknown_lengths_gives_the_same():
    ids = np.array([[1, 2, 0], [3, 0, 0]])
    inputs, selector = keras.Input([None], dtype="int32"), TokenSelector()
    model = keras.Model(inputs, selector(keras.layers.Embedding(4, 4, mask_zero=True)(inputs)))
    selection = Selection(*model(ids))
    assert (selection.probability.numpy()[ids == 0] == 0).all()
    np.testing.assert_allclose(Selection(*model(ids[:1, :2])).log_prob, selection.log_prob[:1])


def test_no_tokens_and_no_units():
    selection = TokenSelector()(np.zeros((2, 0, 4), "float32"))
    assert selection.log_prob.numpy().tolist() == selection.fraction.numpy().tolist() == [0, 0]
    with pytest.raises(ValueError, match="units must be at least 1. Received: units=0"):
        TokenSelector(units=0)
