"""Cast weights once before a loop, not in each of its steps."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from keras_attention.backend.keras import KERAS_3


@contextlib.contextmanager
def precast_weights(model: Any) -> Iterator[None]:
    """Within: the weights of a mixed precision model are stored in its compute dtype.

    Keras casts a weight wherever a layer reads it. In a loop that decodes token by token this
    reads all weights for every token. A model that is not built yet, or that computes in the dtype
    of its weights, is left unchanged.
    """
    layers = model._flatten_layers() if KERAS_3 and isinstance(model, keras.layers.Layer) else []
    mixed = [layer for layer in layers if layer.compute_dtype != layer.variable_dtype]
    # The model may be a decoder in its first call, which has no weights of its own.
    if not mixed or not all(layer.built for layer in mixed if layer is not model):
        yield
        return
    with keras.StatelessScope() as scope:
        for layer in mixed:
            for variable in layer._trainable_variables:
                # `_dtype`, because inside a layer's call `dtype` is already the cast dtype.
                if variable._autocast and variable._dtype == layer.variable_dtype:
                    # Not through `add_update`, which would cast it back.
                    scope.state_mapping[id(variable)] = tf.cast(variable.value, layer.compute_dtype)
        yield
