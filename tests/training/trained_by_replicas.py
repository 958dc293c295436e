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
    return RNNSeq2Seq(WORDS, WORDS, units=12, layers=2, dropout=dropout)


def transformer(dropout):
    return Transformer(WORDS, layers=1, width=16, heads=2, ff_width=32, dropout=dropout)


def adam():
    return ClipByGlobalNorm(keras.optimizers.Adam(1e-3), 1.0)


def averaging():
    return keras.optimizers.Adam(1e-3, use_ema=True, ema_momentum=0.9)


CASES = {
    "rnn": lambda: (rnn(0.0), adam()),
    "rnn with dropout": lambda: (rnn(0.3), adam()),
    "transformer": lambda: (transformer(0.0), adam()),
    "transformer with dropout": lambda: (transformer(0.3), adam()),
    "accumulation": lambda: (rnn(0.0), AccumulateGradients(adam(), 2)),
    "averages": lambda: (rnn(0.0), ClipByGlobalNorm(averaging(), 1.0)),
    "loss scale": lambda: (
        rnn(0.0),
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
    logs: dict = {}
    for epoch in range(-(-steps // 6)):
        train = batches(sources, targets, 16, seed=1, epoch=epoch).take(steps - 6 * epoch)
        callbacks = [OverwriteWithAverage(4)] if case == "averages" else []
        found = model.fit(train, verbose=0, shuffle=False, callbacks=callbacks).history
        logs = {name: values[-1] for name, values in found.items()}
    test = batches(sources, targets, 16)
    logs |= {f"test {k}": v for k, v in model.evaluate(test, return_dict=True, verbose=0).items()}
    predicted = model.predict(test.map(lambda x, y, w: (x,)).take(2), verbose=0)
    variables = [*model.variables, *model.optimizer.variables]
    values = [np.asarray(tf.convert_to_tensor(v), np.float64) for v in variables]
    return {
        "names": [v.path for v in variables],
        "weights": [value.tolist() for value in values],
        "logs": logs,
        "iterations": int(model.optimizer.iterations.numpy()),
        "predicted": predicted.astype(float).tolist(),
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
