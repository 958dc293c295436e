import statistics
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.layers import (
    DecoderState,
    DistanceAttention,
    FixedAttention,
    LinearAttention,
    MemoryEfficientAttention,
    RelativeAttention,
    RestrictedAttention,
    StridedAttention,
    TransformerCell,
    TransformerStack,
)
from keras_attention.seq2seq import (
    BasicDecoder,
    BeamSearchDecoder,
    GreedyEmbeddingSampler,
    SampleEmbeddingSampler,
    TrainingSampler,
)
from tests.sampled import full, sampled

B, T, S, D, H, V = 2, 6, 4, 8, 4, 11
MASK = np.arange(S) < np.array([[S], [2]])


def drawn(*shape):
    return np.random.normal(size=shape).astype("float32")


def cell_of(dtype="float32", **settings):
    settings = {"layers": 2, "heads": H, "ff_width": 6, "cross": True, **settings}
    stack = TransformerStack(**settings, causal=True, max_length=16, dtype=dtype)
    cell = TransformerCell(stack)
    cell.build((None, D))
    stack.set_weights([drawn(*weight.shape) / 2 for weight in stack.weights])
    return cell


def steps(cell, x, memory, room=T):
    """[B, T, D] -> [B, T, D], one step after another, and the states between."""
    state = cell.get_initial_state(len(x), room, memory=memory)
    outputs, states = [], [state]
    for t in range(x.shape[1]):
        output, state = cell(x[:, t], state, memory=memory)
        outputs.append(output)
        states.append(state)
    return tf.stack(outputs, 1), states


GRID = [
    dict(norm="post", positions="sinusoid", key_heads=None, cross=True),
    dict(norm="pre", positions="sinusoid", key_heads=2, cross=False),
    dict(norm="post", positions="learned", key_heads=1, cross=True),
    dict(norm="pre", positions="learned", key_heads=None, cross=True),
    dict(norm="post", positions=None, key_heads=2, cross=False),
    dict(norm="pre", positions=None, key_heads=1, cross=True),
]


@pytest.mark.parametrize("settings", GRID, ids=lambda s: "-".join(map(str, s.values())))
def test_the_stack_is_repeating_the_step(settings):
    cell = cell_of(**settings)
    x = drawn(B, T, D)
    memory = cell.prepare_memory(drawn(B, S, D), memory_mask=MASK) if settings["cross"] else None
    found, _ = steps(cell, x, memory, room=T + 3)
    np.testing.assert_allclose(found, cell.stack(x, memory), atol=1e-5)


@pytest.mark.parametrize("jit", [False, True], ids=["graph", "xla"])
def test_a_loop_in_a_graph_gives_what_the_stack_gives(jit):
    cell, x = cell_of(key_heads=2, positions="learned"), drawn(B, T, D)
    memory = cell.prepare_memory(drawn(B, S, D), [S, 2])

    @tf.function(jit_compile=jit)
    def decode(x, memory):
        outputs = tf.TensorArray(tf.float32, T, element_shape=[B, D])
        state = cell.get_initial_state(B, T, memory=memory)
        for t in tf.range(T):
            output, state = cell(x[:, t], state, memory=memory)
            outputs = outputs.write(t, output)
        return tf.transpose(outputs.stack(), [1, 0, 2])

    np.testing.assert_allclose(decode(tf.constant(x), memory), cell.stack(x, memory), atol=1e-5)


# -- hypotheses


@pytest.mark.parametrize("jit, settings", sampled([False, None, True], GRID[1:4], together=0))
def test_hypotheses_that_change_places_are_each_as_if_alone(settings, jit):
    beams, cell = 3, cell_of(**settings)
    memory = cell.prepare_memory(drawn(B, S, D), [S, 2]) if settings["cross"] else None
    inputs = drawn(T, B, beams, D)
    parents = np.random.randint(0, beams, (T, B, beams))

    def step(x, state, parents):
        output, state = cell(x, state, memory=memory, beam_width=beams)
        return output, cell.reorder(state, parents)

    step = step if jit is None else tf.function(step, jit_compile=jit, autograph=False)
    state = cell.get_initial_state(B, T, beams, memory)
    said = np.zeros([B, beams, 0, D], "float32")
    for x, chosen in zip(inputs, parents):
        output, state = step(tf.reshape(x, [-1, D]), state, tf.constant(chosen))
        said = np.concatenate([said, x[:, :, None]], 2)
        for k in range(beams):
            alone = cell.stack(said[:, k], memory)[:, -1]
            np.testing.assert_allclose(tf.reshape(output, [B, beams, D])[:, k], alone, atol=1e-5)
        said = np.take_along_axis(said, chosen[:, :, None, None], 1)


