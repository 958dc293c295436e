"""A program for tests: trains small models under a strategy, and writes what came out.

    python -m tests.training.trained_by_replicas OUT.json STRATEGY STEPS CASES [CPUS]

All workers run it; the chief writes weights, logs and predictions.
"""

import json
import sys

import keras
import numpy as np
import tensorflow as tf

from keras_attention.data import batches
from keras_attention.layers import Dropout
from keras_attention.training import (
    AccumulateGradients,
    ClipByGlobalNorm,
    LossScaleOptimizer,
    OverwriteWithAverage,
    distribute,
    token_objective,
)
from models.rnn_seq2seq import RNNSeq2Seq
from models.transformer import Transformer

WORDS = 40


def rows(seed, count=90):
    random = np.random.default_rng(seed)
    return [random.integers(3, WORDS, random.integers(0, 9)) for _ in range(count)]


def rnn(dropout):
    return RNNSeq2Seq(WORDS, WORDS, units=12, layers=1, dropout=dropout)


def transformer(dropout):
    return Transformer(WORDS, layers=1, width=16, heads=2, ff_width=32, dropout=dropout)


def tagger(dropout):
    ids = keras.Input((None,), dtype="int32")
    x = keras.layers.Dense(12, "tanh")(keras.layers.Embedding(WORDS, 12)(ids))
    return keras.Model(ids, keras.layers.Dense(WORDS)(Dropout(dropout)(x)))


def adam():
    return ClipByGlobalNorm(keras.optimizers.Adam(1e-3), 1.0)


def averaging():
    return keras.optimizers.Adam(1e-3, use_ema=True, ema_momentum=0.9)


CASES = {
    "rnn": lambda: (rnn(0.0), adam()),
    "rnn with dropout": lambda: (rnn(0.3), adam()),
    "transformer": lambda: (transformer(0.0), adam()),
    "transformer with dropout": lambda: (transformer(0.3), adam()),
    "accumulation": lambda: (tagger(0.3), AccumulateGradients(adam(), 2)),
    "averages": lambda: (tagger(0.3), ClipByGlobalNorm(averaging(), 1.0)),
    "loss scale": lambda: (
        tagger(0.3),
        LossScaleOptimizer(adam(), initial_scale=2.0**120, dynamic_growth_steps=5),
    ),
}


def trained(strategy, case, steps) -> dict:
    """Weights, logs and predictions after `steps` steps in epochs of 6 batches of 16."""
    keras.utils.set_random_seed(1)
    with strategy.scope():
        model, optimizer = CASES[case]()
        model.compile(optimizer, **token_objective(0.1))
    sources, targets = rows(1), rows(2)
    tags = case in ("accumulation", "averages", "loss scale")

    def epoch_of(**order):
        found = batches(sources, targets, 16, **order)
        return found.map(lambda x, y, w: (x[1], y, w)) if tags else found

    logs: dict = {}
    for epoch in range(-(-steps // 6)):
        callbacks = [OverwriteWithAverage(4)] if case == "averages" else []
        train = epoch_of(seed=1, epoch=epoch).take(steps - 6 * epoch)
        found = model.fit(train, verbose=0, shuffle=False, callbacks=callbacks).history
        logs = {name: values[-1] for name, values in found.items()}
    predicted = []
    if tags:  # the other models would take seconds more to trace
        test = model.evaluate(epoch_of(), return_dict=True, verbose=0)
        logs |= {f"test {name}": value for name, value in test.items()}
        inputs = epoch_of().map(lambda x, y, w: (x,)).take(2)
        predicted = model.predict(inputs, verbose=0).astype(float).tolist()
    variables = [*model.variables, *model.optimizer.variables]
    return {
        "names": [v.path for v in variables],
        "weights": [np.asarray(tf.convert_to_tensor(v), float).tolist() for v in variables],
        "logs": logs,
        "iterations": int(model.optimizer.iterations.numpy()),
        "predicted": predicted,
    }


def main(path, name, steps, cases, cpus="1"):
    cpu = tf.config.list_physical_devices("CPU")[0]
    if int(cpus) > 1:
        logical = [tf.config.LogicalDeviceConfiguration()] * int(cpus)
        tf.config.set_logical_device_configuration(cpu, logical)
    keras.utils.set_random_seed(1)
    strategy = distribute.make_strategy(name, timeout=60.0)
    found = {case: trained(strategy, case, int(steps)) for case in cases.split(",")}
    if distribute.cluster_of(strategy).is_chief:
        with open(path, "w") as file:
            json.dump(found, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
