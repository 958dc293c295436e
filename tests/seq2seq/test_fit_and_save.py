"""`fit` with a decoder, a `.keras` file, and the same bits in a new process."""

import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.seq2seq import (
    AttentionWrapper,
    BahdanauAttention,
    BasicDecoder,
    LuongAttention,
    LuongMonotonicAttention,
    TrainingSampler,
)
from tests.sampled import sampled
from tests.seq2seq.cells import keras3

ROOT = pathlib.Path(__file__).parents[2]
BATCH, SOURCE, TARGET, UNITS, VOCABULARY = 4, 5, 3, 6, 9
random = np.random.default_rng(0)
SOURCE_IDS = random.integers(1, VOCABULARY, (BATCH, SOURCE))
TARGET_IDS = random.integers(1, VOCABULARY, (BATCH, TARGET))
CONSTANT = random.normal(size=(BATCH, SOURCE, UNITS)).astype("float32")


@keras.saving.register_keras_serializable("tests.fit_and_save")  # "tests" has a Translator
class Translator(keras.Model):
    """A model as users write one: the memory is made and used in `call`."""

    def __init__(self, mechanism="luong", dropout=0.0, history=False, **kwargs):
        super().__init__(**kwargs)
        self.config = {"mechanism": mechanism, "dropout": dropout, "history": history}
        kinds = {
            "luong": LuongAttention,
            "bahdanau": BahdanauAttention,
            "monotonic": LuongMonotonicAttention,
        }
        self.embedding = keras.layers.Embedding(VOCABULARY, UNITS)
        self.encoder = keras.layers.GRU(UNITS, return_sequences=True)
        cells = [keras.layers.LSTMCell(UNITS, dropout=dropout) for _ in range(2)]
        self.cell = AttentionWrapper(
            keras.layers.StackedRNNCells(cells),
            kinds[mechanism](UNITS),
            UNITS,
            alignment_history=history,
        )
        head = keras.layers.Dense(VOCABULARY)
        self.decoder = BasicDecoder(self.cell, TrainingSampler(), head, maximum_iterations=TARGET)

    def call(self, inputs, training=None):
        source, target = inputs
        memory = self.encoder(self.embedding(source))
        outputs, state, _ = self.decoder(self.embedding(target), memory=memory, training=training)
        if not self.config["history"]:
            return outputs.rnn_output
        history = tf.transpose(state.alignment_history.stack(), [1, 0, 2])  # [B, T, S]
        return tf.concat([outputs.rnn_output, history], -1)

    def get_config(self):
        return {**super().get_config(), **self.config}


def sequential():
    """An RNN in a Sequential model; what its mechanism looks at is bound, and no part of it."""
    cell = AttentionWrapper(keras.layers.GRUCell(UNITS, dropout=0.1), BahdanauAttention(UNITS))
    cell.attention_mechanism.setup_memory(CONSTANT)
    return keras.Sequential(
        [
            keras.Input([TARGET], batch_size=BATCH),
            keras.layers.Embedding(VOCABULARY, UNITS),
            keras.layers.RNN(cell, return_sequences=True),
            keras.layers.Dense(VOCABULARY),
        ]
    )


MAKE = {
    "plain": Translator,
    "monotonic": lambda: Translator("monotonic"),
    "dropout": lambda: Translator("bahdanau", dropout=0.3),
    "history": lambda: Translator(history=True),
    "compiled": lambda: Translator("bahdanau"),
    "compiled_history": lambda: Translator(history=True),
    "sequential": sequential,
}


HISTORIES = ("history", "compiled_history")
SAMPLED = ("dropout", "sequential", *HISTORIES)


def data(name):
    """x and y of a model."""
    x = TARGET_IDS if name == "sequential" else (SOURCE_IDS, TARGET_IDS)
    width = VOCABULARY + (SOURCE if "history" in name else 0)
    return x, np.ones((BATCH, TARGET, width), "float32")


def load_and_reply(folder, names):
    """Run in a process of its own."""
    for name in names:
        model = keras.saving.load_model(f"{folder}/{name}.keras")
        if name == "sequential":
            model.layers[1].cell.attention_mechanism.setup_memory(CONSTANT)
        np.save(f"{folder}/{name}.npy", model(data(name)[0]))


@pytest.fixture(scope="module")
def trained(tmp_path_factory, request):
    """The models that tests ask for, after three epochs: losses, replies here and elsewhere."""
    asked = [
        item.callspec.params.get("name")
        for item in request.session.items
        if hasattr(item, "callspec")
    ]
    names = [name for name in MAKE if name in {*asked, *HISTORIES}]
    folder = tmp_path_factory.mktemp("trained")
    losses, expected = {}, {}
    for name in names:
        model, (x, y) = MAKE[name](), data(name)
        model.compile("adam", "mse", jit_compile=name.startswith("compiled"))
        losses[name] = model.fit(x, y, epochs=3, batch_size=BATCH, verbose=0).history["loss"]
        expected[name] = model(x).numpy()
        model.save(folder / f"{name}.keras")
    program = (
        "from tests.seq2seq.test_fit_and_save import load_and_reply;"
        f"load_and_reply({str(folder)!r}, {names})"
    )
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return losses, {name: (np.load(folder / f"{name}.npy"), expected[name]) for name in names}


@keras3("models in .keras files")
@pytest.mark.parametrize(
    "name", [n if n in SAMPLED else pytest.param(n, marks=pytest.mark.full) for n in MAKE]
)
@pytest.mark.full
def test_a_model_learns_and_gives_the_same_bits_in_a_new_process(trained, name):
    losses, replies = trained
    assert losses[name][-1] < losses[name][0] or name in ("dropout", "sequential")
    assert np.isfinite(losses[name]).all()
    found, expected = replies[name]
    np.testing.assert_array_equal(found, expected)


@keras3("models in .keras files")
@pytest.mark.full
def test_a_history_is_the_same_compiled_and_not(trained):
    _, replies = trained
    for name in HISTORIES:
        history = replies[name][0][..., VOCABULARY:]
        np.testing.assert_allclose(history.sum(-1), np.ones((BATCH, TARGET)), atol=1e-5)


@pytest.mark.parametrize(
    "mechanism, policy",
    sampled(
        ["luong", "bahdanau", "monotonic"],
        ["float32", "mixed_bfloat16", "mixed_float16"],
        together=1,
    ),
)
def test_under_every_policy_nothing_is_nan_and_alignments_sum_to_one(mechanism, policy):
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy(policy)
    try:
        model = Translator(mechanism, history=True)
        with tf.GradientTape() as tape:
            outputs = model((SOURCE_IDS, TARGET_IDS))
            loss = tf.reduce_mean(tf.square(tf.cast(outputs, tf.float32)))
        gradients = tape.gradient(loss, model.trainable_variables)
    finally:
        keras.mixed_precision.set_global_policy(before)
    assert outputs.dtype == policy.removeprefix("mixed_")
    for value in (outputs, *gradients):
        assert np.isfinite(tf.cast(tf.convert_to_tensor(value), tf.float32)).all()
    sums = tf.reduce_sum(tf.cast(outputs[..., VOCABULARY:], tf.float32), -1)
    if mechanism == "monotonic":  # what is missing went past the end
        assert np.all(sums <= 1 + 2e-2)
    else:
        np.testing.assert_allclose(sums, np.ones((BATCH, TARGET)), atol=2e-2)
