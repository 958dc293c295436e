"""Trees of a grammar with centre embedding, by a Transformer and by LSTMs."""

import keras
import numpy as np

from experiments import Experiment, Run
from keras_attention.data import batches
from keras_attention.training import token_objective
from models._trees import bracket_f1, words
from models.parser import Parser, grammar

BATCH = 64


def parser(kind: str, epochs: int, peak: float, **sizes):
    """A run: train on 20,000 trees, parse 500 new ones."""

    def run_it(run: Run) -> dict[str, float]:
        rng = np.random.default_rng(run.seed)
        trees, new = run.few(grammar(20_000, rng)), run.few(grammar(500, rng), 8)
        known = Parser(kind, Parser.tokens_of(grammar(2000, rng)), **sizes)
        sources, targets = known.ids(trees)
        rate = keras.optimizers.schedules.CosineDecay(
            0.0, epochs * len(trees) // BATCH, alpha=0.02, warmup_target=peak, warmup_steps=200
        )
        adam = keras.optimizers.Adam(rate, beta_2=0.98, global_clipnorm=1.0)
        known.model.compile(adam, **token_objective())

        def make_epoch(epoch, batch):
            return batches(
                sources, targets, BATCH, seed=run.seed, epoch=epoch, skip=batch, buckets=True
            )

        run.fit(known.model, make_epoch, epochs, shuffle=False)
        new = sorted(new, key=lambda tree: len(words(tree)))
        trees, good = [], []
        for first in range(0, len(new), 50):
            some = [words(tree) for tree in new[first : first + 50]]
            found = known.parse(some, beam_width=4, n_best=1)
            trees, good = [*trees, *found.trees], [*good, *found.well_formed]
        long = [i for i, tree in enumerate(new) if len(words(tree)) > 15]
        scores = bracket_f1(new, trees)
        of_long = bracket_f1([new[i] for i in long], [trees[i] for i in long])["f1"]
        return {
            "f1": scores["f1"],
            "well-formed": 100 * float(np.mean(good)),
            "f1 of long": of_long,
            "exact": 100 * float(np.mean([a == b for a, b in zip(new, trees)])),
        }

    return run_it


experiment = Experiment(
    title="Parsing as translation (Vinyals et al., 2015; Vaswani et al., 2017)",
    task="trees of a grammar with phrases in phrases up to depth 4, at most 30 words, "
    "20,000 / 500 trees",
    data=(),
    runs={
        "Transformer": parser(
            "transformer",
            14,
            2e-3,
            layers=2,
            width=128,
            heads=4,
            ff_width=256,
            dropout=0.0,
            norm="pre",
        ),
        "LSTM with attention": parser("lstm+attention", 6, 4e-3, units=128),
        "LSTM": parser("lstm", 6, 4e-3, units=128),
    },
    seeds=(0,),
    metrics={
        "f1": "labelled F1 of the constituents, as EVALB counts, %",
        "well-formed": "answers that are trees of the sentence before repair, %",
        "f1 of long": "F1 of sentences of more than 15 words, %",
        "exact": "trees that are right, %",
    },
    published="WSJ section 23: Transformer 91.3, LSTM with attention 88.3 (WSJ alone)",
    differs="a made grammar; Transformer 2 layers of 128 instead of 4 of 1024, LSTM 1 layer of 128 "
    "instead of 3 of 256; 14 epochs of the Transformer, 6 of the LSTMs; beam 4",
)
