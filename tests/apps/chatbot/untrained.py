"""Exports of untrained models: their answers are random, within the limits of the search."""

import keras
from absl import flags

from apps.chatbot import command_line, store
from apps.chatbot import settings as stored
from apps.chatbot.responder import Responder
from keras_attention import export
from tests.apps.chatbot.program import shipped

SETTINGS = {
    "vocab_size": 700,
    "units": 8,
    "warmup_steps": 0,
    "beam_width": 3,
    "max_length": 12,
}
FILES = {"chat": ["chat_en.tsv", "chat_zh.tsv"], "couplet": ["couplets.tsv"]}


def made(**settings) -> tuple:
    """A model of characters, its tokenizer and all its settings."""
    if "mode" not in flags.FLAGS:
        command_line.define_flags()
    usual = {name: flags.FLAGS[name].default for name in stored.FIXED + stored.FREE}
    settings = {**usual, **SETTINGS, **settings}
    pairs = [line.split("\t") for name in FILES[settings["task"]] for line in shipped(name, 40)]
    tokenizer = store.make_tokenizer(settings, pairs)
    model = store.make_model(settings, tokenizer.vocab_size)
    for variable in model.trainable_variables:  # far from uniform, so that beams differ
        variable.assign(keras.random.normal(variable.shape, seed=1))
    return model, tokenizer, settings


def exported(folder, **settings) -> tuple[str, Responder]:
    """A SavedModel in a new `folder`, and what it was made of."""
    responder = Responder(*made(**settings))
    export.save(str(folder), responder, responder.functions)
    return str(folder), responder


def saved(folder, **settings) -> tuple[str, Responder]:
    """A model directory in `folder`, and what it holds."""
    model, tokenizer, settings = made(**settings)
    stored.save(str(folder), settings)
    store.save_model(str(folder), model)
    tokenizer.save(str(folder))
    return str(folder), Responder(model, tokenizer, settings)
