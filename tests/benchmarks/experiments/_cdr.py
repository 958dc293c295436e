"""BC5CDR: abstracts with chemicals, diseases, and which chemical induces which disease."""

import gzip
import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

TAGS = ("O", "B-Chemical", "I-Chemical", "B-Disease", "I-Disease")
FIRST = 2  # ids of subwords begin after padding and the unknown


class Abstract(NamedTuple):
    """A text, its mentions (first, end, type, concepts), and pairs of concepts that are related."""

    text: str
    mentions: list[tuple[int, int, str, list[str]]]
    related: set[tuple[str, str]]


def read(path) -> list[Abstract]:
    """The abstracts of a PubTator file."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [_abstract(block.split("\n")) for block in file.read().strip().split("\n\n")]


def _abstract(lines):
    title, body = lines[0].split("|t|")[1], lines[1].split("|a|")[1]
    mentions, related = [], set()
    for fields in (line.split("\t") for line in lines[2:]):
        if fields[1] == "CID":
            related.add((fields[2], fields[3]))
        else:
            mentions.append((int(fields[1]), int(fields[2]), fields[4], fields[5].split("|")))
    return Abstract(f"{title} {body}".lower(), mentions, related)


def words(text: str) -> list[tuple[int, int]]:
    """Where words, numbers and signs begin and end."""
    return [match.span() for match in re.finditer(r"[^\W\d_]+|\d|[^\w\s]|_", text)]


class Subwords:
    """Byte pair encoding of single words (Sennrich et al., 2016), by SentencePiece."""

    def __init__(self, abstracts: Iterable[Abstract], size: int):
        import io

        import sentencepiece

        written = io.BytesIO()
        lines = (" ".join(a.text[i:j] for i, j in words(a.text)) for a in abstracts)
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=lines, model_writer=written, vocab_size=size, model_type="bpe",
            character_coverage=1.0, max_sentence_length=100_000, minloglevel=2, num_threads=1,
        )  # fmt: skip
        self.model = sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())
        self.count = size + FIRST

    def __call__(self, word: str) -> list[int]:
        return [piece + FIRST for piece in self.model.encode(word)]


def example(abstract: Abstract, subwords: Subwords) -> tuple[Any, Any, Any]:
    """The arguments of `models.BRAN` for all pairs of a chemical and a disease.

    -> (tokens [S], heads [P, I], tails [P, J]), targets and weights of relations [P] and tags [S].
    """
    tokens, spans = [], []
    for first, end in words(abstract.text):
        for piece in subwords(abstract.text[first:end]):
            tokens.append(piece)
            spans.append((first, end))
    tags = np.zeros(len(tokens), np.int32)
    places: dict[str, dict[str, list[int]]] = {
        "Chemical": defaultdict(list),
        "Disease": defaultdict(list),
    }
    for first, end, kind, concepts in abstract.mentions:
        inside = [n for n, (i, j) in enumerate(spans) if i < end and j > first]
        tags[inside] = TAGS.index(f"I-{kind}")
        tags[inside[:1]] = TAGS.index(f"B-{kind}")
        for concept in concepts:
            if concept != "-1":
                places[kind][concept] += inside
    pairs = [(c, d) for c in places["Chemical"] for d in places["Disease"]]
    heads = _rows([places["Chemical"][chemical] for chemical, _ in pairs])
    tails = _rows([places["Disease"][disease] for _, disease in pairs])
    relations = np.array([pair in abstract.related for pair in pairs], np.int32)
    weights = {"relations": np.ones(len(pairs), np.float32), "tags": np.ones(len(tags), np.float32)}
    return (
        (np.array(tokens, np.int32), heads, tails),
        {"relations": relations, "tags": tags},
        weights,
    )


def _rows(positions):
    """Lists of positions -> [P, I], -1 on the right."""
    rows = np.full((len(positions), max(map(len, positions), default=1)), -1, np.int32)
    for row, places in zip(rows, positions):
        row[: len(places)] = places
    return rows


def size(example) -> float:
    """The work for an example: its tokens, and pairs of mentions."""
    tokens, heads, tails = example[0]
    return len(tokens) + heads.size * tails.shape[1] / 100


def best_threshold(scores: np.ndarray, related: np.ndarray) -> float:
    """The threshold of the scores with the highest F1."""
    order = np.argsort(-scores)
    right = np.cumsum(related[order])
    f1 = 2 * right / (np.arange(1, len(right) + 1) + related.sum())
    best = int(np.argmax(f1))
    following = scores[order[best + 1]] if best + 1 < len(order) else scores[order[best]]
    return float((scores[order[best]] + following) / 2)


def precision_recall_f1(found: np.ndarray, related: np.ndarray) -> tuple[float, float, float]:
    """Of the pairs that are found, in percent."""
    right = 100 * np.sum(found & related)
    precision, recall = right / max(found.sum(), 1), right / max(related.sum(), 1)
    return precision, recall, 2 * precision * recall / max(precision + recall, 1e-9)