def test_nothing_of_the_cache_moves_when_hypotheses_change_places():
    cell = cell_of()
    memory = cell.prepare_memory(drawn(B, S, D))
    state = cell.get_initial_state(B, T, 3, memory)
    _, state = cell(drawn(B * 3, D), state, memory=memory, beam_width=3)
    moved = cell.reorder(state, tf.constant([[2, 2, 0], [1, 0, 0]]))
    for old, new in zip(tf.nest.flatten(state.caches), tf.nest.flatten(moved.caches)):
        assert old is new


# -- the state


def test_a_cache_takes_the_memory_that_its_shapes_say():
    cell = cell_of(key_heads=2, key_width=3)
    memory = cell.prepare_memory(drawn(B, S, D))
    state = cell.get_initial_state(5, 7, 3, memory=memory)
    sizes = [tuple(leaf.shape) for leaf in tf.nest.flatten(state.caches)]
    assert sizes == [(5, 2, 7 * 3, 3)] * 2 * 2  # layers, keys and values
    bytes_of = sum(len(leaf.numpy().tobytes()) for leaf in tf.nest.flatten(state.caches))
    assert bytes_of == 2 * 2 * 5 * 2 * 7 * 3 * 3 * 4
    assert (state.time.shape, state.ancestry.shape) == ((), (5, 3, 7))
    assert state.alignments.shape == (15, S)


def test_a_step_writes_one_slot_and_leaves_its_state_as_it_was():
    cell = cell_of(cross=False)
    _, states = steps(cell, drawn(B, 3, D), None)
    assert isinstance(states[-1], DecoderState)
    assert [int(state.time) for state in states] == [0, 1, 2, 3]
    for before, after in zip(states, states[1:]):
        for old, new in zip(tf.nest.flatten(before.caches), tf.nest.flatten(after.caches)):
            changed = (old.numpy() != new.numpy()).any((0, 1, 3))
            np.testing.assert_array_equal(np.flatnonzero(changed), [int(before.time)])


def test_alignments_are_what_the_last_step_attended_to():
    cell, x = cell_of(), drawn(B, T, D)
    memory = cell.prepare_memory(drawn(B, S, D), memory_mask=MASK)
    _, weights = cell.stack(x, memory, return_weights=True)
    _, states = steps(cell, x, memory)
    found = np.stack([state.alignments for state in states[1:]], 1)
    np.testing.assert_allclose(found, cell.alignment(weights), atol=1e-5)
    np.testing.assert_allclose(found, tf.reduce_mean(weights[-1], 1), atol=1e-5)
    one = TransformerCell(cell.stack, alignment_layer=0, alignment_head=2)
    np.testing.assert_array_equal(one.alignment(weights), weights[0][:, 2])


# -- errors


def test_one_step_more_than_there_is_room_for_is_an_error():
    cell, x = cell_of(cross=False), tf.constant(drawn(B, D))
    graph = tf.function(lambda x, state: cell(x, state), autograph=False)
    for step in (cell, graph):
        state = cell.get_initial_state(B, 2)
        for _ in range(2):
            _, state = step(x, state)
        with pytest.raises(tf.errors.InvalidArgumentError, match="More steps than max_length"):
            step(x, state)


def test_there_is_no_room_beyond_the_learned_positions():
    cell, x = cell_of(cross=False, positions="learned"), tf.constant(drawn(B, D))
    state = cell.get_initial_state(B, 16)
    for _ in range(16):
        _, state = cell(x, state)
    with pytest.raises(ValueError, match="learned 16 positions .* Received: max_length=17"):
        cell.get_initial_state(B, 17)


