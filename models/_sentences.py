"""What the sentence encoders of Shen et al. and of Im and Cho have in common."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_attention.backend.keras import build
from keras_attention.layers import Dropout
from keras_attention.layers.linear_cross_entropy import dense_logits
from models._base import check_sizes
from models._text import TextClassifier


class SentenceClassifier(TextClassifier):
    """Label sentences, or pairs of sentences, by a vector of each.

        s    = encoder(E x)
        p    = softmax(W_o elu(W_h s + b_h) + b_o)                       one sentence
        p    = softmax(W_o elu(W_h [s; t; s - t; s * t] + b_h) + b_o)    a pair (Mou et al., 2016)

    A subclass has `_make_encoder()`, a layer [B, S, D] with a mask -> [B, D'], and D'. Its own
    settings are `more`.
    """

    def __init__(
        self, vocab_size, labels, embedding_width, hidden_units, pairs, dropout, more, kwargs
    ):
        super().__init__(**kwargs)
        sizes = dict(
            vocab_size=vocab_size, labels=labels, embedding_width=embedding_width,
            hidden_units=hidden_units, dropout=dropout,
        )  # fmt: skip
        self._config = check_sizes(**sizes) | {"pairs": pairs} | more
        self.logits_width = labels
        self.inputs_count = 2 if pairs else 1
        policy = self.dtype_policy
        self.embedding = self._embedding(vocab_size, embedding_width)
        self.encoder, self._encoded_width = self._make_encoder()
        self.dropout = Dropout(dropout, dtype=policy)
        self.hidden = keras.layers.Dense(hidden_units, "elu", dtype=policy)
        self.output_layer = keras.layers.Dense(labels, dtype=policy)

    def _make_encoder(self) -> tuple[keras.layers.Layer, int]:
        raise NotImplementedError

    def call(self, inputs, training=None):
        self.build()
        if not self._config["pairs"]:
            return self._label(self.encode(inputs, "tokens", training), training)
        texts = zip(inputs, ("first", "second"))
        return self._label(
            self._joined(*(self.encode(text, name, training) for text, name in texts)), training
        )

    @staticmethod
    def _joined(s, t=None):
        return s if t is None else tf.concat([s, t, s - t, s * t], -1)

    def encode(self, tokens, name: str = "tokens", training=None) -> Any:
        """The vector of each sentence.  ids [B, S] -> [B, D']."""
        self.build()
        ids = self.ids_of(tokens, name)
        words = self.dropout(self.embedding(ids), training=training)
        return self.encoder(words, mask=ids != self.pad_id)

    def _label(self, vectors, training):
        hidden = self.hidden(self.dropout(vectors, training=training))
        return dense_logits(self.output_layer, self.dropout(hidden, training=training))

    def _build_parts(self):
        build(self.embedding, (None, None))  # each part may be built already
        build(self.encoder, (None, None, self._config["embedding_width"]))
        build(self.hidden, (None, self._encoded_width * (4 if self._config["pairs"] else 1)))
        build(self.output_layer, (None, self._config["hidden_units"]))


PEOPLE, VERBS, NOISE = 6, 3, 8
PERSON, VERB, WORD, NOT = 2, 2 + PEOPLE, 2 + PEOPLE + VERBS, 2 + PEOPLE + VERBS + NOISE
VOCABULARY = NOT + 1


def facts(count: int, rng: np.random.Generator, least: int = 1, most: int = 2, gap: int = 2):
    """Premises of facts "person verb person", and a hypothesis that is one of them, or not.

    A premise has from `least` to `most` facts, no two of the same people, in either order, parted
    by up to `gap` words without meaning. The hypothesis is a fact of it (label 0), one with NOT
    (1), one with its people exchanged (2), or a fact of other people (3).

    -> ((premises [N, P], hypotheses [N, 4]), labels [N]), int32, padded with 0.
    """
    premises = np.zeros((count, (3 + gap) * most), np.int32)
    hypotheses = np.zeros((count, 4), np.int32)
    labels = rng.integers(0, 4, count)
    for premise, hypothesis, label in zip(premises, hypotheses, labels):
        size = rng.integers(least, most + 1)
        pairs = rng.permutation(PEOPLE * (PEOPLE - 1) // 2)[: size + 1]
        people = np.stack(np.triu_indices(PEOPLE, 1), -1)[pairs] + PERSON
        people = rng.permuted(people, axis=1)
        verbs = rng.integers(VERB, VERB + VERBS, size + 1)
        words = []
        for (subject, other), verb in zip(people[:size], verbs):
            words += [
                subject,
                verb,
                other,
                *rng.integers(WORD, WORD + NOISE, rng.integers(0, gap + 1)),
            ]
        premise[: len(words)] = words
        chosen = size if label == 3 else rng.integers(0, size)
        (subject, other), verb = people[chosen], verbs[chosen]
        if label == 2:
            subject, other = other, subject
        said = [subject, verb, other] + [NOT] * int(label == 1)
        hypothesis[: len(said)] = said
    return (premises, hypotheses), labels.astype(np.int32)


def words(tokens: np.ndarray) -> list[str]:
    """Names of ids."""
    people = [f"person{n}" for n in range(PEOPLE)]
    names = ["", "?", *people, *(f"verb{n}" for n in range(VERBS)), *["."] * NOISE, "not"]
    return [names[token] for token in tokens]
