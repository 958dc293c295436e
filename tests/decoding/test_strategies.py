"""Strategies: samples against exact probabilities, groups against plain lists."""

import collections
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.seq2seq import (
    BeamSearchDecoder,
    LogitsProcessor,
    alternatives,
    ban,
    beam,
    diverse_beam,
    generate,
    length_between,
    sample,
    stochastic_beam,
    temperature,
)
from tests import oracles
from tests.decoding.table_model import END, START, TableModel, answers_of
from tests.sampled import full, sampled
from tests.seq2seq.cells import Table

STEPS, VOCABULARY = 3, 4
STRATEGIES = {
    "best": beam,
    "sample": lambda: sample(7),
    "stochastic": lambda: stochastic_beam(7),
    "diverse": lambda: diverse_beam(2, 0.5),
}
every_strategy = pytest.mark.parametrize("name", STRATEGIES)


def model_of(sources, spread=1.0, vocabulary=VOCABULARY, steps=STEPS):
    return TableModel(Table.random(sources, steps, vocabulary, spread))


def probabilities(model, source, steps=STEPS):
    """{answer: p} of all answers."""
    log_p = model.cell.of(source)
    everything = oracles.answers(model.cell.output_size, steps, END)
    return {answer: np.exp(oracles.log_prob(answer, log_p, START)) for answer in everything}


def chi_squared(counts, expected):
    """The statistic less its mean, in standard deviations, over cells with enough in them."""
    rest = expected < 5
    counts = np.append(counts[~rest], counts[rest].sum())
    expected = np.append(expected[~rest], expected[rest].sum())
    free = len(expected) - 1
    return (((counts - expected) ** 2 / np.maximum(expected, 1e-9)).sum() - free) / (
        2 * free
    ) ** 0.5


def drawn(model, strategy, draws, **settings):
    """How often each answer is drawn for source 0, over rows that are all of that source."""
    result = generate(model, np.zeros(draws, int), max_length=STEPS, strategy=strategy, **settings)
    return [answer for row in answers_of(result) for answer, _ in row]


@pytest.mark.parametrize("strategy", [sample(3), stochastic_beam(5)], ids=["sample", "stochastic"])
def test_one_sample_has_the_distribution_of_the_model(strategy):
    model, draws = model_of(1), 20_000
    expected = probabilities(model, 0)
    times = collections.Counter(drawn(model, strategy, draws))
    counts = np.array([times[answer] for answer in expected])
    assert counts.sum() == draws
    assert chi_squared(counts, draws * np.array(list(expected.values()))) < 4


@pytest.mark.parametrize("strategy", [sample, stochastic_beam])
@pytest.mark.parametrize("processors", [[], [ban([21])]], ids=["model", "ban"])
def test_a_token_of_probability_0_is_never_drawn(strategy, processors):
    # The noise that this seed has for token 21 at the first step is the largest there is.
    model = model_of(1, vocabulary=64)
    model.project = lambda logits: tf.where(
        tf.range(64) == 21, -np.inf if not processors else 0.0, logits
    )
    settings = dict(max_length=1, processors=processors, strategy=strategy(395435))
    found = generate(model, np.zeros(1, int), **settings)
    assert found.ids[0, 0, 0] != 21 and np.isfinite(found.scores[0, 0])


def test_an_unlikely_token_is_not_drawn_by_noise_without_bound():
    model = model_of(1, vocabulary=64)
    model.project = lambda logits: tf.where(tf.range(64) == 21, -60.0, tf.zeros_like(logits))
    found = generate(model, np.zeros(1, int), max_length=1, strategy=sample(395435))
    assert found.ids[0, 0, 0] != 21


def test_a_draw_under_processors_is_renormalised_over_what_is_left():
    model, draws, heat = model_of(1), 20_000, 2.0
    found = drawn(model, sample(11), draws, processors=[temperature(heat), ban([3])])
    first = np.exp(model.cell.of(0)(0, START) / heat)
    first[3] = 0
    counts = np.bincount([answer[0] for answer in found], minlength=VOCABULARY)
    assert counts[3] == 0
    assert chi_squared(counts[:3], draws * first[:3] / first.sum()) < 4