def test_a_state_needs_to_know_how_long_it_gets_and_how_wide():
    with pytest.raises(ValueError, match="max_length=None"):
        cell_of().get_initial_state(B)
    cell = TransformerCell(TransformerStack(1, H, 6, causal=True))
    with pytest.raises(ValueError, match="built=False"):
        cell.get_initial_state(B, T)


# -- precision


@pytest.mark.full
@pytest.mark.parametrize("norm", ["post", "pre"])
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "float64"])
def test_policies(policy, norm):
    wide = cell_of(norm=norm)
    cell = cell_of(policy, norm=norm)
    cell.set_weights(wide.get_weights())
    x, values = drawn(B, T, D), drawn(B, S, D)
    expected = wide.stack(x, values, memory_mask=MASK)
    memory = cell.prepare_memory(values, memory_mask=MASK)
    found, states = steps(cell, x, memory)
    narrow = policy.removeprefix("mixed_")
    assert found.dtype == narrow
    for cache in states[-1].caches:
        assert cache.keys.dtype == ("float64" if policy == "float64" else "float32")
        assert cache.values.dtype == narrow
    tolerance = {"mixed_bfloat16": 0.1, "mixed_float16": 0.02, "float64": 1e-5}[policy]
    np.testing.assert_allclose(tf.cast(found, tf.float32), expected, atol=tolerance)


# -- other self-attentions


@pytest.mark.parametrize(
    "attention",
    [
        RelativeAttention(H, 3),
        RelativeAttention(H, 2, share_heads=False),
        RestrictedAttention(H, 2),
        StridedAttention(H, 2),
        FixedAttention(H, 2),
        LinearAttention(H),
        MemoryEfficientAttention(H, 2),
    ],
    ids=lambda attention: type(attention).__name__,
)
@pytest.mark.parametrize("beams", [1, 3])
def test_a_stack_of_any_self_attention_is_repeating_the_step(attention, beams):
    causal = not isinstance(attention, FixedAttention)
    stack = TransformerStack(2, H, 6, causal=causal, self_attention=attention)
    cell = TransformerCell(stack)
    cell.build((None, D))
    x, outputs = drawn(B, T, D), []
    state = cell.get_initial_state(B, T, beams)
    for t in range(T):
        output, state = cell(np.repeat(x[:, t], beams, 0), state, beam_width=beams)
        outputs.append(output)
    expected = np.repeat(stack(x), beams, 0)
    np.testing.assert_allclose(tf.stack(outputs, 1), expected, atol=1e-5)


# -- in decoders


def test_teacher_forcing_is_the_stack():
    cell, x = cell_of(), drawn(B, T, D)
    memory = cell.prepare_memory(drawn(B, S, D), memory_mask=MASK)
    state = cell.get_initial_state(B, T, memory=memory)
    outputs, final, lengths = BasicDecoder(cell, TrainingSampler())(
        x, initial_state=state, memory=memory, sequence_length=[T, T]
    )
    np.testing.assert_allclose(outputs.rnn_output, cell.stack(x, memory), atol=1e-5)
    assert lengths.numpy().tolist() == [T, T] and int(final.time) == T


