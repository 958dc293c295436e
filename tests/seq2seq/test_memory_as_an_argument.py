"""The memory is an argument, everywhere: functional models, sequences, fit, files, processes."""

import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.seq2seq import (
    AttentionRNN,
    AttentionWrapper,
    BahdanauAttention,
    BahdanauMonotonicAttention,
    BasicDecoder,
    BeamSearchDecoder,
    LuongAttention,
    LuongMonotonicAttention,
    TrainingSampler,
)
from tests.sampled import full
from tests.seq2seq.cells import keras3, normal

ROOT = pathlib.Path(__file__).parents[2]
KINDS = [LuongAttention, LuongMonotonicAttention, BahdanauAttention, BahdanauMonotonicAttention]
each = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
functional = keras3("functional models and .keras files")

BATCH, SOURCE, TARGET, UNITS, VOCABULARY = 3, 5, 4, 6, 11
SOURCE_IDS = np.array([[3, 4, 5, 6, 7], [3, 4, 0, 0, 0], [8, 0, 0, 0, 0]])
TARGET_IDS = np.array([[1, 5, 6, 2], [1, 7, 2, 0], [1, 2, 0, 0]])


def embedding():
    return keras.layers.Embedding(VOCABULARY, UNITS, mask_zero=True)


def asked(kind):
    """ids, query, state -> alignments, by a memory given in the constructor."""
    ids = keras.Input([SOURCE], dtype="int32")
    memory = keras.layers.LSTM(UNITS, return_sequences=True)(embedding()(ids))
    query, state = keras.Input([UNITS]), keras.Input([SOURCE])
    mechanism = kind(UNITS, memory)
    return keras.Model([ids, query, state], mechanism([query, state])), mechanism


def asked_explicitly(kind):
    """The same with the memory handed over at the call."""
    ids = keras.Input([None], dtype="int32")
    memory = keras.layers.LSTM(UNITS, return_sequences=True)(embedding()(ids))
    query, state = keras.Input([UNITS]), keras.Input([None])
    mechanism = kind(UNITS)
    return keras.Model([ids, query, state], mechanism([query, state], memory=memory)), mechanism


def decoded(kind, history=False):
    """source, target -> logits, by a decoder."""
    source, target = (keras.Input([None], dtype="int32") for _ in range(2))
    memory, *state = keras.layers.LSTM(UNITS, return_sequences=True, return_state=True)(
        embedding()(source)
    )
    cell = AttentionWrapper(keras.layers.LSTMCell(UNITS), kind(UNITS), UNITS)
    decoder = BasicDecoder(cell, TrainingSampler(), keras.layers.Dense(VOCABULARY))
    inputs = keras.layers.Embedding(VOCABULARY, UNITS)(target)
    outputs, _, _ = decoder(inputs, memory=memory, initial_cell_state=state)
    return keras.Model([source, target], outputs.rnn_output), decoder


def run_over(kind):
    """source, target -> logits, by an RNN."""
    source, target = (keras.Input([None], dtype="int32") for _ in range(2))
    memory = keras.layers.GRU(UNITS, return_sequences=True)(embedding()(source))
    cell = AttentionWrapper(keras.layers.GRUCell(UNITS, dropout=0.1), kind(UNITS), UNITS)
    rnn = AttentionRNN(cell, return_sequences=True)
    hidden = rnn(keras.layers.Embedding(VOCABULARY, UNITS)(target), memory=memory)
    return keras.Model([source, target], keras.layers.Dense(VOCABULARY)(hidden)), rnn


def reply(model):
    """What a model says to the example."""
    if len(model.inputs) == 2:
        return model([SOURCE_IDS, TARGET_IDS])
    random = np.random.default_rng(0)
    query = random.normal(size=(BATCH, UNITS)).astype("float32")
    state = np.eye(SOURCE, dtype="float32")[[0] * BATCH]
    return model([SOURCE_IDS, query, state])[0]


MODELS = {"asked": asked, "asked_explicitly": asked_explicitly, "decoded": decoded, "rnn": run_over}
PAIRS = [(kind, "asked") for kind in KINDS]
PAIRS += [(BahdanauMonotonicAttention, name) for name in MODELS if name != "asked"]
every = pytest.mark.parametrize(
    "kind, name", [PAIRS[1], *full(*PAIRS[:1], *PAIRS[2:4]), *PAIRS[4:6], *full(*PAIRS[6:])]
)


