import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention import functional, seq2seq
from keras_attention.functional import (
    Memory,
    causal,
    concat,
    cosine,
    dot,
    entmax15,
    hardmax,
    monotonic_hard,
    monotonic_recursive,
    scaled_dot,
    softmax,
    sparsemax,
    temporal_softmax,
)
from keras_attention.layers import (
    AdditiveScore,
    Attention,
    BiaffineScore,
    GeneralScore,
    LocationScore,
)
from tests import oracles

# A memory of five slots and a query, with weights worked out by hand from the papers' formulas.
H = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [-1.0, 0.5], [0.5, -1.0]], np.float32)
QUERY = np.array([0.5, -0.25], np.float32)
WA = np.array([[0.2, -0.1], [0.4, 0.3]], np.float32)
WB = np.array([[-0.3, 0.5], [0.1, 0.2]], np.float32)
V = np.array([0.7, -0.6], np.float32)
WL = np.array([[0.1, 0.2], [0.3, -0.4], [0, 0.5], [-0.2, 0.1], [0.6, 0.6]], np.float32)


def luong_concat():
    return Attention(AdditiveScore(), query_units=2, key_units=2)


BY_PAPER = {  # layer, its weights in order, the weights of the slots
    "dot": (Attention, [], [0.279656, 0.1321, 0.217796, 0.090791, 0.279656]),
    "general": (
        lambda: Attention(GeneralScore()),
        [WA],
        [0.206716, 0.182426, 0.182426, 0.194192, 0.23424],
    ),
    "concat": (
        luong_concat,
        [WB.T, WA.T, V],
        [0.195751, 0.169284, 0.159705, 0.214236, 0.261024],
    ),
    "location": (
        lambda: Attention(LocationScore(5)),
        [WL.T],
        [0.191907, 0.246414, 0.169357, 0.169357, 0.222964],
    ),
    "scaled dot": (
        lambda: Attention(scaled_dot),
        [],
        [0.257882, 0.151741, 0.216097, 0.116397, 0.257882],
    ),
}


@pytest.mark.parametrize("name", BY_PAPER)
def test_every_score_gives_the_weights_of_its_paper(name):
    make, weights, expected = BY_PAPER[name]
    layer = make()
    layer.build((1, 1, 2), (1, 5, 2))
    assert len(layer.weights) == len(weights)
    by_shape_and_place = {weight.path: weight for weight in layer.weights}
    for weight, value in zip(ordered(by_shape_and_place), weights):
        weight.assign(value)
    context, found = layer(QUERY[None, None], H[None], return_weights=True)
    np.testing.assert_allclose(found[0, 0], expected, atol=1e-5)
    np.testing.assert_allclose(context[0, 0], np.array(expected) @ H, atol=1e-5)


def ordered(weights):
    """Projections of query and memory, then those of the score."""
    rank = {"query": 0, "key": 1}
    return [weights[path] for path in sorted(weights, key=lambda p: rank.get(p.split("/")[-2], 2))]


def draw(batch=3, targets=2, steps=5, width=4, memory_width=4):
    query = np.random.normal(size=(batch, targets, width)).astype("float32")
    memory = np.random.normal(size=(batch, steps, memory_width)).astype("float32")
    return query, memory, np.arange(steps) < np.array([steps, 2, 0])[:batch, None]


def test_two_projections_are_the_halves_of_luongs_concat():
    query, memory, _ = draw(width=3, memory_width=4)
    layer = Attention(AdditiveScore(), query_units=6, key_units=6)
    _, found = layer(query, memory, return_weights=True)
    kernel = tf.concat([layer.query_layer.kernel, layer.key_layer.kernel], 0)
    expected = softmax(concat(query, memory, kernel, layer.score.v))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_dot_without_projections_is_the_attention_of_keras():
    query, memory, mask = draw()
    expected = keras.layers.Attention()([query, memory], mask=[None, mask])
    found = Attention()(query, memory, memory_mask=mask).numpy()
    np.testing.assert_allclose(found[:2], expected[:2], atol=1e-6)
    assert (found[2] == 0).all()  # may see nothing


