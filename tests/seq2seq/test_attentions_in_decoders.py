"""Every attention of `layers` over a memory can be the attention of an RNN decoder."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention import functional, layers
from keras_attention.functional import dot, scaled_dot, sparsemax, temporal_softmax
from keras_attention.seq2seq import (
    AttentionMechanism,
    AttentionRNN,
    AttentionWrapper,
    BahdanauAttention,
    BasicDecoder,
    BeamSearchDecoder,
    LuongMonotonicAttention,
    TrainingSampler,
    tile_batch,
)
from models import RNNSeq2Seq
from tests.sampled import full
from tests.seq2seq.cells import INPUT, UNITS, keras3, normal

pytestmark = keras3("layers")

BATCH, STEPS, SOURCE, WIDTH, VOCABULARY = 3, 4, 6, 5, 9
MASK = np.array([[1, 1, 1, 1, 1, 1], [0, 1, 1, 0, 1, 0], [0, 0, 0, 0, 0, 0]], bool)

ATTENTIONS = {
    "general": lambda **kw: layers.Attention(layers.GeneralScore(), **kw),
    "additive": lambda **kw: layers.Attention(
        layers.AdditiveScore(), query_units=7, key_units=7, value_units=2, **kw
    ),
    "sparsemax": lambda **kw: layers.Attention(scaled_dot, sparsemax, key_units=UNITS, **kw),
    "temporal": lambda **kw: layers.Attention(
        layers.GeneralScore(), normalize=temporal_softmax, **kw
    ),
    "local-m": lambda **kw: layers.LocalMonotonicAttention(
        layers.Attention(dot, key_units=UNITS, **kw), radius=1, **kw
    ),
    "local-p": lambda **kw: layers.LocalPredictiveAttention(
        layers.Attention(dot, key_units=UNITS, value_units=3, **kw), radius=2, **kw
    ),
    "hard": lambda **kw: layers.HardAttention(layers.Attention(layers.GeneralScore(), **kw), **kw),
    "pointer": lambda **kw: layers.PointerHead(7, **kw),
    "multi-head": lambda **kw: layers.MultiHeadAttention(2, key_width=3, **kw),
}
NAMES = list(ATTENTIONS)


def wrap(name, **kwargs):
    """A cell whose queries do not depend on what was attended to before."""
    cell = keras.layers.GRUCell(UNITS)
    return AttentionWrapper(cell, ATTENTIONS[name](), cell_input_fn=inputs_alone, **kwargs)


@keras.saving.register_keras_serializable("tests.attentions")
def inputs_alone(inputs, attention):
    return inputs


def unroll(wrapper, inputs, memory, state=None, **kwargs):
    """-> attentions, alignments and queries of all steps, [N, T, ...] each."""
    rows = inputs.shape[0]
    state = wrapper.get_initial_state(batch_size=rows, memory=memory) if state is None else state
    seen = []
    for t in range(inputs.shape[1]):
        attention, state = wrapper(inputs[:, t], state, memory=memory, **kwargs)
        seen.append((attention, state.alignments, state.cell_state[0]))
    return [np.stack(parts, 1) for parts in zip(*seen)]


def check_saved_and_exported(model, given, tmp_path):
    expected = model(given)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again(given), expected)
    model.export(str(tmp_path / "export"), verbose=False)
    served = tf.saved_model.load(str(tmp_path / "export"))
    np.testing.assert_allclose(served.serve(given), expected, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_steps_are_those_of_the_layer_called_with_all_queries(name):
    wrapper, values = wrap(name), normal(BATCH, SOURCE, WIDTH)
    memory = wrapper.prepare_memory(values, memory_mask=MASK)
    contexts, alignments, queries = unroll(wrapper, normal(BATCH, STEPS, INPUT), memory)
    attention = wrapper.attention_mechanism
    assert isinstance(attention, type(ATTENTIONS[name]()))
    if name == "pointer":
        weights = functional.softmax(
            attention(queries, values, memory_mask=MASK), tf.constant(MASK[:, None])
        )
        expected = tf.matmul(weights, np.where(MASK[..., None], values, 0.0))
    elif name == "hard":
        choice = attention(queries, values, memory_mask=MASK, return_choice=True)
        expected, weights = choice.context, choice.weights
    elif name == "multi-head":
        expected, weights = attention(queries, values, mask=MASK, return_weights=True)
        weights = tf.reduce_mean(weights, 1)
    else:
        expected, weights, *_ = attention(queries, values, memory_mask=MASK, return_weights=True)
    np.testing.assert_allclose(contexts, expected, atol=1e-5)
    np.testing.assert_allclose(alignments, weights, atol=1e-5)
    assert not alignments[2].any() and not alignments[:, :, ~MASK[0]].any()


@pytest.mark.parametrize("name", NAMES)
def test_hypotheses_of_a_source_share_its_memory(name):
    wrapper, values = wrap(name, attention_layer_size=7), normal(BATCH, SOURCE, WIDTH)
    inputs = normal(2 * BATCH, STEPS, INPUT)
    memory = wrapper.prepare_memory(values, memory_mask=MASK)
    found = unroll(wrapper, inputs, memory, beam_width=2)
    tiled = wrapper.prepare_memory(np.repeat(values, 2, 0), memory_mask=np.repeat(MASK, 2, 0))
    for ours, theirs in zip(found, unroll(wrapper, inputs, tiled)):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("name", [*NAMES[4:5], *NAMES[-1:], *full(*NAMES[:4], *NAMES[5:-1])])
def test_every_weight_learns_and_a_beam_search_gives_the_same_eager_and_in_a_graph(name):
    cell = AttentionWrapper(keras.layers.GRUCell(UNITS), ATTENTIONS[name](), 7)
    rnn, head = AttentionRNN(cell, return_sequences=True), keras.layers.Dense(VOCABULARY)
    embedding, values = (
        tf.constant(normal(VOCABULARY, INPUT)),
        tf.constant(normal(2, SOURCE, WIDTH)),
    )
    with tf.GradientTape() as tape:
        logits = head(rnn(normal(2, STEPS, INPUT), memory=values, training=True))
        loss = tf.reduce_mean(tf.square(logits - 1.0))
    gradients = tape.gradient(loss, cell.trainable_variables)
    learned = [w.path for w, g in zip(cell.trainable_variables, gradients) if g is not None]
    taught = [w.path for w in cell.trainable_variables]
    if name == "hard":  # its weights learn by ReinforceLoss
        taught = [path for path in taught if "general_score" not in path]
    assert learned == taught and np.isfinite(loss)

    def search(values):
        decoder = BeamSearchDecoder(
            cell, 3, output_layer=head, maximum_iterations=STEPS, output_alignments=True
        )
        memory = cell.prepare_memory(values, memory_mask=MASK[:2])
        outputs, state, _ = decoder(embedding, start_tokens=[1, 1], end_token=0, memory=memory)
        steps = outputs.beam_search_decoder_output
        return outputs.predicted_ids, state.log_probs, steps.alignments

    expected = search(values)
    # A batch and a length that the graph does not know while it is traced.
    graph = tf.function(search, input_signature=[tf.TensorSpec([None, None, WIDTH])])
    for ours, theirs in zip(graph(values), expected):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert not expected[2].numpy()[1][..., ~MASK[1]].any()


@pytest.mark.parametrize("name", [*NAMES[4:5], *full(*NAMES[:4], *NAMES[5:])])
def test_a_model_is_saved_loaded_and_exported(name, tmp_path):
    inputs, memory = keras.Input([None, INPUT]), keras.Input([None, WIDTH])
    cell = AttentionWrapper(keras.layers.GRUCell(UNITS), ATTENTIONS[name](), 7)
    decoded, _, _ = BasicDecoder(cell, TrainingSampler())(inputs, memory=memory)
    model = keras.Model([inputs, memory], keras.layers.Dense(3)(decoded.rnn_output))
    given = [tf.constant(normal(2, STEPS, INPUT)), tf.constant(normal(2, SOURCE, WIDTH))]
    check_saved_and_exported(model, given, tmp_path)


@pytest.mark.parametrize("name", ["temporal", "local-m", *full("local-p", "multi-head", "pointer")])
def test_half_precision_stays_near_float32(name):
    values, inputs = normal(BATCH, SOURCE, WIDTH), normal(BATCH, 12, INPUT)
    wide = AttentionWrapper(keras.layers.GRUCell(UNITS), ATTENTIONS[name](), 7)
    narrow = AttentionWrapper(
        keras.layers.GRUCell(UNITS, dtype="mixed_float16"),
        ATTENTIONS[name](dtype="mixed_float16"),
        7,
        dtype="mixed_float16",
    )
    found = []
    for cell in (wide, narrow):
        rnn = AttentionRNN(cell, return_sequences=True, dtype=cell.dtype_policy)
        if cell is narrow:
            rnn(inputs, memory=values)
            narrow.set_weights(wide.get_weights())
        found.append(rnn(inputs, memory=values, memory_mask=MASK))
    assert found[1].dtype == "float16"
    np.testing.assert_allclose(found[1], found[0], atol=0.02)


def test_several_attentions_of_several_kinds_work_side_by_side():
    cell = AttentionWrapper(
        keras.layers.GRUCell(UNITS), [ATTENTIONS["local-m"](), ATTENTIONS["pointer"]()], [2, 3]
    )
    memory = cell.prepare_memory(normal(BATCH, SOURCE, WIDTH), memory_mask=MASK)
    state = cell.get_initial_state(batch_size=BATCH, memory=memory)
    output, state = cell(normal(BATCH, INPUT), state, memory=memory)
    assert output.shape == (BATCH, 5) and state.attention_state[1] == ()
    assert [kind.__name__ for kind in map(type, cell.attention_mechanism)] == [
        "LocalMonotonicAttention",
        "PointerHead",
    ]
    again = AttentionWrapper.from_config(cell.get_config())
    assert [type(a) for a in again.attention_mechanism] == [
        type(a) for a in cell.attention_mechanism
    ]


def test_what_is_no_attention_over_a_memory_is_refused():
    with pytest.raises(TypeError, match="MemoryAttention.*Received: Dense"):
        AttentionWrapper(keras.layers.GRUCell(UNITS), keras.layers.Dense(2))


def test_a_normaliser_whose_state_has_no_beginning_is_refused():
    def counts(scores, mask, state=None):
        return functional.softmax(scores, mask), state

    wrapper = AttentionWrapper(
        keras.layers.GRUCell(UNITS), layers.Attention(layers.GeneralScore(), normalize=counts)
    )
    memory = wrapper.prepare_memory(normal(BATCH, SOURCE, WIDTH))
    state = wrapper.get_initial_state(batch_size=BATCH, memory=memory)
    with pytest.raises(ValueError, match="with_initial_state"):
        wrapper(normal(BATCH, INPUT), state, memory=memory)


def test_an_attention_function_sees_the_memory_and_the_hypotheses_of_its_step():
    def twice(mechanism, cell_output, attention_state, attention_layer):
        alignments, state = mechanism([cell_output, attention_state])
        return 2.0 * mechanism.read(alignments), alignments, state

    wrapper = AttentionWrapper(
        keras.layers.GRUCell(UNITS), ATTENTIONS["general"](), attention_fn=twice
    )
    plain = AttentionWrapper(wrapper.cell, wrapper.attention_mechanism)
    memory = wrapper.prepare_memory(normal(BATCH, SOURCE, WIDTH))
    state = tile_batch(wrapper.get_initial_state(batch_size=BATCH, memory=memory), 2)
    inputs = normal(2 * BATCH, INPUT)
    found, _ = wrapper(inputs, state, memory=memory, beam_width=2)
    expected, _ = plain(inputs, state, memory=memory, beam_width=2)
    np.testing.assert_allclose(found, 2 * expected, rtol=1e-6)


@pytest.mark.parametrize("kind", [LuongMonotonicAttention, *full(BahdanauAttention)])
def test_a_mechanism_attends_as_the_layers_do_eager_and_in_a_graph(kind):
    mechanism, query = kind(UNITS), tf.constant(normal(2, 3, UNITS))
    memory = mechanism.prepare_memory(normal(2, SOURCE, WIDTH))
    state = mechanism.initial_state(6, tf.float32, memory)
    rows = tf.reshape(query, [6, UNITS])
    alignments, _ = mechanism([rows, state], memory=memory, beam_width=3)
    expected = mechanism.read(alignments, memory, 3)
    state = tf.reshape(state, [2, 3, SOURCE])
    for attend in (mechanism.attend, tf.function(mechanism.attend, autograph=False)):
        context, weights, _ = attend(query, memory, state)
        np.testing.assert_allclose(tf.reshape(context, expected.shape), expected, atol=1e-6)
        np.testing.assert_allclose(tf.reshape(weights, alignments.shape), alignments, atol=1e-6)


# -- a score of one's own


@keras.saving.register_keras_serializable("tests.attentions")
class ScaledCosine(keras.layers.Layer):
    """A score is a layer of two inputs."""

    def build(self, query_shape, keys_shape):
        self.scale = self.add_weight(name="scale", shape=(), initializer="ones")

    def call(self, query, keys):
        return self.scale * functional.cosine(query, keys)


@keras.saving.register_keras_serializable("tests.attentions")
class Cosine(AttentionMechanism):
    """The same with the face of TFA's mechanisms, and projections of its own."""

    def __init__(self, **kwargs):
        projections = [keras.layers.Dense(4, use_bias=False) for _ in range(2)]
        super().__init__(query_layer=projections[0], memory_layer=projections[1], **kwargs)

    def build(self, input_shape=None):
        self.scale = self.add_weight(name="scale", shape=(), initializer="ones")
        super().build(input_shape)

    def scores(self, query, memory):
        return self.scale * functional.cosine(query, memory.keys)


