"""Match old weights with new ones, and report those that do not match."""

import collections
import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_attention.migrate.checkpoints import Checkpoint, is_position
from keras_attention.migrate.layouts import layout
from keras_attention.migrate.places import (
    Place,
    contradict,
    places_of_checkpoint,
    places_of_model,
)


class Rules(NamedTuple):
    """What cannot be inferred from names and shapes.

    map: regular expressions of old names and their replacements, as for `re.sub`; the first that
        matches a name is applied. A layer that then has the name of a new one is matched with it.
    ignore: regular expressions of old weights to skip.
    keep: regular expressions of new weights to leave unchanged.
    forget_bias: the argument of contrib's LSTM cells; it is not a weight, but part of the model.
    """

    map: dict[str, str] = {}
    ignore: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    forget_bias: float = 1.0

    @classmethod
    def load(cls, path: str) -> "Rules":
        """Rules from a JSON object with any of the fields; ValueError for anything else."""
        with open(path, encoding="utf-8") as file:
            try:
                rules = cls(**json.load(file))
                rules = rules._replace(map=dict(rules.map), forget_bias=float(rules.forget_bias))
                if isinstance(rules.ignore, str) or isinstance(rules.keep, str):
                    raise TypeError("ignore and keep are lists")
                for pattern in (*rules.map, *rules.ignore, *rules.keep):
                    re.compile(pattern)
                return rules
            except (TypeError, ValueError, RecursionError, re.error) as error:
                raise ValueError(
                    'Rules are a JSON object such as {"map": {"^old/scope/": "new_layer/"}, '
                    '"ignore": ["regex"], "keep": ["regex"], "forget_bias": 1.0}. '
                    f"Received: {path}, {error}"
                ) from error

    def rename(self, name: str) -> str:
        """The name that `map` gives to an old one.

        >>> Rules(map={"embedding_1$": "target_embedding", "embedding": "source"}).rename(
        ...     "model/embedding_1"
        ... )
        'model/target_embedding'
        """
        for pattern, replacement in self.map.items():
            try:
                renamed, count = re.subn(pattern, replacement, name)
            except re.error as error:
                raise ValueError(
                    "Expected a regular expression and a replacement as re.sub takes them. "
                    f"Received: {pattern!r}: {replacement!r}, {error}"
                ) from error
            if count:
                return renamed
        return name


class Assignment(NamedTuple):
    """One new weight: the old ones it is made of, the transform, and its value."""

    old: tuple[str, ...]
    how: str  # "" if only the name changes
    new: str
    value: np.ndarray
    variable: Any


class Plan(NamedTuple):
    """All assignments, and the weights that are ignored or kept."""

    assignments: list[Assignment]
    ignored: dict[str, str]  # old name -> reason
    kept: list[str]  # new names


def plan(checkpoint: Checkpoint, model: keras.layers.Layer, rules: Rules | None = None) -> Plan:
    """Match every old weight with a new one, without assigning values.

    Layers are matched, not single weights. Two layers can match if the weights of one can be
    rearranged as those of the other, and if their names have a word in common and do not contradict
    each other (encoder and decoder, forward and backward, first and second of a list). Pairs of
    layers that are each other's only best, by the number of common words, are matched first, then
    such pairs among the rest. Ties are not matched.

    Raises ValueError, naming the nearest candidates, unless every weight on both sides is
    matched, ignored or kept by a rule.

    >>> layer = keras.layers.Dense(2)
    >>> layer.build((None, 3))
    >>> old = {"decoder/dense/kernel": np.ones([3, 2]), "decoder/dense/bias": np.ones([2])}
    >>> found = plan(Checkpoint(old, {}), layer, Rules(map={"^decoder/dense/": ""}))
    >>> [(assignment.old, assignment.new) for assignment in found.assignments]
    [(('decoder/dense/kernel',), 'kernel'), (('decoder/dense/bias',), 'bias')]
    """
    rules = rules or Rules()
    weights, names_in_file, ignored = _renamed(checkpoint, rules)
    new, kept = [], []
    for place in places_of_model(model):
        if all(any(re.search(p, name) for p in rules.keep) for name in place.names.values()):
            kept += place.names.values()
        else:
            new.append(place)
    if not new:
        raise ValueError(
            "Expected a built model with weights to fill: call it once, or its build. Received: "
            f"{model.name} with {len(model.weights)} weights, {len(kept)} of them kept by a rule"
        )
    weights, names_in_file = _named_by_shape(weights, names_in_file, new)
    old = places_of_checkpoint(weights, {leaf for place in new for leaf in place.weights})
    pairs = _pairs(old, new)
    if len(pairs) < max(len(old), len(new)):
        raise ValueError(_unmatched(old, new, pairs))
    assignments = [
        assignment
        for o, n in pairs
        for assignment in _assignments(old[o], new[n], names_in_file, rules.forget_bias)
    ]
    return Plan(assignments, ignored, kept)


def _renamed(checkpoint: Checkpoint, rules: Rules) -> tuple[dict, dict, dict]:
    """Weights by their names after the rules, their original names, and what is ignored."""
    weights, names_in_file, ignored = {}, {}, dict(checkpoint.ignored)
    for name, value in checkpoint.weights.items():
        if any(re.search(pattern, name) for pattern in rules.ignore):
            ignored[name] = "by a rule"
            continue
        known_as = rules.rename(name)
        if known_as in names_in_file:
            raise ValueError(
                "Every old weight needs a distinct name: change the rules. Received: "
                f"{names_in_file[known_as]} and {name} both become {known_as}"
            )
        weights[known_as], names_in_file[known_as] = _at_least_float32(value), name
    return weights, names_in_file, ignored


