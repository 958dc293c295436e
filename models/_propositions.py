"""Sentences with their predicates: files of them, arrays of them, and a toy grammar."""

import gzip
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np


class Proposition(NamedTuple):
    """A sentence with one of its predicates."""

    words: list[str]
    predicate: int  # its place in the sentence
    lemma: str
    tags: list[str]


def read_propositions(path: str | os.PathLike) -> Iterator[Proposition]:
    """The predicates in a file: tab-separated words, a blank line after each sentence.

    Columns: word, part of speech, lemma, roleset (- for none), and for each predicate, in order,
    its arguments in brackets: `(ARG0*` begins one and `*)` ends it. Lines with "# " and no tab are
    comments. `.gz` is unpacked. Raises ValueError that names file and line for anything else.
    """
    opened: Any = gzip.open if str(path).endswith(".gz") else open
    rows: list[list[str]] = []
    with opened(path, "rt", encoding="utf-8") as lines:
        for number, line in enumerate([*lines, ""], 1):
            line, where = line.rstrip("\n"), f"{path}, line {number}"
            if line.startswith("# ") and "\t" not in line:
                continue
            if line:
                rows.append(line.split("\t"))
                if len(rows[-1]) < 4 or len(rows[-1]) != len(rows[0]):
                    raise ValueError(
                        "A line must have a word, its part of speech, lemma, roleset and a column "
                        f"for each predicate. Received: {len(rows[-1])} columns in {where}"
                    )
            elif rows:
                yield from _propositions(rows, where)
                rows = []


def _propositions(rows, where):
    columns = list(zip(*rows))
    predicates = [place for place, roleset in enumerate(columns[3]) if roleset != "-"]
    if len(predicates) != len(columns) - 4:
        raise ValueError(
            f"Each roleset must have a column of arguments. Received: {len(predicates)} rolesets, "
            f"{len(columns) - 4} columns before {where}"
        )
    for place, column in zip(predicates, columns[4:]):
        tags, label = [], None
        for cell in column:
            parts = re.fullmatch(r"(?:\(([^()*]+))?\*(\)?)", cell)
            if parts is None or (parts[1] and label) or (parts[2] and not (parts[1] or label)):
                raise ValueError(
                    "Arguments must be (X*, * and *), not nested. Received: "
                    f"{cell!r} in the sentence before {where}"
                )
            begins, label = bool(parts[1]), parts[1] or label
            tags.append(f"{'B' if begins else 'I'}-{label}" if label else "O")
            label = None if parts[2] else label
        yield Proposition(list(columns[0]), place, columns[2][place], tags)


def arrays(tagger: Any, examples: Sequence[Proposition], ids: Mapping[str, int], length: int = 0):
    """What `fit` of a `SpanTagger` takes: (words, marks), tags, weights, each [N, T].

    Unknown words are id 1; T is that of the longest sentence, or `length` if that is more.
    """
    length = max([length, *(len(each.words) for each in examples)])
    words, marks, tags = np.zeros([3, len(examples), length], np.int32)
    weights = np.zeros([len(examples), length], np.float32)
    for row, each in enumerate(examples):
        count = len(each.words)
        words[row, :count] = [ids.get(word, 1) for word in each.words]
        marks[row, each.predicate] = weights[row, :count] = 1
        tags[row, :count] = tagger.encode_tags(each.tags)
    return (words, marks), tags, weights


# -- a toy: who did it to whom, in the active and in the passive

NOUNS = "dog cat bird girl boy king queen horse".split()
PREDICATES = "chased saw found followed helped called".split()
LABELS = ["ARG0", "ARG1", "ARGM-LOC", "V"]
WORDS = ["the", "old", "small", "was", "by", "and", "in", "park", "house", *NOUNS, *PREDICATES]
IDS = {word: 2 + number for number, word in enumerate(WORDS)}


def toy(count: int, rng: np.random.Generator) -> list[Proposition]:
    """Sentences of two clauses, with one of their two predicates.

    "the dog chased the old cat and was followed by the king in the park": the subject, which both
    clauses may share, is ARG0 of an active predicate and ARG1 of a passive one.
    """
    return [_sentence(rng) for _ in range(count)]


def _sentence(rng) -> Proposition:
    chunks: list[list] = []  # [text, label]
    asked, subject = int(rng.integers(2)), 0
    for clause in range(2):
        passive = rng.random() < 0.5

        def add(text, label=None, wanted=clause == asked):
            chunks.append([text, label if wanted else None])

        if clause:
            add("and")
        if not clause or rng.random() < 0.5:
            subject = len(chunks)
            add(_noun(rng))
        if clause == asked:
            chunks[subject][1] = "ARG1" if passive else "ARG0"
        if passive:
            add("was")
        add(str(rng.choice(PREDICATES)), "V")
        if passive:
            add("by")
        add(_noun(rng), "ARG0" if passive else "ARG1")
        if rng.random() < 0.4:
            add(f"in the {rng.choice(['park', 'house'])}", "ARGM-LOC")
    words, tags = [], []
    for text, label in chunks:
        words += text.split()
        tags += [
            f"{'I' if i else 'B'}-{label}" if label else "O" for i in range(text.count(" ") + 1)
        ]
    place = tags.index("B-V")
    return Proposition(words, place, words[place], tags)


def _noun(rng):
    return f"the {rng.choice(['old ', 'small ', '', ''])}{rng.choice(NOUNS)}"
