"""Characters of Tang verse with GPT-1, GPT-2 and a 5-gram."""

import functools
import math
from collections import Counter

import keras
import tensorflow as tf

from experiments import Experiment, Run
from experiments._verses import FILES, epochs_of, rate, verses
from keras_attention.training import token_objective
from models import GPT
from models.language_model import shifted

EPOCHS, BATCH = 10, 64


def gpt(version: int, run: Run) -> dict[str, float]:
    """Perplexity of the test, with the end token."""
    train, test, size = verses(run, "tang")
    model = GPT(size, version, layers=4, width=128, heads=4, max_length=16, dropout=0.2)
    steps = EPOCHS * -(-len(train) // BATCH)
    adam = keras.optimizers.Adam(rate(1.5e-3, steps), beta_2=0.98, global_clipnorm=1.0)
    model.compile(adam, **token_objective())
    ids = tf.TensorSpec([None, None], tf.int32)
    signature = (ids, ids, tf.TensorSpec([None, None], tf.float32))
    make_epoch = epochs_of(train, BATCH, run.seed, lambda texts, rng: shifted(texts), signature)
    run.fit(model, make_epoch, EPOCHS)
    tokens_in, tokens_out, weights = shifted(test)
    found = model.evaluate(
        tokens_in, tokens_out, sample_weight=weights, batch_size=100, verbose=0, return_dict=True
    )
    return {"perplexity": found["perplexity"], "accuracy": 100 * found["token_accuracy"]}


def kneser_ney(run: Run, order: int = 5) -> dict[str, float]:
    """Interpolated Kneser-Ney, with the discount n1 / (n1 + 2 n2) of each order."""
    train, test, size = verses(run, "tang")
    start, end = [1] * (order - 1), [2]
    counts: list[Counter] = [Counter() for _ in range(order + 1)]
    for text in train:
        ids = [*start, *text, *end]
        counts[order].update(zip(*(ids[place:] for place in range(order))))
    for n in range(order - 1, 0, -1):  # how many different tokens come before an n-gram
        counts[n] = Counter(gram[1:] for gram in counts[n + 1])
    totals: list[Counter] = [Counter() for _ in range(order + 1)]
    followers: list[Counter] = [Counter() for _ in range(order + 1)]
    discounts = [0.0] * (order + 1)
    for n in range(1, order + 1):
        for gram, count in counts[n].items():
            totals[n][gram[:-1]] += count
            followers[n][gram[:-1]] += 1
        often = Counter(counts[n].values())
        discounts[n] = often[1] / max(often[1] + 2 * often[2], 1)

    def probability(gram):
        n = len(gram)
        if not n:
            return 1 / (size - 2)  # neither padding nor start
        below, history = probability(gram[1:]), gram[:-1]
        if not totals[n][history]:
            return below
        own = max(counts[n][gram] - discounts[n], 0)
        return (own + discounts[n] * followers[n][history] * below) / totals[n][history]

    log_p, tokens = 0.0, 0
    for text in test:
        ids = [*start, *text, *end]
        for gram in zip(*(ids[place:] for place in range(order))):
            log_p, tokens = log_p + math.log(probability(gram)), tokens + 1
    return {"perplexity": math.exp(-log_p / tokens)}


experiment = Experiment(
    title="GPT-1 and GPT-2 (Radford et al., 2018; 2019)",
    task="characters of pairs of lines of Tang regulated verse, 39,992 / 2,120 pairs",
    data=(FILES["tang"],),
    runs={
        "GPT-2": functools.partial(gpt, 2),
        "GPT-1": functools.partial(gpt, 1),
        "Kneser-Ney 5-gram": kneser_ney,
    },
    seeds=(0,),
    metrics={
        "perplexity": "perplexity of a character of the test, the end counted",
        "accuracy": "of the likeliest character, %",
    },
    published="none on this data",
    differs="4 layers of 128, ids of characters, 10 epochs; weights begin as in our Transformer",
)
