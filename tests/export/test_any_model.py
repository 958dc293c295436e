"""Any model with an `encode` and a `cell` can be exported and served, without a base class."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention import export, text
from keras_attention.export import Endpoints, Settings, save_search
from keras_attention.export.server import load
from keras_attention.seq2seq import generate
from models import RNNSeq2Seq, Transformer, TransformerLM

V, D = 16, 8
LINES = ["hello", "you abc"]
SETTINGS = Settings(max_length=6)


@functools.cache
def tokenizer():
    return text.Characters.train(["hello you abc def"])


class Parts:
    """What a search needs, of an embedding, a cell and an output layer."""

    start_id, end_id, pad_id = text.START, text.END, text.PAD

    def encode(self, source):
        return None, tf.reduce_mean(self.embed(source), 1)

    def cell(self, inputs, state, training=False):
        output, (state,) = self.step(inputs, [state], training=training)
        return output, state


class Variables(Parts):
    """An object of nobody's class, with variables in it and a Keras layer."""

    def __init__(self):
        super().__init__()
        self.table = tf.Variable(tf.random.stateless_normal([V, D], [0, 1]))
        self.out = tf.Variable(tf.random.stateless_normal([D, V], [0, 2]))
        self.step = keras.layers.GRUCell(D, kernel_initializer=keras.initializers.GlorotUniform(3))

    def embed(self, tokens):
        return tf.gather(self.table, tokens)

    def project(self, output):
        return output @ self.out


class Module(Variables, tf.Module):
    pass


class Layers(Parts, keras.Model):
    """Not built, and without a `call`."""

    def __init__(self):
        super().__init__()
        self.embed = keras.layers.Embedding(V, D, keras.initializers.RandomNormal(stddev=1, seed=1))
        self.step = keras.layers.GRUCell(D, kernel_initializer=keras.initializers.GlorotUniform(3))
        self.project = keras.layers.Dense(V, kernel_initializer=keras.initializers.GlorotUniform(4))


@pytest.fixture
def unchecked(monkeypatch):
    """What is exported is loaded by the test itself; the last ones start the clean process."""
    monkeypatch.setattr("keras_attention.export.search.check_in_clean_process", lambda *_: None)


def served(directory, model, **settings):
    """-> what was exported, and signatures of what was loaded."""
    endpoints = Endpoints(
        model,
        tokenizer(),
        beam_width=2,
        return_alignments=False,
        **{"settings": SETTINGS, **settings},
    )
    save_search(str(directory), endpoints, LINES, warm_up=False)
    return endpoints, load(str(directory)).signatures


@pytest.mark.full
@pytest.mark.parametrize("kind", [Module, pytest.param(Layers, marks=pytest.mark.full)])
@pytest.mark.usefixtures("unchecked")
def test_any_model_serves_every_signature(kind, tmp_path):
    model = kind()
    endpoints, signatures = served(tmp_path / "served", model)
    source = endpoints.source_ids(tf.constant(LINES))
    found = generate(model, source, beam_width=2, max_length=6)
    asked = {"text": np.array(LINES, object)}
    varied = {name: np.array(value) for name, value in SETTINGS._asdict().items()}
    for answer in (
        signatures["serving_default"](asked),
        signatures["generate_with_settings"]({**asked, **varied}),
    ):
        assert (answer["replies"] == tokenizer().decode(found.ids).numpy()).all()
        np.testing.assert_allclose(answer["scores"], found.scores, 1e-5)
    by_ids = signatures["generate"]({"ids": source.numpy()})
    np.testing.assert_allclose(by_ids["scores"], found.scores, 1e-5)
    # An answer of its own, as likely as the search found it.
    said = answer["replies"][:, 0]
    scored = signatures["score"]({"source": asked["text"], "target": said})
    ended = (found.ids[:, 0] == model.end_id).numpy().any(1)
    expected = found.scores[:, 0].numpy()
    total = scored["log_probability"]
    cut = [row[: len(said[i])].sum() for i, row in enumerate(scored["token_log_probabilities"])]
    np.testing.assert_allclose(np.where(ended, total, cut), expected, 1e-4)


def test_missing_parts_of_a_model_are_named():
    class Half:
        start_id, end_id, pad_id = 1, 2, 0

        def encode(self, source):
            return None, None

    with pytest.raises(ValueError, match="a Half, which has no embed, project, cell"):
        Endpoints(Half(), tokenizer())


@pytest.mark.full
def test_without_a_tokenizer_the_clean_process_gets_ids(tmp_path, monkeypatch):
    asked = []

    def check(*arguments):
        asked.append(arguments[1:3])
        export.check_in_clean_process(*arguments)

    monkeypatch.setattr("keras_attention.export.search.check_in_clean_process", check)
    endpoints = Endpoints(Variables(), settings=SETTINGS, return_alignments=False)
    export.save_search(str(tmp_path / "served"), endpoints, warm_up=False)
    ((ids, expected),) = asked
    assert ids.dtype == tf.int32 and expected.keys() == {"ids", "scores", "lengths"}


@pytest.mark.parametrize("end", [-1, V])
def test_a_model_that_never_ends_is_served_by_its_ids_alone(end):
    model = Variables()
    model.end_id = end
    endpoints = Endpoints(model, settings=SETTINGS, return_alignments=False)
    found = endpoints.generate(tf.constant([[5, 6], [7, 0]]))
    assert (found["lengths"].numpy() == SETTINGS.max_length).all()
    (asked,) = export.search.warm_up_requests(endpoints, ())[0].inputs.values()
    assert ((asked.numpy() >= 0) & (asked.numpy() < V)).all()
    with pytest.raises(ValueError, match=f"an end_id among the tokenizer's.*end_id={end}"):
        Endpoints(model, tokenizer())


