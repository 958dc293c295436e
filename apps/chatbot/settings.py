"""The settings of a model directory: the flags that it stores."""

import os
from typing import Any

from absl import flags

from apps.chatbot import files
from apps.chatbot.table import REQUIRED, TABLE, WARMUP, Setting

VERSION = 1
CONFIG = "config.json"

_STORED: dict[str, Setting] = {row.name: row for row in TABLE if row.stored}

# Model and data: they cannot change once training has begun.
FIXED = tuple(row.name for row in _STORED.values() if row.stored == "fixed")
# How to search: see `search`.
SEARCH = tuple(row.name for row in _STORED.values() if row.stored == "search")
# Length of training and search: the stored value is only the default.
FREE = tuple(row.name for row in _STORED.values() if row.stored != "fixed")
# Settings that earlier model directories lack, and their values there.
ADDED = {row.name: row.earlier for row in _STORED.values() if row.earlier is not REQUIRED}
# Paths of data may change; whether they are the same data is checked by their content.
PATHS = ("data", "dev_data")


def of_flags(values: flags.FlagValues) -> dict:
    """The settings of the flags, including defaults."""
    return {name: values[name].value for name in FIXED + FREE}


def of_new_model(wanted: dict, explicit_flags: dict) -> dict:
    """The settings of a new model: those wanted, and those derived from them.

    Raises ValueError for settings of another kind of model.
    """
    settings, kind = dict(wanted), wanted["model"]
    for other, owned in {"rnn": ["attention"], "transformer": ["heads", "ff_units"]}.items():
        strange = [f"--{name}={explicit_flags[name]}" for name in owned if name in explicit_flags]
        if strange and kind != other:
            raise ValueError(
                f"{', '.join(strange)} is for --model={other}. Received: --model={kind}. Leave it "
                "out."
            )
    if kind == "transformer":
        settings["attention"] = None
        settings["ff_units"] = settings["ff_units"] or 4 * settings["units"]
    if settings["warmup_steps"] is None:
        settings["warmup_steps"] = WARMUP if kind == "transformer" else 0
    for name in PATHS:
        settings[name] = _absolute(settings[name])
    _check_together(settings)
    return settings


def explicit_flags(values: flags.FlagValues) -> dict:
    """The settings that are set on the command line."""
    return {name: values[name].value for name in FIXED + FREE if values[name].present}


def save(directory: str, settings: dict) -> None:
    """Write the settings into an existing directory, atomically."""
    files.write_json(os.path.join(directory, CONFIG), {"version": VERSION, **settings})


def exists(directory: str) -> bool:
    """Whether the directory has settings."""
    return os.path.exists(os.path.join(directory, CONFIG))


def load(directory: str, wanted: dict, may_differ: tuple = FREE) -> dict:
    """The stored settings, updated with those of `wanted` that may change.

    Raises ValueError if there is no model, if its settings cannot be read, are of another version
    or have an invalid value, or if `wanted` contradicts a fixed setting.
    """
    path = os.path.join(directory, CONFIG)
    if not os.path.isdir(directory):
        raise ValueError(
            f"There is no model at {directory!r}. Train one first: --mode=train "
            f"--model_dir={directory}"
        )
    if not os.path.exists(path):
        raise ValueError(
            f"{directory!r} is not a model directory: {CONFIG} is missing. Pass the --model_dir of "
            "a training, or train one there: --mode=train"
        )
    stored = _read(path)
    wanted = {name: _absolute(wanted[name]) if name in PATHS else wanted[name] for name in wanted}
    stored.update({name: _absolute(stored[name]) for name in PATHS})
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
    return {**stored, **wanted}


def _read(path: str) -> dict:
    stored = {**ADDED, **files.read_json(path, VERSION)}
    missing = [name for name in FIXED + FREE if name not in stored]
    remedy = "Restore it from a copy, or start a new training in another --model_dir."
    if missing:
        raise ValueError(
            f"{path} lacks {', '.join(missing)}: the model directory is damaged. {remedy}"
        )
    try:
        for name, setting in _STORED.items():
            setting.check(stored[name])
        _check_together(stored)
    except ValueError as error:
        raise ValueError(f"{path}: {error}. {remedy}") from error
    return stored


def _check_together(settings: dict) -> None:
    """Raise ValueError for settings that contradict each other."""
    if settings["model"] == "transformer" and settings["units"] % settings["heads"]:
        raise ValueError(
            "--heads must divide --units. Received: "
            f"--heads={settings['heads']}, --units={settings['units']}"
        )
    needed = "attention" if settings["model"] == "rnn" else "ff_units"
    if settings[needed] is None:
        raise ValueError(f"{needed} must be set for --model={settings['model']}. Received: None")
    if settings["context_turns"] and settings["task"] == "couplet":
        raise ValueError(
            "--context_turns is for --task=chat: a couplet's second line matches one line. "
            f"Received: --context_turns={settings['context_turns']}, --task=couplet"
        )


def _absolute(path: str | None) -> str | None:
    """The absolute path of the file, or of the two files."""
    from keras_attention.data import file_names  # it imports TensorFlow: see `__main__`

    return ",".join(map(os.path.abspath, file_names(path))) if path else path


def _shown(value: Any) -> str:
    return "not set" if value is None else str(value)
