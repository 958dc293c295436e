"""Controls in a search: over tables of transitions, against the enumeration of all answers."""

import numpy as np
import pytest
import tensorflow as tf

from keras_attention.seq2seq import (
    ban_phrases,
    force,
    generate,
    length_between,
    must_contain,
    no_repeat_ngram,
    prefix,
    relative_length,
    repetition_pattern,
)
from tests import oracles
from tests.seq2seq.cells import Table
from tests.seq2seq.controls.walks import END, START, STEPS, VOCABULARY, says, those, words

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


def no_gram_twice(answer):
    grams = list(zip(words(answer), words(answer)[1:]))
    return len(grams) == len(set(grams))


CASES = {
    "phrases": ([must_contain([(1, 2), (2, 3)])], lambda a: says(a, (1, 2)) and says(a, (2, 3))),
    "phrases in time": (
        [length_between(maximum=4), must_contain([(3, 1), (1, 3)])],
        lambda a: says(a, (3, 1)) and says(a, (1, 3)) and len(a) <= 4 and a[-1] == END,
    ),
    "lengths": ([length_between(3, 4)], lambda a: 3 <= len(a) <= 4 and a[-1] == END),
    "beginning": ([prefix([2, 2])], lambda a: a[:2] == (2, 2)),
    "a place": ([force({2: 1})], lambda a: len(a) > 2 and a[2] == 1),
    "a pattern": ([repetition_pattern([-1, -1, 0])], lambda a: len(a) < 3 or a[2] == a[0]),
    "nothing twice": ([no_repeat_ngram(2)], no_gram_twice),
    "banned": ([ban_phrases([(2, 3), (1,)])], lambda a: 1 not in a and not says(a, (2, 3))),
}
cases = pytest.mark.parametrize("controls, holds", CASES.values(), ids=CASES.keys())


@cases
def test_at_full_width_the_best_answer_that_satisfies_them_is_found(controls, holds):
    model, expected = TableModel(), those(holds)
    result = generate(
        model, np.arange(SOURCES), beam_width=365, max_length=STEPS, controls=controls
    )
    for b, found in enumerate(answers_of(result)):
        score = {a: oracles.log_prob(a, model.cell.of(b), START) for a in expected}
        assert set(found) == expected and found[0] == max(score, key=score.get)
        np.testing.assert_allclose(  # the model's own log p
            result.scores[b, : len(found)], [score[a] for a in found], rtol=1e-4, atol=1e-4
        )


@cases
@pytest.mark.parametrize("width", [1, 2, 5])
def test_at_any_width_every_answer_satisfies_them(controls, holds, width):
    model = TableModel()
    found = generate(
        model, np.arange(SOURCES), beam_width=width, max_length=STEPS, controls=controls
    )
    for answers in answers_of(found):
        assert answers and all(holds(a) for a in answers)


@pytest.mark.parametrize("jit", [False, True], ids=["graph", "xla"])
def test_in_a_graph_and_under_xla_the_same_answers_are_found(jit):
    model, sources = TableModel(3), np.arange(3)
    controls = [must_contain([(1, 2)]), no_repeat_ngram(3), length_between(3)]

    def run(minimum):
        timely = [*controls, length_between(minimum)]
        return generate(model, sources, beam_width=3, max_length=STEPS, controls=timely)[:3]

    for minimum in (2, 4):
        expected = run(tf.constant(minimum))
        found = tf.function(run, autograph=False, jit_compile=jit)(tf.constant(minimum))
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_allclose(found[2], expected[2], rtol=1e-5)


def test_a_contradiction_is_refused_before_the_model_is_asked_anything():
    with pytest.raises(ValueError, match=r"minimum=4.*maximum=3"):
        generate(None, None, controls=[length_between(4), length_between(maximum=3)])


def test_lengths_are_those_of_the_sources():
    class Reader(TableModel):
        def encode(self, source):
            return None, self.cell.start(tf.range(tf.shape(source)[0]))

    source = np.array([[1, 2, 2, END], [2, END, 3, 3], [END, 3, 3, 3]])  # 3 is the padding
    result = generate(
        Reader(3), source, beam_width=2, max_length=STEPS, controls=[relative_length(1.0, 1.0)]
    )
    assert result.lengths[:, 0].numpy().tolist() == [4, 2, 1]
