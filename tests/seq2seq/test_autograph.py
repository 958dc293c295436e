"""A plain `tf.function` runs our source as it is, and converts the caller's functions as ever."""

import inspect
import pathlib

import keras
import pytest
import tensorflow as tf
from tensorflow.python.autograph.impl import api, conversion

import keras_attention
from keras_attention import contrib, decoding, functional, seq2seq
from keras_attention.backend.keras import KERAS_3
from keras_attention.contrib.template import make_template

OURS = pathlib.Path(keras_attention.__file__).parents[1]


@pytest.fixture
def converted(monkeypatch):
    """The functions of ours that autograph has converted so far."""
    found, convert = [], api._convert_actual

    def record(entity, context):
        module = inspect.getmodule(entity)
        path = pathlib.Path(getattr(module, "__file__", None) or "/")
        if path.is_relative_to(OURS) and "tests" not in path.parts:
            found.append(entity)
        return convert(entity, context)

    monkeypatch.setattr(api, "_convert_actual", record)
    return found


def test_a_training_step_converts_none_of_our_source(converted):
    cell = seq2seq.AttentionWrapper(
        keras.layers.LSTMCell(4), seq2seq.BahdanauAttention(4), attention_layer_size=4
    )
    decoder = seq2seq.BasicDecoder(cell, seq2seq.TrainingSampler(), keras.layers.Dense(5))

    @tf.function
    def step(encoded, inputs, targets):
        with tf.GradientTape() as tape:
            memory = cell.prepare_memory(encoded, memory_sequence_length=[3, 2])
            state = cell.get_initial_state(batch_size=2, memory=memory)
            outputs, _, _ = decoder(inputs, initial_state=state.clone(), memory=memory)
            weights = tf.sequence_mask([3, 2], 3, tf.float32)
            loss = seq2seq.sequence_loss(outputs.rnn_output, targets, weights)
            loss += seq2seq.SequenceLoss()(targets, outputs.rnn_output, weights)
        return tape.gradient(loss, decoder.trainable_variables)

    x = tf.ones([2, 3, 4])
    assert step(x, x, tf.zeros([2, 3], tf.int32))
    assert converted == []


def test_a_beam_search_converts_none_of_our_source(converted):
    cell = seq2seq.AttentionWrapper(keras.layers.GRUCell(4), seq2seq.LuongAttention(4))
    search = seq2seq.BeamSearchDecoder(cell, 2, output_layer=keras.layers.Dense(5))

    @tf.function
    def answer(encoded):
        memory = cell.prepare_memory(seq2seq.tile_batch(encoded, 1))
        state = cell.get_initial_state(batch_size=2, memory=memory)
        found, _, _ = seq2seq.dynamic_decode(
            search,
            maximum_iterations=3,
            decoder_init_input=tf.ones([5, 4]),
            decoder_init_kwargs={
                "start_tokens": [1, 1],
                "end_token": 2,
                "initial_state": seq2seq.tile_batch(state, 2),
                "memory": memory,
            },
        )
        return found.predicted_ids

    assert answer(tf.ones([2, 3, 4])).shape[2] == 2
    assert converted == []


@pytest.mark.skipif(not KERAS_3, reason="the models are of Keras 3")
@pytest.mark.parametrize("name", ["RNNSeq2Seq", "Transformer"])
def test_a_model_called_part_by_part_converts_none_of_our_source(name, converted):
    import models

    sizes = {"units": 4} if name == "RNNSeq2Seq" else {"width": 4, "heads": 2, "ff_width": 4}
    model = getattr(models, name)(vocab_size=9, layers=1, **sizes)
    model.build()

    @tf.function
    def parts(ids):
        memory, state = model.encode(ids)
        return model.decode(ids, memory, state), model.generate(ids, beam_width=2, max_length=3)

    logits, found = parts(tf.constant([[3, 4], [5, 0]]))
    assert logits.shape == (2, 2, 9) and found.ids.shape == (2, 2, 3)
    assert converted == []


@pytest.mark.parametrize("door", [functional, seq2seq, decoding, contrib], ids=lambda d: d.__name__)
def test_autograph_leaves_every_public_function_as_it_is(door):
    public = [getattr(door, name) for name in dir(door) if not name.startswith("_")]
    functions = [f for f in public if inspect.isfunction(f)]
    assert functions
    for function in functions:
        marked = api.is_autograph_artifact(function)
        assert marked or conversion.is_allowlisted(function), function


def only_if_positive(x, *_):
    """A function that only autograph makes work in a graph."""
    if tf.reduce_sum(x) > 0:
        return x
    else:
        return -x


def test_a_function_given_by_the_caller_is_still_converted():
    def losses(labels, logits):
        return only_if_positive(tf.gather(logits, labels, batch_dims=1))

    @tf.function
    def all_of_them(x):
        ids = tf.zeros([1, 2], tf.int32)
        template = make_template("t", only_if_positive)
        return (
            seq2seq.sequence_loss(x, ids, tf.ones([1, 2]), softmax_loss_function=losses),
            seq2seq.SequenceLoss(softmax_loss_function=losses)(ids, x),
            functional.glu(x, only_if_positive),
            template(x),
        )

    loss, other, gated, templated = all_of_them(-tf.ones([1, 2, 2]))
    assert (float(loss), float(other)) == (1.0, 1.0)
    assert gated.numpy().tolist() == [[[-1.0], [-1.0]]]
    assert templated.numpy().tolist() == [[[1.0, 1.0], [1.0, 1.0]]]


def test_a_function_given_by_the_caller_is_not_converted_against_their_will():
    function = tf.function(lambda x: functional.glu(x, only_if_positive), autograph=False)
    with pytest.raises(tf.errors.OperatorNotAllowedInGraphError, match="[Aa]uto[Gg]raph"):
        function(tf.ones([1, 2]))
