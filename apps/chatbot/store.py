"""A model directory: settings, tokenizer, the best model, checkpoints, logs."""

import glob
import hashlib
import io
import json
import os
import zipfile
from typing import Any

import h5py
import keras
import numpy as np

from apps.chatbot import files
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
            "--task=couplet needs tokens of one character, to match every length. Received: "
            f"--tokenizer={kind}, which has none for these texts. Choose --tokenizer=char."
        )
    return tokenizer


def make_model(settings: dict, vocab_size: int, target_counts: Any = None) -> keras.Model:
    """A new model, built and compiled; `target_counts` [V] of the target ids.

    Raises ValueError if this machine's memory cannot hold it: see `check_memory`.
    """
    check_memory(settings, vocab_size)
    model = _new_model(settings, vocab_size, target_counts)
    model.build()
    compile_model(model, settings)
    return model


def check_memory(settings: dict, vocab_size: int, tokens: int = 0) -> None:
    """Check that the memory suffices for a training step on so many target tokens.

    Estimates, from below, the weights with their gradients and Adam's two moments, and the logits
    with their gradients. Raises ValueError, with the settings to lower.
    """
    width, layers = settings["units"], settings["layers"]
    if settings["model"] == "transformer":
        weights = layers * (12 * width**2 + 4 * width * settings["ff_units"]) + vocab_size * width
    else:  # a GRU has three gates, and is bidirectional
        weights = layers * 18 * width**2 + 2 * vocab_size * width
    needed, there = 4 * (4 * weights + 2 * tokens * vocab_size), _memory()
    if needed > there:
        raise ValueError(
            f"Training this model needs {needed / 1e9:,.0f} GB of memory or more, and this machine "
            f"has {there / 1e9:,.0f} GB. Received: --units={width}, --layers={layers}, "
            f"{vocab_size:,} tokens in the vocabulary, {tokens:,} in a batch. Lower one of "
            "--units, --layers, --batch_size, --vocab_size, --max_length."
        )


