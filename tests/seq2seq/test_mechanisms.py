import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.seq2seq import BahdanauAttention, LuongAttention, tile_batch
from tests import oracles

UNITS, WIDTH, QUERY = 4, 5, 4

KINDS = {
    "bahdanau": BahdanauAttention,
    "bahdanau_normalized": functools.partial(BahdanauAttention, normalize=True),
    "luong": LuongAttention,
    "luong_scaled": functools.partial(LuongAttention, scale=True),
}
each = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())


def normal(*shape):
    return np.random.normal(size=shape).astype(np.float32)


def ask(mechanism, query, memory=None, **kwargs):
    return mechanism([query, None], memory=memory, **kwargs)[0].numpy()


def randomize(layer):
    """Weights that are nowhere at their initial values, where a bias is zero and a scale one."""
    for weight in layer.weights:
        weight.assign(np.random.normal(size=weight.shape))


def built(kind, **kwargs):
    mechanism = kind(UNITS, **kwargs)
    ask(mechanism, normal(1, QUERY), mechanism.prepare_memory(normal(1, 2, WIDTH)))
    randomize(mechanism)
    return mechanism


def oracle(mechanism, query, memory):
    """-> scores [B, S] in float64."""
    kernel = mechanism.memory_layer.kernel.numpy().astype(np.float64)
    if isinstance(mechanism, LuongAttention):
        scale = mechanism.attention_g.numpy() if mechanism.scale else 1.0
        return oracles.luong_scores(query, memory, kernel, scale)
    query_kernel, v = mechanism.query_layer.kernel.numpy(), mechanism.attention_v.numpy()
    if not mechanism.normalize:
        return oracles.bahdanau_scores(query, memory, query_kernel, kernel, v)
    g, b = mechanism.attention_g.numpy(), mechanism.attention_b.numpy()
    return oracles.bahdanau_scores(query, memory, query_kernel, kernel, v, g, b)


@each
@pytest.mark.parametrize("normalize", ["softmax", "hardmax"])
def test_alignments_are_those_of_the_papers(kind, normalize):
    mechanism = built(kind, probability_fn=normalize)
    query, memory, lengths = normal(3, QUERY), normal(3, 6, WIDTH), [6, 1, 4]
    found = ask(mechanism, query, mechanism.prepare_memory(memory, lengths))
    scores = oracle(mechanism, query, memory)
    weigh = getattr(oracles, normalize)
    np.testing.assert_allclose(found, weigh(scores, oracles.padding(lengths, 6)), atol=1e-5)


def test_the_normalised_form_begins_with_a_unit_direction_over_the_root_of_the_units():
    mechanism = BahdanauAttention(16, normalize=True)
    ask(mechanism, normal(1, 3), mechanism.prepare_memory(normal(1, 2, 3)))
    assert mechanism.attention_g.numpy() == pytest.approx(0.25)
    assert (mechanism.attention_b.numpy() == 0).all()


def test_query_and_memory_are_projected_by_different_draws():
    mechanism = BahdanauAttention(4, kernel_initializer=keras.initializers.GlorotUniform())
    ask(mechanism, normal(1, 4), mechanism.prepare_memory(normal(1, 2, 4)))
    kernels = [mechanism.query_layer.kernel, mechanism.memory_layer.kernel]
    assert (kernels[0].numpy() != kernels[1].numpy()).all()


@each
def test_lengths_and_the_mask_of_the_same_lengths_give_the_same(kind):
    mechanism, query, memory = built(kind), normal(2, QUERY), normal(2, 4, WIDTH)
    by_length = mechanism.prepare_memory(memory, [4, 2])
    by_mask = mechanism.prepare_memory(memory, memory_mask=oracles.padding([4, 2], 4))
    for one, other in zip(by_length, by_mask):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(ask(mechanism, query, by_length), ask(mechanism, query, by_mask))


@each
def test_a_mask_may_have_holes_and_rows_that_see_nothing(kind):
    mechanism, query, memory = built(kind), normal(2, QUERY), normal(2, 3, WIDTH)
    mask = np.array([[True, False, True], [False, False, False]])
    prepared = mechanism.prepare_memory(memory, memory_mask=mask)
    alignments = ask(mechanism, query, prepared)
    expected = oracles.softmax(oracle(mechanism, query, memory), mask)
    np.testing.assert_allclose(alignments, expected, atol=1e-5)
    assert (mechanism.read(alignments, prepared).numpy()[1] == 0).all()


