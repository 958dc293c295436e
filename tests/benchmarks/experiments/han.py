"""IMDB reviews and needle documents with the hierarchical attention network."""

import functools
import re

import keras
import numpy as np

from experiments import Experiment, Run
from experiments._texts import accuracy, ids_of, padded, shuffled, table, vocabulary
from keras_attention.training import TokenCrossentropy
from models import han
from models.han import HAN

WORDS, SENTENCE, LEAST = 300, 25, 6
FILES = ("imdb/train.tsv.xz", "imdb/test.tsv.xz")


def sentences(text: str) -> list[list[str]]:
    """The first 300 words in sentences, in pieces of at most 25 words."""
    pieces, room = [], WORDS
    for sentence in re.split(r"[.!?\n]+", text.lower().replace("<br />", "\n")):
        words = re.findall(r"[a-z0-9']+", sentence)[:room]
        room -= len(words)
        pieces += [words[i : i + SENTENCE] for i in range(0, len(words), SENTENCE)]
    return pieces or [["?"]]


@functools.cache
def corpus(folder):
    """(train, test), each ([sentences of a document], [label])."""
    parts = []
    for file in FILES:
        rows = table(folder / file)
        parts.append(([sentences(row[3]) for row in rows], [int(row[0]) for row in rows]))
    return parts


def size(example):
    return example.shape if isinstance(example, np.ndarray) else example[0].shape


def reviews(run: Run, pooling: str) -> tuple[HAN, list, dict]:
    """-> the trained model, test examples, the vocabulary."""
    train, test = corpus(run.data)
    known = vocabulary((sum(text, []) for text in train[0]), LEAST)
    examples = [
        [(padded([ids_of(part, known) for part in text]), np.int32(label))
         for text, label in zip(*map(run.few, part))]
        for part in (train, test)
    ]  # fmt: skip
    model = HAN(len(known) + 2, 2, embedding_width=100, pooling=pooling, dropout=0.3)
    model.compile(keras.optimizers.Adam(1e-3), TokenCrossentropy())
    run.fit(model, shuffled(examples[0], 64, run.seed, size), epochs=3)
    return model, examples[1], known


def needles(run: Run, pooling: str) -> dict[str, float]:
    """The needle documents of `models.han`."""
    rng = np.random.default_rng(run.seed)
    train, test = (han.needles(count, rng) for count in (6000, 2000))
    model = HAN(han.VOCABULARY, 2, embedding_width=32, units=24, attention_units=32,
                pooling=pooling)  # fmt: skip
    model.compile(keras.optimizers.Adam(3e-3), TokenCrossentropy())
    examples = run.few(list(zip(train[0], train[1])))
    run.fit(model, shuffled(examples, 32, run.seed, size), epochs=1)
    figures = {"needles": accuracy(model, list(zip(test[0], test[1])), size)}
    if pooling == "attention":
        on_sentences, _ = model.attention(test[0])
        figures["found"] = 100 * np.mean(np.argmax(on_sentences, 1) == test[2])
    return figures


def network(pooling: str, run: Run) -> dict[str, float]:
    """Both tasks."""
    model, test, known = reviews(run, pooling)
    figures = {"accuracy": accuracy(model, test, size)}
    if pooling == "attention":
        short = min((document for document, _ in test[:200]), key=lambda d: abs(len(d) - 6))
        words = {place: word for word, place in known.items()}
        shown = ["", "?", *(words[place] for place in range(2, len(known) + 2))]
        han.draw(model, short, shown, run.work / "han.png")
    return figures | needles(run, pooling)


def baseline(run: Run) -> dict[str, float]:
    """TF-IDF of words and logistic regression, on the same words."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    (train, labels), (test, expected) = corpus(run.data)
    flat = [[" ".join(sum(text, [])) for text in run.few(part)] for part in (train, test)]
    tfidf = TfidfVectorizer(token_pattern=r"\S+", min_df=LEAST, sublinear_tf=True)
    model = LogisticRegression(max_iter=1000).fit(tfidf.fit_transform(flat[0]), run.few(labels))
    return {"accuracy": 100 * model.score(tfidf.transform(flat[1]), run.few(expected))}


experiment = Experiment(
    title="Hierarchical attention network (Yang et al., 2016)",
    task="sentiment of IMDB reviews, 25,000 / 25,000; and needle documents, made",
    data=FILES,
    runs={
        "HAN": functools.partial(network, "attention"),
        "HN-AVE": functools.partial(network, "mean"),
        "HN-MAX": functools.partial(network, "max"),
        "TF-IDF + logistic regression": baseline,
    },
    seeds={"HAN": (0, 1), "HN-AVE": (0, 1), "HN-MAX": (0,), "TF-IDF + logistic regression": (0,)},
    metrics={
        "accuracy": "accuracy on the test reviews, %",
        "needles": "accuracy on needle documents after 188 steps, %",
        "found": "needle documents whose deciding sentence has the largest weight, %; chance 12.5",
    },
    published="not on this set of two classes (the paper's IMDB has ten); its claim is that "
    "attention is better than the mean and the maximum",
    differs="word vectors of width 100, from random numbers, with dropout 0.3; Adam, 3 epochs; the "
    "first 300 words, also for the baseline, in sentences of at most 25",
    files=("han.png",),
)
