"""Finished answers are stored separately from live hypotheses: against a search with lists."""

import numpy as np
import pytest
import tensorflow as tf

from keras_attention.seq2seq import LogitsProcessor, ban, beam, diverse_beam, generate
from tests import oracles
from tests.decoding.table_model import END, START, TableModel, answers_of
from tests.sampled import full
from tests.seq2seq.cells import Table

STEPS, VOCABULARY, SOURCES = 6, 6, 40


def search_with_lists(log_p, width, steps, weight=0.0):
    """[(answer, score)], best first: `width` hypotheses go on to the very end, and none is lost
    that ended among the `width` best continuations of its step.
    """

    def score(answer, total):
        return total / oracles.length_penalty(len(answer), weight)

    live, found = [((), 0.0)], []
    for t in range(steps):
        candidates = [
            ((*answer, token), total + extra)
            for answer, total in live
            for token, extra in enumerate(log_p(t, answer[-1] if answer else START))
        ]
        candidates.sort(key=lambda candidate: -candidate[1])
        found += [c for c in candidates[:width] if c[0][-1] == END]
        live = [c for c in candidates if c[0][-1] != END][:width]
    everything = [(answer, score(answer, total)) for answer, total in found + live]
    return sorted(everything, key=lambda pair: -pair[1])[:width]


@pytest.fixture(scope="module")
def model():
    random = np.random.default_rng(5)
    logits = random.normal(size=(SOURCES, STEPS, VOCABULARY, VOCABULARY))
    logits[..., END] += 0.7  # some answers end early, some late, some at the limit
    return TableModel(Table(logits - np.log(np.exp(logits).sum(-1, keepdims=True))))


def test_an_answer_that_has_finished_is_not_pushed_out():
    """[end] is found at once. Later six ways that are alike crowd it out of K shared places."""
    p = np.full([1, 4, 12, 12], 1e-12)
    first, others = 3, range(6, 12)
    p[0, 0, START, [3, END, 8]] = 0.62, 0.30, 0.08
    p[0, 1, first, [4, 5]] = 0.5
    p[0, 1:3, 8, 6:12] = 1 / 6
    for token in (4, 5):
        p[0, 2, token, 6:12] = 1 / 6
    for token in others:
        p[0, 2:, token, END] = 1.0
    result = generate(TableModel(Table(np.log(p))), [0], beam_width=2, max_length=4)
    (row,) = answers_of(result)
    assert row[0][0] == (END,) and result.finished[0, 0]
    np.testing.assert_allclose(row[0][1], np.log(0.30), rtol=1e-5)
    np.testing.assert_allclose(row[1][1], np.log(0.62 * 0.5 / 6), rtol=1e-5)


@pytest.mark.parametrize("weight", [0.0, 1.0, 3.0, -0.7])
@pytest.mark.parametrize("width", [2, 3, 9])
def test_every_width_finds_what_a_search_with_lists_finds_that_never_stops_early(
    model, width, weight
):
    result = generate(
        model, np.arange(SOURCES), beam_width=width, max_length=STEPS, length_penalty=weight
    )
    for source, row in enumerate(answers_of(result)):
        expected = search_with_lists(model.cell.of(source), width, STEPS, weight)
        assert [answer for answer, _ in row] == [answer for answer, _ in expected]
        np.testing.assert_allclose([s for _, s in row], [s for _, s in expected], rtol=1e-4)
        ended = [answer[-1] == END for answer, _ in row]
        assert result.finished[source].numpy().tolist() == ended


def test_the_best_of_all_answers_is_found_whenever_it_was_in_the_beam(model):
    result = generate(model, np.arange(SOURCES), beam_width=3, max_length=STEPS)
    everything, met = list(oracles.answers(VOCABULARY, 4, END)), 0
    for source, row in enumerate(answers_of(result)):
        log_p = model.cell.of(source)
        ended = [a for a in everything if a[-1] == END]
        first = max(ended, key=lambda a: oracles.log_prob(a, log_p, START))  # noqa: B023
        live = [[()]]
        for t in range(len(first)):
            grown = [(*a, x) for a in live[-1] for x in range(VOCABULARY)]
            grown.sort(key=lambda a: -oracles.log_prob(a, log_p, START))  # noqa: B023
            live.append([a for a in grown if a[-1] != END][:3])
            if t + 1 == len(first) and first in grown[:3]:
                met += 1
                assert row[0][1] >= oracles.log_prob(first, log_p, START) - 1e-5
    assert met > SOURCES / 2


