"""The text pairs for training, validation and test."""

import hashlib
import importlib.resources
import os
from typing import Any, NamedTuple

import tensorflow as tf

from apps.chatbot import dialogues, files
from apps.chatbot.sources import without_blanks
from keras_attention.data import Limits, PairFile, file_names, read_pair_file, split_by_source

Pair = tuple[str, str]

DATA = "data.json"
VERSION = 1
SAMPLES = 3


class Corpus(NamedTuple):
    """The pairs of a run, and facts about their files.

    Attributes:
        train: for training.
        dev: for early stopping.
        test: for evaluation, in neither of the others.
        families: of each test pair, if they are generated.
        about: lines that describe the files.
        record: the identity of the data, for `check_unchanged`.
    """

    train: list[Pair]
    dev: list[Pair]
    test: list[Pair]
    families: list[str] | None
    about: list[str]
    record: dict[str, Any]


def load(settings: dict, limits: Limits | None = None) -> Corpus:
    """The pairs of `--data` and `--dev_data`, or those shipped with the program.

    Raises ValueError for files that cannot be read, or too few pairs to hold any out.
    """
    if settings["data"]:
        return _of_files(settings, limits)
    if settings["dev_data"]:
        raise ValueError("--dev_data needs --data. Received: --dev_data only.")
    return _shipped_chat() if settings["task"] == "chat" else _shipped_couplets()


def read(path: str, settings: dict, limits: Limits | None = None) -> PairFile:
    """The pairs of a file, prepared for the task of `settings`.

    Raises ValueError as `read_pairs` does, and if all couplets are blank.
    """
    found = read_pair_file(path, settings["context_turns"], limits)
    if settings["task"] != "couplet":
        return found
    sides = (without_blanks(tf.constant(side)).numpy() for side in zip(*found.pairs))
    couplets = [(first.decode(), second.decode()) for first, second in zip(*sides)]
    couplets = [couplet for couplet in couplets if all(couplet)]
    if not couplets:
        raise ValueError(f"Expected couplets. Received: {path} holds only blanks.")
    return found._replace(pairs=couplets)


def check_there(settings: dict, remedy: str) -> None:
    """Check that the data files of a stored model still exist.

    Raises ValueError with `remedy`, in which `{name}` is the flag's name.
    """
    for name in ("data", "dev_data"):
        path = settings[name]
        if path and not all(map(os.path.exists, file_names(path))):
            raise ValueError(
                f"The data of this model, --{name}={path}, does not exist any more. "
                + remedy.format(name=name)
            )


def describe(path: str, found: PairFile, couplets: bool = False) -> list[str]:
    """A summary of a file, and its first pairs, as lines."""
    lines = [f"{path}: {found.summary()}"]
    uneven = sum(len(first) != len(second) for first, second in found.pairs) if couplets else 0
    if uneven:
        lines[0] += f"; {uneven:,} couplets with lines of different lengths"
    for pair in found.pairs[:SAMPLES]:
        lines.append("  {!r} -> {!r}".format(*map(_short, pair)))
    return lines


def check_unchanged(directory: str, record: dict[str, Any], settings: dict) -> None:
    """Check that a run continues with the same data, even if the files were moved.

    Raises ValueError that names the change and the remedy. A directory of an earlier version, which
    has no record, is not checked.
    """
    if not has_record(directory):
        return
    stored = files.read_json(os.path.join(directory, DATA), VERSION)
    for name in ("data", "dev_data"):
        before, now = stored.get(name), record[name]
        if before != now:
            raise ValueError(
                f"--{name} must be the data of the training in {directory!r}: expected "
                f"{_identity(before)}. Received: {_identity(now)}"
                + (f", from {settings[name]}" if settings[name] else "")
                + ". A run can only continue with the same pairs. Restore the file (if it was "
                f"moved, pass --{name}=NEW_PATH), or start a new training in another --model_dir."
            )


def has_record(directory: str) -> bool:
    """Whether a model directory has the identity of its data; earlier versions have not."""
    return os.path.exists(os.path.join(directory, DATA))


def save_record(directory: str, record: dict[str, Any]) -> None:
    """Write the identity of the data into a model directory."""
    files.write_json(os.path.join(directory, DATA), {"version": VERSION, **record})


def _of_files(settings: dict, limits) -> Corpus:
    path, dev_path, couplets = (
        settings["data"],
        settings["dev_data"],
        settings["task"] == "couplet",
    )
    found = read(path, settings, limits)
    about = describe(path, found, couplets)
    if dev_path:
        held_out = read(dev_path, settings, limits)
        about += describe(dev_path, held_out, couplets)
        record = _record(found.pairs, held_out.pairs)
        return Corpus(found.pairs, held_out.pairs, held_out.pairs, None, about, record)
    train, dev = split_by_source(found.pairs, 0.05, settings["seed"])
    if not dev:
        raise ValueError(
            f"{path} has one distinct source: no pair can be held out. Pass --dev_data, or more "
            "pairs."
        )
    return Corpus(train, dev, dev, None, about, _record(found.pairs))


def _shipped_chat() -> Corpus:
    """Hand-written small talk, and generated dialogues; the latter are held out."""
    train, held_out = dialogues.generate()
    talk = _shipped("chat_en.tsv") + _shipped("chat_zh.tsv")
    dev, test = held_out[0::2], held_out[1::2]
    pairs = [(d.question, d.answer) for d in train] + 4 * talk  # few and all different: repeat them
    dev_pairs = [(d.question, d.answer) for d in dev]
    return Corpus(
        train=pairs,
        dev=dev_pairs,
        test=[(d.question, d.answer) for d in test],
        families=[d.family for d in test],
        about=[],
        record=_record(pairs, dev_pairs),
    )


def _shipped_couplets() -> Corpus:
    pairs = _shipped("couplets.tsv")
    train, dev = split_by_source(pairs, 0.05)
    return Corpus(train, dev, dev, None, [], _record(pairs))


def _shipped(name: str) -> list[Pair]:
    with importlib.resources.as_file(
        importlib.resources.files("apps.chatbot") / "data" / name
    ) as path:
        return read_pair_file(path).pairs


def _record(pairs: list[Pair], dev_pairs: list[Pair] | None = None) -> dict[str, Any]:
    """The identity of the data, which compressing or converting a file does not change."""

    def facts(pairs):
        digest, size = hashlib.sha256(), 0
        for source, target in pairs:
            line = f"{source}\t{target}\n".encode("utf-8", "surrogatepass")
            digest.update(line)
            size += len(line)
        return {"pairs": len(pairs), "bytes": size, "sha256": digest.hexdigest()}

    return {"data": facts(pairs), "dev_data": facts(dev_pairs) if dev_pairs else None}


def _identity(facts: dict[str, Any] | None) -> str:
    if not facts:
        return "none"
    if not isinstance(facts, dict) or not {"pairs", "bytes", "sha256"} <= facts.keys():
        return f"others ({facts!r:.80})"
    return "{pairs} pairs of {bytes} bytes, sha256 {digest}...".format(
        **facts, digest=str(facts["sha256"])[:12]
    )


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