def test_a_line_is_cut_to_what_a_reply_has_room_for():
    model = TransformerLM(V, layers=1, width=8, heads=2, ff_width=8)
    model.build()
    settings = dict(settings=Settings(max_length=2), beam_width=1, return_alignments=False)
    endpoints = Endpoints(model, tokenizer(), **settings)
    ids = endpoints.source_ids(tf.constant([LINES[0]]))
    assert ids.shape[1] == 2
    assert endpoints.serving_default(tf.constant([LINES[0]]))["lengths"].numpy().tolist() == [[2]]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.full
def test_a_language_model_continues_with_its_line(tmp_path):
    model = TransformerLM(V, layers=1, width=16, heads=2, ff_width=32)
    model.build()
    random = np.random.default_rng(2)
    for weight in model.trainable_variables:
        weight.assign(random.normal(size=weight.shape) * 0.5)
    endpoints, signatures = served(
        tmp_path / "served", model, settings=Settings(max_length=12), max_source_length=9
    )
    prompt = tokenizer().encode(LINES).to_tensor(model.pad_id)
    found = model.generate(prompt, beam_width=2, max_length=12)
    answer = signatures["serving_default"]({"text": np.array(LINES, object)})
    assert (answer["replies"] == tokenizer().decode(found.ids).numpy()).all()
    np.testing.assert_allclose(answer["scores"], found.scores, 1e-5)
    for line, replies in zip(LINES, answer["replies"]):
        assert all(reply.startswith(line.encode()) and reply != line for reply in replies)
    by_ids = signatures["generate"]({"ids": prompt.numpy()})
    assert (by_ids["ids"] == found.ids).numpy().all()
    for wrong, message in [([[V]], "V = "), ([[0, 5]], "padded on the right")]:
        with pytest.raises(ValueError, match=f"rejects the inputs: .*{message}"):
            signatures["generate"]({"ids": np.array(wrong, np.int32)})
    # A reply is scored with its beginning, as the search does.
    said = tf.concat([[[model.start_id]], tokenizer().encode(["you"]).to_tensor()], 1)
    log_probs = np.log(tf.nn.softmax(model(said))[0])
    expected = [log_probs[i, token] for i, token in enumerate([*said[0, 1:], model.end_id])]
    scored = signatures["score"](
        {"source": np.array(["yo"], object), "target": np.array(["you"], object)}
    )
    np.testing.assert_allclose(scored["token_log_probabilities"][0], expected, 1e-4)


class Spaces(text.Tokenizer):
    """A tokenizer of the user's own, with an op of TF-Text."""

    def __init__(self):
        super().__init__(b"", [5, 3])
        self.words = tf.constant(["hello", "you"])

    def encode(self, line):
        import tensorflow_text

        words = tensorflow_text.WhitespaceTokenizer().tokenize(line)
        return tf.ragged.map_flat_values(
            lambda word: tf.where(word == "hello", 4, tf.where(word == "you", 5, text.UNKNOWN)),
            words,
        )

    def _pieces(self, ids):
        return tf.gather(self.words, tf.maximum(ids - 4, 0))

    def _spell(self, ids):
        return tf.strings.reduce_join(tf.gather(self.words, tf.maximum(ids - 4, 0)), 1)


@pytest.mark.full
def test_a_custom_tokenizer_may_use_ops_of_tf_text(tmp_path):
    pytest.importorskip("tensorflow_text")
    tokenizer = Spaces()
    endpoints = Endpoints(Variables(), tokenizer, settings=SETTINGS, return_alignments=False)
    found = save_search(str(tmp_path / "served"), endpoints, ["hello you"], warm_up=False)
    assert found.outside


@pytest.mark.parametrize("lines", [pytest.param((), marks=pytest.mark.full), [b"\xff", "hello\0"]])
@pytest.mark.full
def test_any_lines_work_in_the_clean_process(lines, tmp_path):
    endpoints = Endpoints(Module(), tokenizer(), settings=SETTINGS, return_alignments=False)
    endpoints.functions = {"serving_default": endpoints.serving_default}
    save_search(str(tmp_path / "served"), endpoints, lines, warm_up=False)


def test_an_output_that_does_not_exist_cannot_be_compared(tmp_path):
    endpoints = Endpoints(Variables(), settings=SETTINGS, return_alignments=False)
    with pytest.raises(ValueError, match="Expected outputs among .*'ids'.*compare=..nothing"):
        save_search(str(tmp_path / "served"), endpoints, compare=["nothing"])


# -- models that were never called

FRESH = {
    "transformer": lambda: Transformer(V, layers=1, width=D, heads=2, ff_width=D),
    "language model": lambda: TransformerLM(V, layers=1, width=D, heads=2, ff_width=D),
    "rnn": lambda: RNNSeq2Seq(V, units=D),
}


@pytest.mark.full
@pytest.mark.parametrize("name", FRESH)
def test_a_model_that_was_never_called_is_exported(name):
    model = FRESH[name]()
    aligned = name != "language model"
    serve = Endpoints(model, beam_width=2, settings=SETTINGS, return_alignments=aligned)
    ids = tf.constant([[5, 6, 7]])
    expected = generate(model, ids, beam_width=2, max_length=6).scores
    np.testing.assert_allclose(serve.generate(ids)["scores"], expected, rtol=1e-5)


@pytest.mark.parametrize("name", FRESH)
def test_the_parts_of_a_model_may_be_used_before_the_model(name):
    model = FRESH[name]()
    hidden = model.embed(tf.constant([[5, 6]]))
    model.build()
    np.testing.assert_array_equal(model.embed(tf.constant([[5, 6]])), hidden)
