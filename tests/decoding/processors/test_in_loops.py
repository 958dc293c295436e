"""Every processor gives the same in eager mode, in a graph and under XLA, for any rows."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from keras_attention.seq2seq import (
    SearchInfo,
    allowed_at,
    allowed_tokens,
    ban,
    ban_phrases,
    combine,
    encoder_no_repeat_ngram,
    encoder_repetition_penalty,
    epsilon_cutoff,
    eta_cutoff,
    exact_length,
    exponential_decay_length_penalty,
    force,
    length_between,
    min_p,
    must_contain,
    no_repeat_ngram,
    prefix,
    relative_length,
    repetition_pattern,
    repetition_penalty,
    sequence_bias,
    suppress_at_begin,
    temperature,
    top_k,
    top_p,
    typical,
)
from tests.decoding.processors.walks import gather

END, SOURCES, WIDTH, STEPS, VOCABULARY = 0, 3, 2, 6, 7
ROWS = SOURCES * WIDTH
IDS = np.array([[1, 2, 3, 4, -1, -1], [5, 9, -1, -1, -1, -1], [1, 4, 1, 4, 6, 2]], np.int32)
MASK = np.random.RandomState(1).random_sample([SOURCES, STEPS, VOCABULARY]) < 0.7


@functools.cache
def processors():
    return [
        temperature(0.7),
        temperature(tf.constant(1.3)),
        top_k(3),
        top_k(tf.constant(3)),
        top_p(0.6),
        min_p(tf.constant(0.2)),
        typical(0.5),
        length_between(3, 5),
        length_between([1, 3, 2], [2, 6, 4]),
        relative_length(0.5, 1.0, extra=1),
        exact_length([2, 3, 4], END, [-1, 1, 1, 1, 2, 2, 1]),
        epsilon_cutoff(0.1),
        eta_cutoff(tf.constant(0.1)),
        sequence_bias({(1,): -0.5, (3, 4): 2.0, (4, 1): -float("inf")}),
        suppress_at_begin([0, 3]),
        exponential_decay_length_penalty(1, 1.5),
        encoder_no_repeat_ngram(1),
        encoder_no_repeat_ngram(2),
        encoder_repetition_penalty(2.0),
        allowed_tokens(
            lambda tokens, lengths, sources: (tf.range(VOCABULARY) + lengths[:, None]) % 3 > 0
        ),
        repetition_penalty(3.0),
        no_repeat_ngram(1),
        no_repeat_ngram(2),
        ban([2, 5]),
        ban_phrases([[1, 2], [3], [4, 4, 4]]),
        force({1: 4, 3: 2}),
        prefix([[1, 2, 3], [4, 0, 0], [0, 0, 0]]),
        must_contain([[1, 2], [2, 3], [6]]),
        allowed_at(MASK),
        allowed_at(MASK[0]),
        repetition_pattern([[-1, 0, -1, 2], [-1, -1, 0, 1], [-1, -1, -1, -1]]),
        combine(
            repetition_penalty(1.5),
            temperature(0.8),
            top_p(0.95),
            no_repeat_ngram(3),
            must_contain([[5, 6]]),
            length_between(2, [4, 5, 6]),
        ),
    ]


NAMES = [
    "temperature", "temperature-tensor", "top_k", "top_k-tensor", "top_p", "min_p-tensor",
    "typical", "length", "lengths", "relative_length", "exact_length", "epsilon_cutoff",
    "eta_cutoff-tensor", "sequence_bias", "suppress_at_begin", "exponential_decay",
    "encoder_no_repeat_1", "encoder_no_repeat_2", "encoder_repetition", "allowed_tokens",
    "repetition_penalty",
    "no_word_twice",
    "no_pair_twice", "ban", "ban_phrases", "force", "prefix", "must_contain", "masks", "mask",
    "repetition_pattern", "combined",
]  # fmt: skip


@pytest.fixture(params=range(len(NAMES)), ids=NAMES)
def processor(request):
    return processors()[request.param]


def test_each_has_a_name():
    assert len(NAMES) == len(processors())


def search(batch=SOURCES):
    return SearchInfo(
        batch, WIDTH, STEPS, END, VOCABULARY,
        source_lengths=[4, 2, 6][:batch], source=tf.constant(IDS[:batch]),
    )  # fmt: skip


def greedy(processors, log_probs):
    """log p [T, N, V] -> tokens [C, N, T], and what the processors made of log p, [T, C, N, V]."""

    def body(step, tokens, states, said, lefts):
        states = [c.advance(s, t) for c, s, t in zip(processors, states, tf.unstack(tokens))]
        left = tf.stack([c.apply(log_probs[step], s) for c, s in zip(processors, states)])
        tokens = tf.argmax(left, -1, tf.int32)
        here = tf.range(STEPS) == step
        said = tf.where(here, tokens[..., None], said)
        lefts = tf.where(here[:, None, None, None], left, lefts)
        return step + 1, tokens, states, said, lefts

    begin = (
        tf.constant(0),
        tf.ones([len(processors), ROWS], tf.int32),
        [processor.init(search()) for processor in processors],
        tf.zeros([len(processors), ROWS, STEPS], tf.int32),
        tf.zeros([STEPS, len(processors), ROWS, VOCABULARY]),
    )
    return tf.while_loop(lambda step, *_: step < STEPS, body, begin)[-2:]


@pytest.mark.full
def test_loops_are_the_same_in_eager_mode_in_a_graph_and_under_xla():
    logits = 2 * np.random.normal(size=(STEPS, ROWS, VOCABULARY))
    log_probs = tf.nn.log_softmax(tf.constant(logits, tf.float32))
    expected = greedy(processors(), log_probs)
    for jit in (False, True):
        run = tf.function(lambda x: greedy(processors(), x), autograph=False, jit_compile=jit)
        for found, wanted in zip(run(log_probs), expected):
            for c, name in enumerate(NAMES):
                one, other = (
                    (x[:, c] if len(x.shape) == 4 else x[c]).numpy() for x in (found, wanted)
                )
                np.testing.assert_allclose(one, other, atol=1e-5, err_msg=f"{name}, jit={jit}")


def rows_of(processor, rows, batch=SOURCES, tokens=(1, 4, 1)):
    state = processor.init(search(batch))
    for token in tokens:
        state = processor.advance(state, tf.fill([rows], token))
    return state


def test_every_leaf_of_a_state_has_a_row_for_each_hypothesis_before_and_after_a_step(processor):
    first = processor.init(search())
    tf.nest.assert_same_structure(first, rows_of(processor, ROWS))
    for leaf, later in zip(tf.nest.flatten(first), tf.nest.flatten(rows_of(processor, ROWS))):
        assert leaf.shape == later.shape and leaf.shape[0] == ROWS and leaf.dtype == later.dtype


def test_what_is_masked_stays_so_and_nothing_becomes_nan(processor):
    given = np.random.normal(size=(ROWS, VOCABULARY)).astype(np.float32) - 3
    given[:, ::2] = -np.inf
    given[0] = -np.inf
    left = processor.apply(tf.constant(given), rows_of(processor, ROWS)).numpy()
    assert not np.isnan(left).any() and (left[given == -np.inf] == -np.inf).all()


def test_a_row_does_not_depend_on_its_neighbours(processor):
    log_probs = tf.nn.log_softmax(tf.random.normal([ROWS, VOCABULARY]))
    state = rows_of(processor, ROWS)
    whole = processor.apply(log_probs, state).numpy()
    order = np.random.permutation(ROWS)
    found = processor.apply(tf.gather(log_probs, order), gather(state, order))
    np.testing.assert_allclose(found, whole[order], rtol=1e-6)


@pytest.mark.parametrize(
    "processor",
    [
        top_p(0.5),
        length_between(1, 3),
        no_repeat_ngram(2),
        force({0: 1}),
        must_contain([[1, 2]]),
        sequence_bias({(1, 2): 1.0}),
        encoder_no_repeat_ngram(2),
        suppress_at_begin([1]),
    ],  # fmt: skip
    ids=lambda processor: processor.name,
)
def test_no_sources_are_no_trouble(processor):
    state = rows_of(processor, 0, batch=0)
    assert processor.apply(tf.zeros([0, VOCABULARY]), state).shape == (0, VOCABULARY)


def test_how_many_sources_there_are_may_be_known_at_run_time_alone():
    processor = combine(
        top_k(5), length_between(1, 4), no_repeat_ngram(2), must_contain([[1, 2]]), prefix([3])
    )

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None, None, VOCABULARY])])
    def run(log_probs):
        batch = tf.shape(log_probs)[0]
        state = processor.init(SearchInfo(batch, WIDTH, STEPS, END, VOCABULARY))
        state = processor.advance(state, tf.ones([batch * WIDTH], tf.int32))
        return processor.apply(tf.reshape(log_probs, [-1, VOCABULARY]), state)

    for batch in (1, 3):
        left = run(tf.random.normal([batch, WIDTH, VOCABULARY])).numpy()
        assert left.shape == (batch * WIDTH, VOCABULARY)
        assert set(np.unique(np.nonzero(np.isfinite(left))[1])) <= {3}