@pytest.mark.parametrize(
    "make",
    [lambda: layers.Attention(ScaledCosine(), query_units=4, key_units=4), *full(Cosine)],
    ids=["layer", "mechanism"],
)
def test_a_score_of_ones_own_is_trained_saved_loaded_and_exported(make, tmp_path):
    inputs, memory = keras.Input([None, INPUT]), keras.Input([None, WIDTH])
    cell = AttentionWrapper(keras.layers.GRUCell(UNITS), make(), 7)
    hidden = AttentionRNN(cell, return_sequences=True)(inputs, memory=memory)
    model = keras.Model([inputs, memory], keras.layers.Dense(3)(hidden))
    assert sum("scale" in weight.path for weight in model.weights) == 1
    given = [tf.constant(normal(2, STEPS, INPUT)), tf.constant(normal(2, SOURCE, WIDTH))]
    model.compile("sgd", "mse")
    before = [w.numpy() for w in model.trainable_weights]
    model.fit(given, normal(2, STEPS, 3), verbose=0)
    assert all((w.numpy() != old).any() for w, old in zip(model.trainable_weights, before))
    check_saved_and_exported(model, given, tmp_path)


def test_a_core_without_weights_is_refused_by_its_facts():
    attention = layers.MultiHeadAttention(2, key_width=2, core=layers.cores.Linear())
    wrapper = AttentionWrapper(keras.layers.GRUCell(UNITS), attention)
    memory = wrapper.prepare_memory(normal(BATCH, SOURCE, WIDTH))
    state = wrapper.get_initial_state(batch_size=BATCH, memory=memory)
    with pytest.raises(ValueError, match="returns_weights, such as Full.*Linear"):
        wrapper(normal(BATCH, INPUT), state, memory=memory)


@keras.saving.register_keras_serializable("tests.attentions")
class PlainDot(keras.layers.Layer):
    """A score without a `build`."""

    def call(self, query, keys):
        return tf.matmul(query, keys, transpose_b=True)


@keras.saving.register_keras_serializable("tests.attentions")
class OneShapeDot(PlainDot):
    """A score with the `build` of any layer of Keras."""

    def build(self, input_shape):
        self.diagonal = self.add_weight(name="diagonal", shape=input_shape[-1:], initializer="ones")

    def call(self, query, keys):
        return super().call(query * self.diagonal, keys)


@pytest.mark.parametrize("score", [PlainDot, *full(OneShapeDot)])
def test_a_model_takes_an_attention_of_ones_own(score, tmp_path):
    attention = layers.Attention(score(), key_units=UNITS)
    model = RNNSeq2Seq(VOCABULARY, units=UNITS, attention=attention)
    source = [[5, 6, 2], [7, 2, 0]]
    expected = model.generate(source, beam_width=3, max_length=4)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    for ours, theirs in zip(again.generate(source, beam_width=3, max_length=4)[:3], expected[:3]):
        np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(ValueError, match="MemoryAttention.*attention='dot'"):
        RNNSeq2Seq(VOCABULARY, attention="dot")
