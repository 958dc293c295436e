import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.functional import entropy, hardmax, softmax
from keras_attention.layers import (
    AdditiveScore,
    Attention,
    Choice,
    HardAttention,
    ReinforceLoss,
)


def draw(batch=3, targets=2, steps=4):
    query = np.random.normal(size=(batch, targets, 3)).astype("float32")
    memory = np.random.normal(size=(batch, steps, 3)).astype("float32")
    return query, memory, np.arange(steps) < np.array([steps, 2, 0][:batch])[:, None]


def test_where_it_answers_it_takes_the_best_slot():
    query, memory, mask = draw()
    found = HardAttention()(query, memory, memory_mask=mask)
    expected = Attention(normalize=hardmax)(query, memory, memory_mask=mask)
    np.testing.assert_allclose(found, expected)


def test_in_training_slots_are_drawn_with_the_weights():
    query, memory, mask = (np.tile(x[:1], [20_000, 1, 1][: x.ndim]) for x in draw())
    layer = HardAttention(expected=0.0)
    choice = layer(query, memory, training=True, return_choice=True)
    hits = np.isclose(choice.context[:, :, None], memory[:, None], atol=1e-6).all(-1)
    assert (hits.sum(-1) == 1).all()
    np.testing.assert_allclose(hits.mean(0), choice.weights[0], atol=0.02)
    chosen = tf.reduce_sum(tf.where(hits, choice.weights, 0.0), -1)
    np.testing.assert_allclose(choice.log_prob, np.log(chosen), rtol=1e-5)
    np.testing.assert_allclose(choice.entropy, entropy(choice.weights))


def test_half_of_the_rows_get_the_expected_value():
    query, memory, _ = (np.tile(x[:1], [2000, 1, 1][: x.ndim]) for x in draw())
    layer = HardAttention()
    soft = layer.attention(query, memory)
    context = layer(query, memory, training=True)
    same = np.isclose(context, soft, atol=1e-6).all(-1)
    assert (same.all(1) == same.any(1)).all()  # a row as a whole
    assert abs(same.mean() - 0.5) < 0.05
    always = HardAttention(layer.attention, expected=1.0)
    np.testing.assert_allclose(always(query, memory, training=True), soft, atol=1e-6)


def test_weights_of_one_slot_make_soft_and_hard_the_same():
    query, memory, mask = draw(batch=2)
    soft = Attention()(1e4 * query, memory, memory_mask=mask)
    for training in (False, True):
        hard = HardAttention()(1e4 * query, memory, memory_mask=mask, training=training)
        np.testing.assert_allclose(hard, soft, atol=1e-6)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_no_gradient_passes_through_what_was_drawn(share):
    query, memory, _ = draw()
    layer = HardAttention(Attention(AdditiveScore(), query_units=2, key_units=2), share)
    with tf.GradientTape() as tape:
        context = layer(query, memory, training=True)
        total = tf.reduce_sum(context**2)
    assert tape.gradient(total, layer.trainable_variables) == [None] * 3


def test_a_query_that_may_look_at_nothing_gets_zeros_and_teaches_nothing():
    query, memory, mask = draw()
    query, layer = tf.Variable(query), HardAttention()
    with tf.GradientTape() as tape:
        choice = layer(query, memory, memory_mask=mask, training=True, return_choice=True)
        total = tf.reduce_sum(choice.log_prob + choice.entropy)
    assert all((part.numpy()[2] == 0).all() for part in choice)
    gradient = tape.gradient(total, query).numpy()
    assert np.isfinite(gradient).all() and (gradient[2] == 0).all()


def test_a_seed_repeats_the_draws_of_a_new_layer():
    query, memory, _ = draw(batch=3, targets=2)
    query, memory = np.tile(query, [20, 1, 1]), np.tile(memory, [20, 1, 1])
    tf.random.set_seed(5)
    first, layer = HardAttention(seed=3), HardAttention(seed=3)
    one = first(query, memory, training=True)
    assert (one != first(query, memory, training=True)).numpy().any()
    tf.random.set_seed(5)
    np.testing.assert_array_equal(layer(query, memory, training=True), one)


def test_training_works_in_any_graph():
    query, memory, mask = draw()
    layer = HardAttention()
    for jit in (False, True):

        @tf.function(jit_compile=jit, autograph=False)
        def call(query, memory, mask):
            return layer(query, memory, memory_mask=mask, training=True, return_choice=True)

        choice = call(query, memory, mask)
        assert isinstance(choice, Choice) and np.isfinite(choice.context).all()
        assert (choice.log_prob.numpy()[:2] < 0).all()


# -- the loss


def gradients(loss, draws=200_000):
    """One step with three slots, many times: what the loss says of each draw.  [draws, 3]."""
    scores = tf.Variable(np.tile([0.5, -0.3, 1.0], [draws, 1]))
    layer = HardAttention(Attention(score_is_query, dtype="float64"), 0.0, dtype="float64")
    memory = np.tile([[[2.0], [-1.0], [0.5]]], [draws, 1, 1])  # what is seen is what it is worth
    with tf.GradientTape() as tape:
        choice = layer(scores[:, None], memory, training=True, return_choice=True)
        worth = tf.stop_gradient(choice.context[:, 0, 0])
        total = tf.reduce_sum(loss(worth, choice.log_prob, choice.entropy))
    return tape.gradient(total, scores).numpy()


def score_is_query(query, keys):
    return query


