"""A server gives the same as Python: four signatures of one model."""

import os

import numpy as np
import pytest
import tensorflow as tf

from keras_attention import export, text
from keras_attention.export import Endpoints, Settings
from keras_attention.seq2seq import generate, processors, sample
from models import RNNSeq2Seq, Transformer
from tests.sampled import full

TEXTS = ["hello you and me", "the quick brown fox", "春风吹绿江南岸"]
GOOD = ["hello you", "me", "the fox 🙂", "春风"]
BAD = ["", " \u3000", b"me\xff", "☃☃"]  # blank, blank, not UTF-8, nothing known
SETTINGS = Settings(length_penalty=0.6, max_length=8)
MODELS = ["rnn", *full("no attention", "transformer")]


def untrained(kind, vocab_size):
    """It says anything; its answers are far apart."""
    if kind == "transformer":
        model = Transformer(vocab_size, layers=1, width=16, heads=2, ff_width=32)
    else:
        model = RNNSeq2Seq(vocab_size, units=16, attention="luong" if kind == "rnn" else None)
    model.build()
    random = np.random.default_rng(2)
    for weight in model.trainable_variables:
        weight.assign(random.normal(size=weight.shape) * 0.5)
    return model


@pytest.fixture(scope="module", params=MODELS)
def served(request):
    tokenizer = text.Characters.train(TEXTS)
    model = untrained(request.param, tokenizer.vocab_size)
    looks = request.param != "no attention"
    endpoints = Endpoints(
        model, tokenizer, beam_width=3, settings=SETTINGS, return_alignments=looks
    )
    return model, endpoints


@pytest.fixture(scope="module")
def rnn():
    tokenizer = text.Characters.train(TEXTS)
    return untrained("rnn", tokenizer.vocab_size), tokenizer


def with_settings(endpoints, lines, **changes):
    return endpoints.generate_with_settings(tf.constant(lines), SETTINGS._replace(**changes))


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if value.dtype == tf.string:
            assert (found[name] == value).numpy().all(), name
        else:
            np.testing.assert_allclose(found[name], value, 1e-5, 1e-5, err_msg=name)


def test_strings_get_the_answers_that_generate_finds(served):
    model, endpoints = served
    found = generate(
        model,
        endpoints.source_ids(tf.constant(GOOD)),
        beam_width=3,
        length_penalty=0.6,
        max_length=8,
    )
    answer = endpoints.serving_default(tf.constant(GOOD))
    assert (answer["replies"] == endpoints.tokenizer.decode(found.ids)).numpy().all()
    np.testing.assert_allclose(answer["scores"], found.scores, 1e-5)
    assert (answer["lengths"] == found.lengths).numpy().all()
    by_ids = endpoints.generate(endpoints.source_ids(tf.constant(GOOD)))
    assert (by_ids["ids"] == found.ids).numpy().all()
    np.testing.assert_allclose(by_ids["scores"], found.scores, 1e-5)


def test_shapes_and_types_are_those_of_the_contract(served):
    model, endpoints = served
    shapes = {
        "replies": ([None, 3], tf.string),
        "scores": ([None, 3], tf.float32),
        "lengths": ([None, 3], tf.int32),
        "tokens": ([None, 3, None], tf.string),
        "source_tokens": ([None, None], tf.string),
        "alignments": ([None, 3, None, None], tf.float32),
    }
    if isinstance(model, RNNSeq2Seq) and model.cell is model.inner_cell:
        del shapes["alignments"]  # nothing attends
    for name in ("serving_default", "generate_with_settings"):
        found = endpoints.functions[name].get_concrete_function().structured_outputs
        assert found.keys() == shapes.keys()
        for output, (shape, dtype) in shapes.items():
            assert found[output].dtype == dtype
            tf.TensorShape(shape).assert_is_compatible_with(found[output].shape)
    by_ids = endpoints.generate.get_concrete_function().structured_outputs
    assert by_ids["ids"].dtype == tf.int32 and by_ids.keys() - {"ids"} == shapes.keys() - {
        "replies",
        "tokens",
        "source_tokens",
    }