@functional
@every
def test_a_functional_model_learns_in_fit_and_respects_the_mask(kind, name):
    model, _ = MODELS[name](kind)
    model.compile("rmsprop", "mse")
    if len(model.inputs) == 2:
        x, y = [SOURCE_IDS, TARGET_IDS], np.ones((BATCH, TARGET, VOCABULARY))
    else:
        x = [SOURCE_IDS, normal(BATCH, UNITS), np.eye(SOURCE)[[0] * BATCH]]
        y = [np.ones((BATCH, SOURCE))] * 2
    loss = model.fit(x, y, verbose=0).history["loss"]
    assert np.isfinite(loss).all()
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(tf.square(reply(model)))
    assert not any(g is None for g in tape.gradient(total, model.trainable_variables))
    if len(model.inputs) == 3:
        alignments = reply(model)
        assert np.all(alignments[1, 2:] == 0) and np.all(alignments[2, 1:] == 0)
        assert np.any(alignments[0, 1:] != 0)


def load_and_reply(folder):
    """Run in a process of its own."""
    for file in pathlib.Path(folder).glob("*.keras"):
        np.save(file.with_suffix(".npy"), reply(keras.saving.load_model(file)))


@functional
@pytest.mark.full
def test_a_saved_functional_model_gives_the_same_bits_in_a_new_process(tmp_path):
    expected = {}
    for kind, name in PAIRS:
        model, _ = MODELS[name](kind)
        for weight in model.trainable_variables:
            weight.assign(np.random.normal(size=weight.shape))
        model.save(tmp_path / f"{kind.__name__}_{name}.keras")
        expected[f"{kind.__name__}_{name}"] = reply(model)
    program = (
        "from tests.seq2seq.test_memory_as_an_argument import load_and_reply;"
        f"load_and_reply({str(tmp_path)!r})"
    )
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    for name, outputs in expected.items():
        np.testing.assert_array_equal(np.load(tmp_path / f"{name}.npy"), outputs, err_msg=name)


@functional
@each
def test_a_functional_model_survives_its_config_and_its_weights(kind):
    model, _ = asked(kind)
    copy = keras.Model.from_config(model.get_config())
    copy.set_weights(model.get_weights())
    np.testing.assert_array_equal(reply(copy), reply(model))


@functional
@pytest.mark.parametrize("name", ["asked_explicitly", *full("asked", "decoded", "rnn")])
def test_a_functional_model_is_exported(name, tmp_path):
    model, _ = MODELS[name](LuongAttention)
    model.export(str(tmp_path), verbose=False)
    loaded = tf.saved_model.load(str(tmp_path))
    inputs = [tf.constant(SOURCE_IDS, tf.int32), tf.constant(TARGET_IDS, tf.int32)]
    if len(model.inputs) == 3:
        query, state = tf.ones([BATCH, UNITS]), tf.ones([BATCH, SOURCE])
        inputs = [inputs[0], query, state]
        expected, found = model(inputs)[0], loaded.serve(inputs)[0]
    else:
        expected, found = model(inputs), loaded.serve(inputs)
    np.testing.assert_allclose(found, expected, atol=1e-6)


# -- the same numbers whichever way the memory comes


@each
def test_a_raw_memory_is_prepared_in_the_call(kind):
    mechanism, memory = kind(UNITS), normal(BATCH, SOURCE, UNITS)
    lengths = [5, 2, 1]
    prepared = mechanism.prepare_memory(memory, lengths)
    query = normal(BATCH, UNITS)
    state = mechanism.initial_state(BATCH, tf.float32, prepared)
    expected, _ = mechanism([query, state], memory=prepared)
    found, _ = mechanism([query, state], memory=memory, memory_sequence_length=lengths)
    np.testing.assert_array_equal(found, expected)
    mask = tf.sequence_mask(lengths, SOURCE)
    found, _ = mechanism([query, state], memory=memory, memory_mask=mask)
    np.testing.assert_array_equal(found, expected)