def test_k_draws_of_a_source_are_independent():
    model = model_of(1)
    result = generate(
        model, np.zeros(4000, int), beam_width=2, max_length=STEPS, strategy=sample(1)
    )
    firsts = result.ids[:, :, 0].numpy()
    counts = np.zeros([VOCABULARY, VOCABULARY])
    for pair in firsts:
        counts[tuple(pair)] += 1  # in the order drawn
    p = np.exp(model.cell.of(0)(0, START))
    assert chi_squared(counts.ravel(), 4000 * np.outer(p, p).ravel()) < 4


@pytest.mark.parametrize("strategy", [sample, stochastic_beam])
def test_the_first_of_k_draws_is_a_draw_and_not_the_likeliest(strategy):
    model, source = model_of(1), np.zeros(4000, int)
    expected = probabilities(model, 0)
    settings = dict(beam_width=4, max_length=STEPS)
    first = generate(model, source, n_best=1, strategy=strategy(3), **settings)
    all_of_them = generate(model, source, strategy=strategy(3), **settings)
    np.testing.assert_array_equal(first.ids[:, 0], all_of_them.ids[:, 0])
    times = collections.Counter(answer for row in answers_of(first) for answer, _ in row)
    counts = np.array([times[answer] for answer in expected])
    assert chi_squared(counts, 4000 * np.array(list(expected.values()))) < 4
    best_first = generate(model, source, strategy=strategy(3, best_first=True), **settings)
    np.testing.assert_array_equal(np.sort(all_of_them.scores)[:, ::-1], best_first.scores)


@every_strategy
def test_a_score_is_the_log_p_of_its_answer(name):
    model = model_of(6)
    result = generate(
        model, np.arange(6), beam_width=4, max_length=STEPS, strategy=STRATEGIES[name]()
    )
    for source, row in enumerate(answers_of(result)):
        for answer, score in row:
            np.testing.assert_allclose(
                score, oracles.log_prob(answer, model.cell.of(source), START), atol=1e-5
            )


def test_stochastic_beams_are_drawn_without_replacement_and_in_the_end_are_everything():
    model = model_of(8)
    everything = set(oracles.answers(VOCABULARY, STEPS, END))
    few = generate(model, np.arange(8), beam_width=5, max_length=STEPS, strategy=stochastic_beam(2))
    for row in answers_of(few):
        assert len({answer for answer, _ in row}) == len(row) == 5
    width = len(everything) + 3
    result = generate(
        model, np.arange(8), beam_width=width, max_length=STEPS, strategy=stochastic_beam(2)
    )
    for row in answers_of(result):
        assert {answer for answer, _ in row} == everything and len(row) == len(everything)


def test_two_draws_without_replacement_have_the_probabilities_of_an_urn():
    model, draws = model_of(1), 20_000
    p = probabilities(model, 0)
    result = generate(
        model, np.zeros(draws, int), beam_width=2, max_length=STEPS, strategy=stochastic_beam(9)
    )
    pairs = [frozenset(answer for answer, _ in row) for row in answers_of(result)]
    names = list(p)
    expected = {
        frozenset((a, b)): p[a] * p[b] / (1 - p[a]) + p[b] * p[a] / (1 - p[b])
        for i, a in enumerate(names)
        for b in names[:i]
    }
    times = collections.Counter(pairs)
    counts = np.array([times[pair] for pair in expected])
    assert counts.sum() == draws
    assert chi_squared(counts, draws * np.array(list(expected.values()))) < 4


