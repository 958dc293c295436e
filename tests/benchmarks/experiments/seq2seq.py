"""Strings and SCAN with encoder-decoders without attention."""

import functools
import gzip

import keras
import numpy as np

from experiments import Experiment, Run
from keras_attention.data import batches
from keras_attention.training import ClipByGlobalNorm, token_objective
from models import RNNSeq2Seq, Seq2Seq
from models import _toy as toy

BATCH = 64


def sutskever(vocab_size, units, layers=1, **settings):
    return Seq2Seq(vocab_size, units=units, layers=layers, embedding_width=64, **settings)


def cho(vocab_size, units):
    return Seq2Seq(vocab_size, units=units, embedding_width=64, maxout_units=units // 2)


def attention(vocab_size, units):
    return RNNSeq2Seq(
        vocab_size, units=units, cell="lstm", attention="luong", bidirectional=False,
        bridge="pass", embedding_width=64,
    )  # fmt: skip


def train(run: Run, model, sources, targets, epochs: int = 1, rate: float = 1e-3) -> None:
    model.compile(ClipByGlobalNorm(keras.optimizers.Adam(rate), 5.0), **token_objective())

    def make_epoch(epoch, batch):
        return batches(sources, targets, BATCH, seed=run.seed, epoch=epoch, skip=batch)

    run.fit(model, make_epoch, epochs, shuffle=False)


def strings(make, backwards: bool, run: Run, steps: int = 1500) -> dict[str, float]:
    """Copies or reversals of 4 to 20 symbols: the claims of Sutskever and of Bahdanau."""
    model = make(toy.SYMBOLS, 128)
    side = slice(None, None, -1 if backwards else 1)
    sources = run.few(toy.strings(BATCH * steps, (4, 20), seed=run.seed))
    train(run, model, sources, [source[side] for source in sources])
    held_out = run.few(toy.strings(1000, (4, 20), seed=1000))
    pairs = batches(held_out, [source[side] for source in held_out], 100)
    figures = {"loss": model.evaluate(pairs, return_dict=True, verbose=0)["loss"]}
    for length in (8, 20):
        held_out = run.few(toy.strings(200, (length, length), seed=1000 + length), 8)
        wanted = [source[side] for source in held_out]
        found = toy.answers(model, held_out)
        figures[f"exact {length}"] = 100 * toy.exact(found, wanted)
        figures[f"tokens {length}"] = 100 * toy.token_accuracy(found, wanted)
    return figures


def scan(split: str, make, run: Run) -> dict[str, float]:
    """Lake and Baroni's commands."""
    parts = {}
    for part in ("train", "test"):
        with gzip.open(run.data / f"scan/{split}/{part}.tsv.gz", "rt") as file:
            lines = file.read().splitlines()
        parts[part] = [[side.split() for side in line.split("\t")] for line in lines]
    ids: list[dict] = [{}, {}]
    for pair in parts["train"]:
        for known, words in zip(ids, pair):
            for word in words:
                known.setdefault(word, len(known) + 3)
    rows = {
        part: [[np.array([known[w] for w in pair[i]]) for pair in pairs]
               for i, known in enumerate(ids)]
        for part, pairs in parts.items()
    }  # fmt: skip
    model = make(max(map(len, ids)) + 3, 128)
    sources, targets = map(run.few, rows["train"])
    train(run, model, sources, targets, epochs=20)
    sources, targets = (run.few(side, 8) for side in rows["test"])
    found = toy.answers(model, sources, max_length=60)
    return {"exact": 100 * toy.exact(found, targets)}


two_layers = functools.partial(sutskever, layers=2)
experiment = Experiment(
    title="Encoder-decoders (Sutskever, Vinyals, Le, 2014; Cho et al., 2014)",
    task="copies and reversals of strings of 4 to 20 of ten symbols after 1,500 steps; SCAN (Lake, "
    "Baroni, 2018), splits simple and length",
    data=tuple(f"scan/{split}/{part}.tsv.gz" for split in ("simple", "length")
               for part in ("train", "test")),
    runs={
        "no attention, reversal": functools.partial(strings, sutskever, True),
        "no attention, reversal, 4,000 steps": functools.partial(
            strings, sutskever, True, steps=4000
        ),
        "attention, reversal": functools.partial(strings, attention, True),
        "Sutskever, forwards, copy": functools.partial(strings, sutskever, False),
        "Sutskever, backwards, copy": functools.partial(
            strings, functools.partial(sutskever, reverse_source=True), False
        ),
        "Cho, reversal": functools.partial(strings, cho, True),
        "Sutskever, SCAN simple": functools.partial(scan, "simple", two_layers),
        "Sutskever, SCAN length": functools.partial(scan, "length", two_layers),
    },
    seeds={
        "no attention, reversal": (0, 1, 2),
        "no attention, reversal, 4,000 steps": (0, 1, 2),
        "attention, reversal": (0, 1, 2),
        "Sutskever, forwards, copy": (0, 1, 2),
        "Sutskever, backwards, copy": (0, 1, 2),
        "Cho, reversal": (0,),
        "Sutskever, SCAN simple": (0,),
        "Sutskever, SCAN length": (0,),
    },
    metrics={
        "exact": "% of the test commands of SCAN that are answered without an error",
        "loss": "nats per token of 1,000 strings",
        "tokens 8": "% of right tokens, 200 strings of 8 symbols",
        "exact 8": "% of them answered without an error",
        "tokens 20": "the same of 20 symbols, the longest of the training",
        "exact 20": "% without an error",
    },
    published="SCAN: not quoted; WMT14 En-Fr: not quoted",
    differs="n = 128, one layer (SCAN: two) of 1000 and four; embeddings of 64; Adam 1e-3 (SGD "
    "0.7); Keras' initial values; SCAN: 20 epochs",
)  # fmt: skip
