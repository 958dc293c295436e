"""How the weights of one layer become those of another: the same numbers, laid out otherwise.

tf.contrib's cells keep one kernel for inputs and state, [D + u, n * u]; Keras' two: its rows
0:D and D:D + u.

| from                                  | to            | what changes                          |
|---------------------------------------|---------------|---------------------------------------|
| LSTMCell, BasicLSTMCell, ...BlockCell | LSTMCell      | rows; gates i j f o -> i f j o; the   |
|                                       |               | forget bias joins the bias            |
| GRUCell                               | GRUCell       | rows; gates r u -> u r, the candidate |
|                                       |               | behind; needs reset_after=False       |
| BasicRNNCell                          | SimpleRNNCell | rows                                  |
| the same names and shapes             | any           | nothing                               |
| a variable without a layer, `vars/0`  | any           | nothing; told by order and shape      |
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Shapes = dict[str, tuple]
Weights = dict[str, np.ndarray]


class Part(NamedTuple):
    """One new weight: the old leaves it is made of, how, and its value."""

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
    def reorder(x):
        i, j, f, o = np.split(x, 4, -1)
        return np.concatenate([i, f, j, o], -1)

    bias = reorder(weights["bias"])
    units = len(bias) // 4
    bias[units : 2 * units] += forget_bias
    parts = _rows(reorder(weights["kernel"]), units, ("kernel",), "i j f o -> i f j o")
    return parts | {"bias": Part(("bias",), f"i j f o -> i f j o; f + {forget_bias:g}", bias)}


def gru(weights: Weights, forget_bias: float) -> dict[str, Part]:
    def join(kind):
        reset, update = np.split(weights[f"gates/{kind}"], 2, -1)
        return np.concatenate([update, reset, weights[f"candidate/{kind}"]], -1)

    how, bias = "r u | candidate -> u r candidate", join("bias")
    kernels = ("gates/kernel", "candidate/kernel")
    parts = _rows(join("kernel"), len(bias) // 3, kernels, how)
    return parts | {"bias": Part(("gates/bias", "candidate/bias"), how, bias)}


def basic_rnn(weights: Weights, forget_bias: float) -> dict[str, Part]:
    parts = _rows(weights["kernel"], len(weights["bias"]), ("kernel",), "")
    return parts | {"bias": Part(("bias",), "", weights["bias"])}


def _rows(kernel, units, sources, how) -> dict[str, Part]:
    """The rows of the inputs, and those of the state below them."""
    inputs = len(kernel) - units
    how = how and "; " + how
    return {
        "kernel": Part(sources, f"rows 0:{inputs}{how}", kernel[:inputs]),
        "recurrent_kernel": Part(sources, f"rows {inputs}:{len(kernel)}{how}", kernel[inputs:]),
    }


def _anonymous(leaves) -> bool:
    """Keras' `.weights.h5` numbers a layer's weights; a bare variable is its own layer."""
    return all(leaf == "" or leaf.startswith("vars/") for leaf in leaves)


def _number(leaf: str) -> int:
    return int(leaf.rpartition("/")[2] or 0)


def _as_numbered(new: Shapes) -> list[str]:
    """The leaves in the order in which TFA's layers create them."""
    luong = ("attention_g", "attention_score_bias")
    bahdanau = ("attention_v", "attention_score_bias", "attention_g", "attention_b")
    first = [leaf for leaf in (bahdanau if "attention_v" in new else luong) if leaf in new]
    return first + [leaf for leaf in new if leaf not in first]