def test_general_with_an_identity_is_dot():
    query, memory, _ = draw()
    layer = Attention(GeneralScore())
    layer.build(query.shape, memory.shape)
    layer.score.kernel.assign(np.eye(4))
    np.testing.assert_allclose(layer(query, memory), Attention()(query, memory), atol=1e-6)


def test_projected_scaled_dot_is_keras_multi_head_attention_with_one_head():
    query, memory, mask = draw()
    peer = keras.layers.MultiHeadAttention(1, 3, 5, use_bias=False)
    expected, _ = peer(query, memory, attention_mask=mask[:, None], return_attention_scores=True)
    q, k, v, output = (weight.numpy() for weight in peer.weights)
    layer = Attention(scaled_dot, query_units=3, key_units=3, value_units=5)
    layer.build(query.shape, memory.shape)
    for projection, kernel in zip(
        (layer.query_layer, layer.key_layer, layer.value_layer), (q, k, v)
    ):
        projection.kernel.assign(kernel[:, 0])
    found = layer(query, memory, memory_mask=mask) @ output[0]
    np.testing.assert_allclose(found[:2], expected[:2], atol=1e-5)


def test_all_is_composed_score_normaliser_sum():
    query, memory, mask = draw()
    for score in (dot, scaled_dot, cosine):
        for normalize in (softmax, hardmax, sparsemax, entmax15):
            layer = Attention(score, normalize)
            context, weights = layer(query, memory, memory_mask=mask, return_weights=True)
            expected = normalize(score(query, memory), mask[:, None])
            np.testing.assert_allclose(weights, expected, atol=1e-6)
            np.testing.assert_allclose(context, expected @ memory, atol=1e-5)


def test_a_longer_source_than_location_knows_is_ignored_from_there_on():
    query, memory, _ = draw(steps=6)
    layer = Attention(LocationScore(4))
    context, weights = layer(query, memory, return_weights=True)
    assert (weights.numpy()[..., 4:] == 0).all()
    np.testing.assert_allclose(context, layer(query, memory[:, :4]), atol=1e-6)
    _, short = layer(query, memory[:, :2], return_weights=True)
    np.testing.assert_allclose(tf.reduce_sum(short, -1), 1, rtol=1e-6)


def test_relations_of_a_biaffine_score_are_scored_apart():
    query, memory, _ = draw(width=3)
    layer = BiaffineScore(relations=2)
    scores = layer(query, memory)
    assert scores.shape == (3, 2, 2, 5)
    np.testing.assert_allclose(scores, functional.biaffine(query, memory, layer.kernel))


# -- memory


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_a_memory_projected_once_gives_what_the_memory_gives(policy):
    query, memory, mask = draw()
    layer = Attention(
        AdditiveScore(dtype=policy), query_units=3, key_units=3, value_units=6, dtype=policy
    )
    prepared = layer.project_memory(memory, mask)  # before anything is built
    assert isinstance(prepared, Memory) and prepared.keys.shape == (3, 5, 3)
    once = layer(query, prepared)
    assert once.shape == (3, 2, 6)
    np.testing.assert_array_equal(once, layer(query, memory, memory_mask=mask))
    one_by_one = [layer(query[:, t : t + 1], prepared) for t in range(2)]
    np.testing.assert_allclose(
        tf.concat(one_by_one, 1), once, atol=1e-6 if policy == "float32" else 2e-3
    )


def test_a_mask_beside_a_prepared_memory_is_joined_with_its_own():
    query, memory, mask = draw()
    layer, other = Attention(), np.array([[True, False, True, True, True]] * 3)
    found = layer(query, layer.project_memory(memory, mask), memory_mask=other)
    np.testing.assert_allclose(found, layer(query, memory, memory_mask=mask & other), atol=1e-6)


def test_keys_and_values_may_be_different_tensors():
    query, keys, mask = draw()
    values = np.random.normal(size=(3, 5, 7)).astype("float32")
    found = Attention()(query, Memory(keys, values, mask))
    np.testing.assert_allclose(found, softmax(dot(query, keys), mask[:, None]) @ values, atol=1e-6)


def test_nan_in_the_padding_does_no_harm():
    query, memory, mask = draw()
    layer = Attention(GeneralScore(), value_units=3)
    expected = layer(query, memory, memory_mask=mask)
    harmful = np.where(mask[..., None], memory, np.nan)
    np.testing.assert_array_equal(layer(query, harmful, memory_mask=mask), expected)