def _named_by_shape(weights: dict, names_in_file: dict, new: list[Place]) -> tuple[dict, dict]:
    """New names for old weights that only have a number (`variables/3`), by their shapes.

    Each must be the only one of its shape in both models.
    """
    shapes = [tuple(value.shape) for value in weights.values()]
    names = collections.defaultdict(list)
    for place in new:
        for leaf, variable in place.weights.items():
            names[tuple(variable.shape)].append(place.names[leaf])

    def known_as(name, shape):
        sure = is_position(name) and shapes.count(shape) == 1 and len(names[shape]) == 1
        return names[shape][0] if sure and names[shape][0] not in weights else name

    renamed = {name: known_as(name, tuple(value.shape)) for name, value in weights.items()}
    return (
        {renamed[name]: value for name, value in weights.items()},
        {renamed[name]: name_in_file for name, name_in_file in names_in_file.items()},
    )


def _at_least_float32(value):
    return value.astype(np.float32) if value.dtype.itemsize < 4 else value


def _layout(old: Place, new: Place) -> Any:
    return layout(*({k: tuple(w.shape) for k, w in p.weights.items()} for p in (old, new)))


def _common_words(old: Place, new: Place) -> float:
    """The number of common words of two layers; 0 if they cannot match."""
    if _layout(old, new) is None:
        return 0
    if old.name == new.name:
        return np.inf
    return 0 if contradict(old, new) else len(old.words & new.words)


def _pairs(old: list[Place], new: list[Place]) -> list[tuple[int, int]]:
    """The pairs that are each other's only best, round by round; in the order of the model."""
    scores = np.array([[_common_words(o, n) for n in new] for o in old]).reshape(len(old), len(new))
    found = {}
    while True:
        best = (scores > 0) & _only_best(scores, 0) & _only_best(scores, 1)
        if not best.any():
            return [(found[n], n) for n in sorted(found)]
        for o, n in np.argwhere(best):
            found[n] = o
            scores[o, :] = scores[:, n] = 0


def _only_best(scores, axis):
    peak = scores == scores.max(axis, keepdims=True, initial=0)
    return peak & (peak.sum(axis, keepdims=True) == 1)


def _assignments(
    old: Place, new: Place, names_in_file: dict[str, str], forget_bias: float
) -> Iterator[Assignment]:
    if "cudnn_compatible" in old.name:
        forget_bias = 0.0  # the only LSTM of contrib that adds none
    parts = _layout(old, new)(old.weights, forget_bias)
    for leaf, variable in new.weights.items():
        sources, how, value = parts[leaf]
        names = tuple(names_in_file[old.names[source]] for source in sources)
        yield Assignment(names, how, new.names[leaf], value, variable)


def _unmatched(old: list[Place], new: list[Place], pairs: list[tuple[int, int]]) -> str:
    lines = ["Expected one old layer for every new one, and the reverse. Received:"]
    new_of = {old[o].name: new[n].name for o, n in pairs}
    old_of = {new_name: old_name for old_name, new_name in new_of.items()}
    for place in new:
        if place.name not in old_of:
            lines.append(f"  new, without an old one: {_described(place)}")
            lines += _nearest([(other, place) for other in old], 0, new_of)
    for place in old:
        if place.name not in new_of:
            lines.append(f"  old, without a new one: {_described(place)}")
            if all(map(is_position, place.names.values())):
                lines += _of_its_shapes(place, new)
                continue
            lines += _nearest([(place, other) for other in new], 1, old_of)
    lines.append(
        "Nothing was assigned. Build the model with the layers and sizes of the old one, or add "
        'rules: {"map": {"^old/layer/": "new/layer/"}}. "ignore" skips old weights, "keep" leaves '
        "new ones unchanged."
    )
    return "\n".join(lines)


def _of_its_shapes(old: Place, new: list[Place]) -> Iterator[str]:
    """The candidates for weights without a name: a rule must select one of them."""
    for leaf, name in old.names.items():
        shape = tuple(old.weights[leaf].shape)
        found = [
            place.names[k]
            for place in new
            for k, variable in place.weights.items()
            if tuple(variable.shape) == shape
        ]
        yield f"      {name} may be: {', '.join(found) or 'nothing here'}"


def _nearest(pairs: list[tuple[Place, Place]], side: int, taken: dict) -> Iterator[str]:
    """The three nearest candidates on one side (0: old, 1: new), and why they do not match."""

    def nearness(pair):
        old, new = pair
        return (
            pair[side].name not in taken,
            set(old.weights) == set(new.weights),
            not contradict(old, new),
            len(old.words & new.words),
        )

    for pair in sorted(pairs, key=nearness, reverse=True)[:3]:
        name = pair[side].name
        why = f"is {taken[name]}" if name in taken else _mismatch_reason(*pair)
        yield f"      near: {_described(pair[side])}: {why}"


def _mismatch_reason(old: Place, new: Place) -> str:
    if _layout(old, new) is None:
        needs_reset_before = "gates/kernel" in old.weights and "recurrent_kernel" in new.weights
        return "other shapes" + ("; needs reset_after=False" if needs_reset_before else "")
    if contradict(old, new):
        return "another place"
    return "not the only one" if old.words & new.words else "no word in common"


def _described(place: Place) -> str:
    weights = (f"{k} {list(w.shape)}".strip() for k, w in place.weights.items())
    return f"{place.name or '(root)'} {{{', '.join(weights)}}}"