def diverse_oracle(log_p, width, groups, strength, steps, weight=0.0):
    """Vijayakumar et al. (2018), algorithm 1, over lists of hypotheses: [(answer, score)].

    A group of several keeps what has finished apart, and is over when it has enough that is better
    than what goes on can become; a group of one is over with its end token.
    """
    size = width // groups

    def score(hypothesis):
        return hypothesis[1] / oracles.length_penalty(len(hypothesis[0]), weight)

    def bound(hypothesis):  # its score at the next length or at the last one
        lengths = (min(len(hypothesis[0]) + 1, steps), steps)
        return max(hypothesis[1] / oracles.length_penalty(n, weight) for n in lengths)

    live, found = [[((), 0.0)] for _ in range(groups)], [[] for _ in range(groups)]
    for t in range(steps):
        said = []  # what the groups before have chosen at this step
        for group in range(groups):
            candidates = []
            for answer, total in live[group]:
                for token, extra in enumerate(log_p(t, answer[-1] if answer else START)):
                    cost = strength * said.count(token)
                    candidates.append((total + extra - cost, (*answer, token), total + extra))
            candidates.sort(key=lambda candidate: -candidate[0])
            chosen = [(answer, total) for _, answer, total in candidates]
            ended = [h for h in chosen[:size] if h[0][-1] == END]
            going = [h for h in chosen if h[0][-1] != END][:size]
            if size == 1 and ended:
                going = []
            said += [answer[-1] for answer, _ in ended + going]
            found[group] = sorted(found[group] + ended, key=score, reverse=True)[:size]
            best_going = max(map(bound, going), default=-np.inf)
            over = len(found[group]) == size and score(found[group][-1]) >= best_going
            live[group] = [] if over else going
    kept = [sorted(a + b, key=score, reverse=True)[:size] for a, b in zip(found, live)]
    every = [(h[0], score(h)) for group in kept for h in group]
    return sorted(every, key=lambda h: -h[1])


@pytest.mark.parametrize(
    "width, groups, strength, weight",
    [(4, 2, 0.5, 0.0), (6, 3, 2.0, 1.0), (3, 3, 1.0, 0.0), (3, 3, 0.5, 3.0), (2, 2, 0.5, -0.7)],
)
def test_diverse_beams_are_those_of_the_algorithm(width, groups, strength, weight):
    """The strength is taken from log p, whatever the length penalty and the width of a group."""
    model = model_of(20, vocabulary=6)
    result = generate(
        model,
        np.arange(20),
        beam_width=width,
        max_length=STEPS,
        strategy=diverse_beam(groups, strength),
        length_penalty=weight,
    )
    for source, row in enumerate(answers_of(result)):
        expected = diverse_oracle(model.cell.of(source), width, groups, strength, STEPS, weight)
        np.testing.assert_allclose([s for _, s in row], [s for _, s in expected], atol=1e-4)
        assert sorted(answer for answer, _ in row) == sorted(answer for answer, _ in expected)


def test_a_group_that_has_finished_lets_the_others_end():
    p = np.full([1, 8, 5, 5], 1e-9)
    p[..., [END, 3, 4]] = 0.6, 0.25, 0.15
    result = generate(
        TableModel(Table(np.log(p))), [0], beam_width=2, max_length=8, strategy=diverse_beam(2, 2.0)
    )
    (row,) = answers_of(result)
    assert [answer for answer, _ in row] == [(END,), (3, END)]
    np.testing.assert_allclose([s for _, s in row], np.log([0.6, 0.25 * 0.6]), rtol=1e-5)


def test_one_group_is_beam_search_and_groups_without_strength_are_copies_of_a_smaller_one():
    model = model_of(5, vocabulary=6)
    settings = dict(max_length=STEPS)
    whole = generate(model, np.arange(5), beam_width=4, **settings)
    one = generate(model, np.arange(5), beam_width=4, strategy=diverse_beam(1), **settings)
    np.testing.assert_array_equal(whole.ids, one.ids)
    two = generate(model, np.arange(5), beam_width=4, strategy=diverse_beam(2, 0.0), **settings)
    half = generate(model, np.arange(5), beam_width=2, **settings)
    np.testing.assert_array_equal(two.scores[:, ::2], half.scores)
    np.testing.assert_array_equal(two.scores[:, 1::2], half.scores)


