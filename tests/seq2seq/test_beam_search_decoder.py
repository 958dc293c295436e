"""Beam search over tables of transitions, where every answer can be enumerated."""

import functools
import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.seq2seq import (
    BasicDecoder,
    BeamSearchDecoder,
    GreedyEmbeddingSampler,
    tile_batch,
)
from tests import oracles
from tests.seq2seq.cells import (
    CELLS,
    INPUT,
    MECHANISMS,
    WIDTH,
    Table,
    normal,
    start_of,
    unroll,
    wrap,
)

START, END = 1, 0


def search(table, width, steps=None, rows=None, **options):
    """Answers [B][K] as tuples of tokens up to the end, final log p and scores [B, K]."""
    steps = steps or table.log_p.shape[1]
    vocabulary = table.output_size
    decoder = BeamSearchDecoder(table, width, maximum_iterations=steps, **options)
    state = table.start(rows)
    sources = int(state[1].shape[0])
    outputs, final, lengths = decoder(
        tf.eye(vocabulary),
        start_tokens=[START] * sources,
        end_token=END,
        initial_state=tile_batch(state, width),
    )
    ids, lengths = outputs.predicted_ids.numpy(), lengths.numpy()
    answers = [
        [tuple(ids[b, : lengths[b, k], k].tolist()) for k in range(width)] for b in range(sources)
    ]
    return answers, final.log_probs.numpy(), outputs.beam_search_decoder_output.scores.numpy()


def log_probs(table, source, answers):
    return [oracles.log_prob(answer, table.of(source), START) for answer in answers]


# -- what a beam finds


def test_beam_finds_the_likelier_path_that_greedy_misses():
    """p(I) .4, p(am) .5; p(am|I) .6, p(Chinese|am) .4: "I am" is .24, "am Chinese" .20."""
    start, i, am, chinese = range(4)
    p = np.full((1, 2, 4, 4), 1e-9)
    p[0, 0, start, 1:] = [0.4, 0.5, 0.1]
    p[0, 1, i, 1:] = [0.3, 0.6, 0.1]
    p[0, 1, am, 1:] = [0.3, 0.3, 0.4]
    table, end = Table(np.log(p)), start  # nothing ends here

    def found(width):
        decoder = BeamSearchDecoder(table, width, maximum_iterations=2)
        outputs, final, _ = decoder(
            tf.eye(4),
            start_tokens=[start],
            end_token=end,
            initial_state=tile_batch(table.start(), width),
        )
        return outputs.predicted_ids[0].numpy().T.tolist(), np.exp(final.log_probs[0])

    answers, probabilities = found(1)
    assert answers == [[am, chinese]]
    np.testing.assert_allclose(probabilities, [0.20], rtol=1e-5, atol=1e-5)
    answers, probabilities = found(2)
    assert answers == [[i, am], [am, chinese]]
    np.testing.assert_allclose(probabilities, [0.24, 0.20], rtol=1e-5, atol=1e-5)


def test_a_beam_of_one_is_greedy():
    table = Table.random(50, 6, 5)
    answers, _, _ = search(table, 1)
    greedy = BasicDecoder(table, GreedyEmbeddingSampler(), maximum_iterations=6)
    outputs, _, lengths = greedy(
        tf.eye(5), initial_state=table.start(), start_tokens=[START] * 50, end_token=END
    )
    for b in range(50):
        assert answers[b][0] == tuple(outputs.sample_id[b, : lengths[b]].numpy().tolist())