@each
def test_values_in_the_padding_change_nothing_not_even_if_it_is_nan(kind):
    mechanism, query, memory = built(kind), normal(2, QUERY), normal(2, 4, WIDTH)
    junk = memory.copy()
    junk[0, 3:], junk[1, 1:] = np.nan, 1e30
    clean, dirty = (mechanism.prepare_memory(m, [3, 1]) for m in (memory, junk))
    alignments = ask(mechanism, query, clean)
    np.testing.assert_array_equal(ask(mechanism, query, dirty), alignments)
    np.testing.assert_array_equal(
        mechanism.read(alignments, dirty), mechanism.read(alignments, clean)
    )


@each
def test_a_longer_padding_changes_nothing(kind):
    mechanism, query, memory = built(kind), normal(2, QUERY), normal(2, 3, WIDTH)
    more = np.concatenate([memory, normal(2, 4, WIDTH)], 1)
    short = ask(mechanism, query, mechanism.prepare_memory(memory, [3, 2]))
    long = ask(mechanism, query, mechanism.prepare_memory(more, [3, 2]))
    np.testing.assert_allclose(long[:, :3], short, atol=1e-6)
    assert (long[:, 3:] == 0).all()


@each
def test_the_context_is_the_sum_of_the_values_by_their_weights(kind):
    mechanism, query, memory = built(kind), normal(2, QUERY), normal(2, 3, WIDTH)
    prepared = mechanism.prepare_memory(memory, [3, 2])
    alignments = ask(mechanism, query, prepared)
    expected = np.einsum("bs,bsd->bd", alignments, memory)
    np.testing.assert_allclose(mechanism.read(alignments, prepared), expected, atol=1e-5)


# -- the two ways of handing over a memory


@each
def test_a_bound_memory_and_an_explicit_one_give_the_same(kind):
    mechanism, query, memory = built(kind), normal(2, QUERY), normal(2, 3, WIDTH)
    explicit = ask(mechanism, query, mechanism.prepare_memory(memory, [3, 2]))
    assert not mechanism.memory_initialized
    mechanism.setup_memory(memory, [3, 2])
    np.testing.assert_array_equal(ask(mechanism, query), explicit)
    np.testing.assert_array_equal(mechanism.values[1, 2], np.zeros(WIDTH))
    mechanism(normal(2, 9, WIDTH), setup_memory=True)
    assert mechanism.alignments_size == 9
    mechanism([memory, np.array([3, 2])], setup_memory=True)
    np.testing.assert_array_equal(ask(mechanism, query), explicit)
    mechanism(memory, mask=oracles.padding([3, 2], 3), setup_memory=True)
    np.testing.assert_array_equal(ask(mechanism, query), explicit)


@each
def test_the_memory_may_come_with_the_constructor(kind):
    memory = normal(2, 3, WIDTH)
    mechanism = kind(UNITS, memory=memory, memory_sequence_length=[3, 2])
    assert mechanism.memory_initialized
    assert mechanism.keys.shape == (2, 3, UNITS) and mechanism.values.shape == (2, 3, WIDTH)
    assert mechanism.alignments_size == mechanism.state_size == 3
    assert int(mechanism.batch_size) == 2
    assert ask(mechanism, normal(2, QUERY))[1, 2] == 0


@each
def test_an_explicit_memory_wins_over_a_bound_one(kind):
    mechanism, query = built(kind), normal(2, QUERY)
    mechanism.setup_memory(normal(2, 3, WIDTH))
    other = mechanism.prepare_memory(normal(2, 7, WIDTH))
    assert ask(mechanism, query, other).shape == (2, 7)
    assert ask(mechanism, query).shape == (2, 3)


@each
def test_every_call_may_have_its_own_batch_and_its_own_length(kind):
    mechanism = built(kind)
    count = len(mechanism.weights)
    for batch, steps in ((2, 3), (5, 1), (1, 8)):
        memory, query = normal(batch, steps, WIDTH), normal(batch, QUERY)
        for handed in (mechanism.prepare_memory(memory), None):
            if handed is None:
                mechanism.setup_memory(memory)
            expected = oracles.softmax(oracle(mechanism, query, memory))
            np.testing.assert_allclose(ask(mechanism, query, handed), expected, atol=1e-5)
    assert len(mechanism.weights) == count


