"""What a model directory holds: settings, tokenizer, the best model, checkpoints, logs."""

import os
import zipfile
from typing import Any

import keras

from keras_attention import text
from keras_attention.training import ClipByGlobalNorm, token_objective
from models.rnn_seq2seq import RNNSeq2Seq  # also registers it with Keras

MODEL = "model.keras"
CHECKPOINTS = "checkpoints"
LOGS = "logs"

_TOKENIZERS = {"char": text.Characters, "word": text.Words, "sentencepiece": text.Subwords}


def make_tokenizer(settings: dict, pairs: list) -> text.Tokenizer:
    """One vocabulary for both sides, from the training pairs."""
    lines = [line for pair in pairs for line in pair]
    kind = settings["tokenizer"]
    tokenizer = _TOKENIZERS[kind].train(lines, vocab_size=settings["vocab_size"])
    if settings["task"] == "couplet" and 1 not in tokenizer.token_lengths:
        raise ValueError(
            "--task=couplet needs tokens of one character, to meet every length. Received: "
            f"--tokenizer={kind}, which finds none in these texts. Choose --tokenizer=char."
        )
    return tokenizer


def make_model(settings: dict, vocab_size: int, target_counts: Any = None) -> keras.Model:
    """A fresh model, built and compiled; `target_counts` [V] of the ids it will have to say."""
    attention = settings["attention"]
    model = RNNSeq2Seq(
        vocab_size,
        units=settings["units"],
        layers=settings["layers"],
        attention=None if attention == "none" else attention,
        share_embeddings=True,
        dropout=settings["dropout"],
        target_counts=target_counts,
    )
    model.build()
    compile_model(model, settings)
    return model


def compile_model(model: keras.Model, settings: dict) -> None:
    """Adam on the mean cross-entropy of real tokens, clipped by the true global norm."""
    optimizer: Any = keras.optimizers.Adam(settings["learning_rate"])
    if settings["max_gradient_norm"]:
        optimizer = ClipByGlobalNorm(optimizer, settings["max_gradient_norm"])
    model.compile(optimizer, **token_objective())


def save_model(directory: str, model: keras.Model) -> None:
    """Write the model; the one that was there stays until the new one is whole."""
    path = os.path.join(directory, MODEL)
    part = os.path.join(directory, "unfinished." + MODEL)
    try:
        model.save(part)
        os.replace(part, path)
    except OSError as error:
        raise OSError(
            f"Could not save {path}: {error.strerror or error}. What was saved before is intact. "
            "Free some space, then run the same command again to go on."
        ) from error
    finally:
        if os.path.exists(part):
            os.remove(part)


def load_model(directory: str, settings: dict) -> tuple[keras.Model, text.Tokenizer]:
    """The best model and its tokenizer. Nothing in the files is executed.

    Raises ValueError if there is none, if a file is damaged, or if they are of different models.
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
        keras.config.set_dtype_policy(settings["dtype_policy"])
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # a damaged file fails in as many ways as it has layers
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(
            f"{path} is damaged, of another version, or not made by this program ({reason}). "
            "Restore it from a copy, or train anew in another --model_dir."
        ) from error
    tokenizer = text.load(directory)
    vocab_size = model.get_config().get("vocab_size")
    if not isinstance(model, RNNSeq2Seq) or vocab_size != tokenizer.vocab_size:
        raise ValueError(
            f"{path} and the tokenizer beside it do not belong together: expected an RNNSeq2Seq of "
            f"{tokenizer.vocab_size} tokens. Received: a {type(model).__name__} of {vocab_size}. "
            "Restore both from one copy, or train anew in another --model_dir."
        )
    return model, tokenizer
