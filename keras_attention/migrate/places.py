"""The layers of a checkpoint and of a model, with the meaning of their names."""

import collections
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import keras

# Words in the names of contrib's scopes, Keras' classes and users' attributes, by their meaning.
_MEANINGS = {
    "encoder": "enc encoder source src",
    "decoder": "dec decoder target tgt trg",
    "forward": "fw forward",
    "backward": "bw backward",
    "cell": "cell cells lstm gru rnn",
    "embedding": "emb embed embedder embedding embeddings",
    "attention": "attention mechanism mechanisms bahdanau luong",
    "output": "output dense fc logits proj projection",
    "": "layer layers model seq wrapper basic simple stacked multi dynamic bidirectional",
}
_MEANING = {word: meaning for meaning, words in _MEANINGS.items() for word in words.split()}
_EXCLUSIVE = (
    {"encoder", "decoder"},
    {"forward", "backward"},
    {"query", "memory", "mixer", "output"},
)
_LEAVES_OF_CONTRIB = {a + b for a in ("", "gates/", "candidate/") for b in ("kernel", "bias")}
# Keras' own lists of all layers; those of TensorFlow begin with `_self_`.
_HOLDS_ALL = {"_layers", "_functional", "_operations", "_operations_by_depth"}


class Place(NamedTuple):
    """A layer with its own weights, in a checkpoint or in a model."""

    name: str
    words: frozenset  # the meanings of its names
    rank: tuple  # (i, n) for each list that contains it: the i-th of n
    weights: dict[str, Any]  # leaf -> array or variable
    names: dict[str, str]  # leaf -> full name


def words(name: str) -> frozenset:
    """The meanings of a name, in words that are common to old names and ours.

    >>> sorted(words("decoder/attention_wrapper/multi_rnn_cell/cell_0/lstm_cell"))
    ['cell', 'decoder']
    >>> sorted(words("LSTMCell")), sorted(words("decoder_cell/_attention_layers/0"))
    (['cell'], ['cell', 'decoder', 'mixer'])
    """
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
    name = name.replace("attention_wrapper", "decoder")
    name = re.sub(r"attention_layers?(?![a-z])", "mixer", name)
    found = {part.rstrip("0123456789") for part in re.split(r"[^a-z0-9]+", name)}
    return frozenset({_MEANING.get(word, word) for word in found} - {""})


def contradict(one: Place, other: Place) -> bool:
    """Whether two layers cannot match: encoder and decoder, first and second of a list."""
    if one.rank and other.rank and one.rank != other.rank:
        return True
    sides = ((one.words & group, other.words & group) for group in _EXCLUSIVE)
    return any(here and there and not here & there for here, there in sides)


def places_of_checkpoint(arrays: dict[str, Any], leaves: set[str]) -> list[Place]:
    """The layers of a checkpoint. `leaves`: the names of weights in a model's layers."""
    layers = collections.defaultdict(dict)
    for name in arrays:
        path, leaf = _split(name, leaves | _LEAVES_OF_CONTRIB)
        if leaf in layers[path]:  # `x/kernel` and `x/weights`: report the second as left over
            path, leaf = name, ""
        layers[path][leaf] = name
    ranks = _ranks({path: frozenset(names) for path, names in layers.items()})
    return [
        Place(path, words(path), ranks[path], {k: arrays[n] for k, n in names.items()}, names)
        for path, names in layers.items()
    ]


def _split(name: str, leaves: set[str]) -> tuple[str, str]:
    """The path of the layer and the name of the weight; "" for a variable without a layer."""
    parts = name.split("/")
    parts[-1] = {"weights": "kernel", "biases": "bias"}.get(parts[-1], parts[-1])
    for length in (2, 1):
        leaf = "/".join(parts[-length:])
        if leaf in leaves or re.fullmatch(r"vars/\d+", leaf):
            return "/".join(parts[:-length]), leaf
    return name, ""


def places_of_model(model: keras.layers.Layer) -> list[Place]:
    """The layers of a built model, named by the attributes that lead to them, shortest path first.

    All paths give words: a cell may be the model's `inner_cell` and its wrapper's `cell`.
    """
    ways = collections.defaultdict(list)
    layers = {}
    for way, meaning, layer in _walk(model, (), words(_class_of(model)), ()):
        ways[id(layer)].append((way, meaning))
        layers[id(layer)] = layer
    taken, owned = set(), {}
    for key, layer in layers.items():
        below = {id(v) for _, child in _children(layer) for v in child.weights}
        own = [v for v in layer.weights if id(v) not in below | taken]
        taken.update(map(id, own))
        if own:
            name = "/".join(min((way for way, _ in ways[key]), key=len))
            owned[name] = (frozenset().union(*(m for _, m in ways[key])), _by_leaf(own))
    ranks = _ranks({name: frozenset(weights) for name, (_, weights) in owned.items()})
    return [
        Place(name, meaning, ranks[name], weights, {k: f"{name}/{k}".strip("/") for k in weights})
        for name, (meaning, weights) in owned.items()
    ]


def _walk(layer, way, meaning, above) -> Iterator[tuple]:
    yield way, meaning, layer
    for step, child in _children(layer):
        if child is not layer and child not in above:
            known = meaning | words(step) | words(_class_of(child))
            yield from _walk(child, (*way, step), known, (*above, layer))


def _class_of(layer) -> str:
    """The words of a class name, except for classes such as Dense that may be used anywhere."""
    silent = isinstance(layer, (keras.Model, keras.layers.Dense))
    return "" if silent else type(layer).__name__


def _children(layer) -> Iterator[tuple[str, Any]]:
    """The direct sublayers, by their attributes, or else as `layers/NAME`."""
    seen = set()
    for attribute, value in vars(layer).items():
        if attribute not in _HOLDS_ALL and not attribute.startswith("_self_"):
            for step, child in _layers_in(attribute, value):
                seen.add(id(child))
                yield step, child
    for child in getattr(layer, "layers", ()):
        if id(child) not in seen:
            yield f"layers/{child.name}", child


def _layers_in(step: str, value) -> Iterator[tuple[str, Any]]:
    if isinstance(value, keras.layers.Layer):
        yield step, value
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from _layers_in(f"{step}/{i}", item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _layers_in(f"{step}/{key}", item)


def _by_leaf(variables) -> dict[str, Any]:
    leaves = {}
    for variable in variables:
        taken = variable.name in leaves
        leaves[f"{variable.name}_{len(leaves)}" if taken else variable.name] = variable
    return leaves


def _ranks(layers: dict[str, frozenset]) -> dict[str, tuple]:
    """The index of each layer among those whose names differ only in their numbers.

    Keras numbers layers in the whole program: `lstm_cell_7` may be the first of two.

    >>> _ranks({"a/lstm_cell_7": frozenset("k"), "a/lstm_cell_8": frozenset("k")})
    {'a/lstm_cell_7': ((0, 2),), 'a/lstm_cell_8': ((1, 2),)}
    """
    alike, numbers = collections.defaultdict(list), {}
    for name, leaves in layers.items():
        parts = [re.findall(r"\A(.*?)[_-]?(\d*)\Z", part)[0] for part in name.split("/")]
        numbers[name] = [int(number or -1) for _, number in parts]
        alike[tuple(stem for stem, _ in parts), leaves].append(name)
    ranks = {}
    for names in alike.values():
        columns = [sorted(set(column)) for column in zip(*(numbers[name] for name in names))]
        for name in names:
            ranks[name] = tuple(
                (column.index(number), len(column))
                for column, number in zip(columns, numbers[name])
                if len(column) > 1
            )
    return ranks
