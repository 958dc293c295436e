"""How to save layers that contain layers, or that are built from two shapes."""

import inspect
from collections.abc import Iterable
from typing import Any

import keras
import tensorflow as tf

from keras_attention.backend.keras_names import check_call

# Keys and names in files of release 0.1.0 -> their current names.
_RENAMED = {
    "chooser": "strategy",
    "best": "beam",
    "diverse": "diverse_beam",
    "stochastic": "stochastic_beam",
}


def renamed(name: str) -> str:
    """The current name for a key or name in a saved configuration."""
    return _RENAMED.get(name, name)


def serialize(thing: Any) -> Any:
    """The JSON of a layer, cell or function, without its build config, which the owner saves.

    None and strings are returned unchanged.
    """
    if thing is None or isinstance(thing, str):
        return thing
    config = keras.saving.serialize_keras_object(thing)
    if isinstance(config, dict):
        config.pop("build_config", None)
    return config


def deserialize(config: Any) -> Any:
    """The inverse of `serialize`; the configuration is not modified.

    `from_config` of some Keras layers removes entries of it.
    """
    if not isinstance(config, dict):
        return config
    copied = tf.nest.map_structure(lambda leaf: leaf, config)
    return keras.saving.deserialize_keras_object(copied)


def track(owner: keras.layers.Layer, name: str, layers: Iterable) -> None:
    """Set each layer as an attribute of the owner, because `tf.train.Checkpoint` ignores lists.

    `name` is that of the list. `save_weights` finds the layers in the list first, in alphabetical
    order, so old files still fit.
    """
    for place, layer in enumerate(layers):
        setattr(owner, f"{name}_{place}", layer)


def listed_cells(layer: Any) -> list:
    """The cells in the lists of `StackedRNNCells` inside a layer, at any depth: to `track`."""
    if not isinstance(layer, keras.layers.Layer):
        return []
    stacks = [part for part in layer._flatten_layers() if hasattr(part, "cells")]
    return [cell for stack in stacks for cell in stack.cells]


class BuiltWithMemory:
    """Before `keras.layers.Layer`: build from the widths of the inputs and of a memory.

    Such a layer has `build(shape, memory_shape=None)`, which stores both in `_widths`, and is
    called as `(x, memory=None, ...)`. A projected memory, a tuple, does not define a width.
    """

    @tf.autograph.experimental.do_not_convert
    def __call__(self, *args, **kwargs):
        args = [as_tensor(value) for value in args]
        kwargs = {name: as_tensor(value) for name, value in kwargs.items()}
        if not self.built:
            check_call(self, args, kwargs)
            names = list(inspect.signature(self.call).parameters)[:2]
            x, memory = (
                args[place] if place < len(args) else kwargs.get(name)
                for place, name in enumerate(names)
            )
            if x is not None and not isinstance(memory, tuple):
                with tf.init_scope():
                    self.build(tuple(x.shape), None if memory is None else tuple(memory.shape))
        return super().__call__(*args, **kwargs)

    @property
    def input_width(self) -> int:
        """D of x, once the layer is built."""
        return self._widths[0]

    def get_build_config(self) -> dict:
        return {"widths": self._widths} if self.built else {}

    def build_from_config(self, config: dict) -> None:
        if config and not self.built:
            self.build(*((None, None, width) for width in config["widths"]))


def as_tensor(value):
    """Numbers in nested lists as a tensor, anything else unchanged."""
    numbers = isinstance(value, list) and all(
        isinstance(leaf, (bool, int, float)) for leaf in tf.nest.flatten(value)
    )
    return tf.convert_to_tensor(value) if numbers else value