# -- masks


def test_the_keras_mask_of_the_memory_is_honoured_and_an_explicit_one_wins():
    ids = np.array([[1, 2, 0], [3, 0, 0]])
    embed = keras.layers.Embedding(4, 4, mask_zero=True)
    query, layer = np.random.normal(size=(2, 2, 4)).astype("float32"), Attention()
    found = layer(query, embed(ids))
    raw = embed(ids).numpy()
    np.testing.assert_allclose(found, layer(query, raw, memory_mask=ids != 0), atol=1e-6)
    np.testing.assert_allclose(layer(query, layer.project_memory(embed(ids))), found, atol=1e-6)
    everything = layer(query, embed(ids), memory_mask=np.ones((2, 3), bool))
    np.testing.assert_allclose(everything, layer(query, raw), atol=1e-6)
    assert abs(everything - found).numpy().max() > 1e-3


def test_the_keras_mask_of_the_query_is_forwarded():
    ids = np.array([[1, 2, 0], [3, 0, 0]])
    query = keras.layers.Embedding(4, 4, mask_zero=True)(ids)
    memory = np.ones((2, 5, 4), "float32")
    for arguments in ({}, {"mask": np.ones((1, 3, 5), bool)}):
        found = Attention()(query, memory, **arguments)
        np.testing.assert_array_equal(found._keras_mask, ids != 0)
    assert getattr(Attention()(np.ones((2, 3, 4)), memory), "_keras_mask", None) is None


def test_a_mask_of_places_is_joined_with_that_of_the_memory():
    _, memory, mask = draw()
    layer = Attention()
    _, weights = layer(memory, memory, mask=causal(5), memory_mask=mask, return_weights=True)
    expected = oracles.softmax(
        memory @ memory.transpose(0, 2, 1), np.tril(np.ones((5, 5))) * mask[:, None] > 0
    )
    np.testing.assert_allclose(weights, expected, atol=1e-6)


def test_causal_self_attention_gives_the_weights_of_the_paper():
    x = H[None, :3]
    _, found = Attention(scaled_dot)(x, x, mask=causal(3), return_weights=True)
    expected = [[1, 0, 0], [0.330238, 0.669762, 0], [0.248255, 0.248255, 0.50349]]
    np.testing.assert_allclose(found[0], expected, atol=1e-5)


# -- normalisers with a state


@pytest.mark.parametrize("normalize", [monotonic_recursive, monotonic_hard, temporal_softmax])
def test_with_its_state_one_query_at_a_time_is_all_at_once(normalize):
    query, memory, mask = draw(targets=4)
    layer, state, steps = Attention(normalize=normalize), None, []
    whole, weights, last = layer(query, memory, memory_mask=mask, return_weights=True)
    for t in range(4):
        context, _, state = layer(
            query[:, t : t + 1], memory, memory_mask=mask, state=state, return_weights=True
        )
        steps.append(context)
    np.testing.assert_allclose(tf.concat(steps, 1), whole, atol=1e-5)
    np.testing.assert_allclose(state, last, atol=1e-5)


# -- in models


def test_a_functional_model_trains_and_survives_its_file(tmp_path):
    source, target = keras.Input([None], dtype="int32"), keras.Input([None], dtype="int32")
    embed = keras.layers.Embedding(9, 8, mask_zero=True)
    layer = Attention(AdditiveScore(), entmax15, query_units=5, key_units=5, value_units=6)
    context, weights = layer(embed(target), embed(source), return_weights=True)
    model = keras.Model([source, target], [keras.layers.Dense(9)(context), weights])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", [loss, None])
    ids = np.random.randint(1, 9, (8, 4))
    before = model.evaluate([ids, ids], [ids], verbose=0)
    model.fit([ids, ids], [ids], epochs=3, verbose=0)
    assert model.evaluate([ids, ids], [ids], verbose=0) < before
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    for one, other in zip(model([ids, ids[:, :2]]), again([ids, ids[:, :2]])):
        np.testing.assert_array_equal(one, other)