@pytest.mark.parametrize("count", [1, 3, VOCABULARY, VOCABULARY + 2])
def test_alternatives_are_the_likeliest_tokens_each_with_its_greedy_rest(count):
    model = model_of(3, vocabulary=VOCABULARY, steps=4)
    beginnings = np.array([[3, 3], [3, 0], [0, 0]])  # of 2, 1 and no tokens
    result = alternatives(model, np.arange(3), beginnings, count, max_length=4)
    for source, row in enumerate(answers_of(result)):
        log_p, place = model.cell.of(source), int((beginnings[source] != 0).sum())
        begun = tuple(beginnings[source, :place].tolist())
        expected = []
        now = log_p(place, begun[-1] if begun else START)
        for token in np.argsort(-now)[:count].tolist():
            answer = (*begun, token)
            while answer[-1] != END and len(answer) < 4:
                answer = (*answer, int(np.argmax(log_p(len(answer), answer[-1]))))
            expected.append(answer)
        assert sorted(answer for answer, _ in row) == sorted(expected)


# -- what all of them owe


@pytest.mark.parametrize(
    "name, jit", [(n, False) for n in STRATEGIES] + full(*((n, True) for n in STRATEGIES))
)
def test_a_graph_and_xla_choose_as_eager_does(name, jit):
    model = model_of(3)

    def search(sources):
        result = generate(
            model, sources, beam_width=4, max_length=STEPS, strategy=STRATEGIES[name]()
        )
        return result[:3]

    sources = tf.constant([2, 0, 1])
    ids, lengths, scores = search(sources)
    compiled = tf.function(search, jit_compile=jit)(sources)
    np.testing.assert_array_equal(compiled[0][:, :, : ids.shape[2]], ids)
    np.testing.assert_array_equal(compiled[1], lengths)
    np.testing.assert_allclose(compiled[2], scores, atol=1e-5)


def test_a_seed_repeats_its_draws_and_no_seed_draws_again():
    model = model_of(1, spread=0.1, steps=12)
    ids = [
        generate(model, [0] * 30, max_length=12, strategy=strategy).ids.numpy().tolist()
        for strategy in (sample(1), sample(1), sample(2), sample(), sample())
    ]
    assert ids[0] == ids[1]
    assert ids[0] != ids[2] and ids[3] != ids[4]


@pytest.mark.parametrize("strategy", [sample, stochastic_beam])
def test_samples_of_a_source_with_its_own_seed_do_not_depend_on_the_batch(strategy):
    model, seeds = model_of(3), [[5, 0], [5, 1], [9, 2**31 - 1]]

    @tf.function
    def search(sources, seeds):
        settings = dict(beam_width=4, max_length=STEPS, pad_to_max_length=True)
        return generate(model, sources, strategy=strategy(seeds), **settings)[:3]

    sources = tf.constant([2, 2, 1])
    together = search(sources, tf.constant(seeds))
    assert (together[0][0] != together[0][1]).numpy().any()
    for row, seed in enumerate(seeds):
        alone = search(sources[row : row + 1], tf.constant([seed]))
        for found, expected in zip(together, alone):
            np.testing.assert_allclose(found[row], expected[0], atol=1e-5)
    of_all = generate(model, [2], beam_width=4, max_length=STEPS, strategy=strategy(seeds[0]))
    np.testing.assert_array_equal(together[1][0], of_all.lengths[0])
    np.testing.assert_allclose(together[2][0], of_all.scores[0], atol=1e-5)