@pytest.mark.parametrize("weight", [*full(0.0), 1.0, *full(-0.7)])
def test_fewer_answers_are_the_first_of_all_and_one_source_alone_stops_when_they_are_certain(
    model, weight
):
    settings = dict(beam_width=4, max_length=STEPS, length_penalty=weight)
    every = generate(model, np.arange(SOURCES), **settings)
    steps = {1: 0, 4: 0}
    for source in range(12):
        for n_best in steps:
            table = model.cell
            cell = Counted(table)
            found = generate(TableModel(cell), [source], n_best=n_best, **settings)
            steps[n_best] += cell.steps
            np.testing.assert_array_equal(found.lengths[0], every.lengths[source, :n_best])
            np.testing.assert_allclose(found.scores[0], every.scores[source, :n_best], rtol=1e-5)
            longest = found.ids.shape[2]
            assert longest == max(found.lengths[0])
            np.testing.assert_array_equal(found.ids[0], every.ids[source, :n_best, :longest])
    assert steps[1] < steps[4] <= 12 * STEPS
    if weight <= 0.0:
        assert steps[1] < 12 * STEPS * 0.8


class Counted(Table):
    """A table that counts its steps."""

    steps = 0

    def __init__(self, table):
        super().__init__(table.log_p)

    def __call__(self, inputs, state, training=None):
        self.steps += 1
        return super().__call__(inputs, state, training)


@pytest.mark.parametrize("weight", [0.0, 1.0, -0.7])
def test_one_hypothesis_is_greedy_whatever_the_length_penalty_is(model, weight):
    result = generate(model, np.arange(SOURCES), max_length=STEPS, length_penalty=weight)
    for source, row in enumerate(answers_of(result)):
        log_p, answer = model.cell.of(source), ()
        while len(answer) < STEPS and END not in answer:
            answer += (int(np.argmax(log_p(len(answer), answer[-1] if answer else START))),)
        score = oracles.log_prob(answer, log_p, START)
        score /= oracles.length_penalty(len(answer), weight)
        assert row[0][0] == answer
        np.testing.assert_allclose(row[0][1], score, rtol=1e-4)


@pytest.mark.parametrize("width", [1, 2])
def test_the_end_token_is_weighed_by_the_length_that_it_gives(width):
    p = np.full([1, 1, 5, 5], 1e-9)
    p[0, 0, START, [END, 3, 4]] = 0.5, 0.45, 0.05
    result = generate(
        TableModel(Table(np.log(p))), [0], beam_width=width, max_length=1, length_penalty=1.0
    )
    (row,) = answers_of(result)
    assert [answer for answer, _ in row] == [(END,), (3,)][:width]
    np.testing.assert_allclose([s for _, s in row], np.log([0.5, 0.45])[:width], rtol=1e-5)


def test_groups_keep_their_own_and_fewer_answers_are_the_first_of_all(model):
    settings = dict(beam_width=6, max_length=STEPS, length_penalty=0.6)
    every = generate(model, np.arange(SOURCES), strategy=diverse_beam(2, 0.0), **settings)
    for source, row in enumerate(answers_of(every)):
        expected = search_with_lists(model.cell.of(source), 3, STEPS, 0.6)
        assert [answer for answer, _ in row] == [a for a, _ in expected for _ in range(2)]
    every = generate(model, np.arange(SOURCES), strategy=diverse_beam(2, 0.5), **settings)
    some = generate(model, np.arange(SOURCES), strategy=diverse_beam(2, 0.5), n_best=2, **settings)
    np.testing.assert_allclose(some.scores, every.scores[:, :2], rtol=1e-5)


def test_where_processors_forbid_everything_no_answer_is_lost():
    """After 3 nothing may be said. At the limit that stops no answer; before it does."""
    p = np.full([1, 3, 5, 5], 1e-9)
    p[0, 0, START] = [1e-9, 1e-9, 0.1, 0.6, 0.3]
    p[0, 1, 4, [3, 4]] = 0.9, 0.1
    p[0, 2, 4, [4, 3]] = 0.8, 0.2
    model, every = TableModel(Table(np.log(p))), {*range(5)}

    def apply(log_probs, last):
        return tf.where((last == 3)[:, None], -float("inf"), log_probs)

    after_3 = LogitsProcessor(
        init=lambda search: tf.fill([search.batch_size * search.beam_width], START),
        apply=apply,
        advance=lambda last, tokens: tokens,
    )
    result = generate(model, [0], beam_width=3, max_length=3, processors=after_3)
    (row,) = answers_of(result)
    assert [answer for answer, _ in row] == [(END,), (4, 4, 4), (4, 4, 3)]
    assert result.finished[0].numpy().tolist() == [True, False, False]
    nothing = generate(
        model, [0], beam_width=3, max_length=3, processors=ban(every), strategy=beam()
    )
    assert nothing.lengths[0].numpy().tolist() == [0, 0, 0]
    assert nothing.scores[0].numpy().tolist() == [0.0, -np.inf, -np.inf]
    assert not nothing.finished.numpy().any()