def test_a_score_is_the_log_p_that_teacher_forcing_gives(served):
    model, endpoints = served
    source, said = endpoints.source_ids(["hello"]), endpoints.source_ids(["you"])
    logits = model((source, tf.concat([[[model.start_id]], said[:, :-1]], 1)))
    expected = np.take_along_axis(np.log(tf.nn.softmax(logits)[0]), said.numpy()[0][:, None], 1)
    found = endpoints.score(tf.constant(["hello"]), tf.constant(["you"]))
    np.testing.assert_allclose(found["token_log_probabilities"][0], expected[:, 0], 1e-4)


def test_scores_of_tokens_end_with_the_end_token_and_add_up(served):
    _, endpoints = served
    sources, targets = tf.constant(["hello", "me", "the"]), tf.constant(["you", "", "hello you"])
    found = endpoints.score(sources, targets)
    by_token = found["token_log_probabilities"].numpy()
    assert by_token.shape == (3, 10)
    assert ((by_token < 0).sum(1) == [4, 1, 10]).all() and (by_token <= 0).all()
    np.testing.assert_allclose(found["log_probability"], by_token.sum(1), 1e-5)
    for row in range(3):
        alone = endpoints.score(sources[row : row + 1], targets[row : row + 1])
        np.testing.assert_allclose(
            alone["log_probability"], found["log_probability"][row : row + 1], 1e-4
        )


def test_a_target_for_every_source_is_demanded(served):
    _, endpoints = served
    with pytest.raises(tf.errors.InvalidArgumentError, match="as many targets as sources"):
        endpoints.score(tf.constant(["hello"]), tf.constant(["you", "me"]))


def test_anything_that_cannot_be_answered_is_empty_and_leaves_its_neighbours_alone(served):
    _, endpoints = served
    alone = endpoints.serving_default(tf.constant(GOOD))
    mixed = [line for pair in zip(GOOD, BAD) for line in pair] + ["hello " * 2000]
    answer = endpoints.serving_default(tf.constant(mixed))
    assert (answer["replies"][:-1:2] == alone["replies"]).numpy().all()
    np.testing.assert_allclose(answer["scores"][:-1:2], alone["scores"], 1e-5)
    assert (answer["replies"][1::2] == "").numpy().all()
    assert (answer["tokens"][1::2] == "").numpy().all()
    assert (answer["lengths"][1::2] == 0).numpy().all()
    assert (answer["scores"][1::2] == -np.inf).numpy().all()
    if "alignments" in answer:
        assert (answer["alignments"][1::2] == 0).numpy().all()
    assert answer["scores"][-1, 0] > -np.inf  # ten thousand characters: the first are read


@pytest.mark.full
def test_ids_and_targets_are_as_long_as_exported_or_refused(served):
    """Or a short request would hold a server for minutes."""
    model, endpoints = served
    short = Endpoints(
        model,
        endpoints.tokenizer,
        settings=SETTINGS,
        return_alignments="alignments" in endpoints.generate(np.array([[5, 2]]).astype("int32")),
        max_source_length=6,
        max_target_length=4,
    )
    whole = short.source_ids(tf.constant(["hello you"]))
    assert whole.shape == (1, 7)  # the end token, too
    assert short.generate(whole)["lengths"].shape == (1, 4)
    with pytest.raises(tf.errors.InvalidArgumentError, match="at most 7 ids in a row.*\\[8\\]"):
        short.generate(tf.pad(whole, [[0, 0], [0, 1]]))
    scored = short.score(tf.constant(["hello you"] * 2), tf.constant(["you", "fox "]))
    assert scored["token_log_probabilities"].shape == (2, 5)
    with pytest.raises(tf.errors.InvalidArgumentError, match="at most 4 tokens.*\\[5\\]"):
        short.score(tf.constant(["me", "me"]), tf.constant(["you", "hello"]))
    reply = endpoints.serving_default(tf.constant(GOOD))["replies"][:, 0]
    assert endpoints.score(tf.constant(GOOD), reply)["log_probability"].shape == (4,)
    (asked,) = [one for one in export.warm_up_requests(short, ["hello"]) if one[0] == "score"]
    assert asked.inputs["target"].numpy().tolist() == [b""]