@pytest.mark.parametrize(
    "policy, kind",
    [("float32", "graph"), *full(("float32", "xla"), ("mixed_bfloat16", "eager"))],
)
@pytest.mark.full
def test_samplers_and_beams_decode_what_was_said(policy, kind):
    """What comes out, put in again all at once, gives the same outputs."""
    cell = cell_of(policy)
    values, table = tf.constant(drawn(B, S, D)), tf.constant(drawn(V, D))
    output_layer = keras.layers.Dense(V, dtype=policy)
    output_layer.build((None, D))

    def decode(decoder, beams=1):
        memory = cell.prepare_memory(values, [S, 2])
        state = cell.get_initial_state(B, T, beams, memory=memory)
        start = tf.fill([B], 1)
        return decoder(table, start_tokens=start, end_token=0, initial_state=state, memory=memory)

    def run(*arguments):
        call = {"eager": decode, "graph": tf.function(decode, autograph=False)}.get(kind)
        call = call or tf.function(decode, autograph=False, jit_compile=True)
        return call(*arguments)

    def logits_of(ids):
        inputs = tf.gather(table, tf.concat([tf.ones([B, 1], tf.int32), ids[:, :-1]], 1))
        hidden = cell.stack(inputs, values, memory_mask=MASK)
        return tf.cast(output_layer(hidden), tf.float32)

    tolerance = 1e-5 if policy == "float32" else 0.1
    for sampler in (GreedyEmbeddingSampler(), SampleEmbeddingSampler(seed=1)):
        decoder = BasicDecoder(cell, sampler, output_layer, maximum_iterations=T)
        outputs, _, lengths = run(decoder)
        steps_taken = int(tf.reduce_max(lengths))
        ids = outputs.sample_id[:, :steps_taken]
        said = tf.cast(outputs.rnn_output[:, :steps_taken], tf.float32)
        # Behind its end token a row is fed end tokens, here as there.
        np.testing.assert_allclose(said, logits_of(ids), atol=tolerance)
        if type(sampler) is GreedyEmbeddingSampler:
            np.testing.assert_array_equal(ids, tf.argmax(said, -1))
    decoder = BeamSearchDecoder(cell, 3, output_layer=output_layer, maximum_iterations=T)
    outputs, final, lengths = run(decoder, 3)
    for k in range(3):
        ids = outputs.predicted_ids[:, :, k]
        real = tf.sequence_mask(lengths[:, k], tf.shape(ids)[1], dtype=tf.float32)
        log_probs = tf.nn.log_softmax(logits_of(tf.maximum(ids, 0)))
        chosen = tf.gather(log_probs, tf.maximum(ids, 0), batch_dims=2)
        score = tf.reduce_sum(chosen * real, 1)
        np.testing.assert_allclose(
            tf.cast(final.log_probs[:, k], tf.float32), score, atol=10 * tolerance
        )


# -- cost


@pytest.mark.slow
def test_a_late_step_costs_what_an_early_one_costs():
    """As 1.5 times step 16, at most, by the processor's time."""
    stack = TransformerStack(2, 8, 512, causal=True, positions="sinusoid")
    cell = TransformerCell(stack)
    cell.build((None, 256))
    step = tf.function(lambda x, state: cell(x, state), autograph=False)
    costs, x = {}, tf.ones([1, 256])
    for _ in range(5):
        state = cell.get_initial_state(1, 520)
        for number in range(520):
            begin = time.process_time()
            _, state = step(x, state)
            costs.setdefault(number, []).append(time.process_time() - begin)

    def cost(near):
        return statistics.median(c for n in range(near - 4, near + 5) for c in costs[n][1:])

    assert cost(512) <= 1.5 * cost(16), (cost(16), cost(512))


def test_a_stack_that_attends_to_later_steps_is_refused():
    for attention in (None, DistanceAttention(2, forward=None)):
        stack = TransformerStack(1, 2, 8, self_attention=attention)
        with pytest.raises(ValueError, match="must not look ahead: give the stack causal=True"):
            TransformerCell(stack)


@pytest.mark.parametrize("forward, causal", [(True, True), (True, False), (None, True)])
def test_distances_are_the_same_step_by_step(forward, causal):
    attention = DistanceAttention(2, forward=forward)
    stack = TransformerStack(2, 2, 8, causal=causal, self_attention=attention)
    cell, x = TransformerCell(stack), tf.random.normal([2, 4, 8])
    expected = stack(x)
    state, steps = cell.get_initial_state(batch_size=2, max_length=4), []
    for t in range(4):
        output, state = cell(x[:, t], state)
        steps.append(output)
    np.testing.assert_allclose(tf.stack(steps, 1), expected, atol=1e-5)


@pytest.mark.parametrize("beam_width", [1, 3])
def test_a_beam_width_that_is_not_that_of_the_state_is_refused(beam_width):
    cell = TransformerCell(TransformerStack(1, heads=2, ff_width=8, causal=True))
    cell.build((None, 4))
    state = cell.get_initial_state(batch_size=2, max_length=3, beam_width=2)
    inputs = tf.ones([4, 4])
    expected = cell(inputs, state)[0]
    np.testing.assert_array_equal(cell(inputs, state, beam_width=2)[0], expected)
    with pytest.raises(ValueError, match=f"beam_width=2 hypotheses.*beam_width={beam_width}"):
        cell(inputs, state, beam_width=beam_width)
