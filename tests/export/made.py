"""Exports of the chatbot's models, of weights drawn at random: their answers are far apart.

With EXPORTED_MODELS="KIND=MODEL_DIR,..." these kinds are of trained models instead:

    EXPORTED_MODELS="rnn char=model" python -m pytest tests/export/test_runtimes.py \\
        tests/export/test_compilers.py -m "slow or not slow"
"""

import os
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from apps.chatbot import settings as stored
from apps.chatbot import store
from apps.chatbot.responder import Responder
from apps.chatbot.settings import ADDED
from keras_attention import export
from tests.apps.chatbot.program import shipped

SETTINGS = {
    **ADDED,
    "task": "chat",
    "tokenizer": "char",
    "vocab_size": 500,
    "units": 16,
    "layers": 1,
    "attention": "bahdanau",
    "heads": 2,
    "ff_units": 32,
    "dropout": 0.0,
    "learning_rate": 1e-3,
    "max_gradient_norm": 5.0,
    "beam_width": 3,
    "length_penalty": 0.6,
    "max_length": 10,
}
KINDS = {
    "rnn char": {},
    "rnn word": {"tokenizer": "word", "attention": "luong"},
    "rnn sentencepiece": {"tokenizer": "sentencepiece"},
    "transformer char": {"model": "transformer", "attention": None},
    "couplet": {"task": "couplet"},
}
TRAINED = dict(
    named.split("=", 1) for named in os.environ.get("EXPORTED_MODELS", "").split(",") if named
)
GOOD = {
    "chat": ["Hello", "你好，你", "Good day!"],
    "couplet": ["春风，吹绿", "門新迎歲早", "春"],
}
# Nothing, a line far too long, what nobody taught it, bytes that are no text.
CRUEL = ["", "春" * 10_000, "🙂❤️", b"\xff\xfe", " \t"]


class Exported(NamedTuple):
    """A SavedModel, and what Python answers."""

    directory: Path
    responder: Responder
    good: list[str]
    answers: dict[str, np.ndarray]  # of serving_default, to the good lines
    ids: np.ndarray  # [B, S], of the good lines
    by_ids: dict[str, np.ndarray]  # of generate, to `ids`


def beside_cruel(good: list) -> list:
    """Each cruel line has a good one before it."""
    return [line for i, cruel in enumerate(CRUEL) for line in (good[i % len(good)], cruel)]


def make(kind: str, folder: Path) -> Exported:
    """Export, delete what it was made from, and move the directory."""
    settings, model, tokenizer = (trained if kind in TRAINED else drawn)(kind, folder / "model")
    responder = Responder(model, tokenizer, settings)
    functions = {name: responder.functions[name] for name in ("serving_default", "generate")}
    export.save(str(folder / "new"), responder, functions, export.check_servable)
    shutil.rmtree(folder / "model")
    good = GOOD[settings["task"]]
    ids = responder.source_ids(tf.constant(good))
    return Exported(
        shutil.move(folder / "new", folder / "moved"),
        responder,
        good,
        _numpy(responder.serving_default(tf.constant(good))),
        ids.numpy(),
        _numpy(responder.generate(ids)),
    )


def drawn(kind: str, directory: Path):
    """Settings, model and tokenizer; the tokenizer's file is in the directory."""
    settings = {**SETTINGS, **KINDS[kind]}
    files = {"chat": ["chat_en.tsv", "chat_zh.tsv"], "couplet": ["couplets.tsv"]}
    pairs = [line.split("\t") for name in files[settings["task"]] for line in shipped(name, 40)]
    os.makedirs(directory)
    store.make_tokenizer(settings, pairs).save(directory)
    tokenizer = store.text.load(directory)
    model = store.make_model(settings, tokenizer.vocab_size)
    random = np.random.default_rng(0)
    for weight in model.trainable_variables:
        weight.assign(random.normal(size=weight.shape) * 0.7)
    if settings["model"] == "rnn":  # some answers end before the limit
        bias = model.output_layer.bias.numpy()
        bias[model.end_id] += 6
        model.output_layer.bias.assign(bias)
    return settings, model, tokenizer


def trained(kind: str, directory: Path):
    """The same, of a copy of a model directory."""
    shutil.copytree(TRAINED[kind], directory)
    settings = stored.load(str(directory), {})
    return settings, *store.load_model(str(directory), settings)


def _numpy(tensors):
    return {name: tensor.numpy() for name, tensor in tensors.items()}