@pytest.mark.parametrize("name, end", sampled(STRATEGIES, [-1, VOCABULARY], together=0))
def test_an_end_id_outside_of_the_vocabulary_means_that_nothing_ends(name, end):
    model = model_of(3)
    model.end_id = end

    def search(sources, processors=()):
        settings = dict(beam_width=4, max_length=STEPS, strategy=STRATEGIES[name]())
        return generate(model, sources, processors=processors, **settings)

    found = search(tf.range(3))
    assert (found.lengths.numpy() == STEPS).all() and not found.finished.numpy().any()
    for source, row in enumerate(answers_of(found)):
        for answer, score in row:
            expected = oracles.log_prob(answer, model.cell.of(source), START)
            np.testing.assert_allclose(score, expected, atol=1e-5)
    compiled = tf.function(lambda s: search(s)[:3], jit_compile=True)(tf.range(3))
    np.testing.assert_array_equal(compiled[0], found.ids)
    if name == "best" and end < 0:
        with pytest.raises(ValueError, match=r"maximum=2\) needs an end token.*end_id=-1"):
            search(tf.range(3), length_between(maximum=2))
    stuck = search(tf.range(3), dead_end(2))
    assert (stuck.lengths.numpy() == 2).all() and not stuck.finished.numpy().any()


@every_strategy
def test_k_above_the_number_of_answers_leaves_places_empty(name):
    model = model_of(2, vocabulary=3, steps=1)
    result = generate(model, np.arange(2), beam_width=8, max_length=1, strategy=STRATEGIES[name]())
    empty = result.lengths.numpy() == 0
    np.testing.assert_array_equal(empty, np.isneginf(result.scores))
    np.testing.assert_array_equal(result.finished.numpy() & empty, False)
    assert empty.sum() == (0 if name == "sample" else 2 * 5 if name != "diverse" else 2 * 2)


@pytest.mark.parametrize(
    "bad",
    [
        dict(groups=0),
        dict(groups=1.5),
        dict(groups=2, strength=-1.0),
        dict(groups=2, strength=float("nan")),
    ],
)
def test_groups_and_strengths_that_cannot_be_are_refused(bad):
    with pytest.raises(ValueError, match="groups must be at least 1"):
        diverse_beam(**bad)


@pytest.mark.parametrize("seed", [1.5, [1, 2, 3], [[1, 2, 3]], "a", 2**31, float("nan")])
def test_seeds_that_cannot_be_are_refused(seed):
    for strategy in (sample, stochastic_beam):
        with pytest.raises(ValueError, match="seed must be one or two whole numbers"):
            strategy(seed)


def test_groups_that_do_not_divide_k_are_refused():
    with pytest.raises(ValueError, match=r"groups=3, beam_width=4"):
        generate(model_of(1), [0], beam_width=4, max_length=2, strategy=diverse_beam(3))


# -- when a search is over


@pytest.mark.parametrize("weight", [*full(0.0), 0.6, *full(2.0)])
def test_a_search_for_fewer_than_k_finds_the_same_and_stops_sooner(weight):
    logits = np.random.normal(size=(40, 12, 6, 6))
    logits[..., END] += 2.5  # answers end early
    table = Table(logits - np.log(np.exp(logits).sum(-1, keepdims=True)))
    settings = dict(beam_width=5, max_length=12, length_penalty=weight)
    whole = generate(TableModel(table), np.arange(40), **settings)
    steps = 0
    for source in range(40):
        first = generate(TableModel(table), [source], n_best=2, **settings)
        np.testing.assert_allclose(first.scores[0], whole.scores[source, :2], atol=1e-6)
        steps += first.ids.shape[2]
        for k in range(2):
            length = int(first.lengths[0, k])
            assert (first.ids[0, k, :length] == whole.ids[source, k, :length]).numpy().all()
    if weight == 0.0:
        assert steps < 40 * whole.ids.shape[2] * 0.8


def dead_end(after):
    """Nothing may be said after `after` tokens."""

    def apply(log_probs, said):
        return tf.where(said[:, None] < after, log_probs, -float("inf"))

    return LogitsProcessor(
        init=lambda search: tf.fill([search.batch_size * search.beam_width], -1),
        apply=apply,
        advance=lambda said, tokens: said + 1,
    )


