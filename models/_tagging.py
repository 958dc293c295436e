"""Spans of tokens as tags, their score, and what models that tag spans have in common.

A span of tokens with label X is tagged B-X I-X I-X ..., every other token O. As in CoNLL-2005, C-X
is the continuation of an argument X, and the F1 of arguments does not count the predicate V itself.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_attention.functional import as_ids, viterbi
from keras_attention.functional.shapes import check_shapes
from models._base import ModelOfIds

Argument = tuple[str, tuple[tuple[int, int], ...]]  # a label, and (first, after the last) of parts


def arguments(tags: Sequence[str]) -> list[Argument]:
    """The arguments of one sentence: spans, of which C-X continues the X before it.

    An I-X that continues no X begins a span, and a C-X without an X before it is an X.

    >>> arguments(["B-A1", "I-A1", "O", "B-V", "B-C-A1"])
    [('A1', ((0, 2), (4, 5))), ('V', ((3, 4),))]
    """
    spans: list[list[Any]] = []
    for place, tag in enumerate(tags):
        kind, _, label = tag.partition("-")
        if tag != "O" and (kind not in ("B", "I") or not label):
            raise ValueError(f"A tag must be O, B-X or I-X. Received: {tag!r} at {place}")
        if kind == "I" and spans and spans[-1][0] == label and spans[-1][2] == place:
            spans[-1][2] = place + 1
        elif tag != "O":
            spans.append([label, place, place + 1])
    found: list[Argument] = []
    for label, first, after in spans:
        base = label.removeprefix("C-")
        earlier = [i for i, (known, _) in enumerate(found) if known == base]
        if base != label and earlier:
            found[earlier[-1]] = (base, (*found[earlier[-1]][1], (first, after)))
        else:
            found.append((base, ((first, after),)))
    return found


def span_f1(
    gold: Sequence[Sequence[str]], found: Sequence[Sequence[str]], ignored: Sequence[str] = ("V",)
) -> dict[str, float]:
    """Precision, recall and F1, in %, of the arguments in N sentences of tags.

    An argument is right if its label and all its parts are. Those labelled as one of `ignored` are
    not counted. Raises ValueError for sentences of other lengths.

    >>> span_f1([["B-A0", "B-V", "B-A1", "I-A1"]], [["B-A0", "B-V", "B-A1", "O"]])["f1"]
    50.0
    """
    right = wanted = claimed = 0
    for number, (one, other) in enumerate(zip(gold, found, strict=True)):
        if len(one) != len(other):
            raise ValueError(
                f"Both must tag the same tokens. Received: {len(one)} gold tags and {len(other)} "
                f"found ones in sentence {number}"
            )
        sets = [{a for a in arguments(tags) if a[0] not in ignored} for tags in (one, other)]
        right += len(sets[0] & sets[1])
        wanted, claimed = wanted + len(sets[0]), claimed + len(sets[1])
    precision, recall = right / max(claimed, 1), right / max(wanted, 1)
    f1 = 2 * right / max(claimed + wanted, 1)
    return {"f1": 100 * f1, "precision": 100 * precision, "recall": 100 * recall}


class SpanTagger(ModelOfIds):
    """A model of (words [B, T], marks [B, T]) -> a score for each tag, [B, T, L].

    `tag_names`: "O", then B-X and I-X for each label X.
    """

    pad_id = 0
    inputs_count = 2

    def _set_labels(self, labels: Sequence[str]) -> None:
        if isinstance(labels, str) or not labels or len(set(labels)) != len(labels):
            raise ValueError(f"labels must be different names of spans. Received: {labels!r}")
        self.tag_names = ["O", *(f"{kind}-{label}" for label in labels for kind in "BI")]
        self._tag_ids = {name: tag for tag, name in enumerate(self.tag_names)}
        self.logits_width = len(self.tag_names)

    def _ids(self, inputs):
        """-> words [B, T], marks [B, T] of 0 and 1, mask [B, T]."""
        words, marks = inputs
        words, marks = as_ids(words, "words", "B T", self.pad_id), as_ids(marks, "marks", "B T")
        check_shapes(words=("B T", words), marks=("B T", marks))
        known = tf.get_static_value(marks)
        if known is not None and not np.isin(known, (0, 1)).all():
            raise ValueError(
                "marks must be 1 for the words of the predicate and 0 for others. Received: "
                f"{sorted(set(known.flat))}"
            )
        return words, marks, words != self.pad_id

    def encode_tags(self, tags: Sequence[str]) -> list[int]:
        """The ids of one sentence's tags. ValueError for a tag that this model does not have."""
        unknown = [tag for tag in tags if tag not in self._tag_ids]
        if unknown:
            raise ValueError(
                f"Every tag must be one of this model's {self.tag_names}. Received: {unknown}"
            )
        return [self._tag_ids[tag] for tag in tags]

    def decode_tags(self, ids, lengths: Sequence[int]) -> list[list[str]]:
        """The names of tags [B, T], of as many words as each sentence has."""
        return [[self.tag_names[tag] for tag in row[:n]] for row, n in zip(np.array(ids), lengths)]

    def _scores(self) -> tuple[Any, Any]:
        """Scores of a start [L] and of transitions [L, L]."""
        return tf.zeros([self.logits_width]), tf.zeros([self.logits_width] * 2)

    def tag(self, inputs) -> tf.Tensor:
        """The best valid tags: I-X only after B-X or I-X.  words, marks [B, T] -> [B, T] int32.

        Padding gets 0, which is O.
        """
        logits = self(inputs, training=False)
        start, transitions = self._scores()
        allowed_start, allowed = allowed_tags(self.tag_names)
        start = tf.where(allowed_start, start, -np.inf)
        transitions = tf.where(allowed, transitions, -np.inf)
        return viterbi(logits, transitions, start, self._ids(inputs)[2])[0]


def allowed_tags(names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Which tags may begin a sentence [L], and which may follow which, [L before, L].  bool.

    >>> allowed_tags(["O", "B-X", "I-X"])[1].astype(int).tolist()
    [[1, 1, 0], [1, 1, 1], [1, 1, 1]]
    """
    inside = np.array([name.startswith("I-") for name in names])
    same = np.array([[a[1:] == b[1:] and a != "O" for b in names] for a in names])
    return ~inside, ~inside | same
