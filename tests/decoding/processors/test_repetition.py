import numpy as np
import pytest
import tensorflow as tf

from keras_attention.seq2seq import no_repeat_ngram, repetition_pattern, repetition_penalty
from tests.decoding.processors.walks import STEPS, after, open_tokens, those, told, walk, words


def repeats(answer, n):
    grams = [answer[i : i + n] for i in range(len(answer) - n + 1)]
    return len(grams) != len(set(grams))


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6, 20])
def test_no_answer_repeats_n_tokens_and_all_that_do_not_are_left(n):
    assert walk(no_repeat_ngram(n)).answers == [those(lambda a: not repeats(words(a), n))]


def test_of_one_word_the_second_time_nothing_but_the_end_is_left():
    processor = no_repeat_ngram(1)
    assert open_tokens(processor, after(processor, 1, 2, 3)) == [[0]]


def test_an_ngram_may_overlap_with_itself():
    processor = no_repeat_ngram(2)
    assert open_tokens(processor, after(processor, 2, 2)) == [[0, 1, 3]]


def test_of_many_tokens_in_a_row_the_graph_is_no_larger():
    def graph(n):
        processor = no_repeat_ngram(n)

        @tf.function(autograph=False)
        def step(tokens):
            state = processor.init(told(steps=60))
            return processor.apply(tf.zeros([1, 4]), processor.advance(state, tokens))

        return len(step.get_concrete_function(tf.constant([1])).graph.get_operations())

    assert graph(50) == graph(3)


@pytest.mark.parametrize("n", [3, 7])
def test_long_answers_do_not_repeat_n_tokens(n):
    for said in np.random.randint(1, 3, (5, 30)).tolist():
        processor = no_repeat_ngram(n)
        left = open_tokens(processor, after(processor, *said, steps=40))
        grams = {tuple(said[i : i + n]) for i in range(len(said) - n + 1)}
        assert left == [[t for t in range(4) if (*said[len(said) - n + 1 :], t) not in grams]]


def test_generated_tokens_are_multiplied_except_the_start_token():
    given = np.log([[0.1, 0.2, 0.3, 0.4]]).astype(np.float32)
    for w in (1.5, 0.5, tf.constant(1.5)):
        processor = repetition_penalty(w)
        for said in ((), (2,), (3, 3), (1, 2, 3, 1)):
            expected = given.copy()
            expected[0, sorted(set(said))] *= float(w)
            left = processor.apply(tf.constant(given), after(processor, *said))
            np.testing.assert_allclose(left, expected, rtol=1e-6)


def test_a_history_as_long_as_a_limit_that_is_a_tensor():
    for processor in (no_repeat_ngram(2), no_repeat_ngram(9)):

        @tf.function(autograph=False)
        def left(limit, processor=processor):
            return processor.apply(tf.zeros([1, 4]), after(processor, 2, 3, 2, steps=limit))

        banned = np.flatnonzero(np.isinf(left(tf.constant(6))[0])).tolist()
        assert banned == ([3] if processor.name == "no_repeat_ngram(2)" else [])


def follows(answer, pattern):
    """Each position that stands in the pattern repeats the one it names."""
    return all(
        first < 0 or token == answer[first]
        for token, first in zip(answer, pattern)  # the end token is no repetition of a word
    )


@pytest.mark.parametrize(
    "pattern",
    [[-1, 0], [-1, -1, 0, 1], [-1, 0, 1, -1, 3], [-1] * STEPS, [-1, -1, 1, 1, 0, -1, 2], [-1]],
)
def test_a_pattern_leaves_the_answers_that_repeat_themselves_so(pattern):
    found = walk(repetition_pattern(pattern))
    assert found.answers == [those(follows, pattern)]
    assert found.stuck == [set()]


def test_every_source_has_its_own_pattern():
    patterns = [[-1, 0, 0], [-1, -1, 1], [-1, -1, -1]]
    for kind in (list, np.array, tf.constant):
        found = walk(repetition_pattern(kind(patterns)), batch=3)
        for answers, pattern in zip(found.answers, patterns):
            assert answers == those(follows, pattern)


def test_a_whole_number_may_be_written_as_it_likes():
    expected = walk(no_repeat_ngram(2)).answers
    for n in (2.0, np.int64(2), tf.constant(2)):
        assert walk(no_repeat_ngram(n)).answers == expected


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: repetition_penalty(0.0), "w > 0"),
        (lambda: repetition_penalty([1.0, 2.0, 3.0]), "one number w > 0"),
        (lambda: repetition_penalty(float("nan")), "w > 0"),
        (lambda: repetition_penalty(float("inf")), "w > 0"),
        (lambda: no_repeat_ngram([1, 2]), "one whole number"),
        (lambda: no_repeat_ngram(float("nan")), ">= 1"),
        (lambda: no_repeat_ngram(0), ">= 1"),
        (lambda: no_repeat_ngram(1.5), ">= 1"),
        (lambda: repetition_pattern([0]), "positions before t"),
        (lambda: repetition_pattern([-1, 0, 2]), "positions before t"),
        (lambda: repetition_pattern([-1, -2]), "positions before t"),
        (lambda: repetition_pattern(-1), r"\[T\] or \[B, T\]"),
        (lambda: repetition_pattern([[-1]]).init(told(batch=2)), "each of the B = 2 sources"),
    ],
)
def test_repetitions_that_mean_nothing_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
