"""The flags, and the settings that a model directory remembers of them."""

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
)
# How long to train and how to search: the stored value is only the default.
FREE = ("epochs", "steps", "patience", "beam_width", "length_penalty")


def define_flags() -> None:
    """Declare every flag of the program."""
    flags.DEFINE_enum("mode", "train", ["train", "eval", "infer", "export"], "What to do.")
    flags.DEFINE_enum("task", "chat", ["chat", "couplet"], "What to learn.")
    flags.DEFINE_string(
        "data",
        None,
        "Text pairs: a file of lines `source TAB target` (may be .gz), or two line-aligned files "
        "as SRC,TGT. Default: the data that comes with the program. For eval: what to evaluate "
        "on; default: the held-out part.",
    )
    flags.DEFINE_string(
        "dev_data", None, "Held-out pairs, like --data. Default: a split of --data."
    )
    flags.DEFINE_string("model_dir", "model", "Where the model is kept.")
    flags.DEFINE_string("export_dir", "export", "Where export writes the SavedModel.")
    flags.DEFINE_enum(
        "tokenizer",
        "char",
        ["char", "word", "sentencepiece"],
        "What a token is. sentencepiece needs the extra [subword].",
    )
    flags.DEFINE_integer("vocab_size", 8000, "The most tokens to know.", lower_bound=8)
    flags.DEFINE_integer("epochs", 16, "Passes over the data, at most.", lower_bound=1)
    flags.DEFINE_integer("steps", None, "Training steps in all; overrides --epochs.", lower_bound=1)
    flags.DEFINE_integer("batch_size", 64, "Pairs a step.", lower_bound=1)
    flags.DEFINE_float(
        "learning_rate",
        3e-3,
        "Of Adam; halved after every epoch without a better dev loss.",
        lower_bound=0.0,
    )
    flags.DEFINE_integer("units", 128, "Width of every layer.", lower_bound=1)
    flags.DEFINE_integer("layers", 1, "Recurrent layers of encoder and decoder.", lower_bound=1)
    flags.DEFINE_enum(
        "attention", "bahdanau", ["bahdanau", "luong", "none"], "How the decoder looks back."
    )
    flags.DEFINE_float(
        "max_gradient_norm", 5.0, "Clip gradients to this global norm; 0 does not.", lower_bound=0.0
    )
    flags.DEFINE_float(
        "dropout", 0.0, "Share of inputs dropped.", lower_bound=0.0, upper_bound=0.99
    )
    flags.DEFINE_enum(
        "dtype_policy", "float32", ["float32", "mixed_bfloat16", "mixed_float16"], "Of Keras."
    )
    flags.DEFINE_integer("beam_width", 4, "Hypotheses a search keeps.", lower_bound=1)
    flags.DEFINE_float("length_penalty", 0.6, "0 prefers short answers.", lower_bound=0.0)
    flags.DEFINE_integer(
        "max_length", 64, "Tokens of a source or a target, at most.", lower_bound=1
    )
    flags.DEFINE_integer("seed", 0, "Of everything random.", lower_bound=0)
    flags.DEFINE_integer(
        "patience",
        5,
        "Epochs without a better dev loss before stopping; 0 never stops.",
        lower_bound=0,
    )
    flags.DEFINE_string("input", None, "File of lines to answer. Default: standard input.")
    flags.DEFINE_string("output", None, "File for the answers. Default: standard output.")


def of_flags(values: flags.FlagValues) -> dict:
    """The settings that the flags ask for, defaults included."""
    return {name: values[name].value for name in FIXED + FREE}


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
    missing = [name for name in FIXED + FREE if name not in stored]
    if missing:
        raise ValueError(
            f"{path} lacks {', '.join(missing)}: the model directory is damaged. Restore it from "
            "a copy, or train anew in another --model_dir."
        )
    return stored


def _shown(value: Any) -> str:
    return "not set" if value is None else str(value)