def test_a_length_that_holds_no_token_is_refused(rnn):
    for name in ("max_source_length", "max_target_length"):
        with pytest.raises(ValueError, match=f"Expected {name} of at least 1. Received: {name}=0"):
            Endpoints(*rnn, **{name: 0})


def test_an_empty_batch_gets_an_empty_answer(served):
    _, endpoints = served
    empty = tf.constant([], tf.string)
    assert endpoints.serving_default(empty)["replies"].shape == (0, 3)
    assert endpoints.score(empty, empty)["log_probability"].shape == (0,)


def test_the_exported_settings_give_the_exported_search(served):
    _, endpoints = served
    lines = GOOD + BAD
    assert_same(with_settings(endpoints, lines), endpoints.serving_default(tf.constant(lines)))


def test_settings_have_their_effect(served):
    model, endpoints = served
    ids = endpoints.source_ids(tf.constant(GOOD))
    usual = {"beam_width": 3, "length_penalty": 0.6, "max_length": 8}
    for changes, asked in [
        ({"max_length": 3}, {"max_length": 3}),
        ({"length_penalty": 2.0}, {"length_penalty": 2.0}),
        ({"temperature": 0.5}, {"processors": processors.temperature(0.5)}),
        (
            {"seed": 7, "top_k": 4, "top_p": 0.8},
            {"processors": [processors.top_k(4), processors.top_p(0.8)], "strategy": sample(7)},
        ),
    ]:
        expected = generate(model, ids, **{**usual, **asked})
        answer = with_settings(endpoints, GOOD, **changes)
        assert (answer["lengths"] == expected.lengths).numpy().all(), changes
        np.testing.assert_allclose(answer["scores"], expected.scores, 1e-4, err_msg=str(changes))
        assert (answer["replies"] == endpoints.tokenizer.decode(expected.ids)).numpy().all()


def test_the_same_seed_draws_the_same_and_another_one_does_not(served):
    _, endpoints = served
    first, again, other = (with_settings(endpoints, GOOD, seed=seed) for seed in (3, 3, 4))
    assert (first["replies"] == again["replies"]).numpy().all()
    assert not (first["replies"] == other["replies"]).numpy().all()


@pytest.mark.parametrize(
    "name, value",
    [
        *(("temperature", value) for value in (0.0, -1.0, np.nan, np.inf)),
        *((penalty, np.nan) for penalty in ("length_penalty", "coverage_penalty")),
        ("length_penalty", -np.inf),
        *(("top_p", value) for value in (0.0, 1.5)),
        ("top_k", -1),
        *(("max_length", value) for value in (0, 9, 10**9)),
    ],
)
def test_settings_out_of_range_are_refused_by_name(rnn, name, value, request):
    endpoints = request.getfixturevalue("settable")
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"Expected {name} .*Received"):
        with_settings(endpoints, ["me"], **{name: value})
    if (name, value) not in [("max_length", 9), ("max_length", 10**9)]:  # above the exported one
        with pytest.raises(ValueError, match=f"Expected {name} .*Received: {name}={value}"):
            Endpoints(*rnn, settings=SETTINGS._replace(**{name: value}))


@pytest.fixture(scope="module")
def settable(rnn):
    return Endpoints(*rnn, beam_width=2, settings=SETTINGS)


@pytest.mark.full
def test_what_nothing_attends_to_cannot_be_penalised(rnn):
    _, tokenizer = rnn
    blind = untrained("no attention", tokenizer.vocab_size)
    endpoints = Endpoints(
        blind, tokenizer, beam_width=2, settings=SETTINGS, return_alignments=False
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match="Expected coverage_penalty 0"):
        with_settings(endpoints, ["me"], coverage_penalty=0.2)
    with pytest.raises(ValueError, match="Expected coverage_penalty 0.*coverage_penalty=0.2"):
        Endpoints(
            blind,
            tokenizer,
            settings=SETTINGS._replace(coverage_penalty=0.2),
            return_alignments=False,
        )


@pytest.mark.full
def test_an_exported_seed_draws(rnn):
    def served(seed):
        return Endpoints(*rnn, beam_width=2, settings=SETTINGS._replace(seed=seed))

    lines = tf.constant(GOOD)
    drawn, other, searched = (served(seed).serving_default(lines) for seed in (5, 6, -1))
    assert not (drawn["replies"] == other["replies"]).numpy().all()
    assert not (drawn["replies"] == searched["replies"]).numpy().all()
    found = generate(
        rnn[0],
        served(5).source_ids(lines),
        beam_width=2,
        length_penalty=0.6,
        max_length=8,
        strategy=sample(5),
    )
    np.testing.assert_allclose(drawn["scores"], found.scores, 1e-4)


