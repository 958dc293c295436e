"""Every processor in searches of real models: the same in eager mode, in graphs and under XLA."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.seq2seq import (
    allowed_at,
    allowed_tokens,
    ban,
    ban_phrases,
    beam,
    encoder_no_repeat_ngram,
    encoder_repetition_penalty,
    epsilon_cutoff,
    eta_cutoff,
    exact_length,
    exponential_decay_length_penalty,
    force,
    generate,
    length_between,
    max_new_tokens,
    min_new_tokens,
    min_p,
    must_contain,
    no_repeat_ngram,
    prefix,
    relative_length,
    repetition_pattern,
    repetition_penalty,
    sample,
    sequence_bias,
    suppress_at_begin,
    temperature,
    top_k,
    top_p,
    typical,
)
from models import RNNSeq2Seq, Transformer
from tests.sampled import sampled
from tests.seq2seq.cells import keras3

VOCABULARY, END, STEPS = 9, 2, 5
SOURCES = np.array([[5, 6, 7, END], [7, END, 0, 0], [3, 3, END, 0]])
MASK = np.random.RandomState(1).random_sample([len(SOURCES), STEPS, VOCABULARY]) < 0.8
MASK[:, :, [END, 5, 6, 7]] = True
ADDS = [-1, -1, -1, 1, 1, 1, 2, 2, 1]

# All of them, in as few compilations as may be.
TOGETHER = {
    "a beam": (
        beam(),
        lambda: [
            must_contain([[3, 4]]), ban([0, 1]), ban_phrases([[4, 5], [7, 3]]), force({0: 8}),
            no_repeat_ngram(2), repetition_penalty(1.3), length_between(4, [4, 5, 5]),
            min_new_tokens(2), max_new_tokens(STEPS),
            relative_length(0.5, 1.5, 3), min_p(1e-3),
            repetition_pattern([[-1, -1], [-1, -1], [-1, 0]]),
            sequence_bias({(8, 4): 1.5, (3,): -0.5}), suppress_at_begin([3, END]),
            exponential_decay_length_penalty(2, 1.3), encoder_no_repeat_ngram(2),
            encoder_repetition_penalty(1.2),
        ],
    ),
    "draws": (
        sample(3),
        lambda: [
            temperature(0.8), top_k(6), top_p(0.95), typical(0.9), allowed_at(MASK),
            epsilon_cutoff(1e-3), eta_cutoff(1e-3),
            allowed_tokens(lambda tokens, lengths, sources: tokens[:, :1] * 0 + tf.range(9) != 1),
            prefix([[5, 0], [6, 7], [0, 0]]), exact_length([3, 4, 4], END, ADDS),
        ],
    ),
}  # fmt: skip


@functools.cache
def model_of(kind):
    keras.utils.set_random_seed(0)
    if kind == "transformer":
        model = Transformer(VOCABULARY, layers=1, width=8, heads=2, ff_width=16)
    else:
        model = RNNSeq2Seq(VOCABULARY, units=8)
    generate(model, SOURCES, max_length=1)
    for weight in model.trainable_variables:  # so that no two tokens are alike
        weight.assign_add(0.5 * np.random.RandomState(2).standard_normal(weight.shape))
    return model


@keras3("RNNSeq2Seq and Transformer")
@pytest.mark.parametrize(
    "kind, which", sampled(["rnn", "transformer"], ["draws", "a beam"], together=0)
)
def test_every_mode_finds_the_same_answers_with_the_same_scores(kind, which):
    model, (strategy, make) = model_of(kind), TOGETHER[which]
    processors = make()

    def search(source):
        return generate(
            model, source, beam_width=3, max_length=STEPS, processors=processors, strategy=strategy
        )

    expected = search(tf.constant(SOURCES))
    assert expected.finished[:, 0].numpy().all()
    steps = expected.ids.shape[2]
    for jit in (False, True):
        found = tf.function(search, autograph=False, jit_compile=jit)(tf.constant(SOURCES))
        np.testing.assert_array_equal(found.ids[..., :steps], expected.ids)
        np.testing.assert_array_equal(found.lengths, expected.lengths)
        np.testing.assert_array_equal(found.finished, expected.finished)
        np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-4, atol=1e-4)


def test_every_processor_is_among_them():
    from keras_attention.seq2seq import processors

    used = {part.name.split("(")[0] for _, make in TOGETHER.values() for part in make()}
    assert used == set(processors.__all__) - {"LogitsProcessor", "SearchInfo", "check", "combine"}
