"""Logits processors in a search over transition tables, against an enumeration of all answers."""

import numpy as np
import pytest
import tensorflow as tf

from keras_attention.seq2seq import (
    allowed_at,
    ban,
    ban_phrases,
    exact_length,
    force,
    generate,
    length_between,
    min_p,
    must_contain,
    no_repeat_ngram,
    prefix,
    relative_length,
    repetition_pattern,
    repetition_penalty,
    temperature,
    top_k,
    top_p,
)
from tests import oracles
from tests.decoding.processors.walks import END, START, STEPS, VOCABULARY, says, those, words
from tests.sampled import full
from tests.seq2seq.cells import Table

SOURCES = 12


class TableModel:
    """Sources are the numbers of tables."""

    pad_id, start_id, end_id = 3, START, END

    def __init__(self, sources=SOURCES):
        self.cell = Table.random(sources, STEPS, VOCABULARY)

    def encode(self, source):
        return None, self.cell.start(source)

    def embed(self, tokens):
        return tf.one_hot(tokens, VOCABULARY)

    def project(self, output):
        return output


def answers_of(result):
    """[B] lists of answers, the places that hold none left out."""
    return [
        [tuple(row[:length].tolist()) for row, length in zip(ids, lengths) if length]
        for ids, lengths in zip(result.ids.numpy(), result.lengths.numpy())
    ]


def finished_or_cut_off(result):
    """[B] lists of answers without those that came to a place where nothing may be said."""
    return [
        [a for a, finished in zip(answers, done) if finished or len(a) == STEPS]
        for answers, done in zip(answers_of(result), result.finished.numpy())
    ]


def no_gram_twice(answer):
    grams = list(zip(words(answer), words(answer)[1:]))
    return len(grams) == len(set(grams))


MASK = np.array([[0, 1, 1, 0], [1, 0, 1, 1], [1, 1, 1, 1], [1, 1, 1, 0], [1, 0, 1, 1]], bool)
CASES = {
    "phrases": (
        lambda: [must_contain([(1, 2), (2, 3)])],
        lambda a: says(a, (1, 2)) and says(a, (2, 3)),
    ),
    "phrases in time": (
        lambda: [length_between(maximum=4), must_contain([(3, 1), (1, 3)])],
        lambda a: says(a, (3, 1)) and says(a, (1, 3)) and len(a) <= 4 and a[-1] == END,
    ),
    "lengths": (lambda: [length_between(3, 4)], lambda a: 3 <= len(a) <= 4 and a[-1] == END),
    "beginning": (lambda: [prefix([2, 2])], lambda a: a[:2] == (2, 2)),
    "a place": (lambda: [force({2: 1})], lambda a: len(a) > 2 and a[2] == 1),
    "a pattern": (lambda: [repetition_pattern([-1, -1, 0])], lambda a: len(a) < 3 or a[2] == a[0]),
    "nothing twice": (lambda: [no_repeat_ngram(2)], no_gram_twice),
    "banned": (lambda: [ban_phrases([(2, 3), (1,)])], lambda a: 1 not in a and not says(a, (2, 3))),
    "a mask": (lambda: [allowed_at(MASK)], lambda a: all(MASK[t, x] for t, x in enumerate(a))),
    "phrases by two": (
        lambda: [must_contain([(1, 2)]), must_contain([(2, 3), (3, 1)])],
        lambda a: says(a, (1, 2)) and says(a, (2, 3)) and says(a, (3, 1)),
    ),
    "phrases around a place": (
        lambda: [must_contain([(1, 2)]), force({2: 3})],
        lambda a: says(a, (1, 2)) and a[2:3] == (3,),
    ),
    "phrases around what is banned": (
        lambda: [ban_phrases([(2, 1), (1, 1)]), must_contain([(1, 2), (3,)])],
        lambda a: says(a, (1, 2)) and 3 in a and not says(a, (2, 1)) and not says(a, (1, 1)),
    ),
}
# What must be said may be barred by what is not known beforehand.
BARRED = {
    "nothing twice": (
        lambda: [no_repeat_ngram(1), must_contain([(1, 2)])],
        lambda a: says(a, (1, 2)) and len(words(a)) == len(set(words(a))),
    ),
    "a pattern": (
        lambda: [repetition_pattern([-1, -1, 0, -1, 1]), must_contain([(1, 2)])],
        lambda a: says(a, (1, 2)) and (len(a) < 3 or a[2] == a[0]) and (len(a) < 5 or a[4] == a[1]),
    ),
    "a mask": (
        lambda: [allowed_at(MASK), must_contain([(1, 2)])],
        lambda a: says(a, (1, 2)) and all(MASK[t, x] for t, x in enumerate(a)),
    ),
    "an exact length": (
        lambda: [exact_length([4] * SOURCES, END, [-1, 1, 1, 2]), must_contain([(3, 1)])],
        lambda a: says(a, (3, 1)) and a[-1] == END and sum((0, 1, 1, 2)[x] for x in a) == 4,
    ),
}
cases = pytest.mark.parametrize("make, holds", CASES.values(), ids=CASES.keys())
barred = pytest.mark.parametrize("make, holds", BARRED.values(), ids=BARRED.keys())