def test_a_full_width_beam_is_the_exhaustive_argmax():
    """On 100 random models of 4 tokens and 4 steps, and not only the first but all answers."""
    table, steps, vocabulary = Table.random(100, 4, 4), 4, 4
    everything = list(oracles.answers(vocabulary, steps, END))
    found, final, _ = search(table, len(everything))
    for b in range(100):
        expected = log_probs(table, b, everything)
        order = np.argsort(expected)[::-1]
        assert found[b][0] == everything[order[0]]
        assert sorted(found[b]) == sorted(everything)
        np.testing.assert_allclose(final[b], np.array(expected)[order], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("width", [2, 3, 7])
@pytest.mark.parametrize("weight", [0.0, 0.6, 2.0])
def test_every_width_finds_what_a_search_with_lists_finds(width, weight):
    table = Table.random(60, 6, 4)
    found, final, _ = search(table, width, length_penalty_weight=weight)
    for b in range(60):
        expected = oracles.beam_search(table.of(b), width, 6, START, END, weight)
        # While other sources are searched for, finished answers wait, and may change places.
        answers, totals = zip(*sorted(expected))
        answers_found, totals_found = zip(*sorted(zip(found[b], final[b])))
        assert answers_found == answers
        np.testing.assert_allclose(totals_found, totals, rtol=1e-4, atol=1e-5)
        if b < 3:
            alone, _, _ = search(table, width, rows=[b], length_penalty_weight=weight)
            assert alone[0] == [answer for answer, _ in expected]


@pytest.mark.parametrize("weight", [0.0, 1.0])
@pytest.mark.parametrize("width", [1, 2, 3, 5])
def test_the_log_p_of_a_hypothesis_is_that_of_its_tokens(width, weight):
    table = Table.random(100, 7, 4)
    found, final, _ = search(table, width, length_penalty_weight=weight)
    for b in range(100):
        np.testing.assert_allclose(final[b], log_probs(table, b, found[b]), rtol=1e-4, atol=1e-4)


def test_hypotheses_are_all_different():
    found, _, _ = search(Table.random(50, 5, 4), 6)
    for hypotheses in found:
        assert len(set(hypotheses)) == 6


# -- scores


def test_the_score_of_a_step_is_log_p_over_the_length_penalty():
    table, weight = Table.random(20, 1, 4), 0.7
    found, final, scores = search(table, 4, length_penalty_weight=weight)
    for b in range(20):
        for k, answer in enumerate(found[b]):
            # As ever in this search, the step that takes the end token does not count it.
            length = 0 if answer == (END,) else 1
            expected = final[b, k] / oracles.length_penalty(length, weight)
            np.testing.assert_allclose(scores[b, 0, k], expected, rtol=1e-5, atol=1e-5)


def test_all_scores_are_those_of_all_continuations():
    table, weight = Table.random(20, 3, 4), 0.7
    _, _, scores = search(table, 4, length_penalty_weight=weight, output_all_scores=True)
    assert scores.shape == (20, 3, 4, 4)
    _, _, chosen = search(table, 4, length_penalty_weight=weight)
    assert chosen.shape == (20, 3, 4)
    best = np.sort(scores.reshape(20, 3, 16))[..., ::-1][..., :4]
    np.testing.assert_allclose(chosen, best, rtol=1e-6)


# -- the rest of the batch, and the edges


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_an_answer_is_independent_of_the_rest_of_the_batch_and_of_its_order(weight):
    table = Table.random(30, 6, 4)
    found, final, _ = search(table, 3, length_penalty_weight=weight)
    order = np.random.permutation(30)
    turned, turned_final, _ = search(table, 3, rows=order, length_penalty_weight=weight)
    assert turned == [found[b] for b in order]
    np.testing.assert_allclose(turned_final, final[order], rtol=1e-5, atol=1e-5)


def test_more_hypotheses_than_answers_leave_the_rest_at_minus_infinity():
    vocabulary, steps = 3, 2
    everything = list(oracles.answers(vocabulary, steps, END))  # 7 of them
    table = Table.random(20, steps, vocabulary)
    found, final, scores = search(table, 12)
    for b in range(20):
        assert sorted(found[b][:7]) == sorted(everything)
        assert np.isfinite(final[b, :7]).all() and (final[b, 7:] == -np.inf).all()
        assert not np.isnan(scores[b]).any()


def test_more_hypotheses_than_tokens_are_no_repetitions():
    table = Table.random(20, 5, 3)
    found, final, _ = search(table, 8)
    for b in range(20):
        live = [answer for answer, total in zip(found[b], final[b]) if np.isfinite(total)]
        assert len(live) == 8 == len(set(live))
        np.testing.assert_allclose(final[b], log_probs(table, b, found[b]), rtol=1e-4, atol=1e-5)


def test_one_step_gives_the_best_tokens():
    table = Table.random(10, 1, 6)
    found, _, _ = search(table, 3)
    for b in range(10):
        best = np.argsort(table.log_p[b, 0, START])[::-1][:3]
        assert found[b] == [(token,) for token in best]


def test_where_nothing_but_the_end_is_possible_the_search_ends_at_once():
    table = Table(np.log([[[[1.0, 1e-30]] * 2] * 5]))
    found, final, scores = search(table, 1)
    assert found == [[(END,)]] and scores.shape[1] == 1
    np.testing.assert_allclose(final, 0, atol=1e-6)


def test_the_search_continues_while_any_hypothesis_may():
    """The end is likely at once, the other path certain and long: width 2 keeps both."""
    p = np.full((1, 5, 3, 3), 1e-9)
    p[0, 0, START] = [0.6, 1e-9, 0.4]
    p[0, 1:4, 2] = [1e-9, 1e-9, 1]
    p[0, 4, 2] = [1, 1e-9, 1e-9]
    found, _, _ = search(Table(np.log(p)), 2)
    assert found == [[(END,), (2, 2, 2, 2, END)]]
    found, _, _ = search(Table(np.log(p)), 2, length_penalty_weight=3.0)
    assert found == [[(2, 2, 2, 2, END), (END,)]]


@pytest.mark.parametrize("how", ["eager", "graph", "xla"])
@pytest.mark.parametrize("end", [-1, 4])
def test_an_end_token_outside_of_the_vocabulary_means_that_nothing_ends(end, how):
    """Every path of three tokens, and places for hypotheses that do not exist."""
    table, width = Table.random(5, 3, 4), 70
    decoder = BeamSearchDecoder(table, width, maximum_iterations=3)

    def run(start):
        state = tile_batch(table.start(), width)
        outputs, final, lengths = decoder(
            tf.eye(4), start_tokens=start, end_token=end, initial_state=state
        )
        return outputs.predicted_ids, final.log_probs, final.finished, lengths

    call = run if how == "eager" else tf.function(run, jit_compile=how == "xla")
    ids, log_p, finished, lengths = (x.numpy() for x in call(tf.fill([5], START)))
    paths = list(itertools.product(range(4), repeat=3))
    for b in range(5):
        expected = log_probs(table, b, paths)
        order = np.argsort(expected)[::-1]
        assert [tuple(path) for path in ids[b].T[:64].tolist()] == [paths[i] for i in order]
        np.testing.assert_allclose(log_p[b, :64], np.array(expected)[order], rtol=1e-4, atol=1e-5)
    assert (lengths[:, :64] == 3).all() and not finished[:, :64].any()
    assert np.isneginf(log_p[:, 64:]).all() and not lengths[:, 64:].any()


@pytest.mark.parametrize("jit", [False, True], ids=["graph", "xla"])
def test_graph_and_xla_find_what_eager_finds(jit):
    table, width, steps = Table.random(15, 6, 4), 3, 9
    table = Table(np.concatenate([table.log_p, table.log_p[:, :3]], 1))
    decoder = BeamSearchDecoder(table, width, maximum_iterations=steps, length_penalty_weight=0.8)

    def run(start):
        outputs, final, lengths = decoder(
            tf.eye(4),
            start_tokens=start,
            end_token=END,
            initial_state=tile_batch(table.start(), width),
        )
        return outputs.predicted_ids, final.log_probs, lengths

    start = tf.fill([15], START)
    ids, log_p, lengths = run(start)
    found_ids, found_log_p, found_lengths = tf.function(run, jit_compile=jit)(start)
    np.testing.assert_array_equal(found_lengths, lengths)
    np.testing.assert_allclose(found_log_p, log_p, rtol=1e-5, atol=1e-5)
    for b, k in np.ndindex(15, width):
        length = lengths[b, k]
        np.testing.assert_array_equal(found_ids[b, :length, k], ids[b, :length, k])


def test_what_ends_earlier_than_the_limit_is_the_same_under_xla():
    """XLA's outputs are longer than the search was; that must not disturb the tracing back."""
    p = np.full((4, 8, 4, 4), 1e-4)
    p[..., 0] += np.linspace(0.1, 2, 8)[None, :, None]
    p *= np.random.random(p.shape)
    table = Table(np.log(p / p.sum(-1, keepdims=True)))
    decoder = BeamSearchDecoder(table, 3, maximum_iterations=8, length_penalty_weight=1.0)

    def run(start):
        outputs, final, lengths = decoder(
            tf.eye(4), start_tokens=start, end_token=END, initial_state=tile_batch(table.start(), 3)
        )
        return outputs.predicted_ids, final.log_probs, lengths

    ids, log_p, lengths = tf.function(run, jit_compile=True)(tf.fill([4], START))
    found = [[tuple(ids[b, : lengths[b, k], k].numpy()) for k in range(3)] for b in range(4)]
    assert int(tf.reduce_max(lengths)) < 8 and ids.shape[1] == 8
    for b in range(4):
        np.testing.assert_allclose(log_p[b], log_probs(table, b, found[b]), rtol=1e-4, atol=1e-5)


# -- cells that attend


def attended(mechanism, width, cell=CELLS["gru"], lengths=(6, 1, 3), **options):
    """A decoder over an AttentionWrapper with a peaked output layer, a memory, and a source."""
    head = keras.layers.Dense(7, kernel_initializer=keras.initializers.RandomNormal(stddev=3))
    wrapper = wrap(cell, mechanism, alignment_history=options.pop("alignment_history", False))
    decoder = BeamSearchDecoder(wrapper, width, output_layer=head, maximum_iterations=5, **options)
    values = normal(len(lengths), 6, WIDTH)
    return decoder, values, np.array(lengths)


EMBEDDING = np.random.default_rng(3).normal(size=(7, INPUT)).astype("float32")


def run(decoder, memory, batch=3):
    width = decoder.beam_width
    state = decoder.cell.get_initial_state(batch_size=batch * width, memory=memory)
    return decoder(
        EMBEDDING,
        start_tokens=[START] * batch,
        end_token=END,
        initial_state=state,
        memory=memory,
    )


def replay(decoder, memory, ids, lengths):
    """Teacher forcing of ids [B, K, T] -> log p [B, K], alignments [B, K, T, S]."""
    batch, width, steps = ids.shape
    state = decoder.cell.get_initial_state(batch_size=batch * width, memory=memory)
    previous = np.concatenate([np.full((batch, width, 1), START), ids[..., :-1]], -1)
    total, alignments = np.zeros((batch, width)), []
    for t in range(steps):
        inputs = EMBEDDING[previous[..., t].reshape(-1)]
        output, state = decoder.cell(inputs, state, memory=memory, beam_width=width)
        log_p = tf.nn.log_softmax(decoder.output_layer(output)).numpy().reshape(batch, width, -1)
        chosen = np.take_along_axis(log_p, ids[..., t : t + 1], -1)[..., 0]
        total += np.where(t < lengths, chosen, 0)
        alignments.append(state.alignments.numpy().reshape(batch, width, -1))
    alignments = np.stack(alignments, 2)
    return total, alignments * (np.arange(steps) < lengths[..., None])[..., None]


@pytest.mark.parametrize("mechanism", MECHANISMS.values(), ids=MECHANISMS.keys())
@pytest.mark.parametrize("kind", ["lstm", "stacked_gru"])
def test_a_shared_memory_is_as_good_as_a_tiled_one(kind, mechanism):
    decoder, values, lengths = attended(mechanism, 3, CELLS[kind])
    shared = decoder.cell.prepare_memory(values, lengths)
    one, one_final, one_lengths = run(decoder, shared)
    decoder.cell.attention_mechanism.setup_memory(*tile_batch((values, lengths), 3))
    other, other_final, other_lengths = run(decoder, None)
    np.testing.assert_array_equal(one.predicted_ids, other.predicted_ids)
    np.testing.assert_array_equal(one_lengths, other_lengths)
    np.testing.assert_allclose(one_final.log_probs, other_final.log_probs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("mechanism", MECHANISMS.values(), ids=MECHANISMS.keys())
def test_alignments_follow_the_hypotheses_both_as_outputs_and_as_a_history(mechanism):
    decoder, values, lengths = attended(
        mechanism, 4, alignment_history=True, output_alignments=True
    )
    memory = decoder.cell.prepare_memory(values, lengths)
    outputs, final, found = run(decoder, memory)
    ids, found = np.swapaxes(outputs.predicted_ids, 1, 2), found.numpy()
    log_p, expected = replay(decoder, memory, ids, found)
    np.testing.assert_allclose(final.log_probs, log_p, rtol=1e-4, atol=1e-5)
    real = (np.arange(ids.shape[2]) < found[..., None])[..., None]
    alignments = np.swapaxes(outputs.beam_search_decoder_output.alignments, 1, 2)
    np.testing.assert_allclose(alignments * real, expected, atol=1e-5)
    history = final.cell_state.alignment_history.numpy()  # [T, B*K, S]
    history = np.transpose(history.reshape(len(history), *found.shape, -1), [1, 2, 0, 3])
    np.testing.assert_allclose(history * real, expected, atol=1e-5)


def test_a_history_may_stay_in_the_order_it_was_written_in():
    decoder, values, lengths = attended(
        MECHANISMS["luong"], 4, alignment_history=True, reorder_tensor_arrays=False
    )
    _, final, _ = run(decoder, decoder.cell.prepare_memory(values, lengths))
    assert isinstance(final.cell_state.alignment_history, tf.TensorArray)


@pytest.mark.parametrize("weight", [0.5, 2.0])
def test_coverage_is_accumulated_along_each_hypothesis(weight):
    decoder, values, lengths = attended(
        MECHANISMS["bahdanau"], 4, coverage_penalty_weight=weight, output_alignments=True
    )
    memory = decoder.cell.prepare_memory(values, lengths)
    outputs, final, found = run(decoder, memory)
    ids = np.swapaxes(outputs.predicted_ids, 1, 2)
    log_p, alignments = replay(decoder, memory, ids, found.numpy())
    np.testing.assert_allclose(final.accumulated_attention_probs, alignments.sum(2), atol=1e-5)
    np.testing.assert_allclose(final.log_probs, log_p, rtol=1e-4, atol=1e-5)


def test_padding_of_the_source_changes_no_answer():
    decoder, values, lengths = attended(MECHANISMS["bahdanau"], 3)
    short, short_final, _ = run(decoder, decoder.cell.prepare_memory(values, lengths))
    longer = np.concatenate([values, 100 * normal(3, 5, WIDTH)], 1)
    long, long_final, _ = run(decoder, decoder.cell.prepare_memory(longer, lengths))
    np.testing.assert_array_equal(long.predicted_ids, short.predicted_ids)
    np.testing.assert_allclose(long_final.log_probs, short_final.log_probs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float64"])
def test_scores_are_float32_or_wider_under_any_policy(policy):
    keras.mixed_precision.set_global_policy(policy)
    try:
        decoder, values, lengths = attended(
            MECHANISMS["bahdanau"], 3, length_penalty_weight=0.6, coverage_penalty_weight=0.2
        )
        _, final, _ = run(decoder, decoder.cell.prepare_memory(values, lengths))
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert final.log_probs.dtype == ("float64" if policy == "float64" else "float32")
    assert np.isfinite(final.log_probs).all()
    assert final.cell_state.attention.dtype == policy.removeprefix("mixed_")


def test_a_step_that_was_taken_alone_is_the_step_of_the_search():
    """The first step of a search is one step of the cell, and its K best tokens."""
    decoder, values, lengths = attended(MECHANISMS["luong"], 3)
    memory = decoder.cell.prepare_memory(values, lengths)
    outputs, _, _ = run(decoder, memory)
    inputs = np.repeat(EMBEDDING[None, START : START + 1], 3, 0)
    output, _ = unroll(decoder.cell, inputs, memory)
    best = tf.math.top_k(decoder.output_layer(output[:, 0]), 3).indices
    steps = outputs.beam_search_decoder_output
    np.testing.assert_array_equal(steps.predicted_ids[:, 0], best)
    np.testing.assert_array_equal(steps.parent_ids[:, 0], np.zeros((3, 3)))


@pytest.mark.parametrize("kind", ["lstm", "stacked_lstm"])
def test_dropout_in_a_search_draws_masks_for_all_hypotheses(kind):
    decoder, _, _ = attended(MECHANISMS["luong"], 3, functools.partial(CELLS[kind], dropout=0.5))
    for batch in (2, 3, 1):
        memory = decoder.cell.prepare_memory(normal(batch, 4, WIDTH))
        state = decoder.cell.get_initial_state(batch_size=batch * 3, memory=memory)
        outputs, final, _ = decoder(
            EMBEDDING,
            start_tokens=[START] * batch,
            end_token=END,
            initial_state=state,
            memory=memory,
            training=True,
        )
        assert outputs.predicted_ids.shape[::2] == (batch, 3) and np.isfinite(final.log_probs).all()


@pytest.mark.parametrize("container", [tuple, list])
def test_a_plain_cell_is_searched_whatever_contains_its_state(container):
    cell = CELLS["lstm"]()
    decoder = BeamSearchDecoder(cell, 2, output_layer=keras.layers.Dense(7), maximum_iterations=4)
    state = container(tile_batch(part, 2) for part in normal(2, 3, 4))
    outputs, final, _ = decoder(
        EMBEDDING, start_tokens=[START] * 3, end_token=END, initial_state=state
    )
    assert outputs.predicted_ids.shape[::2] == (3, 2)
    assert isinstance(final.cell_state, container)


def test_the_embedding_may_be_a_matrix_a_weight_of_keras_or_a_layer():
    layer, cell = keras.layers.Embedding(7, INPUT), CELLS["gru"]()
    layer.build(None)
    head = keras.layers.Dense(7)
    matrix, found = layer.embeddings, []
    other = keras.layers.Embedding(7, INPUT)  # a matrix at the call wins over it
    for given, embedding_fn in (
        (matrix.numpy(), None),
        (matrix, None),
        (None, layer),
        (matrix, other),
    ):
        decoder = BeamSearchDecoder(cell, 2, embedding_fn, output_layer=head, maximum_iterations=4)
        state = tile_batch(start_of(cell, 3), 2)
        _, final, _ = decoder(given, start_tokens=[START] * 3, end_token=END, initial_state=state)
        found.append(final.log_probs.numpy())
    for others in found[1:]:
        np.testing.assert_allclose(others, found[0], rtol=1e-6)


def test_a_config_makes_the_same_decoder():
    decoder = BeamSearchDecoder(
        wrap(),
        3,
        output_layer=keras.layers.Dense(7),
        length_penalty_weight=0.6,
        coverage_penalty_weight=0.2,
        output_alignments=True,
        maximum_iterations=9,
    )
    copy = BeamSearchDecoder.from_config(decoder.get_config())
    assert copy.get_config() == decoder.get_config()
    assert copy.beam_width == 3 and copy.output_layer.units == 7


# -- refusals


def test_anything_that_cannot_be_searched_is_refused():
    table = Table.random(2, 3, 4)
    with pytest.raises(TypeError, match="cell"):
        BeamSearchDecoder(3, 2)
    with pytest.raises(ValueError, match="beam_width"):
        BeamSearchDecoder(table, 0)
    with pytest.raises(TypeError, match="embedding_fn"):
        BeamSearchDecoder(table, 2, embedding_fn=3)
    with pytest.raises(ValueError, match="cell with attention"):
        search(table, 2, coverage_penalty_weight=0.1)
    with pytest.raises(ValueError, match="cell with attention"):
        search(table, 2, output_alignments=True)
    with pytest.raises(ValueError, match="scalar"):
        search(table, 2, length_penalty_weight=[0.1])
    with pytest.raises(ValueError, match="Set impute_finished=False"):
        search(table, 2, impute_finished=True)
    decoder = BeamSearchDecoder(table, 2, maximum_iterations=3)
    good = {"start_tokens": [1, 1], "end_token": 0, "initial_state": tile_batch(table.start(), 2)}
    for wrong, message in (
        ({"start_tokens": 1}, "start_tokens must be a vector"),
        ({"end_token": [0]}, "end_token must be a scalar"),
        ({"start_tokens": None}, "needs start_tokens and end_token"),
        ({"initial_state": None}, "initial_state is required"),
    ):
        with pytest.raises(ValueError, match=message):
            decoder(tf.eye(4), **{**good, **wrong})
    with pytest.raises(ValueError, match="embedding"):
        decoder(None, **good)


def test_a_state_that_was_not_tiled_is_refused():
    table = Table.random(3, 3, 4)
    decoder = BeamSearchDecoder(table, 2, maximum_iterations=3)
    with pytest.raises(ValueError, match="tile_batch"):
        decoder(tf.eye(4), start_tokens=[1] * 3, end_token=0, initial_state=table.start())
