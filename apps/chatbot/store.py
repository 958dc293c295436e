"""What a model directory holds: settings, tokenizer, the best model, checkpoints, logs."""

import glob
import os
import zipfile
from collections.abc import Callable
from typing import Any

import keras

from keras_attention import text
from keras_attention.training import ClipByGlobalNorm, InverseSquareRoot, token_objective
from models import RNNSeq2Seq, Transformer  # also registers them with Keras

MODEL = "model.keras"
CHECKPOINTS = "checkpoints"
EPOCHS = "epochs"
LOGS = "logs"

_MODELS = {"rnn": RNNSeq2Seq, "transformer": Transformer}
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
    sizes = {"layers": settings["layers"], "dropout": settings["dropout"]}
    if settings["model"] == "transformer":
        model: keras.Model = Transformer(
            vocab_size,
            width=settings["units"],
            heads=settings["heads"],
            ff_width=settings["ff_units"],
            **sizes,
        )
    else:
        attention = settings["attention"]
        model = RNNSeq2Seq(
            vocab_size,
            units=settings["units"],
            attention=None if attention == "none" else attention,
            share_embeddings=True,
            target_counts=target_counts,
            **sizes,
        )
    model.build()
    compile_model(model, settings)
    return model


def compile_model(model: keras.Model, settings: dict) -> None:
    """Adam on the mean cross-entropy of real tokens, clipped by the true global norm."""
    rate, usual = settings["learning_rate"], {}
    if settings["warmup_steps"]:
        rate = InverseSquareRoot(rate, settings["warmup_steps"])
    if settings["model"] == "transformer":
        usual = {"beta_2": 0.98, "epsilon": 1e-9}  # Vaswani et al., 2017, section 5.3
    optimizer: Any = keras.optimizers.Adam(rate, **usual)
    if settings["max_gradient_norm"]:
        optimizer = ClipByGlobalNorm(optimizer, settings["max_gradient_norm"])
    model.compile(optimizer, **token_objective(settings["label_smoothing"]))


def save_model(directory: str, model: keras.Model) -> None:
    """Write the model; the one that was there stays until the new one is whole."""
    _write(os.path.join(directory, MODEL), model.save)


def save_weights(directory: str, model: keras.Model, step: int, keep: int) -> None:
    """Write the weights of an epoch that ended at this step, and keep the newest files alone."""
    folder = os.path.join(directory, EPOCHS)
    os.makedirs(folder, exist_ok=True)
    _write(os.path.join(folder, f"step-{step:09}.weights.h5"), model.save_weights)
    for path in saved_weights(directory)[:-keep]:
        os.remove(path)


def saved_weights(directory: str) -> list[str]:
    """The weights of the last epochs, oldest first."""
    return sorted(glob.glob(os.path.join(glob.escape(directory), EPOCHS, "step-*.weights.h5")))


def _write(path: str, save: Callable[[str], None]) -> None:
    """A file whole, or as it was."""
    part = os.path.join(os.path.dirname(path), "unfinished." + os.path.basename(path))
    try:
        save(part)
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
    kind = _MODELS[settings["model"]]
    if not isinstance(model, kind) or vocab_size != tokenizer.vocab_size:
        raise ValueError(
            f"{path} and the tokenizer beside it do not belong together: expected {kind.__name__} "
            f"of {tokenizer.vocab_size} tokens. Received: {type(model).__name__} of {vocab_size}. "
            "Restore both from one copy, or train anew in another --model_dir."
        )
    return model, tokenizer
