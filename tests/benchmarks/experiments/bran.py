"""Relations of chemicals and diseases with the bi-affine relation attention network."""

import functools

import keras
import numpy as np
import tensorflow as tf

from experiments import Experiment, Run, _cdr
from experiments._texts import padded, shuffled
from keras_attention.training import TokenCrossentropy
from models._aliases import VOCABULARY, documents, f1
from models.bran import BRAN

FILES = [f"bc5cdr/{part}.pubtator.txt.gz" for part in ("train", "dev", "test")]
SUBWORDS, BATCH, EPOCHS = 4000, 8, 20


def collate(examples):
    """Examples of `_cdr.example` as a batch; positions are padded with -1."""
    inputs, targets, weights = zip(*examples)
    tokens, heads, tails = zip(*inputs)
    batch = padded(tokens), padded(heads, -1), padded(tails, -1)
    rest = [{key: padded([x[key] for x in part]) for key in part[0]} for part in (targets, weights)]
    return batch, *rest


def trained(run: Run, examples: list, vocab_size: int, settings: dict, tag_weight: float) -> BRAN:
    model = BRAN(
        vocab_size, 2, len(_cdr.TAGS), ff_width=128, dropout=0.3, word_dropout=0.2, **settings
    )
    loss = {"relations": TokenCrossentropy(), "tags": TokenCrossentropy()}
    steps = EPOCHS * -(-len(examples) // BATCH)
    rate = keras.optimizers.schedules.CosineDecay(2e-3, steps)
    adam = keras.optimizers.Adam(rate, beta_2=0.98, global_clipnorm=10.0)
    model.compile(adam, loss, loss_weights={"relations": 1.0, "tags": tag_weight})
    run.fit(model, shuffled(examples, BATCH, run.seed, _cdr.size, collate), epochs=EPOCHS)
    return model


def predicted(model: BRAN, examples: list) -> tuple[np.ndarray, np.ndarray]:
    """log p(related) - log p(not), and whether the pair is related, of all pairs."""
    call = tf.function(lambda x: model(x)["relations"], reduce_retracing=True)
    order, scores, related = sorted(examples, key=_cdr.size), [], []
    for first in range(0, len(order), BATCH):
        inputs, targets, weights = collate(order[first : first + BATCH])
        logits = call(tuple(map(tf.constant, inputs))).numpy()
        real = weights["relations"] > 0
        scores.append((logits[..., 1] - logits[..., 0])[real])
        related.append(targets["relations"][real] > 0)
    return np.concatenate(scores), np.concatenate(related)


def measured(tag_weight: float, settings: dict, run: Run) -> dict[str, float]:
    """Train on the training part, choose the threshold on dev, train on both, and test."""
    parts = [run.few(_cdr.read(run.data / file), 16) for file in FILES]
    subwords = _cdr.Subwords(parts[0] + parts[1], 600 if run.quick else SUBWORDS)
    train, dev, test = ([_cdr.example(a, subwords) for a in part] for part in parts)
    chosen = predicted(trained(run, train, subwords.count, settings, tag_weight), dev)
    threshold = _cdr.best_threshold(*chosen)
    scores, related = predicted(
        trained(run, train + dev, subwords.count, settings, tag_weight), test
    )
    figures = dict(
        zip(
            ("F1", "precision", "recall"),
            _cdr.precision_recall_f1(scores > threshold, related)[::-1],
        )
    )
    figures["dev F1"] = _cdr.precision_recall_f1(chosen[0] > threshold, chosen[1])[2]
    return figures | {"alias F1": aliases(run, tag_weight, settings)}


def aliases(run: Run, tag_weight: float, settings: dict) -> float:
    """F1 on the made documents of `models.bran`."""
    rng = np.random.default_rng(run.seed)
    model = BRAN(VOCABULARY, 3, 3, width=32, ff_width=64, max_length=64, **settings)
    loss = {"relations": TokenCrossentropy(), "tags": TokenCrossentropy()}
    model.compile(
        keras.optimizers.Adam(2e-3), loss, loss_weights={"relations": 1.0, "tags": tag_weight}
    )
    inputs, targets = documents(4000, rng)
    rows = [
        (tuple(part[n] for part in inputs), {key: part[n] for key, part in targets.items()})
        for n in run.few(range(4000))
    ]
    run.fit(model, shuffled(rows, 32, run.seed, lambda row: 0), epochs=6)
    inputs, targets = documents(1000, rng)
    found = model.predict(inputs, verbose=0)["relations"].argmax(-1)
    return f1(found, targets["relations"])


experiment = Experiment(
    title="BRAN (Verga et al., 2018)",
    task="BC5CDR: which chemicals of an abstract induce which of its diseases, by gold mentions; "
    "and made documents whose relations are stated by an alias",
    data=FILES,
    runs={
        "BRAN": functools.partial(measured, 1.0, {}),
        "CNN only": functools.partial(measured, 1.0, {"heads": 0}),
        "no width-5": functools.partial(measured, 1.0, {"filter_width": 1}),
        "no NER": functools.partial(measured, 0.0, {}),
    },
    seeds={"BRAN": (0, 1), "CNN only": (0,), "no width-5": (0,), "no NER": (0,)},
    metrics={
        "F1": "of the related pairs of a document on the test part, %",
        "precision": "its precision, %",
        "recall": "its recall, %",
        "dev F1": "on the development part before it is trained on, at the best threshold, %",
        "alias F1": "on made documents, %",
    },
    published="BRAN 62.1 ± 0.8 (precision 55.6, recall 70.8); CNN only 52.4, no width-5 55.7, no "
    "NER 55.5",
    differs="all pairs of a document at once, so a text is read once an epoch; 2 D filters, not "
    "4 D; 4,000 subwords from the abstracts; no filter of hypernyms; dropout 0.3, words 0.2; Adam "
    f"from 2e-3 by a cosine; {EPOCHS} epochs on train, the threshold of dev, then {EPOCHS} epochs "
    "on train and dev",
)