def test_a_subclassed_model_projects_its_memory_once_inside_of_a_graph():
    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.attention = Attention(AdditiveScore(), query_units=5, key_units=5)

        def call(self, inputs):
            query, source = inputs
            memory = self.attention.project_memory(source)
            return sum(self.attention(query[:, t : t + 1], memory) for t in range(2))

    query, memory, _ = draw()
    model = Model()
    found = tf.function(model)([query, memory])
    layer = model.attention
    np.testing.assert_allclose(
        found, tf.reduce_sum(layer(query, memory), 1, keepdims=True), atol=1e-5
    )
    assert len(model.trainable_variables) == 3


def test_no_queries_and_no_slots():
    query, memory, _ = draw()
    layer = Attention(GeneralScore())
    assert layer(query[:, :0], memory).shape == (3, 0, 4)
    assert (layer(query, memory[:, :0]).numpy() == 0).all()
    assert layer(query[:1], memory[:1, :1]).shape == (1, 2, 4)


# -- errors


@pytest.mark.parametrize(
    "wrong, message",
    [
        (lambda: Attention("dot"), "not their names.*Received: score='dot'"),
        (lambda: Attention(normalize="softmax"), "normalize='softmax'"),
        (lambda: Attention(key_units=0), "key_units must be at least 1. Received: key_units=0"),
        (lambda: LocationScore(0), "max_steps must be at least 1"),
        (lambda: BiaffineScore(0), "relations R must be at least 1"),
        (
            lambda: Attention()(np.ones((1, 2, 3)), np.ones((1, 2, 4))),
            "dot requires query and keys of equal width D.*Received: query D=3, keys D=4",
        ),
        (
            lambda: Attention(AdditiveScore())(np.ones((1, 2, 3)), np.ones((1, 2, 4))),
            "Pass query_units and key_units. Received: query of D=3, keys of D=4",
        ),
        (lambda: Attention()(np.ones((2, 4)), np.ones((2, 5, 4))), r"query must be \[B, T, D\]"),
        (lambda: Attention().project_memory(np.ones((2, 4))), r"memory must be \[B, S, D\]"),
        (
            lambda: Attention()(*draw()[:2], mask=np.ones((3, 5), bool)),
            r"mask must be \[B or 1, T or 1, S\]",
        ),
    ],
)
def test_shapes_that_do_not_fit_are_refused_by_name(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()


# -- input feeding


def test_input_feeding_with_tanh_is_that_of_luong():
    """h~_t = tanh(W_c [c_t; h_t]) (eq. 5), fed to the next step beside its input (section 3.3)."""
    inputs, memory, _ = draw(batch=2, targets=3)
    cell = keras.layers.SimpleRNNCell(4)
    mechanism = seq2seq.LuongAttention(4)
    combine = keras.layers.Dense(6, "tanh", use_bias=False)
    wrapper = seq2seq.AttentionWrapper(cell, mechanism, attention_layer=combine)
    prepared = wrapper.prepare_memory(memory)
    state = wrapper.get_initial_state(batch_size=2, memory=prepared)
    outputs = []
    for t in range(3):
        output, state = wrapper(inputs[:, t], state, memory=prepared)
        outputs.append(output)
    kernel, recurrent, bias = cell.get_weights()
    h, fed = np.zeros((2, 4)), np.zeros((2, 6))
    w_a, (w_c,) = mechanism.memory_layer.kernel.numpy(), combine.get_weights()
    for t in range(3):
        h = np.tanh(np.concatenate([inputs[:, t], fed], -1) @ kernel + h @ recurrent + bias)
        weights = oracles.softmax(oracles.luong_scores(h, memory, w_a))
        context = np.einsum("bs,bsd->bd", weights, memory)
        fed = np.tanh(np.concatenate([h, context], -1) @ w_c)
        np.testing.assert_allclose(outputs[t], fed, atol=1e-5)


def test_places_beyond_those_that_a_location_score_knows_are_not_attended_to():
    attention = Attention(LocationScore(1))
    query, memory = tf.ones([2, 1, 2]), tf.ones([2, 4, 2])
    mask = tf.constant([[True, True, True, False], [False, True, True, True]])
    _, weights = attention(query, memory, memory_mask=mask, return_weights=True)
    np.testing.assert_array_equal(weights[:, 0], [[1, 0, 0, 0], [0, 0, 0, 0]])