@each
@pytest.mark.parametrize("way", ["mechanism", "wrapper", "decoder", "beam", "rnn"])
def test_explicit_lengths_win_over_a_keras_mask(kind, way):
    memory = embedding()(SOURCE_IDS)  # says 5, 2, 1
    plain, lengths = tf.identity(memory), tf.constant([5, 4, 3])
    mechanism = kind(UNITS)
    cell = AttentionWrapper(keras.layers.GRUCell(UNITS), mechanism)
    inputs = normal(BATCH, TARGET, UNITS)
    head = keras.layers.Dense(VOCABULARY)

    def answer(memory, **kwargs):
        kwargs["memory"] = memory
        if way == "mechanism":
            state = tf.one_hot([0] * BATCH, SOURCE)
            return mechanism([inputs[:, 0], state], **kwargs)[0]
        if way == "wrapper":
            prepared = cell.prepare_memory(plain)
            state = cell.get_initial_state(batch_size=BATCH, memory=prepared)
            return cell(inputs[:, 0], state, **kwargs)[0]
        if way == "decoder":
            return BasicDecoder(cell, TrainingSampler())(inputs, **kwargs)[0].rnn_output
        if way == "rnn":
            return AttentionRNN(cell)(inputs, **kwargs)
        decoder = BeamSearchDecoder(cell, 2, output_layer=head, maximum_iterations=TARGET)
        table = np.linspace(0, 1, VOCABULARY * UNITS, dtype="float32").reshape(-1, UNITS)
        start = [1] * BATCH
        return decoder(table, start, 2, **kwargs)[0].beam_search_decoder_output.scores

    implicit = answer(memory)
    masked = answer(plain, memory_mask=tf.constant(SOURCE_IDS != 0))
    np.testing.assert_allclose(implicit, masked, atol=1e-6)
    both = answer(memory, memory_sequence_length=lengths)
    explicit = answer(plain, memory_sequence_length=lengths)
    np.testing.assert_allclose(both, explicit, atol=1e-6)
    assert np.any(np.abs(explicit - implicit) > 1e-6) or "Monotonic" in kind.__name__
    with pytest.raises(ValueError, match="same time"):
        answer(plain, memory_sequence_length=lengths, memory_mask=tf.constant(SOURCE_IDS != 0))


@each
def test_an_rnn_takes_the_steps_of_the_cell(kind):
    cell = AttentionWrapper(keras.layers.GRUCell(UNITS), kind(UNITS), UNITS)
    inputs, memory = normal(BATCH, TARGET, UNITS), normal(BATCH, SOURCE, UNITS)
    found = AttentionRNN(cell, return_sequences=True)(inputs, memory=memory)
    outputs = BasicDecoder(cell, TrainingSampler())(inputs, memory=memory)[0]
    np.testing.assert_allclose(found, outputs.rnn_output, atol=1e-6)


def test_an_rnn_wants_a_cell_that_attends():
    with pytest.raises(TypeError, match="AttentionWrapper"):
        AttentionRNN(keras.layers.GRUCell(3))


def test_an_rnn_begins_the_inner_cell_as_it_is_reported():
    cell = AttentionWrapper(keras.layers.LSTMCell(UNITS), LuongAttention(UNITS))
    inputs, memory = normal(BATCH, TARGET, UNITS), normal(BATCH, SOURCE, UNITS)
    begin = [normal(BATCH, UNITS), normal(BATCH, UNITS)]
    expected = BasicDecoder(cell, TrainingSampler())(
        inputs, memory=memory, initial_cell_state=begin
    )[0]
    rnn = AttentionRNN(cell, return_sequences=True)
    found = rnn(inputs, memory=memory, initial_cell_state=[tf.constant(part) for part in begin])
    np.testing.assert_allclose(found, expected.rnn_output, atol=1e-6)


@pytest.mark.parametrize("kind", [LuongAttention, *full(BahdanauAttention)])
def test_an_rnn_learns_compiled(kind):
    cell = AttentionWrapper(keras.layers.GRUCell(UNITS), kind(UNITS))
    rnn = AttentionRNN(cell)
    inputs, memory = normal(BATCH, TARGET, UNITS), normal(BATCH, SOURCE, UNITS)
    rnn(inputs, memory=memory)

    def gradients(inputs, memory):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(rnn(inputs, memory=memory)))
        return tape.gradient(loss, rnn.trainable_variables)

    unknown = [tf.TensorSpec([None, None, UNITS])] * 2
    compiled = tf.function(gradients, input_signature=unknown, jit_compile=True, autograph=False)
    for found, expected in zip(compiled(inputs, memory), gradients(inputs, memory)):
        np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("way", ["mechanism", "wrapper", "decoder", "rnn"])
