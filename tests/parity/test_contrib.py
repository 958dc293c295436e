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
from tests.parity.contrib_cases import CASES, B, K, S, World, draw

HERE = pathlib.Path(__file__).parent

# Our mechanisms' weights, in the order of contrib's names for them.
PLAIN = ("memory_layer", "query_layer", "attention_v", "attention_g", "attention_b")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    python = os.environ.get("CONTRIB_PYTHON")
    if not python:
        return HERE
    folder = tmp_path_factory.mktemp("contrib")
    # TensorFlow 2 leaves a word in the environment that makes TensorFlow 1.15 behave like it.
    environment = {name: value for name, value in os.environ.items() if name[:2] != "TF"}
    command = [python, HERE / "contrib_outputs.py", folder]
    subprocess.run(command, check=True, capture_output=True, env=environment)
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
    if isinstance(owner, (rnn.InputProjectionWrapper, rnn.OutputProjectionWrapper)):
        return _own(owner.projection, "projection", places)
    if isinstance(owner, rnn.LayerNormBasicLSTMCell):
        return _own(owner, "cell", places)
    cell = owner.cell
    rows, units = cell.kernel.shape[0] + cell.units, cell.units
    if isinstance(owner, rnn.GRUCell):
        kinds = (("gates/kernel", rows, 2 * units), ("gates/bias", 2 * units))
        kinds += (("candidate/kernel", rows, units), ("candidate/bias", units))
        return zip(cell.weights, weights.gru_weights(*(places.take(*kind) for kind in kinds)))
    gates = cell.kernel.shape[1] // units
    kernel = places.take("cell/kernel", rows, gates * units)
    bias = places.take("cell/bias", gates * units)
    if isinstance(owner, rnn.BasicRNNCell):
        return zip(cell.weights, weights.basic_rnn_weights(kernel, bias))
    first = cell.bias_initializer((4 * units,))[units] if forget_bias else 0.0
    return zip(cell.weights, weights.lstm_weights(kernel, bias, float(first)))


def _own(owner, kind, places):
    """kernel and bias; input_gamma, which is input/gamma in contrib."""
    names = [v.name.rpartition("/")[2].partition(":")[0] for v in owner.weights]
    names = [n.replace("_", "/") if "_" in n else f"{kind}/{n}" for n in names]
    return [(v, places.take(name, *v.shape)) for v, name in zip(owner.weights, names)]


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

# What contrib gives differently: see the tests below.
DIFFERENT = {"beam history reordered": {"state/5"}}


@pytest.mark.parametrize("name", CASES)
def test_the_same_source_gives_the_same_numbers(name, stored):
    found, owned, tape = replay(CASES[name])
    expected = stored[name]
    outputs = {key for key in expected if not key.startswith("slope")}
    assert outputs == set(found)
    for key in outputs - DIFFERENT.get(name, set()):
        value, theirs = found[key].numpy(), expected[key]
        assert value.dtype == theirs.dtype
        atol = 1e-6 * max(1, np.abs(theirs).max(initial=0))
        np.testing.assert_allclose(value, theirs, rtol=1e-5, atol=atol, err_msg=key)
    if "loss" in found:
        in_place = in_our_layout(owned, lambda place, *_: expected[f"slope/{place}"], False)
        variables, theirs = zip(*in_place)
        slopes = tape.gradient(found["loss"], variables)
        for slope, their in zip(slopes, theirs):
            np.testing.assert_allclose(slope, their, rtol=1e-4, atol=1e-6)
        clipped, norm = tf.clip_by_global_norm(slopes, 0.1)
        np.testing.assert_allclose(norm, np.sqrt(sum(np.sum(x**2) for x in theirs)), rtol=1e-4)
        np.testing.assert_allclose(tf.linalg.global_norm(clipped), min(norm, 0.1), rtol=1e-4)


def test_a_history_under_beams_is_that_of_the_hypothesis_where_contribs_is_of_its_place(stored):
    """The cell attends before the step chooses: what a hypothesis looked at when it took its
    token stands under its parent. contrib reads it under the hypothesis' own place, and where it
    knows B and S before it runs, it leaves the history as it is.
    """
    raw = stored["beam history"]["state/5"].reshape(-1, B, K, S)
    parents = np.moveaxis(stored["beam history"]["outputs/3"], 1, 0)  # [T, B, K]
    ours, theirs = np.empty_like(raw), np.empty_like(raw)
    for b, k in np.ndindex(B, K):
        place = k
        for t in reversed(range(len(raw))):
            parent = parents[t, b, place]
            ours[t, b, k], theirs[t, b, k] = raw[t, b, parent], raw[t, b, place]
            place = parent
    case = "beam history reordered"
    history = replay(CASES[case])[0]["state/5"]
    np.testing.assert_allclose(history, ours.reshape(history.shape), rtol=1e-5, atol=1e-6)
    lengths = stored[case]["state/9"]
    within = np.arange(len(raw))[:, None, None] < lengths  # beyond, contrib leaves what stands
    contribs = stored[case]["state/5"].reshape(raw.shape)
    np.testing.assert_allclose(contribs[within], theirs[within], rtol=1e-5, atol=1e-6)
    assert np.abs(contribs - ours).max() > 0.05


# -- the signatures


@pytest.fixture(scope="module")
def signatures(folder):
    """module -> name -> ["argument", "argument=default", ...]."""
    return json.loads((folder / "contrib_signatures.json").read_text())


def test_every_name_of_contrib_is_there(signatures):
    assert len(signatures["seq2seq"]) == 29
    assert sorted(signatures["seq2seq"]) == sorted(seq2seq.__all__)
    assert set(signatures["rnn"]) <= set(rnn.__all__)


NAMES = [(seq2seq, name) for name in seq2seq.__all__]
NAMES += [(rnn, name) for name in rnn.__all__ if name != "RNNCell"]  # contrib's is abstract too


def default(argument):
    """`=value`; a function by its name."""
    if argument.default is argument.empty:
        return ""
    return "=" + (getattr(argument.default, "__name__", None) or repr(argument.default))


@pytest.mark.parametrize("module, name", NAMES, ids=lambda x: getattr(x, "__name__", x))
def test_arguments_are_contribs_in_contribs_order_with_contribs_defaults(module, name, signatures):
    contribs = signatures[module.__name__.rpartition(".")[2]][name]
    ours = getattr(module, name)
    if hasattr(ours, "_fields"):
        assert list(ours._fields) == contribs
        return
    arguments = [x for x in inspect.signature(ours).parameters.values() if x.kind < 2]
    known = [x.name + default(x) for x in arguments]
    assert known[: len(contribs)] == contribs
    assert all("=" in argument for argument in known[len(contribs) :])
