"""Models, mechanisms, cells and decoders as parts of Keras models and layers."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.layers import TransformerBlock, TransformerCell, TransformerStack
from keras_attention.seq2seq import (
    AttentionRNN,
    AttentionWrapper,
    AttentionWrapperState,
    BahdanauAttention,
    BasicDecoder,
    BeamSearchDecoder,
    LuongMonotonicAttention,
    TrainingSampler,
)
from models import RNNSeq2Seq, Transformer, TransformerLM, TransformerTagger

SMALL = {"layers": 1, "width": 4, "heads": 2, "ff_width": 4}
OF_ONE = {
    "tagger": lambda: TransformerTagger(9, labels=3, **SMALL),
    "language_model": lambda: TransformerLM(9, **SMALL),
}
OF_TWO = {
    "transformer": lambda: Transformer(9, **SMALL),
    "rnn": lambda: RNNSeq2Seq(9, units=4, cell="lstm"),
    "rnn_no_attention": lambda: RNNSeq2Seq(9, units=4, attention=None, tie_output=True),
}
MODELS = OF_ONE | OF_TWO


def full(value):
    """A case of the full product."""
    return pytest.param(value, marks=pytest.mark.full)


def ids(*shape):
    return np.arange(np.prod(shape), dtype="int32").reshape(shape) % 7 + 1


def sources(name, batch=2, steps=3):
    """What a model is called with: the source and, for two of them, the target."""
    return ids(batch, steps) if name in OF_ONE else (ids(batch, steps), ids(batch, steps + 1))


def symbols(name):
    made = [keras.Input([None], dtype="int32") for _ in range(1 if name in OF_ONE else 2)]
    return made[0] if name in OF_ONE else tuple(made)


def summary(model):
    lines = []
    model.summary(print_fn=lambda line, **_: lines.append(line), line_length=75)
    return "\n".join(lines)


# -- models


@pytest.mark.parametrize("name", ["tagger", "transformer", "rnn", full("language_model")])
def test_a_model_infers_the_shape_of_its_logits_for_any_sizes(name):
    model = MODELS[name]()
    width = 3 if name == "tagger" else 9
    shapes = tf.nest.map_structure(lambda x: x.shape, sources(name))
    told = model.compute_output_shape(shapes if name in OF_ONE else list(shapes))
    assert not model.built
    assert told == model(sources(name)).shape
    unknown = (None, None) if name in OF_ONE else ((None, None), (None, None))
    assert model.compute_output_shape(unknown) == (None, None, width)
    with pytest.raises(ValueError, match="must be"):
        model.compute_output_shape((2,) if name in OF_ONE else ((2, 3), (2,)))


@pytest.mark.parametrize("name, steps", [("tagger", None), ("language_model", 2)])
def test_time_distributed_applies_a_model_of_each_step(name, steps):
    model = MODELS[name]()
    inputs = keras.Input([steps, None], dtype="int32")
    outer = keras.Model(inputs, keras.layers.TimeDistributed(model)(inputs))
    x = ids(2, 2, 3)
    expected = np.stack([model(x[:, step]) for step in range(2)], 1)
    np.testing.assert_allclose(outer(x), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["tagger", full("transformer"), full("rnn")])
def test_a_functional_model_and_its_clone_give_the_result_of_the_model(name):
    model, inputs = MODELS[name](), symbols(name)
    outer = keras.Model(inputs, model(inputs))
    assert outer.output_shape[:2] == (None, None)
    clone = keras.models.clone_model(outer)
    clone.set_weights(outer.get_weights())
    for steps in (3, 5):
        x = sources(name, steps=steps)
        np.testing.assert_allclose(outer(x), model(x), atol=1e-5)
        np.testing.assert_allclose(clone(x), model(x), atol=1e-5)


def test_a_sequential_model_holds_a_model():
    model = keras.Sequential([keras.Input([None], dtype="int32"), OF_ONE["tagger"]()])
    assert model.output_shape == (None, None, 3)
    assert model(ids(2, 5)).shape == (2, 5, 3)


@pytest.mark.parametrize("name", ["transformer", full("tagger"), full("language_model"), "rnn"])
def test_a_summary_shows_the_parts_of_a_built_model(name):
    model = MODELS[name]()
    model.build()
    shown = summary(model)
    assert model.layers[0].name in shown
    if "rnn" not in name:  # the embedding and each stack
        stacks = [part for part in model.layers if isinstance(part, TransformerStack)]
        assert shown.count("(None, None, 4)") == 1 + len(stacks)


def test_a_summary_shows_a_question_mark_where_a_shape_needs_more_than_was_noted():
    class Decoding(keras.Model):
        def __init__(self):
            super().__init__()
            self.cell = TransformerCell(TransformerStack(1, 2, 4, causal=True))
            self.block = TransformerBlock(2, 4, cross=True)
            self.decoder = decoder(BasicDecoder)

        def build(self, input_shape):
            self.built = True

        def call(self, x):
            return self.decoder(self.block(x, x)[0], memory=x)[0].rnn_output

    model = Decoding()
    model(tf.zeros([2, 3, 4]))
    model.cell.build((None, 4))
    shown = summary(model)
    assert shown.count("?") == 2
    assert "(2, 3, 4)" in shown


@pytest.mark.parametrize("name", ["tagger", full("transformer"), full("rnn")])
def test_an_exported_model_takes_ids_of_other_sizes(name, tmp_path):
    model = MODELS[name]()
    model.export(tmp_path / "model", verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "model"))
    x = sources(name, batch=3, steps=5)
    np.testing.assert_allclose(loaded.serve(x), model(x), atol=1e-5)


@pytest.mark.parametrize("name", ["rnn", full("rnn_no_attention"), full("transformer")])
def test_no_step_and_no_row_are_sizes_like_others(name):
    model = OF_TWO[name]()

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32)] * 2)
    def in_a_graph(source, target_in):
        return model((source, target_in))

    for source, target in ((2, 0), (2, 3)), ((2, 3), (2, 0)), ((0, 3), (0, 2)):
        found = in_a_graph(ids(*source), ids(*target))
        assert found.shape == (*target, 9)
        if source[0]:
            np.testing.assert_allclose(found, model((ids(*source), ids(*target))), atol=1e-5)
    padding = in_a_graph(np.zeros([2, 1], "int32"), ids(2, 3))
    np.testing.assert_allclose(in_a_graph(ids(2, 0), ids(2, 3)), padding, atol=1e-5)


# -- mechanisms, the wrapper, decoders


def wrapper(**settings):
    return AttentionWrapper(keras.layers.LSTMCell(4), BahdanauAttention(4), 6, **settings)


def decoder(kind, cell=None, **settings):
    cell = cell or wrapper()
    if kind is BeamSearchDecoder:
        settings |= {"beam_width": 2, "embedding_fn": keras.layers.Embedding(9, 3)}
    else:
        settings["sampler"] = TrainingSampler()
    return kind(cell, output_layer=keras.layers.Dense(9), maximum_iterations=3, **settings)


def shapes_of(nest):
    return tf.nest.map_structure(lambda x: tuple(x.shape), nest)


@pytest.mark.parametrize("make", [BahdanauAttention, LuongMonotonicAttention])
def test_a_mechanism_infers_the_shape_of_alignments_and_state(make):
    mechanism = make(4)
    assert mechanism.compute_output_shape([(None, 4), (None, 5)]) == ((None, 5), (None, 5))
    told = mechanism.compute_output_shape([(2, 4), (2, None)], memory_shape=(2, 5, 3))
    given = mechanism([tf.zeros([2, 4]), tf.zeros([2, 5])], memory=tf.zeros([2, 5, 3]))
    assert told == shapes_of(given)
    assert mechanism.compute_output_shape((2, 5, 3)) == (2, 5, 3)


@pytest.mark.parametrize("settings", [{}, {"output_attention": False}])
def test_a_wrapper_infers_the_shape_of_output_and_state(settings):
    cell = wrapper(**settings)
    told = cell.compute_output_shape((2, 3), memory_shape=(2, 5, 7))
    unknown = cell.compute_output_shape((None, 3))
    memory = tf.zeros([2, 5, 7])
    state = cell.get_initial_state(batch_size=2, memory=cell.prepare_memory(memory))
    output, state = cell(tf.zeros([2, 3]), state, memory=memory)
    assert told == shapes_of((output, state))
    assert unknown[0] == (None, output.shape[1])
    assert unknown[1].alignments == (None, None)
    assert cell.compute_output_shape((2, 3), shapes_of(state)) == shapes_of((output, state))


@pytest.mark.parametrize("return_state", [False, True])
def test_an_attention_rnn_infers_the_shape_of_its_output(return_state):
    cell = AttentionWrapper(keras.layers.GRUCell(4), BahdanauAttention(4))
    rnn = AttentionRNN(cell, return_sequences=True, return_state=return_state)
    told = rnn.compute_output_shape((2, 3, 5), memory_shape=(2, 6, 7))
    given = rnn(tf.zeros([2, 3, 5]), memory=tf.zeros([2, 6, 7]))
    assert tf.nest.flatten(told) == tf.nest.flatten(shapes_of(given))


def test_decoders_infer_the_shapes_of_all_they_return():
    basic = decoder(BasicDecoder)
    outputs, state, lengths = basic.compute_output_shape((2, None, 3), memory_shape=(2, 5, 7))
    assert outputs.rnn_output == (2, None, 9) and lengths == (2,)
    given = basic(tf.zeros([2, 3, 3]), memory=tf.zeros([2, 5, 7]))[1]
    assert tf.nest.flatten(state) == tf.nest.flatten(shapes_of(given))
    asked = {"start_tokens_shape": (None,), "end_token_shape": (), "memory_shape": (None, 5, 7)}
    outputs, state, lengths = decoder(BeamSearchDecoder).compute_output_shape(**asked)
    assert outputs.predicted_ids == (None, None, 2) and lengths == (None, 2)
    assert state.cell_state.alignments == (None, 2, 5)


def test_one_step_of_a_wrapper_is_a_functional_model():
    cell = wrapper()
    x, memory = keras.Input([3]), keras.Input([None, 7])
    state = AttentionWrapperState(
        [keras.Input([4]), keras.Input([4])], keras.Input([6]), keras.Input([None]), (),
        keras.Input([None]),
    )  # fmt: skip
    output, new = cell(x, state, memory=memory)
    model = keras.Model([x, memory, *tf.nest.flatten(state)], [output, new.alignments])
    values = tf.random.stateless_normal([2, 5, 7], [1, 2])
    begin = cell.get_initial_state(batch_size=2, memory=cell.prepare_memory(values))
    found = model([tf.ones([2, 3]), values, *tf.nest.flatten(begin)])
    expected, new = cell(tf.ones([2, 3]), begin, memory=values)
    np.testing.assert_allclose(found[0], expected, atol=1e-6)
    np.testing.assert_allclose(found[1], new.alignments, atol=1e-6)
    with pytest.raises(ValueError, match="collect state.alignments"):
        wrapper(alignment_history=True)(x, state, memory=memory)


@pytest.mark.parametrize("kind", [BasicDecoder, full(BeamSearchDecoder)])
def test_a_functional_model_has_the_alignment_history_as_a_tensor(kind, tmp_path):
    settings = {"reorder_tensor_arrays": False} if kind is BeamSearchDecoder else {}
    layer = decoder(kind, wrapper(alignment_history=True), **settings)
    memory, first = keras.Input([None, 7]), keras.Input([None, 3])
    asked, x = {}, tf.random.stateless_normal([2, 3, 3], [1, 2])
    if kind is BeamSearchDecoder:
        first, x = keras.Input([], dtype="int32"), tf.constant([1, 3])
        asked = {"end_token": 2}

    def history(x, memory):
        given = {"start_tokens": x} if asked else {"inputs": x}
        _, state, _ = layer(memory=memory, **given, **asked)
        return (state.cell_state if asked else state).alignment_history

    model = keras.Model([first, memory], history(first, memory))
    values = tf.random.stateless_normal([2, 5, 7], [3, 4])
    expected = history(x, values).stack()
    np.testing.assert_allclose(model([x, values]), expected, atol=1e-6)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again([x, values]), expected, atol=1e-6)