def test_lengths_beside_a_memory_that_has_its_own_are_refused(way):
    cell = AttentionWrapper(keras.layers.GRUCell(UNITS), LuongAttention(UNITS))
    prepared = cell.prepare_memory(normal(BATCH, SOURCE, UNITS))
    inputs = normal(BATCH, TARGET, UNITS)
    state = cell.get_initial_state(batch_size=BATCH, memory=prepared)
    answer = {
        "mechanism": lambda **kwargs: cell.attention_mechanism([inputs[:, 0], None], **kwargs),
        "wrapper": lambda **kwargs: cell(inputs[:, 0], state, **kwargs),
        "decoder": lambda **kwargs: BasicDecoder(cell, TrainingSampler())(inputs, **kwargs),
        "rnn": lambda **kwargs: AttentionRNN(cell)(inputs, **kwargs),
    }[way]
    with pytest.raises(ValueError, match="was prepared"):
        answer(memory=prepared, memory_sequence_length=[1] * BATCH)
    with pytest.raises(ValueError, match="no memory"):
        answer(memory_sequence_length=[1] * BATCH)
    with pytest.raises(ValueError, match="result of prepare_memory"):
        answer(memory=[[[1.0] * UNITS] * SOURCE] * BATCH)
    with pytest.raises(ValueError, match=r"memory_mask must be \[B, S\]"):
        answer(memory=normal(BATCH, SOURCE, UNITS), memory_mask=np.ones([1, SOURCE], bool))


def test_an_initial_state_and_one_for_the_cell_exclude_each_other():
    cell = keras.layers.GRUCell(UNITS)
    state = tf.zeros([BATCH, UNITS])
    with pytest.raises(ValueError, match="clone"):
        BasicDecoder(cell, TrainingSampler())(
            normal(BATCH, TARGET, UNITS), initial_state=state, initial_cell_state=state
        )


def test_two_mechanisms_may_be_searched_over_memories_of_two_lengths():
    mechanisms = [LuongAttention(UNITS), BahdanauAttention(UNITS)]
    cell = AttentionWrapper(keras.layers.GRUCell(UNITS), mechanisms)
    raw = [normal(BATCH, SOURCE, UNITS), normal(BATCH, SOURCE + 2, UNITS)]
    head = keras.layers.Dense(VOCABULARY)
    table = normal(VOCABULARY, UNITS)

    def search(memory, **settings):
        decoder = BeamSearchDecoder(cell, 2, output_layer=head, maximum_iterations=3, **settings)
        return decoder(table, [1] * BATCH, 2, memory=memory)[0].predicted_ids

    prepared = [m.prepare_memory(part) for m, part in zip(mechanisms, raw)]
    np.testing.assert_array_equal(search(raw), search(prepared))
    with pytest.raises(ValueError, match="the same length"):
        search(raw, coverage_penalty_weight=0.1)


def test_an_rnn_has_no_place_for_a_history():
    cell = keras.layers.GRUCell(UNITS)
    for mechanism in (LuongAttention(UNITS), [LuongAttention(UNITS), BahdanauAttention(UNITS)]):
        with pytest.raises(ValueError, match="BasicDecoder"):
            AttentionRNN(AttentionWrapper(cell, mechanism, alignment_history=True))


def test_a_mask_of_the_inputs_is_no_surprise_and_ends_at_a_decoder(recwarn):
    cell = AttentionWrapper(keras.layers.GRUCell(UNITS), LuongAttention(UNITS))
    outputs, _, _ = BasicDecoder(cell, TrainingSampler())(
        embedding()(TARGET_IDS), memory=normal(BATCH, SOURCE, UNITS)
    )
    assert not [warning for warning in recwarn if "support masking" in str(warning.message)]
    assert getattr(outputs.rnn_output, "_keras_mask", None) is None


def test_a_decoder_begins_the_inner_cell_as_it_is_reported():
    cell = AttentionWrapper(keras.layers.LSTMCell(UNITS), LuongAttention(UNITS))
    inputs, memory = normal(BATCH, TARGET, UNITS), normal(BATCH, SOURCE, UNITS)
    begin = [normal(BATCH, UNITS), normal(BATCH, UNITS)]
    prepared = cell.prepare_memory(memory)
    state = cell.get_initial_state(batch_size=BATCH, memory=prepared)
    state = state.clone(cell_state=[tf.constant(part) for part in begin])
    decoder = BasicDecoder(cell, TrainingSampler())
    expected = decoder(inputs, initial_state=state, memory=prepared)[0]
    found = decoder(inputs, memory=memory, initial_cell_state=begin)[0]
    np.testing.assert_array_equal(found.rnn_output, expected.rnn_output)
