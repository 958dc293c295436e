"""`stream` yields the tokens of the search one by one."""

import numpy as np
import pytest

from keras_attention.seq2seq import (
    Stream,
    ban,
    beam,
    diverse_beam,
    generate,
    length_between,
    must_contain,
    no_repeat_ngram,
    sample,
    stream,
    temperature,
)
from models import RNNSeq2Seq, Transformer
from tests.sampled import full
from tests.seq2seq.cells import keras3

pytestmark = keras3("RNNSeq2Seq and Transformer")

SOURCES = np.array([[5, 6, 7, 2], [8, 2, 0, 0], [4, 4, 9, 2]])
LIMIT = 7
SETTINGS = {
    "greedy": (beam(), ()),
    "controlled": (sample(3), (temperature(2.0), length_between(3, 5), must_contain([[7, 4]]))),
    # After one token nothing else may come, and not yet the end.
    "stuck": (beam(), (ban({*range(11)} - {2, 3}), no_repeat_ngram(1), length_between(4))),
}


def test_a_strategy_must_be_one():
    with pytest.raises(TypeError, match=r"must be a Strategy, such as sample\(\) returns"):
        Stream(RNNSeq2Seq(11, units=6), strategy="sample")


@pytest.fixture(scope="module", params=["rnn", "transformer"])
def model(request):
    kinds = {
        "rnn": lambda: RNNSeq2Seq(11, units=6),
        "transformer": lambda: Transformer(11, layers=2, width=8, heads=2, ff_width=8),
    }
    made = kinds[request.param]()
    made.build()
    random = np.random.default_rng(1)
    for weight in made.trainable_variables:  # far from uniform, so that answers end
        weight.assign(random.normal(size=weight.shape))
    return made


@pytest.mark.parametrize("how", SETTINGS)
def test_the_tokens_are_those_of_the_search(model, how):
    strategy, processors = SETTINGS[how]
    settings = dict(max_length=LIMIT, strategy=strategy, processors=processors)
    said = list(stream(model, SOURCES, **settings))
    found = generate(model, SOURCES, **settings)
    assert all(tokens.shape == (3,) and tokens.dtype == np.int32 for tokens in said)
    np.testing.assert_array_equal(np.stack(said, 1), found.ids[:, 0])


@pytest.mark.parametrize("penalty", [0.6, *full(4.0)])
def test_a_length_penalty_ends_an_answer_where_the_search_does(model, penalty):
    settings = dict(max_length=LIMIT, length_penalty=penalty, coverage_penalty=0.1)
    found = generate(model, SOURCES, **settings)
    said = np.stack(list(stream(model, SOURCES, **settings)), 1)
    np.testing.assert_array_equal(said, found.ids[:, 0])


def test_the_alignments_are_those_of_the_search(model):
    said = list(stream(model, SOURCES, max_length=LIMIT, return_alignments=True))
    found = generate(model, SOURCES, max_length=LIMIT, return_alignments=True)
    np.testing.assert_array_equal(np.stack([ids for ids, _ in said], 1), found.ids[:, 0])
    looked = np.stack([alignments for _, alignments in said], 1)
    np.testing.assert_allclose(looked, found.alignments[:, 0], atol=1e-6)


@pytest.mark.full
def test_one_stream_serves_sources_of_any_shape_with_few_traces(model):
    streamer = Stream(model, max_length=3)
    for batch, steps in ((1, 4), (3, 4), (2, 1), (1, 3), (3, 2), (2, 3)):
        source = SOURCES[:batch, -steps:]
        said = list(streamer(source))
    np.testing.assert_array_equal(
        np.stack(said, 1), generate(model, source, max_length=3).ids[:, 0]
    )
    assert streamer._step.experimental_get_tracing_count() <= 4


def test_it_ends_when_all_rows_have_ended():
    model = RNNSeq2Seq(11, units=6, cell="lstm", attention=None)
    model.build()
    end = np.full(11, -50.0, np.float32)
    end[2] = 50.0
    model.output_layer.bias.assign(end)
    assert [tokens.tolist() for tokens in stream(model, SOURCES)] == [[2, 2, 2]]
    with pytest.raises(ValueError, match="cell with attention"):
        next(stream(model, SOURCES, return_alignments=True))


def test_tokens_come_while_later_ones_are_not_decoded_yet(model):
    streamer, steps = Stream(model, max_length=4, processors=length_between(4)), []
    step = streamer._step
    streamer._step = lambda time, *state: steps.append(int(time)) or step(time, *state)
    seen = [len(steps) for _ in streamer(SOURCES)]
    assert seen == [1, 2, 3, 4] and steps == [0, 1, 2, 3]


def test_draws_without_a_seed_differ_from_call_to_call(model):
    streamer = Stream(model, max_length=LIMIT, strategy=sample(), processors=temperature(50.0))
    answers = {tuple(np.stack(list(streamer(SOURCES)), 1).ravel()) for _ in range(3)}
    assert len(answers) > 1


def test_invalid_arguments_are_rejected(model):
    with pytest.raises(ValueError, match="max_length must be a whole number"):
        Stream(model, max_length=0)
    with pytest.raises(ValueError, match="minimum=5.*max_length=4"):
        Stream(model, max_length=4, processors=length_between(5))
    with pytest.raises(ValueError, match="groups must divide"):
        list(stream(model, SOURCES, strategy=diverse_beam(2)))