@pytest.mark.parametrize(
    "make, holds",
    [*CASES.values(), *BARRED.values()],
    ids=[*CASES, *(f"{name}, barred" for name in BARRED)],
)
def test_at_full_width_the_best_answer_that_satisfies_them_is_found(make, holds):
    model, expected = TableModel(), those(holds)
    result = generate(
        model, np.arange(SOURCES), beam_width=365, max_length=STEPS, processors=make()
    )
    for b, found in enumerate(finished_or_cut_off(result)):
        score = {a: oracles.log_prob(a, model.cell.of(b), START) for a in expected}
        assert set(found) == expected and found[0] == max(score, key=score.get)
        np.testing.assert_allclose(  # the model's own log p
            result.scores[b, : len(found)], [score[a] for a in found], rtol=1e-4, atol=1e-4
        )


@cases
@pytest.mark.parametrize("width", [*full(1), 2, *full(5)])
def test_at_any_width_every_answer_satisfies_them(make, holds, width):
    model = TableModel()
    found = generate(
        model, np.arange(SOURCES), beam_width=width, max_length=STEPS, processors=make()
    )
    for answers in answers_of(found):
        assert answers and all(holds(a) for a in answers)


@barred
@pytest.mark.parametrize("width", [1, 3])
def test_what_a_narrow_beam_misses_is_not_finished(make, holds, width):
    model = TableModel()
    result = generate(
        model, np.arange(SOURCES), beam_width=width, max_length=STEPS, processors=make()
    )
    for answers in finished_or_cut_off(result):
        assert all(holds(a) for a in answers)


def top_two(row):
    return row >= np.sort(row)[-2]


def only_if(kept, row):
    return np.where(kept(row), row, -np.inf)


def nucleus(row, mass):
    order = np.argsort(-row)
    before = np.cumsum(np.exp(row[order])) - np.exp(row[order])
    return np.isin(np.arange(len(row)), order[before < mass * np.exp(row).sum()])


def banned(row, tokens):
    return np.where(np.isin(np.arange(len(row)), tokens), -np.inf, row)


def tempered(row, t):
    return row / t - np.log(np.exp(row / t).sum())


# processors, and what they make of log p [V] of the next token after those said
SHAPED = {
    "top_k": (
        [top_k(2), length_between(3)],
        lambda row, said: only_if(top_two, banned(row, [END] if len(said) < 2 else [])),
    ),
    "top_p": (
        [top_p(0.7), ban([1])],
        lambda row, said: only_if(lambda row: nucleus(row, 0.7), banned(row, [1])),
    ),
    "min_p": (
        [temperature(0.5), min_p(0.3), no_repeat_ngram(1)],
        lambda row, said: only_if(
            lambda row: row >= row.max() + np.log(0.3), banned(tempered(row, 0.5), said)
        ),
    ),
    "repetition_penalty": (
        [repetition_penalty(2.0), top_k(2)],
        lambda row, said: only_if(top_two, row * np.where(np.isin(range(4), said), 2, 1)),
    ),
}


@pytest.mark.parametrize("processors, shape", SHAPED.values(), ids=SHAPED.keys())
def test_tails_and_penalties_under_a_beam_leave_what_they_leave_step_by_step(processors, shape):
    model = TableModel(3)
    result = generate(
        model, np.arange(3), beam_width=365, max_length=STEPS, processors=processors,
        length_penalty=0.8,
    )  # fmt: skip

    def score(answer, log_p):
        steps = zip(range(len(answer)), (START, *answer), answer)
        rows = [shape(log_p(t, before), answer[:t])[token] for t, before, token in steps]
        return sum(rows) / oracles.length_penalty(len(answer), 0.8)

    for b, found in enumerate(finished_or_cut_off(result)):
        scores = {a: score(a, model.cell.of(b)) for a in those(lambda a: True)}
        expected = {a: x for a, x in scores.items() if x > -np.inf}
        assert set(found) == set(expected)
        np.testing.assert_allclose(
            result.scores[b, : len(found)], sorted(expected.values())[::-1], rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("jit", [False, True], ids=["graph", "xla"])
@pytest.mark.full
def test_in_a_graph_and_under_xla_the_same_answers_are_found(jit):
    model, sources = TableModel(3), np.arange(3)
    processors = [must_contain([(1, 2)]), no_repeat_ngram(3), length_between(3)]

    def run(minimum):
        timely = [*processors, length_between(minimum)]
        return generate(model, sources, beam_width=3, max_length=STEPS, processors=timely)[:3]

    for minimum in (2, 4):
        expected = run(tf.constant(minimum))
        found = tf.function(run, autograph=False, jit_compile=jit)(tf.constant(minimum))
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_allclose(found[2], expected[2], rtol=1e-5)


def test_a_contradiction_is_rejected_before_the_model_runs():
    with pytest.raises(ValueError, match=r"minimum=4.*maximum=3"):
        generate(None, None, processors=[length_between(4), length_between(maximum=3)])


class Reader(TableModel):
    """Sources are ids; which table is theirs their place in the batch says."""

    def encode(self, source):
        return None, self.cell.start(tf.range(tf.shape(source)[0]))


READ = np.array([[1, 2, 2, END], [2, END, 3, 3], [END, 3, 3, 3]])  # 3 is the padding


def test_lengths_are_those_of_the_sources():
    model = Reader(3)
    result = generate(
        model, READ, beam_width=365, max_length=STEPS, processors=[relative_length(0.5, 1.0)]
    )
    for b, (found, source) in enumerate(zip(answers_of(result), [3, 1, 0])):
        low, high = -(-source // 2), source
        expected = those(lambda a: a[-1] == END and low <= len(words(a)) <= high)  # noqa: B023
        score = {a: oracles.log_prob(a, model.cell.of(b), START) for a in expected}
        assert found == sorted(score, key=score.get)[::-1]
