"""Files that release 0.1.0 wrote load, and answer as they did then."""

import json
import pathlib
import tarfile

import keras
import numpy as np
import pytest
import tensorflow as tf

from apps.chatbot import settings, store
from apps.chatbot.responder import Responder
from models import RNNSeq2Seq
from tests.saved_0_1_0.make import LINES, SETTINGS, SOURCE, answers

FOLDER = pathlib.Path(__file__).parent


@pytest.fixture(scope="module")
def found():
    return np.load(FOLDER / "found.npz")


def unpacked(name, folder):
    with tarfile.open(FOLDER / f"{name}.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder / name


def test_a_model_gives_the_logits_and_answers_of_then(found):
    model = keras.models.load_model(FOLDER / "rnn_seq2seq.keras")
    assert isinstance(model, RNNSeq2Seq)
    np.testing.assert_allclose(model((SOURCE, SOURCE)), found["logits"], atol=1e-5)
    np.testing.assert_array_equal(model.generate(SOURCE, **SETTINGS).ids, found["ids"])


def test_a_decoder_with_a_strategy_gives_the_answers_of_then(found):
    model = keras.models.load_model(FOLDER / "decoder.keras")
    (decoder,) = [layer for layer in model.layers if "beam_search" in layer.name]
    np.testing.assert_array_equal(answers(decoder), found["diverse"])


@pytest.mark.parametrize("name", ["best", "sample", "stochastic", "diverse"])
def test_every_strategy_of_a_saved_decoder_loads(name):
    config = json.loads((FOLDER / "decoders.json").read_text("utf-8"))[name]
    decoder = keras.saving.deserialize_keras_object(config)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(decoder))
    _, *arguments = config["config"]["chooser"].values()
    for loaded in (decoder, again):
        _, settings = loaded.strategy.made_by
        assert list(settings.values()) == arguments


def test_a_model_directory_of_the_chatbot_gives_the_replies_of_then(found, tmp_path):
    directory = str(unpacked("chatbot", tmp_path))
    stored = settings.load(directory, {})
    replies = Responder(*store.load_model(directory, stored), stored).replies(list(LINES))
    assert replies == found["served"].tolist()


@pytest.mark.full
def test_an_export_gives_the_replies_and_scores_of_then(found, tmp_path):
    served = tf.saved_model.load(unpacked("export", tmp_path))
    given = served.signatures["serving_default"](tf.constant(LINES))
    assert given["replies"].numpy().astype(str).tolist() == found["served"].tolist()
    np.testing.assert_allclose(given["scores"], found["scores"], atol=1e-4)
