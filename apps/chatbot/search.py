"""The search settings as arguments of `generate`, with checks for contradictions."""

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_attention import text
from keras_attention.export import Settings
from keras_attention.seq2seq import (
    LogitsProcessor,
    Strategy,
    beam,
    diverse_beam,
    processors,
    sample,
    stochastic_beam,
)

# The settings that a request to an export may change.
VARIED = ("length_penalty", "coverage_penalty", "temperature", "top_k", "top_p")


class Plan(NamedTuple):
    """The arguments of `generate` that do not depend on the lines."""

    settings: Settings
    strategy: Strategy
    processors: list[LogitsProcessor]
    beam_width: int
    n_best: int
    streams: bool  # one answer, whose tokens are final when they are chosen


def plan(settings: dict, tokenizer: text.Tokenizer) -> Plan:
    """Raises ValueError, naming the flags, for settings that no answer could satisfy."""
    width, count = settings["beam_width"], settings["n_best"]
    if count is not None and count > width:
        raise ValueError(
            "--n_best must not be above --beam_width. Received: "
            f"--n_best={count}, --beam_width={width}"
        )
    if settings["coverage_penalty"] and settings["attention"] == "none":
        raise ValueError(
            "--coverage_penalty needs a model with attention. Received: "
            f"--coverage_penalty={settings['coverage_penalty']}, --attention=none"
        )
    varied = {name: settings[name] for name in VARIED}
    varied = Settings(**varied, max_length=settings["max_length"] + 1)  # the end token counts
    varied.processors()  # raises for values out of range
    return Plan(
        varied,
        strategy(settings, settings["sample_seed"]),
        _processors(settings, tokenizer),
        width,
        width if count is None else count,
        streams=count in (None, 1) and (width == 1 or settings["sampling"] == "sample"),
    )


def strategy(settings: dict, seed: Any) -> Strategy:
    """The strategy of --sampling, with the seed of its draws: see `sample`.

    Raises ValueError for groups that do not divide the beam.
    """
    kind = settings["sampling"]
    groups, width = settings["diversity_groups"], settings["beam_width"]
    if kind == "diverse":
        if width % groups:
            raise ValueError(
                "--diversity_groups must divide --beam_width. Received: "
                f"--diversity_groups={groups}, --beam_width={width}"
            )
        return diverse_beam(groups, settings["diversity_strength"])
    return {
        "off": beam,
        "sample": lambda: sample(seed),
        "stochastic": lambda: stochastic_beam(seed),
    }[kind]()


def _processors(settings, tokenizer) -> list[LogitsProcessor]:
    """The processors of the flags that are on, with the names of their flags."""
    _check_lengths(settings)
    banned = _banned(settings["banned_words"], tokenizer)
    needed = _needed(settings["must_contain"], tokenizer, settings["max_length"])
    _check_words(banned, needed)
    phrases = [ids for spellings in banned.values() for ids in spellings]
    wanted = {
        "repetition_penalty": (1.0, processors.repetition_penalty),
        "min_length": (0, lambda tokens: processors.length_between(tokens + 1)),
        "no_repeat_ngram": (0, processors.no_repeat_ngram),
        "banned_words": ([], lambda _: processors.ban_phrases(phrases)),
        "must_contain": ([], lambda _: processors.must_contain(list(needed.values()))),
        "min_p": (0.0, processors.min_p),
        "typical_p": (1.0, processors.typical),
    }
    chosen = []
    for name, (off, processor) in wanted.items():
        value = settings[name]
        if value != off:
            shown = ",".join(value) if isinstance(value, list) else value
            chosen.append(processor(value)._replace(name=f"--{name}={shown}"))
    if chosen:  # or special tokens would count towards the length
        chosen.insert(0, processors.ban([text.PAD, text.START]))
    processors.check(chosen, settings["max_length"] + 1)
    return chosen


def _check_lengths(settings) -> None:
    least, most = settings["min_length"], settings["max_length"]
    if least > most:
        raise ValueError(
            "--min_length must not be above --max_length. Received: "
            f"--min_length={least}, --max_length={most}"
        )
    if least and settings["task"] == "couplet":
        raise ValueError(
            "--min_length is for --task=chat: a couplet's second line is as long as the first. "
            f"Received: --min_length={least}, --task=couplet"
        )


def _banned(words, tokenizer) -> dict[str, list]:
    """Each word -> its ids; words that the model cannot generate are left out."""
    spelled = {}
    for word in words:
        forms = {tuple(_ids(form, tokenizer)) for form in (word, f" {word}")}
        spelled[word] = sorted(ids for ids in forms if ids and text.UNKNOWN not in ids)
    return spelled


def _needed(words, tokenizer, limit) -> dict[str, tuple]:
    """Each word -> its ids within a text."""
    spelled = {}
    for word in words:
        within = f" {word}" if isinstance(tokenizer, text.Subwords) else word
        ids = tuple(_ids(within, tokenizer))
        if not ids or text.UNKNOWN in ids:
            raise ValueError(
                "--must_contain needs words of the vocabulary. Received: "
                f"--must_contain={word}, which has unknown tokens."
            )
        spelled[word] = ids
        if len(ids) > limit:
            raise ValueError(
                f"--must_contain={word} needs {len(ids)} tokens. Received: --max_length={limit}"
            )
    return spelled


def _check_words(banned, needed) -> None:
    for (word, spellings), (phrase, ids) in (
        (one, other) for one in banned.items() for other in needed.items()
    ):
        if any(_holds(ids, spelling) for spelling in spellings):
            raise ValueError(
                "--must_contain needs words that --banned_words bans. Received: "
                f"--must_contain={phrase}, --banned_words={word}"
            )


def _holds(ids, part) -> bool:
    return any(ids[i : i + len(part)] == part for i in range(len(ids) - len(part) + 1))


def _ids(line: str, tokenizer) -> list[int]:
    return np.asarray(tokenizer.encode(tf.constant([line]))[0]).tolist()
