"""keras_attention.contrib gives what tf.contrib of TensorFlow 1.15.5 gave, for the same source.

What contrib gave is stored beside this file. `CONTRIB_PYTHON=/path/to/python` of an environment
with TensorFlow 1.15 makes it anew.
"""

import collections
import inspect
import json
import os
import pathlib
import subprocess

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention import contrib
from keras_attention.contrib import rnn, seq2seq, weights
from tests.parity.contrib_cases import CASES, World, draw

HERE = pathlib.Path(__file__).parent

# Our mechanisms' weights, in the order of contrib's names for them.
PLAIN = ("memory_layer", "query_layer", "attention_v", "attention_g", "attention_b")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    python = os.environ.get("CONTRIB_PYTHON")
    if not python:
        return HERE
    folder = tmp_path_factory.mktemp("contrib")
    subprocess.run([python, HERE / "contrib_outputs.py", folder], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def stored(folder):
    """case -> {name: what contrib gave}."""
    found = collections.defaultdict(dict)
    with np.load(folder / "contrib_outputs.npz") as file:
        for key in file.files:
            case, name = key.split("|")
            found[case][name] = file[key]
    return found


# -- the same weights on both sides


class Places:
    """The weights of what a case made, as contrib names them: kind/turn -> value."""

    def __init__(self, values):
        self._values, self._seen = values, collections.Counter()

    def take(self, kind, *shape):
        """The value of the next weight of this kind."""
        place = f"{kind}/{self._seen[kind]}"
        self._seen[kind] += 1
        return self._values(place, *shape)


def in_our_layout(owned, values, forget_bias=True):
    """[(our variable, contrib's value for it), ...] of all that has weights, once each."""
    places, pairs, known = Places(values), [], set()
    for owner in owned:
        if id(owner) not in known:
            known.add(id(owner))
            pairs += _of(owner, places, forget_bias)
    return pairs


def _of(owner, places, forget_bias):
    if isinstance(owner, seq2seq.AttentionWrapper):
        layers = owner._attention_layers or []
        return [(x.kernel, places.take("attention_layer", *x.kernel.shape)) for x in layers]
    if isinstance(owner, seq2seq.AttentionMechanism):
        owns = [(kind, getattr(owner, kind, None)) for kind in PLAIN]
        owns = [(kind, getattr(x, "kernel", x)) for kind, x in owns if x is not None]
        return [(x, places.take(kind, *x.shape)) for kind, x in owns]
    if isinstance(owner, keras.layers.Dense):
        owns = [("dense/kernel", owner.kernel), ("dense/bias", owner.bias)]
        return [(x, places.take(kind, *x.shape)) for kind, x in owns if x is not None]
    cell = owner.cell
    rows, units = cell.kernel.shape[0] + cell.units, cell.units
    if isinstance(owner, rnn.GRUCell):
        kinds = (("gates/kernel", rows, 2 * units), ("gates/bias", 2 * units))
        kinds += (("candidate/kernel", rows, units), ("candidate/bias", units))
        return zip(cell.weights, weights.gru_weights(*(places.take(*kind) for kind in kinds)))
    gates = cell.kernel.shape[1] // units
    kernel, bias = places.take("cell/kernel", rows, gates * units), places.take("cell/bias", gates * units)
    if isinstance(owner, rnn.BasicRNNCell):
        return zip(cell.weights, weights.basic_rnn_weights(kernel, bias))
    first = cell.bias_initializer((4 * units,))[units] if forget_bias else 0.0
    return zip(cell.weights, weights.lstm_weights(kernel, bias, float(first)))


def replay(case):
    """The outputs of a case here, and its weights with their slopes in contrib's places."""
    owned = []

    def owns(x):
        owned.append(x)
        return x

    world = World(tf.compat.v1, seq2seq, rnn, keras.layers.Dense, owns)
    template = contrib.make_template("case", case)
    template(world)
    for variable, value in in_our_layout(owned, draw):
        variable.assign(value)
    owned.clear()
    with tf.GradientTape() as tape:
        found = template(world)
    return found, owned, tape


# -- the cases

# After the last step of a beam search the way back begins elsewhere; see the test below.
BEAMS = [name for name in CASES if name.startswith("beam")]
DIFFERENT = {"beam history reordered": "outputs/0"}


@pytest.mark.parametrize("name", CASES)
def test_the_same_source_gives_the_same_numbers(name, stored):
    found, owned, tape = replay(CASES[name])
    expected = stored[name]
    assert {key for key in expected if not key.startswith("slope/") and key != "norm"} == set(found)
    for key, value in found.items():
        np.testing.assert_allclose(
            value, expected[key], rtol=1e-5, atol=1e-6, err_msg=f"{name}: {key}"
        )
        assert np.asarray(value).dtype == expected[key].dtype, key
    if "loss" in found:
        slopes = in_our_layout(owned, lambda place, *_: expected[f"slope/{place}"], False)
        variables = [variable for variable, _ in slopes]
        ours = tape.gradient(found["loss"], variables)
        for slope, (variable, theirs) in zip(ours, slopes):
            np.testing.assert_allclose(slope, theirs, rtol=1e-4, atol=1e-6, err_msg=variable.path)
