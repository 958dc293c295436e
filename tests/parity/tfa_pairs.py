"""One case, two libraries: tensorflow_addons.seq2seq and ours, with the same weights and inputs."""

import zlib

import numpy as np
import pytest
import tensorflow as tf

tfa = pytest.importorskip("tensorflow_addons", reason="needs the extra [addons] (TensorFlow 2.15)")

from keras_attention import seq2seq

LIBRARIES = THEIRS, OURS = (tfa.seq2seq, seq2seq)
# relative and absolute, for values and for slopes
TOLERANCES = {
    "float16": ((2e-3, 2e-3), (2e-2, 2e-2)),
    "float32": ((1e-5, 1e-6), (1e-4, 1e-5)),
    "float64": ((1e-10, 1e-12), (1e-10, 1e-12)),
}
_OWN = ("attention_v", "attention_b", "attention_score_bias")


def draw(place, *shape, dtype="float32"):
    """Normal numbers that belong to a place: the same at every run and in both libraries."""
    return np.random.RandomState(zlib.crc32(place.encode())).normal(size=shape).astype(dtype)


def tensor(place, *shape, dtype="float32"):
    """`draw` as a tensor."""
    return tf.constant(draw(place, *shape, dtype=dtype))


def name_case(value):
    """What pytest calls a case in a table: its settings without the punctuation."""
    if isinstance(value, dict):
        return "-".join(f"{key}={name_case(part)}" for key, part in value.items()) or "default"
    return getattr(value, "__name__", None) or str(value).replace(" ", "")


def weights_of(layer, place):
    """place -> variable, where the place says what a weight means in either library."""
    parts = _parts(layer)
    if parts:
        return {
            inner: weight
            for kind, layers in parts.items()
            for i, part in enumerate(layers)
            for inner, weight in weights_of(part, f"{place}/{kind}{i}").items()
        }
    if not hasattr(layer, "setup_memory"):
        return {f"{place}/{i}": weight for i, weight in enumerate(layer.weights)}
    found = {name: getattr(layer, name, None) for name in _OWN}
    found["attention_g"] = _either(layer, "attention_g", "scale_weight")
    for name in ("memory_layer", "query_layer"):
        found[name] = getattr(getattr(layer, name), "kernel", None)
    found = {f"{place}/{name}": weight for name, weight in found.items() if weight is not None}
    assert len(found) == len(layer.weights)
    return found


def _parts(layer):
    """The layers inside of a wrapper or of stacked cells."""
    if hasattr(layer, "_attention_layers"):
        return {
            "cell": [_either(layer, "cell", "_cell")],
            "mechanism": _either(layer, "_mechanisms", "_attention_mechanisms"),
            "attention_layer": layer._attention_layers or [],
        }
    return {"cell": layer.cells} if hasattr(layer, "cells") else {}


def _either(x, *names):
    values = [getattr(x, name, None) for name in names]
    return next((value for value in values if value is not None), None)


def flat(nest, path=""):
    """path -> array. The path tells the containers: .field, list[0], tuple[0], stack()."""
    if isinstance(nest, tf.TensorArray):
        return flat(nest.stack(), f"{path}.stack()")
    if hasattr(nest, "_fields"):
        parts = {f".{name}": part for name, part in zip(nest._fields, nest)}
    elif isinstance(nest, dict):
        parts = {f".{name}": part for name, part in nest.items()}
    elif isinstance(nest, (list, tuple)):
        kind = "list" if isinstance(nest, list) else "tuple"
        parts = {f"{kind}[{i}]": part for i, part in enumerate(nest)} or {f"{kind}[]": 0}
    else:
        return {path: nest.numpy() if tf.is_tensor(nest) else np.asarray(nest)}
    return {k: v for name, part in parts.items() for k, v in flat(part, path + name).items()}


def run(library, make, inputs=(), slopes=True):
    """What `make(library)` answers, and how it changes with every weight and float input.

    `make(library)` gives a function of the inputs and the layers whose weights it uses, by name.
    -> (path -> array, place -> array)
    """
    answer, layers = make(library)
    answer(*inputs)  # the weights are there
    weights = {
        key: weight
        for place, layer in layers.items()
        for key, weight in weights_of(layer, place).items()
    }
    for place, weight in weights.items():
        weight.assign(draw(place, *weight.shape))
    given = {
        f"input {i}": x for i, x in enumerate(inputs) if tf.is_tensor(x) and x.dtype.is_floating
    }
    tf.random.set_seed(0)
    if not slopes:
        return flat(answer(*inputs)), {}
    sources = {**weights, **given}
    with tf.GradientTape() as tape:
        tape.watch(list(given.values()))
        found = answer(*inputs)
        floats = [x for x in tf.nest.flatten(found) if tf.is_tensor(x) and x.dtype.is_floating]
        loss = tf.add_n(
            [
                tf.reduce_sum(x * draw(f"output {i}", *x.shape, dtype=x.dtype.name))
                for i, x in enumerate(floats)
            ]
        )
    found_slopes = tape.gradient(loss, sources, unconnected_gradients="zero")
    return flat(found), {key: tf.convert_to_tensor(x).numpy() for key, x in found_slopes.items()}


def assert_same(make, *inputs, dtype="float32", slopes=True, but=()):
    """Both libraries answer the same, but at the paths `but`; -> (their answers, ours)."""
    (theirs, their_slopes), (ours, our_slopes) = (
        run(library, make, inputs, slopes) for library in LIBRARIES
    )
    assert set(ours) == set(theirs)
    assert set(our_slopes) == set(their_slopes)
    tolerances, slope_tolerances = TOLERANCES[dtype]
    for path in set(theirs) - set(but):
        assert ours[path].dtype == theirs[path].dtype, path
        assert_close(ours[path], theirs[path], *tolerances, path)
    for place, their in their_slopes.items():
        assert_close(our_slopes[place], their, *slope_tolerances, f"slope of {place}")
    return theirs, ours


def assert_close(ours, theirs, rtol, atol, what=""):
    """Close, where "never" may be the lowest finite log-probability or -inf."""
    assert ours.shape == theirs.shape, what
    if np.issubdtype(theirs.dtype, np.floating):
        lowest = float(np.finfo("float16").min)
        ours, theirs = (np.maximum(x.astype("float64"), lowest) for x in (ours, theirs))
        np.testing.assert_allclose(ours, theirs, rtol, atol, err_msg=what)
    else:
        np.testing.assert_array_equal(ours, theirs, err_msg=what)