@each
@pytest.mark.filterwarnings("error::UserWarning")
def test_an_implicit_keras_mask_is_honoured_and_an_explicit_one_wins(kind):
    mechanism, query = built(kind), normal(2, QUERY)
    masked = keras.layers.Masking()(np.repeat([[[1.0], [1.0], [0.0]]] * 2, WIDTH, 2))
    mechanism(masked, setup_memory=True)
    assert (ask(mechanism, query)[:, 2] == 0).all()
    mechanism([masked, np.array([3, 1])], setup_memory=True)
    assert ((ask(mechanism, query) > 0).sum(1) == [3, 1]).all()
    mechanism(masked, mask=oracles.padding([1, 3], 3), setup_memory=True)
    assert ((ask(mechanism, query) > 0).sum(1) == [1, 3]).all()


@each
def test_hypotheses_of_a_source_share_its_memory(kind):
    mechanism, beams = built(kind), 3
    query, memory, lengths = normal(2 * beams, QUERY), normal(2, 4, WIDTH), np.array([4, 2])
    shared = mechanism.prepare_memory(memory, lengths)
    tiled = mechanism.prepare_memory(*tile_batch((memory, lengths), beams))
    alignments = ask(mechanism, query, shared, beam_width=beams)
    np.testing.assert_allclose(alignments, ask(mechanism, query, tiled), atol=1e-6)
    np.testing.assert_allclose(
        mechanism.read(alignments, shared, beams), mechanism.read(alignments, tiled), atol=1e-6
    )


# -- refusals


def test_lengths_and_mask_together_are_refused():
    with pytest.raises(ValueError, match="cannot be used at the same time"):
        LuongAttention(UNITS).prepare_memory(normal(1, 2, WIDTH), [1], [[True, False]])


@pytest.mark.parametrize("lengths", [[3], [3, 3, 3], [[3], [3]], 3])
def test_lengths_that_do_not_fit_the_memory_are_refused(lengths):
    with pytest.raises(ValueError, match="one length for each row"):
        LuongAttention(UNITS).prepare_memory(normal(2, 3, WIDTH), lengths)


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize(
    "length, message", [(0, "greater than zero"), (-1, "greater than zero"), (4, "longer than")]
)
def test_a_length_that_no_memory_has_is_refused_at_run_time(graph, length, message):
    mechanism = built(LuongAttention)

    def prepare(lengths):
        return mechanism.prepare_memory(np.ones([2, 3, WIDTH]), lengths).mask

    prepare = tf.function(prepare) if graph else prepare
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        prepare(tf.constant([3, length]))


def test_a_query_of_another_width_than_luongs_units_is_refused():
    mechanism = LuongAttention(UNITS)
    with pytest.raises(ValueError, match="set units to 7"):
        ask(mechanism, normal(2, 7), mechanism.prepare_memory(normal(2, 3, WIDTH)))


@each
def test_queries_that_are_not_beam_width_per_source_are_refused(kind):
    mechanism = built(kind)
    memory = mechanism.prepare_memory(normal(2, 3, WIDTH))
    for rows, beams in ((4, 1), (4, 3), (1, 1)):
        with pytest.raises(ValueError, match=f"query with {rows} rows, memory with 2"):
            ask(mechanism, normal(rows, QUERY), memory, beam_width=beams)


@each
def test_a_query_without_any_memory_is_refused(kind):
    mechanism = kind(UNITS)
    for use in (lambda: ask(mechanism, normal(1, QUERY)), lambda: mechanism.keys):
        with pytest.raises(ValueError, match="setup_memory"):
            use()


def test_a_call_that_is_not_query_and_state_is_refused():
    mechanism = built(LuongAttention)
    mechanism.setup_memory(normal(1, 2, WIDTH))
    with pytest.raises(ValueError, match=r"\[query, state\]"):
        mechanism(normal(1, QUERY))
    with pytest.raises(ValueError, match="memory or .memory, lengths."):
        mechanism([normal(1, 2, WIDTH)] * 3, setup_memory=True)


def test_an_unknown_probability_fn_is_refused():
    with pytest.raises(ValueError, match="sparsemax"):
        LuongAttention(UNITS, probability_fn="sparsemax")


