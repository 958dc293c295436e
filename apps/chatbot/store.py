"""What a model directory holds: settings, tokenizer, the best model, checkpoints, logs."""

import os
import zipfile
from typing import Any

import keras

import models  # registers the model's class with Keras
from keras_attention import text
from keras_attention.training import ClipByGlobalNorm, Perplexity

MODEL = "model.keras"
CHECKPOINTS = "checkpoints"
LOGS = "logs"

_TOKENIZERS = {"char": text.Characters, "word": text.Words, "sentencepiece": text.Subwords}


def make_tokenizer(settings: dict, pairs: list) -> text.Tokenizer:
    """One vocabulary for both sides, from the training pairs."""
    lines = [line for pair in pairs for line in pair]
    return _TOKENIZERS[settings["tokenizer"]].train(lines, vocab_size=settings["vocab_size"])


def make_model(settings: dict, vocab_size: int) -> keras.Model:
    """A fresh model, built and compiled."""
    attention = settings["attention"]
    model = models.RNNSeq2Seq(
        vocab_size,
        units=settings["units"],
        layers=settings["layers"],
        attention=None if attention == "none" else attention,
        share_embeddings=True,
        dropout=settings["dropout"],
    )
    model.build()
    compile_model(model, settings)
    return model


def compile_model(model: keras.Model, settings: dict) -> None:
    """Adam on the mean cross-entropy of real tokens, clipped by the true global norm."""
    optimizer: Any = keras.optimizers.Adam(settings["learning_rate"])
    if settings["max_gradient_norm"]:
        optimizer = ClipByGlobalNorm(optimizer, settings["max_gradient_norm"])
    model.compile(
        optimizer=optimizer,
        loss=keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, reduction="mean_with_sample_weight"
        ),
        weighted_metrics=[
            Perplexity(),
            keras.metrics.SparseCategoricalAccuracy(name="token_accuracy"),
        ],
    )


def save_model(directory: str, model: keras.Model) -> None:
    """Write the model; the one that was there stays until the new one is whole."""
    path = os.path.join(directory, MODEL)
    part = os.path.join(directory, "unfinished." + MODEL)
    try:
        model.save(part)
        os.replace(part, path)
    finally:
        if os.path.exists(part):
            os.remove(part)


def load_model(directory: str) -> tuple[keras.Model, text.Tokenizer]:
    """The best model and its tokenizer. Nothing in the files is executed.

    Raises ValueError if there is none, or if a file is damaged.
    """
    path = os.path.join(directory, MODEL)
    if not os.path.exists(path):
        raise ValueError(
            f"{directory!r} holds no trained model: {MODEL} is missing, so no epoch was finished. "
            f"Go on training: --mode=train --model_dir={directory}"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                raise zipfile.BadZipFile("a checksum is wrong")
        model = keras.models.load_model(path, safe_mode=True)
    except (zipfile.BadZipFile, OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is damaged or of another version ({str(error).splitlines()[0]}). Restore it "
            "from a copy, or train anew in another --model_dir."
        ) from error
    return model, text.load(directory)
