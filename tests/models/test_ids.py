"""One rule about ids for all models: integers, and floats that are whole numbers."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.seq2seq import generate, stream
from models import RNNSeq2Seq, Transformer, TransformerLM, TransformerTagger

SMALL = dict(layers=1, width=8, heads=2, ff_width=8)
MODELS = {
    "rnn": lambda: RNNSeq2Seq(400, units=8),
    "transformer": lambda: Transformer(400, **SMALL),
    "lm": lambda: TransformerLM(400, **SMALL),
    "tagger": lambda: TransformerTagger(400, labels=3, **SMALL),
}
IDS = np.array([[5, 301, 2], [7, 2, 0]])
every_model = pytest.mark.parametrize("name", MODELS)
searched = pytest.mark.parametrize("name", ["rnn", "transformer", "lm"])


@functools.cache
def model_of(name):
    return MODELS[name]()


def called(name, ids, **settings):
    """The model's output for ids in all of its places."""
    inputs = (ids, ids) if name in ("rnn", "transformer") else ids
    return model_of(name)(inputs, **settings)


@every_model
def test_whole_numbers_of_any_wide_type_are_ids(name):
    expected = called(name, tf.constant(IDS, tf.int32))
    for dtype in (tf.int64, tf.uint16, tf.float32, tf.float64):
        np.testing.assert_array_equal(called(name, tf.constant(IDS, dtype)), expected)


@every_model
def test_anything_but_an_id_is_refused_by_the_name_of_its_argument(name):
    argument = {"tagger": "tokens", "lm": "tokens_in"}.get(name, "source")
    for wrong, message in [
        (tf.constant([[5.0, 6.5]]), "whole numbers. Received: .*6.5"),
        (tf.constant([[5.0, np.nan]]), "whole numbers"),
        (tf.constant([["hello"]]), "Received: strings. Encode text first"),
        (tf.constant([[True]]), "Received: bool"),
        (tf.constant([5, 6]), r"ids \[B, .\]. Received: shape \(2,\). Write \[ids\]"),
    ]:
        with pytest.raises(ValueError, match=f"{argument} must be .*{message}"):
            called(name, wrong)


@every_model
def test_a_float_that_is_no_id_is_refused_when_a_graph_runs(name):
    call = tf.function(
        lambda ids: called(name, ids), input_signature=[tf.TensorSpec([None, None], tf.float32)]
    )
    expected = called(name, tf.constant(IDS, tf.int32))
    np.testing.assert_allclose(call(tf.constant(IDS, tf.float32)), expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(tf.errors.InvalidArgumentError, match="whole numbers"):
        call(tf.constant([[5.0, 6.5]]))


def test_floats_that_a_mixed_policy_makes_narrow_are_refused():
    model = TransformerTagger(400, labels=3, **SMALL, dtype="mixed_bfloat16")
    assert model(IDS).shape == (2, 3, 3)
    with pytest.raises(
        ValueError, match="bfloat16, which cannot represent every id.*pass integers"
    ):
        model(tf.constant(IDS, tf.float32))


def test_fit_takes_whole_floats():
    model = TransformerTagger(400, labels=3, **SMALL)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(IDS.astype("float32"), np.ones_like(IDS), verbose=0)


@searched
def test_a_search_without_ids_or_a_batch_is_an_error(name):
    for ask in (model_of(name).generate, lambda source: generate(model_of(name), source)):
        with pytest.raises(ValueError, match="Received: strings. Encode text first"):
            ask(["hello"])
        with pytest.raises(ValueError, match=r"must be ids \[B, .\]. Received: shape \(3,\)"):
            ask([5, 6, 7])
    with pytest.raises(ValueError, match="Received: strings. Encode text first"):
        next(stream(model_of(name), ["hello"]))


@searched
def test_ragged_rows_are_padded_and_unequal_lists_refused(name):
    model = model_of(name)
    expected = model.generate(IDS, max_length=4)
    ragged = tf.ragged.constant([[5, 301, 2], [7, 2]], dtype=tf.int32)
    np.testing.assert_array_equal(model.generate(ragged, max_length=4).ids, expected.ids)
    with pytest.raises(ValueError, match="rows of equal length"):
        model.generate([[5, 6], [7]])


@searched
def test_a_source_of_no_tokens_is_one_of_padding(name):
    found = model_of(name).generate(np.zeros([1, 0], int), max_length=3)
    np.testing.assert_array_equal(found.ids, model_of(name).generate([[0]], max_length=3).ids)