def _memory() -> float:
    """Bytes of this machine's memory, if known."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return float("inf")


def _new_model(settings: dict, vocab_size: int, target_counts: Any = None) -> keras.Model:
    sizes = {"layers": settings["layers"], "dropout": settings["dropout"]}
    if settings["model"] == "transformer":
        return Transformer(
            vocab_size,
            width=settings["units"],
            heads=settings["heads"],
            ff_width=settings["ff_units"],
            **sizes,
        )
    attention = settings["attention"]
    return RNNSeq2Seq(
        vocab_size,
        units=settings["units"],
        attention=None if attention == "none" else attention,
        share_embeddings=True,
        target_counts=target_counts,
        **sizes,
    )


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
    """Write the model; the old one is kept until the new one is complete."""
    files.replace(os.path.join(directory, MODEL), model.save)


def save_weights(directory: str, model: keras.Model, step: int, keep: int) -> None:
    """Write the weights of an epoch that ended at this step, and keep only the newest files."""
    folder = os.path.join(directory, EPOCHS)
    os.makedirs(folder, exist_ok=True)
    files.replace(os.path.join(folder, f"step-{step:09}.weights.h5"), model.save_weights)
    for path in saved_weights(directory)[:-keep]:
        os.remove(path)


def saved_weights(directory: str) -> list[str]:
    """The weights of the last epochs, oldest first."""
    return sorted(glob.glob(os.path.join(glob.escape(directory), EPOCHS, "step-*.weights.h5")))


def load_model(directory: str, settings: dict) -> tuple[keras.Model, text.Tokenizer]:
    """The best model and its tokenizer. Nothing in the files is executed.

    The model is built from the settings; only numbers are read from the archive, at most as many
    as the model has.

    Raises ValueError if there is none, if a file is damaged, if they are of different models, or if
    a weight is not finite.
    """
    path = os.path.join(directory, MODEL)
    if not os.path.exists(path):
        raise ValueError(
            f"{directory!r} holds no trained model: {MODEL} is missing, so no epoch was finished. "
            f"Continue training: --mode=train --model_dir={directory}"
        )
    files.check_directory(directory)
    tokenizer = text.load(directory)
    if not isinstance(tokenizer, _TOKENIZERS[settings["tokenizer"]]):
        raise ValueError(
            f"The tokenizer in {directory!r} must be of the kind {settings['tokenizer']!r}, as its "
            f"settings say. Received: {type(tokenizer).__name__}. Restore both from one copy."
        )
    keras.config.set_dtype_policy(settings["dtype_policy"])
    check_memory(settings, tokenizer.vocab_size)
    model = _new_model(settings, tokenizer.vocab_size)
    try:
        found = _read_config(path)
    except Exception as error:  # a damaged file may raise any error
        raise ValueError(_damaged(path, error)) from error
    _check_config(path, found, model, tokenizer)
    model.build()
    try:
        _check_size(path, model)
        model.load_weights(path)
    except Exception as error:
        raise ValueError(_damaged(path, error)) from error
    check_finite(path, model)
    return model, tokenizer


def fingerprint(directory: str, tokenizer: text.Tokenizer) -> str:
    """The same for the same best model and tokenizer, and only for them."""
    with open(os.path.join(directory, MODEL), "rb") as file:
        return f"{hashlib.file_digest(file, 'sha256').hexdigest()} {tokenizer.fingerprint}"


def check_finite(path: str, model: keras.Model) -> None:
    """Raise ValueError if a weight is NaN or infinite: such a model cannot answer."""
    for variable in model.variables:
        values = keras.ops.convert_to_numpy(variable.value)
        if values.dtype.kind not in "iub" and not np.isfinite(values.astype(np.float32)).all():
            raise ValueError(
                f"{path} has weights that are not finite ({variable.path}). Restore it from "
                "a copy, or train again in another --model_dir, with a lower --learning_rate."
            )


def check_weights(path: str, model: keras.Model) -> None:
    """Check that a file of weights holds no more numbers than the model.

    Raises ValueError: a small file can be a compressed large one.
    """
    files.check_regular(path)
    with open(path, "rb") as file:
        _check_datasets(file, model)


_SLACK = 1_000_000  # bytes for names, tables and seeds in a file of weights


def _most(model) -> int:
    """Bytes that a file of the model may unpack to: its weights, with two moments of each."""
    sizes = (v.value.dtype.size * int(np.prod(v.shape)) for v in model.variables)
    return 3 * sum(sizes) + _SLACK


def _read_config(path: str) -> dict:
    """The configuration in an archive; other members are not read."""
    with zipfile.ZipFile(path) as archive:
        if archive.getinfo("config.json").file_size > files.MAX_JSON_BYTES:
            raise ValueError("its config.json is too large")
        config = json.loads(archive.read("config.json"))
    if not isinstance(config, dict):
        raise ValueError("its config.json is not an object")
    return config


def _check_config(path, found, model, tokenizer) -> None:
    """Check that the archive matches the settings and the tokenizer."""
    config, name = found.get("config"), found.get("class_name")
    config = config if isinstance(config, dict) else {}
    if name == type(model).__name__ and str(found.get("registered_name")).endswith(f">{name}"):
        expected = model.get_config()
        wrong = {
            key: config.get(key)
            for key in expected.keys() - {"name", "trainable", "dtype", "build_config"}
            if key in config and config[key] != expected[key]
        }
        if not wrong:
            return
        received = ", ".join(f"{key}={value!r:.60}" for key, value in sorted(wrong.items()))
    else:
        layers = config.get("layers")
        layers = layers if isinstance(layers, list) else []
        kinds = [layer.get("class_name") for layer in layers if isinstance(layer, dict)]
        received = f"{name!r:.60}" + (f" of {kinds!r:.200}" if kinds else "")
    raise ValueError(
        f"{path} does not match the settings and tokenizer beside it: expected "
        f"{type(model).__name__} of {tokenizer.vocab_size} tokens. Received: {received}. Restore "
        "all from one copy, or start a new training in another --model_dir."
    )


def _check_size(path, model) -> None:
    """Check the size of the archive, and then its checksums."""
    most = _most(model)
    with zipfile.ZipFile(path) as archive:
        size = sum(member.file_size for member in archive.infolist())
        if size > most:
            raise ValueError(f"it unpacks to {size:,} bytes; a model of its settings has {most:,}")
        if archive.testzip() is not None:
            raise zipfile.BadZipFile("a checksum is wrong")
        _check_datasets(io.BytesIO(archive.read("model.weights.h5")), model)


def _check_datasets(file, model) -> None:
    """Check the sizes of all arrays of an HDF5 file, none of which is read."""
    most, size = _most(model), 0

    def add(_, item):
        nonlocal size
        if isinstance(item, h5py.Dataset):
            if item.is_virtual or item.external:
                raise ValueError(f"{item.name} lies in another file")
            size += item.nbytes

    with h5py.File(file, "r") as weights:
        weights.visititems(add)
    if size > most:
        raise ValueError(
            f"its weights unpack to {size:,} bytes; a model of its settings has {most:,}"
        )


def _damaged(path, error) -> str:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return (
        f"{path} is damaged, of another version, or not made by this program ({reason}). Restore "
        "it from a copy, or start a new training in another --model_dir."
    )
