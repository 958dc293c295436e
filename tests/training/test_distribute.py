"""Several replicas train as one does: workers of a cluster, and devices of a process."""

import functools
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from keras_attention.training import distribute
from keras_attention.training.cluster import Cluster

ROOT = pathlib.Path(__file__).parents[2]
STEPS = 9  # an epoch of 6 batches, the last of them smaller, and a part of the next one
CASES = "rnn with dropout,transformer with dropout,accumulation,averages,loss scale"


@functools.cache
def trained(folder, replicas, kind) -> dict:
    """What tests/training/trained_by_replicas.py wrote."""
    path = folder / f"{replicas}_{kind}.json"
    program = [sys.executable, "-m", "tests.training.trained_by_replicas", str(path)]
    launch = []
    if kind == "multi_worker":
        launch = [sys.executable, "-m", "keras_attention.training.launch"]
        launch += [f"--workers={replicas}", "--"]
    cpus = str(replicas) if kind == "mirrored" else "1"
    run = subprocess.run(
        [*launch, *program, kind, str(STEPS), CASES, cpus],
        cwd=ROOT, capture_output=True, text=True,
        env={name: value for name, value in os.environ.items() if name != "TF_CONFIG"},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("replicas")


@pytest.mark.parametrize("case", CASES.split(","))
@pytest.mark.parametrize(
    ("replicas", "kind"),
    [
        pytest.param(2, "multi_worker", marks=pytest.mark.full),
        pytest.param(3, "mirrored", marks=pytest.mark.slow),
    ],
)
def test_replicas_train_the_weights_of_one(folder, replicas, kind, case):
    """Also with dropout, an accumulated gradient, moving averages, and an overflow."""
    one, several = (trained(folder, *which)[case] for which in ((1, "none"), (replicas, kind)))
    assert len(one["weights"]) == len(several["weights"]) > 10
    assert one["iterations"] == several["iterations"] > 0
    for name, expected, found in zip(one["names"], one["weights"], several["weights"]):
        np.testing.assert_allclose(found, expected, atol=1e-6, rtol=1e-6, err_msg=name)
    for name, expected in one["logs"].items():
        # Keras' mean of the batches' losses counts the rows that fill up the last batch.
        tolerance = 2e-2 if name in ("loss", "test loss") else 1e-6
        assert several["logs"][name] == pytest.approx(expected, rel=tolerance), name
    np.testing.assert_allclose(several["predicted"], one["predicted"], atol=1e-5)


def leaves(structure):
    return [np.asarray(x).tolist() for x in tf.nest.flatten(structure)]


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 7, 8])
@pytest.mark.parametrize("replicas", [1, 2, 3, 4])
def test_shares_together_are_the_batch_and_rows_that_fill_up_weigh_nothing(rows, replicas):
    ids = tf.reshape(tf.range(rows * 2), [rows, 2])
    batch = ({"a": ids, "b": ids[:, 0]}, ids, tf.fill([rows, 2], 0.5))
    shares = [distribute.share(0, batch, replica, replicas) for replica in range(replicas)]
    sizes = {len(share[1]) for share in shares}
    assert sizes == {-(-rows // replicas)}
    x, y, weights = (
        np.concatenate(part) for part in zip(*((s[0]["a"], s[1], s[2]) for s in shares))
    )
    np.testing.assert_array_equal(x[:rows], ids)
    np.testing.assert_array_equal(y[:rows], ids)
    np.testing.assert_array_equal(weights[:rows], 0.5)
    np.testing.assert_array_equal(weights[rows:], 0)
    assert all(row in np.asarray(ids).tolist() for row in x.tolist())  # a real row: no NaN of zeros


@pytest.mark.parametrize("rows", [0, 1, 3, 7])
def test_inputs_alone_are_cut_without_rows_that_fill_up(rows):
    for batch in (tf.range(rows), (tf.range(rows),), {"x": tf.range(rows)}):
        shares = [distribute.share(0, batch, replica, 3) for replica in range(3)]
        assert sum((leaves(share)[0] for share in shares), []) == list(range(rows))
        sizes = [len(leaves(share)[0]) for share in shares]
        assert max(sizes) - min(sizes) <= 1


def test_targets_without_weights_must_be_divisible_but_at_the_end():
    pair = (tf.range(5), tf.range(5))
    with pytest.raises(tf.errors.InvalidArgumentError, match="multiple of 2") as error:
        distribute.share(0, pair, 0, 2)
    assert "give weights" in str(error.value) and "5" in str(error.value)
    assert [len(distribute.share(3, pair, replica, 2)[0]) for replica in (0, 1)] == [3, 2]
    with pytest.raises(tf.errors.InvalidArgumentError, match="at least 6"):
        distribute.share(3, pair, 0, 6)


def test_one_replica_gets_the_dataset_as_it_is():
    dataset = tf.data.Dataset.range(3).batch(2)
    strategy = distribute.make_strategy("none")
    assert distribute.split(dataset, strategy) is dataset
    assert distribute.cluster_of(strategy) == Cluster()
    mirrored = distribute.make_strategy("mirrored")
    assert distribute.split(dataset, mirrored) is dataset
    assert distribute.cluster_of(mirrored).is_chief


def test_multi_worker_without_a_tf_config_is_one_worker(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert distribute.cluster_of(distribute.make_strategy("none")).is_chief


def test_unknown_strategies_are_refused_with_the_names_that_exist():
    with pytest.raises(ValueError, match="none, mirrored, multi_worker. Received: 'tpu'"):
        distribute.make_strategy("tpu")


def test_no_time_and_no_names_are_refused():
    for timeout in (0, "a", None):
        with pytest.raises(ValueError, match="timeout must be seconds above 0"):
            distribute.make_strategy("multi_worker", timeout=timeout)
    with pytest.raises(ValueError, match="same must be a dict"):
        distribute.make_strategy("multi_worker", same="x")


def test_a_malformed_tf_config_is_refused_before_tensorflow_starts_a_server(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", "{")
    with pytest.raises(ValueError, match="TF_CONFIG must be like"):
        distribute.make_strategy("multi_worker")


@pytest.mark.full
def test_keras_still_needs_the_strategy_of_this_package():
    """Once plain `fit` works with TensorFlow's own strategy, `reduce` here can go."""
    code = (
        "import keras, numpy as np, tensorflow as tf\n"
        "strategy = tf.distribute.MultiWorkerMirroredStrategy()\n"
        "with strategy.scope():\n"
        "    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])\n"
        "    model.compile('sgd', 'mse')\n"
        "model.fit(np.ones([8, 2]), np.ones([8, 1]), batch_size=4, verbose=0)\n"
    )
    run = subprocess.run(
        [sys.executable, "-m", "keras_attention.training.launch", "--workers=2", "--",
         sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert run.returncode != 0
    assert "PerReplica" in run.stderr  # `reduce` of a batch
