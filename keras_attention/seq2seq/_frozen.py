"""Weights that are read and cast once before a loop, not in each of its steps."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from keras_attention.seq2seq._keras import KERAS_3


@contextlib.contextmanager
def weights(model: Any) -> Iterator[None]:
    """Within: the weights of a model of mixed precision are there in its compute type.

    Keras casts a weight wherever a layer reads it. In a loop that decodes token by token that is a
    pass over all weights for every token.
    """
    policy = getattr(model, "dtype_policy", None)
    mixed = policy is not None and policy.compute_dtype != policy.variable_dtype
    if not (KERAS_3 and mixed):
        yield
        return
    with keras.StatelessScope() as scope:
        for variable in model.trainable_variables:
            if variable.dtype == policy.variable_dtype:
                narrow = tf.cast(variable.value, policy.compute_dtype)
                # Not `add_update`, which would cast it back.
                scope.state_mapping[id(variable)] = narrow
        yield