@pytest.mark.parametrize("length", [0, -1])
def test_a_line_is_read_by_one_token_at_least(rnn, length):
    with pytest.raises(ValueError, match=f"max_source_length of at least 1.*={length}"):
        Endpoints(*rnn, max_source_length=length)


@pytest.mark.parametrize("ids", [[[5, -7]], [[]], [[99999]]])
def test_ids_that_there_are_not_are_refused(settable, ids):
    expected = "99999 is not in" if ids == [[99999]] else "Expected ids of 0 or more, at least one"
    with pytest.raises(tf.errors.InvalidArgumentError, match=expected):
        settable.generate(tf.constant(ids, tf.int32))


@pytest.mark.parametrize("sizes", [(6, 6), (6, 30), (30, 6)])
def test_a_model_that_does_not_know_all_tokens_is_refused(sizes):
    tokenizer = text.Characters.train(TEXTS)
    known = [tokenizer.vocab_size if size == 30 else size for size in sizes]
    with pytest.raises(ValueError, match=f"tokenizer's {tokenizer.vocab_size} tokens. Received: "):
        Endpoints(RNNSeq2Seq(*known, units=8), tokenizer)


def test_without_a_tokenizer_ids_are_served(rnn):
    model, _ = rnn
    endpoints = Endpoints(model, beam_width=2, settings=SETTINGS)
    assert endpoints.functions.keys() == {"serving_default", "generate"}
    found = endpoints.generate(tf.constant([[5, 6, 2]]))
    assert found["ids"].shape[:2] == (1, 2)
    with pytest.raises(ValueError, match="Texts need a tokenizer.*Received: tokenizer=None"):
        endpoints.source_ids(tf.constant(["me"]))


@pytest.mark.full
def test_any_tokenizer_and_limits_that_depend_on_the_line(rnn):
    from keras_attention.seq2seq import exact_length

    model, tokenizer = rnn

    def as_long(source, lines):
        lengths = tf.reduce_sum(tf.cast(source > 2, tf.int32), 1)
        return [exact_length(lengths, model.end_id, tokenizer.token_lengths)]

    endpoints = Endpoints(
        model, tokenizer, beam_width=2, settings=SETTINGS, line_processors=as_long
    )
    lines = tf.constant(["hello", "me", "春"])
    replies = endpoints.serving_default(lines)["replies"]
    assert tf.strings.length(replies[:, 0], "UTF8_CHAR").numpy().tolist() == [5, 2, 1]
    by_ids = endpoints.generate(endpoints.source_ids(lines))
    assert (endpoints.tokenizer.decode(by_ids["ids"]) == replies).numpy().all()


@pytest.mark.full
def test_a_saved_model_holds_every_weight_once_and_little_else(served, tmp_path):
    model, endpoints = served
    export.save(str(tmp_path / "served"), endpoints, endpoints.functions)
    sizes = {
        os.path.relpath(os.path.join(folder, name), tmp_path): os.path.getsize(
            os.path.join(folder, name)
        )
        for folder, _, names in os.walk(tmp_path)
        for name in names
    }
    weights = sum(4 * int(np.prod(v.shape)) for v in model.variables)
    vocabulary = sum(size for name, size in sizes.items() if "assets" in name)
    assert sum(sizes.values()) <= 1.1 * weights + vocabulary + 4e6, sizes
    loaded = tf.saved_model.load(str(tmp_path / "served"))
    assert sorted(loaded.signatures) == sorted(endpoints.functions)
    found = loaded.signatures["serving_default"](text=tf.constant(GOOD + BAD))
    assert_same(found, endpoints.serving_default(tf.constant(GOOD + BAD)))
    scored = loaded.signatures["score"](source=tf.constant(["me"]), target=tf.constant(["you"]))
    assert_same(scored, endpoints.score(tf.constant(["me"]), tf.constant(["you"])))