# -- numerics, graphs, saving


@each
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_narrow_policies_score_in_float32(kind, policy):
    wide = built(kind)
    narrow = kind(UNITS, dtype=policy)
    query, memory = normal(2, QUERY), normal(2, 3, WIDTH)
    ask(narrow, query, narrow.prepare_memory(memory))
    narrow.set_weights(wide.get_weights())
    alignments, state = narrow([query, None], memory=narrow.prepare_memory(memory, [3, 1]))
    assert alignments.dtype == state.dtype == narrow.compute_dtype
    expected = ask(wide, query, wide.prepare_memory(memory, [3, 1]))
    np.testing.assert_allclose(tf.cast(alignments, tf.float32), expected, atol=0.05)


def test_a_tiny_direction_is_normalised_in_float32():
    mechanism = BahdanauAttention(UNITS, normalize=True, dtype="mixed_float16")
    memory = mechanism.prepare_memory(normal(2, 3, WIDTH))
    ask(mechanism, normal(2, QUERY), memory)
    mechanism.attention_v.assign([1e-4] * UNITS)  # its square is below float16
    assert np.isfinite(ask(mechanism, normal(2, QUERY), memory)).all()


@each
def test_a_memory_of_unknown_batch_and_length_works_in_a_graph(kind):
    mechanism = built(kind)

    @tf.function(
        autograph=False,
        input_signature=[
            tf.TensorSpec([None, QUERY]),
            tf.TensorSpec([None, None, WIDTH]),
            tf.TensorSpec([None], tf.int32),
        ],
    )
    def graph(query, memory, lengths):
        prepared = mechanism.prepare_memory(memory, lengths)
        alignments, _ = mechanism([query, None], memory=prepared)
        mechanism.setup_memory(memory, lengths)
        assert mechanism.alignments_size == tf.TensorShape([None])
        bound, _ = mechanism([query, None])
        return alignments, bound

    for batch, steps in ((2, 3), (3, 5)):
        query, memory, lengths = normal(batch, QUERY), normal(batch, steps, WIDTH), [1] * batch
        expected = ask(mechanism, query, mechanism.prepare_memory(memory, lengths))
        for found in graph(query, memory, lengths):
            np.testing.assert_allclose(found, expected, atol=1e-6)


@each
def test_a_config_makes_the_same_layer(kind):
    mechanism = built(kind, probability_fn="hardmax", name="my_name")
    query, memory = normal(2, QUERY), normal(2, 3, WIDTH)
    copy = type(mechanism).from_config(mechanism.get_config())
    copy.build_from_config(mechanism.get_build_config())
    copy.set_weights(mechanism.get_weights())
    expected = ask(mechanism, query, mechanism.prepare_memory(memory))
    np.testing.assert_array_equal(ask(copy, query, copy.prepare_memory(memory)), expected)


def test_custom_layers_and_normalisers_are_used_and_saved():
    @keras.saving.register_keras_serializable("tests")
    def uniform(scores, mask):
        weights = tf.cast(tf.broadcast_to(mask, tf.shape(scores)), scores.dtype)
        return weights / tf.reduce_sum(weights, -1, keepdims=True)

    mechanism = BahdanauAttention(
        UNITS,
        probability_fn=uniform,
        memory_layer=keras.layers.Dense(UNITS, "tanh"),
        query_layer=keras.layers.Dense(UNITS, use_bias=True),
    )
    memory = mechanism.prepare_memory(normal(1, 4, WIDTH), [2])
    np.testing.assert_array_equal(ask(mechanism, normal(1, 3), memory), [[0.5, 0.5, 0, 0]])
    copy = BahdanauAttention.from_config(mechanism.get_config())
    assert copy.probability_fn is uniform
    assert copy.query_layer.use_bias and copy.memory_layer.activation is keras.activations.tanh


@each
def test_initial_states_are_zeros_of_the_memorys_length(kind):
    mechanism = built(kind)
    memory = mechanism.prepare_memory(normal(2, 3, WIDTH))
    for first in (mechanism.initial_alignments, mechanism.initial_state):
        state = first(6, tf.float16, memory)
        assert state.dtype == tf.float16 and state.shape == (6, 3) and not state.numpy().any()