@every_strategy
def test_where_processors_forbid_everything_an_answer_stops_and_reports_it(name):
    logits = np.random.normal(size=(3, 6, 6, 6))
    logits[..., END] = -30.0  # no answer ends by itself
    table = Table(logits - np.log(np.exp(logits).sum(-1, keepdims=True)))
    result = generate(
        TableModel(table), np.arange(3), beam_width=4, max_length=6,
        processors=dead_end(2), strategy=STRATEGIES[name](),
    )  # fmt: skip
    assert (result.lengths.numpy() == 2).all() and not result.finished.numpy().any()
    for source, row in enumerate(answers_of(result)):
        for answer, score in row:
            expected = oracles.log_prob(answer, TableModel(table).cell.of(source), START)
            np.testing.assert_allclose(score, expected, atol=1e-5)


def test_a_stuck_answer_comes_after_all_that_are_not():
    p = np.full((1, 3, 5, 5), 1e-3)
    p[0, 0, START] = [0.001, 0.001, 0.001, 0.9, 0.097]  # 3 is likelier, and leads nowhere
    p[0, 1, 3] = [0.001, 0.001, 0.001, 0.001, 0.996]
    p[0, 1, 4] = [0.001, 0.001, 0.9, 0.001, 0.097]

    def apply(log_probs, last):
        return tf.where((last == 3)[:, None], -float("inf"), log_probs)

    after_3 = LogitsProcessor(
        init=lambda search: tf.fill([search.batch_size * search.beam_width], START),
        apply=apply,
        advance=lambda last, tokens: tokens,
    )
    model = TableModel(Table(np.log(p)))
    result = generate(model, [0], beam_width=90, max_length=3, processors=after_3)
    (row,) = answers_of(result)
    # Only where 3 is said last of all is an answer cut off, not stuck.
    stuck = [answer[-1] == 3 and len(answer) < 3 for answer, _ in row]
    assert row[0][0] == (4, END) and any(stuck) and stuck == sorted(stuck)
    best_stuck = row[stuck.index(True)]
    assert best_stuck[0] == (3,) and best_stuck[1] > row[0][1]
    ended = [answer[-1] == END for answer, _ in row]
    assert result.finished[0, : len(row)].numpy().tolist() == ended


# -- the beginning of alternatives


@pytest.mark.parametrize(
    "target_prefix, count, message",
    [
        ([3, 4], 2, r"target_prefix must be ids \[B, P\]"),
        ([[3, 4, 5]], 2, "max_length must be >= the target_prefix length plus 1"),
        ([[0, 3]], 2, "padded on the right.* row 0 is"),
        ([[3]], 0, "count must be a Python int >= 1"),
    ],
)
def test_what_leaves_no_position_to_differ_at_is_refused(target_prefix, count, message):
    with pytest.raises(ValueError, match=message):
        alternatives(model_of(1, vocabulary=6), [0], target_prefix, count, max_length=3)


# -- saving


@pytest.mark.parametrize("name", [None, *STRATEGIES])
def test_a_saved_decoder_loads_with_its_strategy(name):
    cell, strategy = keras.layers.GRUCell(5), name and STRATEGIES[name]()
    decoder = BeamSearchDecoder(cell, 4, strategy=strategy, n_best=2, maximum_iterations=3)
    config = json.loads(json.dumps(decoder.get_config()))
    copy = BeamSearchDecoder.from_config(config)
    assert copy.get_config() == decoder.get_config() and copy.n_best == 2
    if strategy is not None:
        assert copy.strategy.made_by == strategy.made_by
    found, again = (
        each(tf.eye(5), start_tokens=[1, 2, 3], end_token=0)[0].predicted_ids
        for each in (decoder, _with(copy, cell))
    )
    np.testing.assert_array_equal(found, again)


def _with(decoder, cell):
    decoder.cell = cell  # the weights are those of a checkpoint
    return decoder


def test_a_custom_strategy_is_not_lost_silently():
    own = beam()._replace(made_by=None)
    with pytest.raises(ValueError, match="can be saved. Received"):
        BeamSearchDecoder(keras.layers.GRUCell(5), 4, strategy=own).get_config()
