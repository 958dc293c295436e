"""Training and evaluation of a model whose loss and metrics do not read its logits."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.data import batches
from keras_attention.functional import projection
from keras_attention.layers import LinearCrossEntropy, TiedEmbedding
from keras_attention.training import (
    AccumulateGradients,
    ClipByGlobalNorm,
    GuidedAlignment,
    Perplexity,
    TokenAccuracy,
    TokenCrossentropy,
    WithAlignments,
    token_objective,
)
from models.encoder import TransformerTagger
from models.language_model import TransformerLM
from models.rnn_seq2seq import RNNSeq2Seq
from models.transformer import Transformer

V = 30
SMALL = {"layers": 1, "width": 8, "heads": 2, "ff_width": 16, "dropout": 0.0}
MODELS = {
    "rnn": lambda: RNNSeq2Seq(V, units=8),
    "rnn_tied": lambda: RNNSeq2Seq(V, units=8, tie_output=True),
    "transformer": lambda: Transformer(V, **SMALL),
    "language_model": lambda: TransformerLM(V, **SMALL),
    "tagger": lambda: TransformerTagger(V, V, **SMALL),
}


@pytest.fixture
def passes(monkeypatch):
    """The graph of each pass over the tokens that was traced."""
    own, calls = projection.linear_cross_entropy, []

    def traced(*args):
        calls.append(tf.compat.v1.get_default_graph())
        return own(*args)

    monkeypatch.setattr(projection, "linear_cross_entropy", traced)
    monkeypatch.setattr(projection, "LEAST_VOCABULARY", V)
    return calls


def assert_one_pass(passes):
    """The loss and all metrics of a step share one."""
    assert passes and len(passes) == len({id(graph) for graph in passes})


def data(both=True, pad_id=0):
    rng = np.random.default_rng(0)
    source, target_in, target = rng.integers(3, V, (3, 6, 4)).astype("int32")
    weights = np.ones((6, 4), "float32")
    weights[1, 2:], weights[4], weights[3] = 0, 0, 0.5
    target[weights == 0] = -100
    return ((source, target_in) if both else target_in), target, weights


def learned(make, plain, steps=2, policy="float32", objective=None, **settings):
    """The logs of a few steps and an evaluation; `plain` reads the logits."""
    keras.utils.set_random_seed(0)
    optimizer = settings.pop("optimizer", lambda: keras.optimizers.SGD(0.5))()
    keras.config.set_dtype_policy(policy)
    try:
        model = make()
    finally:
        keras.config.set_dtype_policy("float32")
    model.compile(optimizer, **(objective or token_objective)(), **settings)
    x, y, weights = data(isinstance(model, (RNNSeq2Seq, Transformer)))
    least, projection.LEAST_VOCABULARY = projection.LEAST_VOCABULARY, 10**9 if plain else V
    try:
        logs = [model.train_on_batch(x, y, weights, return_dict=True) for _ in range(steps)]
        logs.append(model.test_on_batch(x, y, weights, return_dict=True))
    finally:
        projection.LEAST_VOCABULARY = least
    return [list(log.values()) for log in logs]


def some_full(ids, full):
    """Values for parametrize, of which some run in the full run alone."""
    return [pytest.param(n, marks=pytest.mark.full) if n in full else n for n in ids]


@pytest.mark.parametrize("name", some_full(MODELS, ("rnn", "rnn_tied", "tagger", "transformer")))
def test_every_model_learns_as_it_does_from_its_logits(name, passes):
    found = learned(MODELS[name], plain=False)
    assert_one_pass(passes)
    count = len(passes)
    np.testing.assert_allclose(found, learned(MODELS[name], plain=True), rtol=1e-5)
    assert len(passes) == count


SETTINGS = {
    "jit": {"jit_compile": True},
    "bfloat16": {"policy": "mixed_bfloat16"},
    "float16": {"policy": "mixed_float16"},
    "accumulating": {"optimizer": lambda: AccumulateGradients(ClipByGlobalNorm("sgd", 1.0), 2)},
    "accumulating_in_keras": {
        "optimizer": lambda: keras.optimizers.Adam(gradient_accumulation_steps=2)
    },
    "smooth": {"objective": lambda: token_objective(0.1)},
    "sum": {"objective": lambda: {"loss": TokenCrossentropy(reduction="sum")}},
}


@pytest.mark.parametrize(
    "name",
    some_full(
        SETTINGS,
        ("smooth", "jit", "float16", "bfloat16", "accumulating", "accumulating_in_keras", "sum"),
    ),
)
def test_with_every_setting_it_learns_as_from_logits(name, passes):
    settings = dict(SETTINGS[name])
    tolerance = 0.01 if "policy" in settings else 1e-5
    found = learned(MODELS["language_model"], False, **settings)
    assert_one_pass(passes)
    expected = learned(MODELS["language_model"], True, **settings)
    np.testing.assert_allclose(found, expected, rtol=tolerance)


@pytest.mark.parametrize(
    "objective",
    [
        {"loss": TokenCrossentropy, "weighted_metrics": lambda: ["sparse_categorical_accuracy"]},
        {"loss": lambda: keras.losses.SparseCategoricalCrossentropy(from_logits=True)},
        {"loss": lambda: TokenCrossentropy(reduction="none")},
    ],
    ids=["another_metric", "another_loss", "no_reduction"],
)
def test_what_needs_the_logits_gets_them(objective, passes):
    model = MODELS["language_model"]()
    model.compile("sgd", **{name: make() for name, make in objective.items()})
    x, y, weights = data(both=False)
    found = model.test_on_batch(x, abs(y) % V, weights)
    assert not passes
    assert np.isfinite(found).all()


@pytest.mark.full
def test_eager_steps_use_the_logits_that_exist(passes):
    settings = {"run_eagerly": True, "steps": 1}
    found = learned(MODELS["language_model"], False, **settings)
    assert not passes
    np.testing.assert_allclose(found, learned(MODELS["language_model"], False, 1), rtol=1e-5)


def test_logits_that_would_not_fit_into_any_memory_are_never_formed():
    rows, size = 2**14, 2**18  # 2^34 logits, 64 GiB
    ids = np.full((rows, 4), 5, "int32")
    weights = np.zeros((rows, 4), "float32")
    weights[:2] = 1
    model = TransformerLM(size, layers=1, width=2, heads=1, ff_width=2)
    model.compile("sgd", **token_objective(0.1))
    first = model.train_on_batch(ids, ids, weights)[0]
    assert model.test_on_batch(ids, ids, weights)[0] < first


@pytest.mark.full
def test_guided_alignment_trains_beside_it(passes):
    def run(plain):
        projection.LEAST_VOCABULARY = 10**9 if plain else V
        keras.utils.set_random_seed(0)
        guided = WithAlignments(MODELS["transformer"]())
        guided.compile(
            keras.optimizers.SGD(0.5),
            loss={"logits": TokenCrossentropy(), "alignments": GuidedAlignment()},
            weighted_metrics={"logits": [Perplexity(), TokenAccuracy()], "alignments": []},
        )
        x, y, weights = data()
        targets = {"logits": y, "alignments": np.eye(4, dtype="float32")[None].repeat(6, 0)}
        both = {"logits": weights, "alignments": weights}
        return [guided.train_on_batch(x, targets, both) for _ in range(2)]

    found = run(plain=False)
    assert_one_pass(passes)
    np.testing.assert_allclose(found, run(plain=True), rtol=1e-5)


@pytest.mark.parametrize("given", [None, "rows"])
def test_keras_masks_and_one_weight_a_sentence_count(given, passes):
    def run(plain):
        projection.LEAST_VOCABULARY = 10**9 if plain else V
        ones = keras.initializers.GlorotUniform(1)
        model = keras.Sequential([
            keras.layers.Embedding(V, 4, ones, mask_zero=True),
            LinearCrossEntropy(V, kernel_initializer=ones),
        ])  # fmt: skip
        model.compile(keras.optimizers.SGD(0.5), **token_objective())
        ids = np.array([[5, 6, 0], [7, 0, 0]])
        weights = None if given is None else np.array([[1.0], [0.5]])
        return [model.train_on_batch(ids, ids, weights) for _ in range(2)]

    found = run(plain=False)
    assert_one_pass(passes)
    np.testing.assert_allclose(found, run(plain=True), rtol=1e-5)


def test_a_loss_in_a_branch_and_a_metric_outside_share_nothing(passes):
    layer, loss, metric = LinearCrossEntropy(V), TokenCrossentropy(), Perplexity()
    hidden, ids = tf.ones([1, 2, 4]), tf.constant([[1, 2]])
    layer(hidden)

    @tf.function
    def run(training):
        logits = layer(hidden)
        found = tf.cond(training, lambda: loss(ids, logits), lambda: tf.constant(0.0))
        metric.update_state(ids, logits)
        return found

    found = run(tf.constant(True))
    np.testing.assert_allclose(tf.exp(found), metric.result(), rtol=1e-6)
    assert len(passes) == 2


@pytest.mark.full
def test_a_model_that_changes_its_logits_is_measured_by_the_changed_ones(passes):
    class Cooler(TransformerLM):
        def project(self, output):
            return super().project(output) / 2

    def run(plain):
        return learned(lambda: Cooler(V, **SMALL), plain)

    np.testing.assert_allclose(run(False), run(True), rtol=1e-6)
    assert not passes


def test_batches_of_other_lengths_are_not_traced_again(passes):
    model = MODELS["rnn"]()
    model.compile("sgd", **token_objective())
    short = [[5, 6], [7], [8, 9]]
    model.fit(batches(short, short, 2), verbose=0)
    traced = len(passes)
    long = [[3 + place % 9 for place in range(length)] for length in (3, 9, 4, 17)]
    model.fit(batches(short + long, long + short, 2), verbose=0)
    assert len(passes) == traced > 0


# -- the layer


def test_the_layer_is_the_loss_of_its_logits():
    rng = np.random.default_rng(0)
    hidden = tf.constant(rng.normal(size=(2, 3, 4)), tf.float32)
    targets, weights = tf.constant([[1, 2, -1], [5, 0, 3]]), tf.constant([[1.0, 2, 0], [1, 1, 1]])
    for layer in (
        LinearCrossEntropy(6, label_smoothing=0.1),
        LinearCrossEntropy(tied_to=TiedEmbedding(6, 4), use_bias=False),
        LinearCrossEntropy(tied_to=keras.layers.Embedding(6, 4)),
    ):
        loss, tokens = layer(hidden, targets, weights, return_tokens=True)
        expected = TokenCrossentropy(layer.label_smoothing)(targets, layer.logits(hidden), weights)
        np.testing.assert_allclose(loss, expected, rtol=1e-5)
        right = tf.argmax(layer(hidden), -1, tf.int32) == targets
        np.testing.assert_array_equal(tokens.correct, right)


def test_the_layer_is_saved_with_the_embedding_that_it_shares(tmp_path):
    @keras.saving.register_keras_serializable("tests")
    class Own(keras.Model):
        def __init__(self, output=None, **kwargs):
            super().__init__(**kwargs)
            self.output_layer = output or LinearCrossEntropy(tied_to=TiedEmbedding(6, 4))

        def call(self, ids):
            hidden = self.output_layer.tied_to(ids)
            self.add_loss(self.output_layer(hidden, ids))
            return self.output_layer.logits(hidden)

        def get_config(self):
            return {"output": keras.saving.serialize_keras_object(self.output_layer)}

        @classmethod
        def from_config(cls, config):
            return cls(keras.saving.deserialize_keras_object(config["output"]))

    model, ids = Own(), np.array([[1, 2, 3]])
    model.compile("sgd")
    first = model.train_on_batch(ids)
    assert model.train_on_batch(ids) < first
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert len(loaded.weights) == len(model.weights) == 2
    np.testing.assert_array_equal(loaded(ids), model(ids))


@pytest.mark.parametrize(
    "settings, words",
    [
        ({}, "vocab_size or tied_to"),
        ({"vocab_size": 3, "tied_to": "x"}, "vocab_size or tied_to"),
        ({"tied_to": "x"}, "Embedding or a TiedEmbedding"),
        ({"vocab_size": 0}, "at least 1"),
        ({"vocab_size": 3, "label_smoothing": 1.0}, "below 1"),
    ],
)
def test_bad_settings_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        LinearCrossEntropy(**settings)
