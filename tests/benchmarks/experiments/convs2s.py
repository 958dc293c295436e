"""Copies and Multi30k with convolutional sequence to sequence learning (Gehring et al., 2017)."""

import keras

from experiments import Experiment, Run, _multi30k
from keras_attention.data import batches
from keras_attention.training import InverseSquareRoot, token_objective
from models import _toy as toy
from models.convs2s import ConvS2S


def copy(run: Run) -> dict[str, float]:
    """Copy strings of 4 to 20 symbols."""
    strings = run.few(toy.strings(64_000, (4, 20), seed=run.seed))
    model = ConvS2S(toy.SYMBOLS, units=96, embedding_width=96, dropout=0.1, max_length=64)
    model.compile(keras.optimizers.Adam(1e-3), **token_objective())

    def make_epoch(epoch, batch):
        return batches(strings, strings, 64, seed=run.seed, epoch=epoch, skip=batch)

    run.fit(model, make_epoch, epochs=2, shuffle=False)
    held_out = run.few(toy.strings(500, (4, 20), seed=run.seed + 100))
    return {"exact": 100 * toy.exact(toy.answers(model, held_out), held_out)}


def translate(run: Run) -> dict[str, float]:
    """English to German."""
    corpus = _multi30k.read(run)
    model = ConvS2S(
        corpus.tokenizer.vocab_size, encoder_layers=3, decoder_layers=3, units=192,
        embedding_width=192, dropout=0.2, max_length=128,
    )  # fmt: skip
    rate = InverseSquareRoot(1.5e-3, warmup=500)
    model.compile(keras.optimizers.Adam(rate), **token_objective(label_smoothing=0.1))
    history = _multi30k.train(run, model, corpus, epochs=10).history
    return {
        "BLEU": _multi30k.bleu(run, model, corpus),
        "perplexity": history["val_perplexity"][-1],
    }


experiment = Experiment(
    title="ConvS2S (Gehring et al., 2017)",
    task="copy strings of 4 to 20 symbols; translate Multi30k, en to de",
    data=_multi30k.FILES,
    runs={"copy": copy, "Multi30k": translate},
    seeds={"copy": (0, 1, 2), "Multi30k": (0,)},
    metrics={
        "exact": "strings that are copied without an error, %",
        "BLEU": _multi30k.BLEU,
        "perplexity": "of the subwords of the validation set",
    },
    published="not quoted; WMT 2014 with 15 layers and more",
    differs=(
        "3 + 3 layers of 192 units instead of 15 + 15 of 512 to 4096; Adam instead of Nesterov "
        "momentum; Multi30k with 5,000 subwords; 10 epochs"
    ),
)