def exact_gradient(entropy_weight=0.0):
    scores = tf.Variable(np.array([0.5, -0.3, 1.0]))
    with tf.GradientTape() as tape:
        weights = softmax(scores)
        loss = -tf.reduce_sum(weights * [2.0, -1, 0.5]) - entropy_weight * entropy(weights)
    return tape.gradient(loss, scores).numpy()


def test_the_mean_of_many_draws_is_the_enumerated_gradient():
    loss = ReinforceLoss(reward_weight=1.0, entropy_weight=0.3, dtype="float64")
    found, expected = gradients(loss).mean(0), exact_gradient(0.3)
    assert np.linalg.norm(found - expected) < 0.02 * np.linalg.norm(expected)


def test_the_baseline_keeps_the_mean_and_lowers_the_variance():
    loss = ReinforceLoss(reward_weight=1.0, entropy_weight=0.0, dtype="float64")
    plain = gradients(loss)
    loss.baseline.assign(0.8)
    better, expected = gradients(loss), exact_gradient()
    assert np.linalg.norm(better.mean(0) - expected) < 0.02 * np.linalg.norm(expected)
    assert better.var(0).sum() < plain.var(0).sum()


def test_the_baseline_moves_in_training_alone_and_after_it_was_used():
    loss = ReinforceLoss(reward_weight=1.0, entropy_weight=0.0)
    likelihood, log_prob = tf.constant([-2.0, -4.0]), tf.constant([[-1.0, -0.5], [-3.0, 0.0]])
    zeros = tf.zeros([2, 2])
    first = loss(likelihood, log_prob, zeros, training=True)
    np.testing.assert_allclose(first, [2 + 2 * -1.5, 4 + 4 * -3.0], rtol=1e-6)
    np.testing.assert_allclose(loss.baseline, -0.3, rtol=1e-6)
    loss(likelihood, log_prob, zeros, training=True)
    np.testing.assert_allclose(loss.baseline, 0.9 * -0.3 + 0.1 * -3, rtol=1e-6)
    before = loss.baseline.numpy()
    loss(likelihood, log_prob, zeros)
    assert loss.baseline == before and loss.trainable_variables == []


def test_the_signs_of_the_loss():
    loss = ReinforceLoss(reward_weight=0.5, entropy_weight=0.25)
    found = loss(tf.constant([-2.0]), tf.constant([[-1.0]]), tf.constant([[0.8]]))
    np.testing.assert_allclose(found, [2 - 0.5 * -2 * -1 - 0.25 * 0.8], rtol=1e-6)


def test_masked_steps_do_not_count():
    loss = ReinforceLoss()
    likelihood = tf.constant([-2.0, -1.0])
    log_prob, spread = (np.random.normal(size=(2, 3)).astype("float32") for _ in range(2))
    mask = np.array([[True, True, False], [False] * 3])
    expected = loss(likelihood, log_prob * mask, spread * mask)
    log_prob[~mask] = np.nan
    np.testing.assert_array_equal(loss(likelihood, log_prob, spread, mask=mask), expected)


def test_the_loss_is_float32_under_a_narrow_policy():
    loss = ReinforceLoss(dtype="mixed_float16")
    found = loss(tf.constant([-1e5]), tf.zeros([1, 2]), tf.zeros([1, 2]), training=True)
    assert found.dtype == tf.float32 and found.numpy().tolist() == [1e5]
    np.testing.assert_allclose(loss.baseline, -1e4, rtol=1e-6)


def test_a_model_learns_where_to_look_by_reward_alone():
    """The slot that says which class it is stands where a flag is; the rest is noise."""
    rng = np.random.default_rng(0)
    place, label = rng.integers(4, size=(2, 512))
    flag = np.eye(4)[place][..., None]
    content = np.where(
        flag > 0, np.eye(4)[label][:, None], rng.permuted(np.tile(np.eye(4), (512, 1, 1)), axis=1)
    )
    memory = np.concatenate([content, flag], -1).astype("float32")
    hard = HardAttention(Attention(AdditiveScore(), query_units=8, key_units=8))
    reader, loss = keras.layers.Dense(4), ReinforceLoss(reward_weight=1.0, entropy_weight=0.01)
    optimizer = keras.optimizers.Adam(0.02)
    query = np.ones((512, 1, 1), "float32")

    @tf.function(autograph=False)
    def step():
        with tf.GradientTape() as tape:
            choice = hard(query, memory, training=True, return_choice=True)
            logits = reader(choice.context)[:, 0]
            likelihood = -tf.nn.sparse_softmax_cross_entropy_with_logits(label, logits)
            spread = loss(likelihood, choice.log_prob, choice.entropy, training=True)
            total = tf.reduce_mean(spread)
        variables = hard.trainable_variables + reader.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(total, variables), variables))

    hard(query, memory), reader(memory[:, :1]), loss(*(tf.zeros(n) for n in ([1], [1, 1], [1, 1])))
    optimizer.build(hard.trainable_variables + reader.trainable_variables)
    for _ in range(300):
        step()
    looked = hard(query, memory, return_choice=True).weights.numpy()[:, 0].argmax(-1)
    assert (looked == place).mean() > 0.95
    answers = reader(hard(query, memory)).numpy()[:, 0].argmax(-1)
    assert (answers == label).mean() > 0.95


@pytest.mark.parametrize(
    "wrong, message",
    [
        (lambda: HardAttention(expected=1.5), "expected must be from 0 to 1.*expected=1.5"),
        (lambda: ReinforceLoss(decay=-0.1), "decay must be from 0 to 1.*decay=-0.1"),
    ],
)
def test_shares_outside_of_zero_to_one_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()
