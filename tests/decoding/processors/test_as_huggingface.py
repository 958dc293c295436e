"""Processors that Hugging Face's `generate` has, too, compute the formulas of its documents.

The oracles take what that library hands to its processors: all ids so far, of which the first is
the start token, and the scores of one hypothesis.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.decoding import (
    SearchInfo,
    allowed_tokens,
    combine,
    encoder_no_repeat_ngram,
    encoder_repetition_penalty,
    epsilon_cutoff,
    eta_cutoff,
    exponential_decay_length_penalty,
    generate,
    repetition_penalty,
    sample,
    sequence_bias,
    suppress_at_begin,
)
from models import RNNSeq2Seq, TransformerLM
from tests import oracles
from tests.decoding.table_model import TableModel
from tests.seq2seq.cells import Table, keras3

START, END, PAD, VOCABULARY, STEPS, WIDTH = 6, 0, 5, 7, 8, 2
SOURCE = np.array([[1, 2, 3, 1, 2, END], [4, 4, END, PAD, PAD, PAD]])
REAL = [[1, 2, 3, 1, 2], [4, 4]]
BIASES = {(3,): -1.5, (1, 2): 2.0, (2, 3, 1): -np.inf, (4, 2): 0.5, (1, 3, 2): 4.0}


def log_softmax(x):
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def biased(ids, scores, row, prompt):
    for sequence, bias in BIASES.items():
        before = list(sequence[:-1])
        if len(sequence) == 1 or len(sequence) <= len(ids) and ids[-len(before) :] == before:
            scores[sequence[-1]] += bias


def decayed(ids, scores, row, prompt):
    beyond = len(ids) - (2 + prompt)
    if beyond > 0:
        scores[END] += abs(scores[END]) * (1.7**beyond - 1)


def suppressed(ids, scores, row, prompt):
    if len(ids) == prompt:
        scores[[END, 3]] = -np.inf


def no_ngram_of_the_source(n):
    def change(ids, scores, row, prompt):
        source = REAL[row]
        for begin in range(len(source) - n + 1):
            *before, last = source[begin : begin + n]
            if len(ids) >= n and ids[len(ids) + 1 - n :] == before:
                scores[last] = -np.inf

    return change


def hallucination_penalty(ids, scores, row, prompt):
    for token in set(REAL[row]):
        scores[token] *= 1 / 1.5 if scores[token] < 0 else 1.5


def rules(ids, row):
    """What `prefix_allowed_tokens_fn(batch_id, input_ids)` returns."""
    return [END, 1, row + 2] if len(ids) % 2 else [2, 3, 4]


def rules_of_all(tokens, lengths, sources):
    some = tf.one_hot(sources + 2, VOCABULARY, True, False)
    some |= tf.constant([v in (END, 1) for v in range(VOCABULARY)])
    others = tf.constant([v in (2, 3, 4) for v in range(VOCABULARY)])
    return tf.where((lengths % 2 == 0)[:, None], some, others)


def ruled(ids, scores, row, prompt):
    scores[[token for token in range(VOCABULARY) if token not in rules(ids, row)]] = -np.inf


CASES = {
    "sequence_bias": (lambda: sequence_bias(BIASES), biased),
    "exponential_decay": (lambda: exponential_decay_length_penalty(2, 1.7), decayed),
    "exponential_decay of tensors": (
        lambda: exponential_decay_length_penalty(tf.constant(2), tf.constant(1.7)),
        decayed,
    ),
    "begin_suppress": (lambda: suppress_at_begin([END, 3]), suppressed),
    "encoder_no_repeat 1": (lambda: encoder_no_repeat_ngram(1), no_ngram_of_the_source(1)),
    "encoder_no_repeat 2": (lambda: encoder_no_repeat_ngram(2), no_ngram_of_the_source(2)),
    "encoder_no_repeat 3": (lambda: encoder_no_repeat_ngram(3), no_ngram_of_the_source(3)),
    "encoder_repetition": (lambda: encoder_repetition_penalty(1.5), hallucination_penalty),
    "allowed_tokens": (lambda: allowed_tokens(rules_of_all), ruled),
}


def told(prompt=None):
    real = np.where((SOURCE == END) | (SOURCE == PAD), -1, SOURCE)
    return SearchInfo(
        len(SOURCE),
        WIDTH,
        STEPS,
        END,
        VOCABULARY,
        source=tf.constant(real, tf.int32),
        prompt=prompt,
    )


@pytest.mark.parametrize("prompt", [0, 2], ids=["no prompt", "a prompt"])
@pytest.mark.parametrize("name", CASES)
def test_scores_are_those_of_the_formula_at_every_step(name, prompt):
    make, formula = CASES[name]
    processor = make()
    said = np.random.randint(1, 5, [len(SOURCE) * WIDTH, STEPS])  # as a search would choose
    given = None if not prompt else tf.constant(said[::WIDTH, :prompt], tf.int32)
    if prompt:
        said[:, :prompt] = np.repeat(said[::WIDTH, :prompt], WIDTH, 0)
    state, tokens = processor.init(told(given)), np.full(len(said), START)
    for step in range(STEPS):
        state = processor.advance(state, tf.constant(tokens, tf.int32))
        scores = log_softmax(np.random.normal(size=(len(said), VOCABULARY)))
        scores[:, 4] = -np.inf  # masked before
        found = processor.apply(tf.constant(scores, tf.float32), state).numpy()
        if step >= prompt:  # what stands in a prompt is decided
            for row, expected in enumerate(scores):
                formula([START, *said[row, :step]], expected, row // WIDTH, 1 + prompt)
            np.testing.assert_allclose(found, scores, rtol=1e-5, atol=1e-5)
        tokens = said[:, step]


def test_the_order_of_several_is_that_of_hugging_face():
    parts = [
        exponential_decay_length_penalty(0, 2.0),
        repetition_penalty(2.0),
        sequence_bias({(1,): 5.0, (2,): -1.0}),
        encoder_repetition_penalty(4.0),
        eta_cutoff(0.1),
        epsilon_cutoff(0.1),
    ]
    names = [part.name.split("(")[0] for part in combine(*parts).parts]
    assert names == [
        "sequence_bias", "encoder_repetition_penalty", "repetition_penalty",
        "exponential_decay_length_penalty", "epsilon_cutoff", "eta_cutoff",
    ]  # fmt: skip


def test_a_penalty_makes_a_score_that_was_raised_above_zero_less_likely_too():
    processor = combine(repetition_penalty(2.0), sequence_bias({(1,): 5.0}))
    state = processor.init(told())
    for token in (START, 1):
        state = processor.advance(state, tf.fill([4], token))
    assert (
        processor.apply(tf.fill([4, VOCABULARY], -1.0), state).numpy()[:, 1].tolist() == [2.0] * 4
    )


@pytest.mark.parametrize("kind", ["sequence_bias", "exponential_decay"])
@pytest.mark.parametrize("width, n_best", [(2, 1), (40, 3)])
def test_a_beam_search_continues_while_scores_may_rise(kind, width, n_best):
    """Each answer has the score of the formula, and a full beam finds the best of all answers."""
    steps, size, end = 3, 3, 2  # of tests.decoding.table_model: pad 0, start 1, end 2
    model = TableModel(Table.random(4, steps, size, 2.0))
    biases = {(1, 0): 6.0, (0, 0, 1): 4.0}
    if kind == "sequence_bias":
        processor = sequence_bias(biases)
    else:
        processor = exponential_decay_length_penalty(1, 3.0)

    def score_of(answer, source):
        total, previous = 0.0, 1
        for t, token in enumerate(answer):
            log_p = float(model.cell.log_p[source, t, previous, token])
            if kind == "sequence_bias":
                for sequence, bias in biases.items():
                    log_p += bias * (answer[: t + 1][-len(sequence) :] == sequence)
            elif token == end and t > 1:
                log_p += abs(log_p) * (3.0 ** (t - 1) - 1)
            total, previous = total + log_p, token
        return total

    found = generate(
        model, np.arange(4), beam_width=width, n_best=n_best, max_length=steps, processors=processor
    )
    for source in range(4):
        scores = {a: score_of(a, source) for a in oracles.answers(size, steps, end)}
        best = sorted(scores.values(), reverse=True)[:n_best]
        for k in range(n_best):
            answer = tuple(found.ids[source, k, : found.lengths[source, k]].numpy().tolist())
            np.testing.assert_allclose(found.scores[source, k], scores[answer], atol=1e-4)
        if width == 40:
            np.testing.assert_allclose(found.scores[source], best, atol=1e-4)


@pytest.mark.full
@keras3("models")
@pytest.mark.parametrize("kind", ["rnn", "decoder alone"])
def test_a_saved_function_has_the_processors_inside(kind, tmp_path):
    keras.utils.set_random_seed(0)
    if kind == "rnn":
        model = RNNSeq2Seq(9, units=4)
    else:
        model = TransformerLM(9, layers=1, width=4, heads=2, ff_width=4)
    model.build()
    processors = [
        sequence_bias({(4, 5): 1.0}), suppress_at_begin([2]), encoder_no_repeat_ngram(2),
        encoder_repetition_penalty(1.5), exponential_decay_length_penalty(1, 1.5),
        allowed_tokens(lambda tokens, lengths, sources: tokens[:, :1] * 0 + tf.range(9) > 1),
    ]  # fmt: skip

    def search(source):
        found = generate(model, source, beam_width=2, max_length=6, processors=processors)
        return {"ids": found.ids, "scores": found.scores}

    module = tf.Module()
    module.model = model.variables
    spec = tf.TensorSpec([None, None], tf.int32)
    module.search = tf.function(search, autograph=False, input_signature=[spec])
    tf.saved_model.save(module, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    for source in ([[3, 4, 5], [6, 0, 0]], np.zeros([2, 0], np.int32), np.zeros([0, 3], np.int32)):
        source = tf.constant(source, tf.int32)
        found, expected = loaded.search(source), search(source)
        np.testing.assert_array_equal(found["ids"], expected["ids"])
        np.testing.assert_allclose(found["scores"], expected["scores"], rtol=1e-5)


def test_a_draw_is_as_in_a_softmax_of_logits_with_the_bias():
    model = TableModel(Table(np.log(np.full([1, 1, 4, 4], 0.25))))
    found = generate(
        model, np.zeros(4000, int), max_length=1, processors=sequence_bias({(3,): np.log(3.0)}),
        strategy=sample(0),
    )  # fmt: skip
    share = np.bincount(found.ids[:, 0, 0], minlength=4) / 4000
    np.testing.assert_allclose(share, [1 / 6, 1 / 6, 1 / 6, 1 / 2], atol=0.04)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: sequence_bias({(): 1.0}), "at least one id"),
        (lambda: sequence_bias({(1,): float("nan")}), "numbers as biases"),
        (lambda: sequence_bias({(1,): float("inf")}), "numbers as biases"),
        (lambda: sequence_bias({(-1,): 1.0}), "not be negative"),
        (lambda: sequence_bias({(VOCABULARY,): 1.0}).init(told()), "below the size"),
        (lambda: suppress_at_begin([-1]), "not be negative"),
        (lambda: suppress_at_begin([VOCABULARY]).init(told()), "below the size"),
        (lambda: exponential_decay_length_penalty(-1, 1.1), "start >= 0"),
        (lambda: exponential_decay_length_penalty(0.5, 1.1), "start >= 0"),
        (lambda: exponential_decay_length_penalty(1, 0.0), "factor > 0"),
        (lambda: encoder_no_repeat_ngram(0), ">= 1"),
        (lambda: encoder_no_repeat_ngram(2).init(told()._replace(source=None)), "ids \\[B, S\\]"),
        (lambda: encoder_repetition_penalty(0.0), "w > 0"),
        (
            lambda: encoder_repetition_penalty(2.0).init(told()._replace(source=None)),
            "ids \\[B, S\\]",
        ),
    ],
)
def test_settings_that_mean_nothing_are_refused(make, message):
    with pytest.raises(ValueError, match=message + r".* Received: "):
        make()


@pytest.mark.parametrize("shape, dtype", [((4, VOCABULARY), "float32"), ((4, 3), "bool")])
def test_a_function_that_returns_no_mask_is_refused(shape, dtype):
    processor = allowed_tokens(lambda tokens, lengths, sources: tf.ones(shape, dtype))
    with pytest.raises(ValueError, match=r"mask \[N, V\] bool.* Received: "):
        processor.apply(tf.zeros([4, VOCABULARY]), processor.init(told()))


@pytest.mark.parametrize("name", ["sequence_bias", "exponential_decay", "encoder_no_repeat 2"])
def test_transformers_itself_computes_the_same(name):
    torch = pytest.importorskip("torch", reason="pip install torch transformers")
    peer = pytest.importorskip("transformers", reason="pip install torch transformers")
    ids = np.random.randint(1, 5, [1, 6])
    ids[:, 0] = START
    theirs = {
        "sequence_bias": lambda: peer.SequenceBiasLogitsProcessor(BIASES),
        "exponential_decay": lambda: peer.ExponentialDecayLengthPenalty((2, 1.7), END, 1),
        "encoder_no_repeat 2": lambda: peer.EncoderNoRepeatNGramLogitsProcessor(
            2, torch.tensor(REAL[:1])
        ),
    }[name]()
    processor = CASES[name][0]()
    state = processor.init(
        told()._replace(batch_size=1, beam_width=1, source=tf.constant(REAL[:1]))
    )
    for token in ids[0]:
        state = processor.advance(state, tf.constant([token], tf.int32))
    scores = log_softmax(np.random.normal(size=(1, VOCABULARY))).astype(np.float32)
    expected = theirs(torch.tensor(ids), torch.tensor(scores)).numpy()
    np.testing.assert_allclose(processor.apply(tf.constant(scores), state), expected, rtol=1e-5)
