"""A wide output layer under XLA, which on a CPU multiplies few rows by a wide matrix badly."""

from typing import Any

import keras
import tensorflow as tf

from keras_attention.seq2seq._keras import in_xla

_WIDTH = 4096


def in_panels(layer: Any) -> Any:
    """`layer` with its kernel cut into panels of `_WIDTH` columns, here and now: before a loop.

    With a vocabulary of 32000 a step of a search takes half the time. Where it would not help,
    or where the layer is anything but a plain Dense, it is returned as it is.
    """
    plain = (
        type(layer) is keras.layers.Dense
        and layer.built
        and getattr(layer, "quantization_mode", None) is None  # Keras 2 has neither
        and not getattr(layer, "lora_enabled", False)
    )
    on_cpu = not tf.config.list_physical_devices("GPU")
    if not (plain and in_xla() and on_cpu and layer.units > _WIDTH):
        return layer
    dtype = layer.compute_dtype
    kernel = tf.cast(layer.kernel, dtype)
    panels = [kernel[:, i : i + _WIDTH] for i in range(0, layer.units, _WIDTH)]

    def project(x):
        y = tf.concat([tf.matmul(tf.cast(x, dtype), panel) for panel in panels], -1)
        if layer.bias is not None:
            y = tf.nn.bias_add(y, tf.cast(layer.bias, dtype))
        return y if layer.activation is None else layer.activation(y)

    return project
