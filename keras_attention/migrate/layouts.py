"""How the weights of one layer are rearranged for another.

tf.contrib's cells have one kernel for inputs and state, [D + u, n * u]; Keras' have two: its rows
0:D and D:D + u.

| from                                  | to            | what changes                          |
|---------------------------------------|---------------|---------------------------------------|
| LSTMCell, BasicLSTMCell, ...BlockCell | LSTMCell      | rows; gates i j f o -> i f j o; the   |
|                                       |               | forget bias is added to the bias      |
| GRUCell                               | GRUCell       | rows; gates r u -> u r, the candidate |
|                                       |               | after them; needs reset_after=False   |
| BasicRNNCell                          | SimpleRNNCell | rows                                  |
| the same names and shapes             | any           | nothing                               |
| a variable without a layer, `vars/0`  | any           | nothing; by order and shape           |
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from keras_attention.contrib.weights import basic_rnn_weights, gru_weights, lstm_weights

KINDS = ("kernel", "bias")
Shapes = dict[str, tuple]
Weights = dict[str, np.ndarray]


class Part(NamedTuple):
    """One new weight: the old weights it is made of, the transform, and its value."""

    sources: tuple[str, ...]
    how: str
    value: np.ndarray


def layout(old: Shapes, new: Shapes) -> Callable[[Weights, float], dict[str, Part]] | None:
    """The function from old weights (and the forget bias) to the new ones; None if none fits.

    >>> layout({"kernel": (7, 16), "bias": (16,)},
    ...        {"kernel": (3, 16), "recurrent_kernel": (4, 16), "bias": (16,)}).__name__
    'lstm'
    """
    if old == new:
        return same
    if _anonymous(old) and [old[k] for k in sorted(old, key=_number)] == [
        new[k] for k in _as_numbered(new)
    ]:
        return lambda weights, _: by_order(weights, _as_numbered(new))
    if set(new) != {"kernel", "recurrent_kernel", "bias"}:
        return None
    units = new["recurrent_kernel"][0]
    rows = new["kernel"][0] + units

    def gates(n):
        return new["kernel"][1:] == new["recurrent_kernel"][1:] == new["bias"] == (n * units,)

    if gates(4) and old == {"kernel": (rows, 4 * units), "bias": (4 * units,)}:
        return lstm
    if gates(1) and old == {"kernel": (rows, units), "bias": (units,)}:
        return basic_rnn
    if gates(3) and old == {
        "gates/kernel": (rows, 2 * units),
        "gates/bias": (2 * units,),
        "candidate/kernel": (rows, units),
        "candidate/bias": (units,),
    }:
        return gru
    return None


def same(weights: Weights, forget_bias: float) -> dict[str, Part]:
    return {leaf: Part((leaf,), "", value) for leaf, value in weights.items()}


def by_order(weights: Weights, leaves: list[str]) -> dict[str, Part]:
    return {
        leaf: Part((number,), "", weights[number])
        for leaf, number in zip(leaves, sorted(weights, key=_number))
    }


def lstm(weights: Weights, forget_bias: float) -> dict[str, Part]:
    values = lstm_weights(weights["kernel"], weights["bias"], forget_bias)
    order = "i j f o -> i f j o"
    return _parts(values, ("kernel",), ("bias",), order, f"{order}; f + {forget_bias:g}")


def gru(weights: Weights, forget_bias: float) -> dict[str, Part]:
    kernels, biases = (tuple(f"{part}/{kind}" for part in ("gates", "candidate")) for kind in KINDS)
    gates_kernel, candidate_kernel = (weights[name] for name in kernels)
    gates_bias, candidate_bias = (weights[name] for name in biases)
    values = gru_weights(gates_kernel, gates_bias, candidate_kernel, candidate_bias)
    order = "r u | candidate -> u r candidate"
    return _parts(values, kernels, biases, order, order)


def basic_rnn(weights: Weights, forget_bias: float) -> dict[str, Part]:
    values = basic_rnn_weights(weights["kernel"], weights["bias"])
    return _parts(values, ("kernel",), ("bias",), "", "")


def _parts(values, kernels, biases, how, how_bias) -> dict[str, Part]:
    """The kernel's rows of the inputs and of the state, and the bias."""
    kernel, recurrent, bias = values
    inputs, rows = len(kernel), len(kernel) + len(recurrent)
    how = how and "; " + how
    return {
        "kernel": Part(kernels, f"rows 0:{inputs}{how}", kernel),
        "recurrent_kernel": Part(kernels, f"rows {inputs}:{rows}{how}", recurrent),
        "bias": Part(biases, how_bias, bias),
    }


def _anonymous(leaves) -> bool:
    """Keras' `.weights.h5` numbers the weights of a layer; a bare variable is its own layer."""
    return all(leaf == "" or leaf.startswith("vars/") for leaf in leaves)


def _number(leaf: str) -> int:
    return int(leaf.rpartition("/")[2] or 0)


def _as_numbered(new: Shapes) -> list[str]:
    """The leaves in the order in which TFA's layers create them."""
    luong = ("attention_g", "attention_score_bias")
    bahdanau = ("attention_v", "attention_score_bias", "attention_g", "attention_b")
    first = [leaf for leaf in (bahdanau if "attention_v" in new else luong) if leaf in new]
    return first + [leaf for leaf in new if leaf not in first]
