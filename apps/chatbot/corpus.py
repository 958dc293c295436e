"""The text pairs that a run learns from, chooses by, and is judged on."""

import importlib.resources
from typing import NamedTuple

from apps.chatbot import dialogues
from keras_attention.data import read_pairs, split_by_source

Pair = tuple[str, str]


class Corpus(NamedTuple):
    """train: learned from. dev: stops the training. test: judged on, seen by neither of both."""

    train: list[Pair]
    dev: list[Pair]
    test: list[Pair]
    families: list[str] | None  # of each test pair, where they are generated


def load(settings: dict) -> Corpus:
    """The pairs of `--data` and `--dev_data`, or those that come with the program.

    Raises ValueError for files that cannot be read, or too few pairs to hold any out.
    """
    if settings["data"]:
        return _of_files(settings)
    if settings["dev_data"]:
        raise ValueError("--dev_data goes with --data. Received: --dev_data alone.")
    return _shipped_chat() if settings["task"] == "chat" else _shipped_couplets()


def _of_files(settings: dict) -> Corpus:
    data, dev_data, turns = (settings[name] for name in ("data", "dev_data", "context_turns"))
    if dev_data:
        dev = read_pairs(dev_data, turns)
        return Corpus(read_pairs(data, turns), dev, dev, None)
    train, dev = split_by_source(read_pairs(data, turns), 0.05, settings["seed"])
    if not dev:
        raise ValueError(
            f"{data} has one distinct source, so nothing can be held out. Pass --dev_data, or more "
            "pairs."
        )
    return Corpus(train, dev, dev, None)


def _shipped_chat() -> Corpus:
    """Hand-written small talk, and generated dialogues; the latter are held out."""
    train, held_out = dialogues.generate()
    talk = _shipped("chat_en.tsv") + _shipped("chat_zh.tsv")
    dev, test = held_out[0::2], held_out[1::2]
    return Corpus(
        train=[(d.question, d.answer) for d in train] + 4 * talk,  # few, and each one its own
        dev=[(d.question, d.answer) for d in dev],
        test=[(d.question, d.answer) for d in test],
        families=[d.family for d in test],
    )


def _shipped_couplets() -> Corpus:
    train, dev = split_by_source(_shipped("couplets.tsv"), 0.05)
    return Corpus(train, dev, dev, None)


def _shipped(name: str) -> list[Pair]:
    with importlib.resources.as_file(
        importlib.resources.files(__package__) / "data" / name
    ) as path:
        return read_pairs(path)
