"""Recall, a language model of Multi30k and reversals with LSTMNs (Cheng et al., 2016)."""

import functools

import keras
import numpy as np
import tensorflow as tf

from experiments import Experiment, Run, _multi30k
from keras_attention.data import batches
from keras_attention.training import ClipByGlobalNorm, token_objective
from models import LSTMNLM, LSTMNSeq2Seq
from models import _toy as toy
from models.lstmn import recall

BATCH, UNITS, EPOCHS = 64, 128, 5


def compiled(model, rate):
    model.compile(ClipByGlobalNorm(keras.optimizers.Adam(rate), 1.0), **token_objective())
    return model


def equal_lstm(vocab_size: int, units: int, memory_length: int, **settings) -> LSTMNLM:
    """The LSTM of as many parameters as an LSTMN, embeddings being equal."""

    model = LSTMNLM(vocab_size, units, memory_length, units)
    model.build()

    def excess(n):
        size = vocab_size * (units + n + 1) + 4 * n * (units + n + 1)
        return abs(size - model.count_params())

    return LSTMNLM(vocab_size, min(range(units, 2 * units), key=excess), None, units, **settings)


def language_model(make, run: Run) -> dict[str, float]:
    corpus = _multi30k.read(run, vocab_size=2000)
    model = make(corpus.tokenizer.vocab_size, UNITS, 20, dropout=0.2)
    compiled(model, _multi30k.cosine(EPOCHS, BATCH, 2e-3))
    learned, _ = corpus.encoded("train")

    def shown(sources, **order):  # the English side as targets of nothing
        rows = batches([[]] * len(sources), sources, BATCH, **order)
        return rows.map(lambda pair, target_out, weights: (pair[1], target_out, weights))

    def make_epoch(epoch, batch):
        return shown(learned, seed=run.seed, epoch=epoch, skip=batch)

    run.fit(model, make_epoch, EPOCHS, shuffle=False)
    measured = model.evaluate(shown(corpus.encoded("test")[0]), return_dict=True, verbose=0)
    return {"perplexity": measured["perplexity"], "parameters": model.count_params()}


def recalled(make, run: Run) -> dict[str, float]:
    """`models.lstmn.recall`: values of four keys, 10 to 30 steps later."""
    model = compiled(make(17, 64, 45), 5e-3)
    data = tuple(part[: 64 if run.quick else None] for part in recall(BATCH * 750, seed=run.seed))
    rows = tf.data.Dataset.from_tensor_slices(data).batch(BATCH)
    run.fit(model, lambda epoch, batch: rows.skip(batch), 1, shuffle=False)
    tokens, targets, weights = recall(1000, seed=1000)
    found = model.predict(tokens, batch_size=100, verbose=0).argmax(-1)
    return {
        "recalled": 100 * np.mean((found == targets)[weights > 0]),
        "parameters": model.count_params(),
    }


def reversal(fusion: str, run: Run) -> dict[str, float]:
    """Strings of 4 to 12 symbols."""
    model = LSTMNSeq2Seq(toy.SYMBOLS, units=64, memory_length=14, embedding_width=32, fusion=fusion)
    compiled(model, 5e-3)
    sources, targets = map(run.few, toy.reversals(BATCH * 600, seed=run.seed))

    def make_epoch(epoch, batch):
        return batches(sources, targets, BATCH, seed=run.seed, epoch=epoch, skip=batch)

    run.fit(model, make_epoch, 1, shuffle=False)
    held_out, wanted = map(run.few, toy.reversals(200, (12, 12), seed=1000))
    return {"exact 12": 100 * toy.exact(toy.answers(model, held_out), wanted)}


experiment = Experiment(
    title="LSTMN (Cheng, Dong, Lapata, 2016)",
    task="a language model of the English side of Multi30k (perplexity of subwords of test 2016), "
    "beside an LSTM of equally many parameters; four values that are told, and asked for 10 to 30 "
    "steps later, after 750 steps; reversals of 4 to 12 symbols with both fusions",
    data=_multi30k.FILES,
    runs={
        "LSTMN, Multi30k": functools.partial(language_model, LSTMNLM),
        "LSTM, Multi30k": functools.partial(language_model, equal_lstm),
        "LSTMN, recall": functools.partial(recalled, LSTMNLM),
        "LSTM, recall": functools.partial(recalled, equal_lstm),
        "deep fusion, reversal": functools.partial(reversal, "deep"),
        "shallow fusion, reversal": functools.partial(reversal, "shallow"),
    },
    seeds={
        "LSTMN, Multi30k": (0, 1),
        "LSTM, Multi30k": (0, 1, 2),
        "LSTMN, recall": (0, 1),
        "LSTM, recall": (0, 1, 2),
        "deep fusion, reversal": (0,),
        "shallow fusion, reversal": (0,),
    },
    metrics={
        "perplexity": "of the 2,000 subwords of the test part, with the end of each sentence",
        "recalled": "% of the values of 1,000 held-out texts",
        "exact 12": "% of 200 strings of 12 symbols that are answered without an error",
        "parameters": "weights of the model, with embeddings",
    },
    published="PTB perplexity, one layer of 300: not quoted",
    differs="Multi30k (PTB), d = 128 (300), the last 20 steps (all), dropout 0.2, 5 epochs of Adam",
)
