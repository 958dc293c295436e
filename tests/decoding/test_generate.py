"""`generate` over transition tables and over the RNN model: scores and processors."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.seq2seq import SearchResult, Stream, exact_length, generate, sample, top_k
from models.rnn_seq2seq import RNNSeq2Seq
from tests import oracles
from tests.decoding.table_model import END, PAD, START, TableModel, answers_of
from tests.sampled import full, sampled
from tests.seq2seq.cells import Table, keras3

# -- over tables


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_at_full_width_the_first_answer_is_the_best_of_all(weight):
    steps, vocabulary = 4, 4
    model = TableModel(Table.random(30, steps, vocabulary))
    everything = list(oracles.answers(vocabulary, steps, END))
    sources, width = np.arange(30), len(everything) + 3
    result = generate(model, sources, beam_width=width, max_length=steps, length_penalty=weight)
    for b, found in enumerate(answers_of(result)):
        expected = {
            answer: oracles.log_prob(answer, model.cell.of(b), START)
            / oracles.length_penalty(len(answer), weight)
            for answer in everything
        }
        assert found[0][0] == max(expected, key=expected.get)
        assert dict(found).keys() == expected.keys()
        for answer, score in found:
            np.testing.assert_allclose(score, expected[answer], rtol=1e-4, atol=1e-5)
    assert (result.scores.numpy()[:, -3:] == -np.inf).all()
    assert not result.lengths.numpy()[:, -3:].any() and not result.ids.numpy()[:, -3:].any()


def test_scores_fall_and_padding_follows_the_end():
    model = TableModel(Table.random(30, 6, 5))
    result = generate(model, np.arange(30), beam_width=4, max_length=6, length_penalty=0.8)
    assert (np.diff(result.scores) <= 0).all()
    ids, lengths = result.ids.numpy(), result.lengths.numpy()
    beyond = np.arange(ids.shape[2]) >= lengths[..., None]
    assert (ids[beyond] == PAD).all()
    for b, k in np.ndindex(lengths.shape):
        body, last = ids[b, k, : lengths[b, k] - 1], ids[b, k, lengths[b, k] - 1]
        assert END not in body
        assert last == END or lengths[b, k] == 6


def test_n_best_are_the_first_of_all():
    model = TableModel(Table.random(5, 5, 5))
    everything = generate(model, np.arange(5), beam_width=4, max_length=5)
    first = generate(model, np.arange(5), beam_width=4, max_length=5, n_best=2)
    assert first.ids.shape[:2] == (5, 2)
    for some, whole in zip(first[:3], everything[:3]):
        np.testing.assert_array_equal(some, whole[:, :2])


def test_an_answer_of_one_token_and_a_limit_that_is_a_tensor():
    model = TableModel(Table.random(3, 4, 5))
    for limit in (1, tf.constant(1)):
        result = generate(model, np.arange(3), beam_width=2, max_length=limit)
        assert result.ids.shape == (3, 2, 1) and (result.lengths.numpy() == 1).all()


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"beam_width": 0}, "beam_width"),
        ({"max_length": 0}, "max_length"),
        ({"max_length": np.int64(0)}, "max_length"),
        ({"max_length": lambda: tf.constant(0)}, "max_length"),
        ({"max_length": 2.5}, "a whole number of at least 1. Received: 2.5"),
        ({"max_length": np.inf}, "a whole number of at least 1. Received: inf"),
        ({"max_length": np.nan}, "a whole number of at least 1. Received: nan"),
        ({"beam_width": 1.5}, "beam_width must be a Python int >= 1"),
        ({"beam_width": 2, "n_best": 1.5}, "n_best must be a Python int >= 1.* of type float"),
        ({"length_penalty": np.nan}, "length_penalty must be one finite number"),
        (
            {"coverage_penalty": lambda: tf.constant(np.inf)},
            "coverage_penalty must be one finite number",
        ),
        ({"length_penalty": "1"}, "length_penalty must be one finite number"),
        ({"processors": lambda: top_k}, r"must be a LogitsProcessor, such as top_k\(10\)"),
        ({"processors": [top_k(2), None]}, "must be a LogitsProcessor"),
        ({"beam_width": 2, "n_best": 3}, "n_best"),
        ({"n_best": 0}, "n_best"),
        ({"coverage_penalty": 0.1}, "cell with attention"),
        ({"return_alignments": True}, "cell with attention"),
    ],
)
def test_invalid_arguments_are_rejected(settings, message):
    settings = {name: value() if callable(value) else value for name, value in settings.items()}
    with pytest.raises(ValueError, match=message):
        generate(TableModel(Table.random(1, 2, 4)), np.arange(1), **settings)


def test_a_strategy_must_be_one():
    with pytest.raises(TypeError, match=r"must be a Strategy, such as sample\(\) returns"):
        generate(TableModel(Table.random(1, 2, 4)), np.arange(1), strategy=sample)


@pytest.mark.parametrize("size", [2.0, 0, "2", None])
def test_sizes_are_python_ints_and_the_message_shows_the_type(size):
    model, kind = TableModel(Table.random(1, 2, 4)), type(size).__name__
    with pytest.raises(ValueError, match=f"beam_width must be a Python int >= 1.*of type {kind}"):
        generate(model, np.arange(1), beam_width=size)
    for name in ("beam_width", "n_best"):
        with pytest.raises(ValueError, match=f"{name} must be a Python int >= 1.*Tensor"):
            generate(model, np.arange(1), **{"beam_width": 2, name: tf.constant(2)})


def test_an_object_that_is_no_model_is_refused_with_the_attributes_that_it_lacks():
    for call in (lambda: generate(object(), [0]), lambda: Stream(object())):
        with pytest.raises(ValueError, match="a object, which has no start_id.*encode.*cell"):
            call()


def test_logits_of_an_unknown_width_are_refused_with_the_way_to_set_it():
    model = TableModel(Table.random(1, 2, 4))
    forget = tf.function(
        lambda source, size: generate(
            SimpleNamespace(
                **{name: getattr(model, name) for name in ("encode", "embed", "cell")},
                **{name: getattr(model, name) for name in ("pad_id", "start_id", "end_id")},
                project=lambda output: output[:, :size],
            ),
            source,
            beam_width=2,
            max_length=2,
        ),
        autograph=False,
    )
    with pytest.raises(ValueError, match=r"static last dimension in model.project: tf.ensure_shap"):
        forget(np.arange(1), tf.constant(4))


def test_a_graph_answers_an_empty_batch():
    model = TableModel(Table.random(3, 4, 5))

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None], tf.int32)])
    def search(source):
        return generate(model, source, beam_width=2, max_length=4)

    assert search(np.arange(3)).ids.shape[:2] == (3, 2)
    empty = search(np.arange(0))
    assert empty.ids.shape[:2] == (0, 2) and empty.scores.shape == (0, 2)


# -- exactly so long

ADDS = np.array([-1, -1, -1, 1, 2, 1])


def fitting(length):
    """All answers of exactly that length."""
    return [
        answer
        for answer in oracles.answers(len(ADDS), length + 1, END)
        if answer[-1] == END
        and all(ADDS[token] > 0 for token in answer[:-1])
        and ADDS[list(answer[:-1])].sum() == length
    ]


def test_exact_length_finds_the_best_answer_of_that_length_and_no_other():
    lengths = np.arange(20) % 5
    model = TableModel(Table.random(20, 5, len(ADDS)))
    processor = exact_length(lengths, END, ADDS)
    result = generate(model, np.arange(20), beam_width=60, max_length=9, processors=processor)
    for b, found in enumerate(answers_of(result)):
        expected = {
            answer: oracles.log_prob(answer, model.cell.of(b), START)
            for answer in fitting(lengths[b])
        }
        assert found[0][0] == max(expected, key=expected.get)
        assert dict(found).keys() == expected.keys()
        for answer, score in found:  # the model's own log p, not raised by what is forbidden
            np.testing.assert_allclose(score, expected[answer], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("width", [1, 3])
def test_exact_length_is_always_met(width):
    lengths = np.random.randint(0, 9, 40)
    model = TableModel(Table.random(40, 10, len(ADDS), spread=5.0))
    processor = exact_length(lengths, END, ADDS)
    result = generate(model, np.arange(40), beam_width=width, max_length=20, processors=processor)
    assert result.ids.shape[2] <= lengths.max() + 1  # what is impossible keeps no search going
    for b, found in enumerate(answers_of(result)):
        assert found
        for answer, _ in found:
            assert answer[-1] == END and ADDS[list(answer[:-1])].sum() == lengths[b]


@pytest.mark.parametrize("jit", [False, True], ids=["graph", "xla"])
def test_a_controlled_search_is_the_same_in_a_graph_and_under_xla(jit):
    model = TableModel(Table.random(6, 8, len(ADDS)))

    def run(lengths):
        processor = exact_length(lengths, END, ADDS)
        return generate(model, np.arange(6), beam_width=3, max_length=8, processors=processor)[:3]

    lengths = tf.constant([0, 1, 2, 3, 4, 5])
    expected = answers_of(run(lengths))
    found = answers_of(tf.function(run, jit_compile=jit)(lengths))
    assert [[a for a, _ in row] for row in found] == [[a for a, _ in row] for row in expected]


# -- over the model

of_the_model = keras3("the models ask their cells for a state without saying of what type")


def sharp(**settings):
    """An untrained model with strong opinions."""
    model = RNNSeq2Seq(**{"vocab_size": 11, "units": 8, **settings})
    model.build()
    for weight in model.trainable_variables:
        weight.assign(weight * 2 + 0.3 * np.random.normal(size=weight.shape))
    return model


SOURCES = np.array([[5, 6, 7, 8, 2], [9, 2, 0, 0, 0], [4, 4, 10, 2, 0]])


def replay(model, source, ids, lengths):
    """Teacher forcing of ids [B, K, T] -> log p [B, K], alignments [B, K, T, S] step by step."""
    batch, width, steps = ids.shape
    rows = np.repeat(source, width, 0)
    previous = np.concatenate([np.full((batch, width, 1), START), ids[..., :-1]], -1)
    memory, state = model.encode(rows)
    looks = {} if memory is None else {"memory": memory}
    logits, alignments = [], []
    for t in range(steps):
        tokens = previous[..., t].reshape(-1)
        output, state = model.cell(model.embed(tokens), state, **looks)
        logits.append(model.project(output))
        alignments.append(state.alignments if looks else tf.zeros([len(rows), 1]))
    logits, alignments = np.stack(logits, 1), np.stack(alignments, 1)
    memory, state = model.encode(rows)
    whole = model.decode(previous.reshape(-1, steps), memory, state)
    np.testing.assert_allclose(whole, logits, atol=1e-4)
    real = np.arange(steps) < lengths[..., None]
    losses = oracles.cross_entropy(logits, ids.reshape(-1, steps)).reshape(ids.shape)
    return -(losses * real).sum(-1), alignments.reshape(*ids.shape, -1) * real[..., None]


@of_the_model
@pytest.mark.parametrize("attention", ["bahdanau", "luong"])
@pytest.mark.parametrize("cell, layers", [("gru", 1), ("lstm", 2)])
def test_scores_and_alignments_are_those_of_teacher_forcing(cell, layers, attention):
    model, weight, coverage = sharp(cell=cell, layers=layers, attention=attention), 0.7, 0.4
    result = model.generate(
        SOURCES,
        beam_width=4,
        max_length=6,
        length_penalty=weight,
        coverage_penalty=coverage,
        return_alignments=True,
    )
    ids, lengths = result.ids.numpy(), result.lengths.numpy()
    log_p, alignments = replay(model, SOURCES, ids, lengths)
    np.testing.assert_allclose(result.alignments, alignments, atol=1e-4)
    for b, k in np.ndindex(lengths.shape):
        score = log_p[b, k] / oracles.length_penalty(lengths[b, k], weight)
        score += oracles.coverage_penalty(alignments[b, k], coverage)
        np.testing.assert_allclose(result.scores[b, k], score, rtol=1e-4, atol=1e-5)


@of_the_model
def test_a_model_without_attention_is_searched_too():
    model = sharp(attention=None, bidirectional=False)
    result = model.generate(SOURCES, beam_width=3, max_length=5)
    log_p, _ = replay(model, SOURCES, result.ids.numpy(), result.lengths.numpy())
    np.testing.assert_allclose(result.scores, log_p, rtol=1e-4, atol=1e-5)
    assert result.alignments is None


@of_the_model
def test_a_beam_of_one_takes_the_likeliest_token_of_every_step():
    model = sharp()
    result = model.generate(SOURCES, max_length=6)
    for b in range(len(SOURCES)):
        memory, state = model.encode(SOURCES[b : b + 1])
        token, answer = START, []
        while token != END and len(answer) < 6:
            output, state = model.cell(model.embed(np.array([token])), state, memory=memory)
            token = int(np.argmax(model.project(output)))
            answer.append(token)
        assert result.ids[b, 0, : len(answer)].numpy().tolist() == answer
        assert int(result.lengths[b, 0]) == len(answer)


def same_answers(one, other):
    assert [[a for a, _ in row] for row in answers_of(one)] == [
        [a for a, _ in row] for row in answers_of(other)
    ]
    np.testing.assert_allclose(one.scores, other.scores, rtol=1e-4, atol=1e-5)


SETTINGS = {"beam_width": 3, "max_length": 6, "length_penalty": 1.0, "coverage_penalty": 0.2}


@of_the_model
def test_an_answer_depends_on_its_source_alone():
    model = sharp()
    together = model.generate(SOURCES, **SETTINGS)
    order = [2, 0, 1]
    turned = SearchResult(*(tf.gather(part, order) for part in together[:3]), alignments=None)
    same_answers(model.generate(SOURCES[order], **SETTINGS), turned)
    padded = np.pad(SOURCES, [[0, 0], [0, 4]])
    same_answers(model.generate(padded, **SETTINGS), together)
    for b, source in enumerate(SOURCES):
        alone = model.generate(source[None, source != PAD], **SETTINGS)
        assert answers_of(alone)[0][0][0] == answers_of(together)[b][0][0]
        np.testing.assert_allclose(alone.scores[0], together.scores[b], rtol=1e-4, atol=1e-5)


@of_the_model
def test_a_source_without_a_single_token_still_gets_an_answer():
    result = sharp().generate(np.zeros((2, 3), int), return_alignments=True, **SETTINGS)
    assert np.isfinite(result.scores).all() and not result.alignments.numpy().any()


@of_the_model
@pytest.mark.parametrize("jit", [*full(False), True])
def test_graph_and_xla_answer_as_eager_does(jit):
    model = sharp(cell="lstm")

    def run(source):
        return model.generate(source, return_alignments=True, **SETTINGS)

    expected = run(SOURCES)
    found = tf.function(run, jit_compile=jit)(tf.constant(SOURCES))
    same_answers(found, expected)
    steps = expected.ids.shape[2]
    np.testing.assert_allclose(found.alignments[:, :, :steps], expected.alignments, atol=1e-4)


@of_the_model
def test_batch_and_length_may_be_unknown_in_a_graph():
    model = sharp()
    run = tf.function(
        lambda source, limit: model.generate(source, beam_width=2, max_length=limit),
        input_signature=[tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([], tf.int32)],
        autograph=False,
    )
    for source, limit in ((SOURCES, 5), (SOURCES[:1, :2], 2)):
        same_answers(run(source, limit), model.generate(source, beam_width=2, max_length=limit))


@pytest.mark.full
@of_the_model
def test_a_padded_graph_answers_as_any_and_can_be_compiled_later():
    model = sharp(cell="lstm")
    settings = {**SETTINGS, "max_length": 9}
    traced = tf.function(
        lambda source: model.generate(
            source, return_alignments=True, pad_to_max_length=True, **settings
        ),
        input_signature=[tf.TensorSpec([None, None], tf.int32)],
        autograph=False,
    ).get_concrete_function()
    expected = model.generate(SOURCES, return_alignments=True, **settings)
    steps = expected.ids.shape[2]
    for jit in (False, True):
        run = tf.function(lambda source: traced(source), jit_compile=jit, autograph=False)
        found = run(tf.constant(SOURCES, tf.int32))
        same_answers(found, expected)
        assert found.ids.shape[2] == 9 and not found.ids[:, :, steps:].numpy().any()
        alignments = found.alignments.numpy()
        np.testing.assert_allclose(alignments[:, :, :steps], expected.alignments, atol=1e-4)
        assert not alignments[:, :, steps:].any()
    assert traced(tf.zeros([0, 3], tf.int32)).ids.shape == (0, SETTINGS["beam_width"], 9)


@of_the_model
@pytest.mark.parametrize(
    "policy, everywhere",
    sampled(["mixed_float16", "mixed_bfloat16", "float64"], [False, True], together=1),
)
def test_any_policy_gives_finite_float32_scores(policy, everywhere):
    """The policy of a model holds, whether it is the global one or only the model's."""
    if everywhere:
        keras.mixed_precision.set_global_policy(policy)
    try:
        model = RNNSeq2Seq(vocab_size=11, units=8, dtype=policy)
        result = model.generate(SOURCES, return_alignments=True, **SETTINGS)
        logits = model((SOURCES, SOURCES))
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert result.scores.dtype == tf.float32 and np.isfinite(result.scores).all()
    assert logits.dtype == result.alignments.dtype == policy.removeprefix("mixed_")
    assert np.isfinite(tf.cast(logits, tf.float32)).all()


@of_the_model
@pytest.mark.parametrize("graph", [False, True])
def test_a_model_that_was_never_called_can_answer(graph):
    model = RNNSeq2Seq(vocab_size=11, units=8)

    def run(source):
        return model.generate(source, beam_width=2, max_length=3)

    call = tf.function(run) if graph else run
    same_answers(call(tf.constant(SOURCES)), run(tf.constant(SOURCES)))


@of_the_model
def test_dropout_is_off_in_a_search():
    model = sharp(dropout=0.5)
    same_answers(model.generate(SOURCES, **SETTINGS), model.generate(SOURCES, **SETTINGS))
