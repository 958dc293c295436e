"""Masked characters of Tang and Song verse with BERT."""

from collections import Counter

import keras
import numpy as np
import tensorflow as tf

from experiments import Experiment, Run
from experiments._verses import FILES, FIRST, epochs_of, rate, verses
from keras_attention.training import token_objective
from models import BERT
from models.bert import masked

EPOCHS, BATCH = 3, 64


def examples(texts, rng, size):
    """(tokens, segments), targets, weights; each text begins with an end token, as with [CLS]."""
    tokens, targets, weights = masked([[2, *text] for text in texts], rng, size, first_id=FIRST)
    return (tokens, np.zeros_like(tokens)), targets, weights


def tested(texts, size):
    """Five maskings of the test."""
    return examples(texts * 5, np.random.default_rng(2019), size)


def bert(run: Run) -> dict[str, float]:
    train, test, size = verses(run, "tang", "song")
    model = BERT(
        size, layers=4, width=128, heads=4, max_length=16, dropout=0.1, next_sentence=False
    )
    steps = EPOCHS * -(-len(train) // BATCH)
    adam = keras.optimizers.Adam(rate(1.5e-3, steps), beta_2=0.98, global_clipnorm=1.0)
    model.compile(adam, **token_objective())
    ids = tf.TensorSpec([None, None], tf.int32)
    signature = ((ids, ids), ids, tf.TensorSpec([None, None], tf.float32))

    def arrays(texts, rng):
        return examples(texts, rng, size)

    run.fit(model, epochs_of(train, BATCH, run.seed, arrays, signature), EPOCHS)
    inputs, targets, weights = tested(test, size)
    found = model.evaluate(
        inputs, targets, sample_weight=weights, batch_size=100, verbose=0, return_dict=True
    )
    return {"accuracy": 100 * found["token_accuracy"], "perplexity": found["perplexity"]}


def most_frequent(run: Run) -> dict[str, float]:
    """The most frequent character for every masked one."""
    train, test, size = verses(run, "tang", "song")
    counts = Counter(char for text in train for char in text if char >= FIRST)
    _, targets, weights = tested(test, size)
    right = targets[weights > 0] == counts.most_common(1)[0][0]
    return {"accuracy": 100 * float(right.mean())}


experiment = Experiment(
    title="BERT (Devlin et al., 2019)",
    task="masked characters of pairs of lines of Tang and Song regulated verse, 233,158 / 12,300 "
    "pairs",
    data=(FILES["tang"], FILES["song"]),
    runs={"BERT": bert, "most frequent character": most_frequent},
    seeds=(0,),
    metrics={
        "accuracy": "masked characters that are right, %",
        "perplexity": "perplexity of a masked character",
    },
    published="none on this data",
    differs="4 layers of 128, ids of characters, one segment, no next sentence, 3 epochs",
)
