"""Copies, reversals and Multi30k with the global and local attentions of Luong et al. (2015)."""

import functools

import keras

from experiments import Experiment, Run, _multi30k
from keras_attention.data import batches
from keras_attention.training import ClipByGlobalNorm, token_objective
from models import Luong
from models import _toy as toy

BATCH, PAIRS, EPOCHS = 64, 10_000, 6


def strings(run: Run, backwards=False, longest=20, steps=1000, **settings) -> dict[str, float]:
    """Copies or reversals of 4 symbols to `longest`."""
    model = Luong(toy.SYMBOLS, units=128, layers=1, embedding_width=64, **settings)
    model.compile(ClipByGlobalNorm(keras.optimizers.Adam(2e-3), 5.0), **token_objective())
    side = slice(None, None, -1 if backwards else 1)
    sources = run.few(toy.strings(BATCH * steps, (4, longest), seed=run.seed))
    targets = [source[side] for source in sources]

    def make_epoch(epoch, batch):
        return batches(sources, targets, BATCH, seed=run.seed, epoch=epoch, skip=batch)

    run.fit(model, make_epoch, 1, shuffle=False)
    held_out = run.few(toy.strings(200, (longest, longest), seed=1000 + longest), 8)
    found, wanted = toy.answers(model, held_out), [source[side] for source in held_out]
    return {
        f"exact {longest}": 100 * toy.exact(found, wanted),
        f"tokens {longest}": 100 * toy.token_accuracy(found, wanted),
    }


def translate(run: Run, **settings) -> dict[str, float]:
    """A rung of the ladder of the paper."""
    corpus = _multi30k.read(run, vocab_size=3000, count=PAIRS)
    model = Luong(corpus.tokenizer.vocab_size, units=160, layers=2, **{"dropout": 0.2, **settings})
    rate = _multi30k.cosine(EPOCHS, BATCH, 2e-3, PAIRS)
    model.compile(ClipByGlobalNorm(keras.optimizers.Adam(rate), 5.0), **token_objective())
    history = _multi30k.train(run, model, corpus, EPOCHS, BATCH).history
    return {
        "BLEU": _multi30k.bleu(run, model, corpus, length_penalty=0.6),
        "perplexity": history["val_perplexity"][-1],
    }


copy = functools.partial(strings, score="general")
reversal = functools.partial(copy, backwards=True)
ladder = {
    "base": dict(attention=None, reverse_source=False, dropout=0.0),
    "+ reverse": dict(attention=None, dropout=0.0),
    "+ dropout": dict(attention=None),
    "+ global (location)": dict(attention="global", score="location", input_feeding=False),
    "+ input feeding": dict(attention="global", score="location"),
    "+ local-p (general)": dict(attention="local-p", score="general"),
}
runs = {
    **{
        f"global {score}, copy": functools.partial(strings, score=score)
        for score in ("dot", "general", "concat", "location")
    },
    "no attention, reversal": functools.partial(reversal, attention=None),
    "local-m D=3, copy": functools.partial(copy, attention="local-m", radius=3),
    "local-m D=3, reversal": functools.partial(reversal, attention="local-m", radius=3),
    "local-p D=10, copy": functools.partial(copy, attention="local-p"),
    "local-p D=10, reversal": functools.partial(reversal, attention="local-p"),
    "local-m D=10, copy to 60": functools.partial(copy, attention="local-m", longest=60),
    "local-p D=10, copy to 60": functools.partial(
        copy, attention="local-p", longest=60, steps=2000
    ),
    **{f"Multi30k: {name}": functools.partial(translate, **rung) for name, rung in ladder.items()},
}
experiment = Experiment(
    title="Global and local attention (Luong, Pham, Manning, 2015)",
    task="copies and reversals of strings of ten symbols, of lengths 4 to 20 after 1,000 steps and "
    "4 to 60 (local-p: 2,000 steps); the paper's ladder on the first 10,000 pairs of Multi30k",
    data=_multi30k.FILES,
    runs=runs,
    seeds=(0,),
    metrics={
        "exact 20": "% of 200 strings of 20 symbols that are answered without an error",
        "tokens 20": "% of their tokens that are right",
        "exact 60": "% without an error of 60 symbols; a window of D=10 is a third of them",
        "tokens 60": "% of their tokens that are right",
        "BLEU": _multi30k.BLEU,
        "perplexity": "of the subwords of the validation set",
    },
    published="WMT14 En-De, BLEU: base 11.3, + reverse 12.6, + dropout 14.0, + global (location) "
    "16.8, + input feeding 18.1, + local-p (general) 19.0",
    differs="strings: one layer of 128; Multi30k: 2 layers of 160 (4 of 1000), 3,000 joint "
    "subwords, 6 epochs of 10,000 pairs; Adam (SGD); one seed: directions",
)
