"""The settings of a model directory: what it remembers of the flags."""

import json
import os
from typing import Any

from absl import flags

VERSION = 1
CONFIG = "config.json"

# What a model is made of, and learned from: it cannot change once training has begun.
FIXED = (
    "task",
    "data",
    "dev_data",
    "tokenizer",
    "vocab_size",
    "batch_size",
    "learning_rate",
    "units",
    "layers",
    "attention",
    "max_gradient_norm",
    "dropout",
    "dtype_policy",
    "max_length",
    "seed",
    "model",
    "heads",
    "ff_units",
    "label_smoothing",
    "warmup_steps",
    "context_turns",
)
# How to search: see `search`.
SEARCH = (
    "beam_width",
    "n_best",
    "length_penalty",
    "coverage_penalty",
    "sampling",
    "sample_seed",
    "diversity_groups",
    "diversity_strength",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "typical_p",
    "min_length",
    "repetition_penalty",
    "no_repeat_ngram",
    "banned_words",
    "must_contain",
)
# How long to train and how to search: the stored value is only the default.
FREE = ("epochs", "steps", "patience", "average", *SEARCH)

# What earlier model directories lack, and what is meant there; also the defaults of the flags.
ADDED: dict[str, Any] = {
    "model": "rnn",
    "heads": 4,
    "ff_units": None,
    "label_smoothing": 0.0,
    "warmup_steps": 0,
    "context_turns": 0,
    "average": 0,
    "n_best": None,
    "coverage_penalty": 0.0,
    "sampling": "off",
    "sample_seed": None,
    "diversity_groups": 2,
    "diversity_strength": 1.0,
    "temperature": 1.0,
    "top_k": 0,
    "top_p": 1.0,
    "min_p": 0.0,
    "typical_p": 1.0,
    "min_length": 0,
    "repetition_penalty": 1.0,
    "no_repeat_ngram": 0,
    "banned_words": [],
    "must_contain": [],
}
WARMUP = 1000  # steps, of a Transformer that is told nothing else


def of_flags(values: flags.FlagValues) -> dict:
    """The settings that the flags ask for, defaults included."""
    return {name: values[name].value for name in FIXED + FREE}


def of_new_model(wanted: dict, said: dict) -> dict:
    """The settings of a model that is begun: what is wanted, and what follows from it.

    Raises ValueError for settings that are meant for another kind of model.
    """
    settings, kind = dict(wanted), wanted["model"]
    for other, owned in {"rnn": ["attention"], "transformer": ["heads", "ff_units"]}.items():
        strange = [f"--{name}={said[name]}" for name in owned if name in said]
        if strange and kind != other:
            raise ValueError(
                f"{', '.join(strange)} is for --model={other}. Received: --model={kind}. Leave it "
                "out."
            )
    if kind == "transformer":
        settings["attention"] = None
        settings["ff_units"] = settings["ff_units"] or 4 * settings["units"]
        if settings["units"] % settings["heads"]:
            raise ValueError(
                "--heads must divide --units. Received: "
                f"--heads={settings['heads']}, --units={settings['units']}"
            )
    if settings["warmup_steps"] is None:
        settings["warmup_steps"] = WARMUP if kind == "transformer" else 0
    if settings["context_turns"] and settings["task"] == "couplet":
        raise ValueError(
            "--context_turns is for --task=chat: a couplet's second line matches one line. "
            f"Received: --context_turns={settings['context_turns']}, --task=couplet"
        )
    return settings


def said(values: flags.FlagValues) -> dict:
    """The settings that were named on the command line."""
    return {name: values[name].value for name in FIXED + FREE if values[name].present}


def save(directory: str, settings: dict) -> None:
    """Write the settings into a directory that is there; whole or not at all."""
    path = os.path.join(directory, CONFIG)
    part = path + ".new"
    try:
        with open(part, "w", encoding="utf-8") as file:
            json.dump({"version": VERSION, **settings}, file, indent=2, ensure_ascii=False)
        os.replace(part, path)
    except OSError as error:
        raise OSError(
            f"Could not save {path}: {error.strerror}. Free some space, or choose another "
            "--model_dir."
        ) from error
    finally:
        if os.path.exists(part):
            os.remove(part)


def exists(directory: str) -> bool:
    """Whether a model has been begun here."""
    return os.path.exists(os.path.join(directory, CONFIG))


def load(directory: str, wanted: dict, may_differ: tuple = FREE) -> dict:
    """The stored settings, with those of `wanted` that are free to change put over them.

    Raises ValueError if there is no model, if its settings cannot be read or are of another
    version, or if `wanted` contradicts what is fixed.
    """
    path = os.path.join(directory, CONFIG)
    if not os.path.isdir(directory):
        raise ValueError(
            f"There is no model at {directory!r}. Train one first: --mode=train "
            f"--model_dir={directory}"
        )
    if not os.path.exists(path):
        raise ValueError(
            f"{directory!r} is no model directory: {CONFIG} is missing. Pass the --model_dir that "
            "a training wrote, or train one there: --mode=train"
        )
    stored = _read(path)
    clashes = [
        f"--{name}={wanted[name]} (stored: {_shown(stored[name])})"
        for name in wanted
        if name not in may_differ and wanted[name] != stored[name]
    ]
    if clashes:
        raise ValueError(
            f"The model in {directory!r} was made with other settings: {', '.join(clashes)}. Leave "
            "these flags out, or choose another --model_dir."
        )
    return {**stored, **{name: wanted[name] for name in wanted}}


def _read(path: str) -> dict:
    try:
        with open(path, encoding="utf-8") as file:
            stored = json.load(file)
        version = stored.pop("version")
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(
            f"{path} cannot be read ({error}): the model directory is damaged. Restore it from a "
            "copy, or train anew in another --model_dir."
        ) from error
    if version != VERSION:
        raise ValueError(
            f"{path} is of version {version}, this program reads version {VERSION}. Use the "
            "release that trained the model, or train anew."
        )
    stored = {**ADDED, **stored}
    missing = [name for name in FIXED + FREE if name not in stored]
    if missing:
        raise ValueError(
            f"{path} lacks {', '.join(missing)}: the model directory is damaged. Restore it from "
            "a copy, or train anew in another --model_dir."
        )
    return stored


def _shown(value: Any) -> str:
    return "not set" if value is None else str(value)
