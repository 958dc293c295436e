"""`--mode=export`: the whole search as a SavedModel of strings, checked before it is done."""

import os

import tensorflow as tf

from apps.chatbot import settings as stored
from apps.chatbot import store
from apps.chatbot.responder import Responder
from keras_attention import export

QUESTIONS = ("Hello!", "你好！", "", "春风吹绿江南岸")


def run(directory: str, said: dict, export_dir: str) -> None:
    """Write `export_dir` and run it in a process that has none of our code."""
    settings = stored.load(directory, said)
    model, tokenizer = store.load_model(directory, settings)
    responder = Responder(model, tokenizer, settings)
    expected = {
        name: value.numpy()
        for name, value in responder.serving_default(tf.constant(QUESTIONS)).items()
    }
    names = list(expected)
    if settings["sampling"] in ("sample", "stochastic") and settings["sample_seed"] is None:
        expected = {"source_tokens": expected["source_tokens"]}  # the rest is drawn anew
    libraries = ["tensorflow_text"] if settings["tokenizer"] == "sentencepiece" else []
    export.save(
        export_dir,
        responder,
        responder.functions,
        lambda new: export.check_in_clean_process(new, QUESTIONS, expected, libraries),
    )
    size = sum(
        os.path.getsize(os.path.join(folder, name))
        for folder, _, names in os.walk(export_dir)
        for name in names
    )
    print(
        f"Exported to {export_dir} ({size / 1e6:.1f} MB), and checked in a clean process: "
        "serving_default takes `text` [B] and returns "
        f"{', '.join(f'`{name}`' for name in names)}.",
        flush=True,
    )
