"""Gated linear units: one half of the features scales the other half."""

from collections.abc import Callable

import keras
import tensorflow as tf

from keras_attention.backend.keras import as_converted


def _halves(x):
    x = tf.convert_to_tensor(x)
    if x.shape[-1] is not None and x.shape[-1] % 2:
        raise ValueError(
            "A gate splits the last axis D into two halves, so D must be even. Received: "
            f"D={x.shape[-1]}"
        )
    return tf.split(x, 2, axis=-1)


@keras.saving.register_keras_serializable("keras_attention")
def glu(x: tf.Tensor, gate: Callable = tf.sigmoid) -> tf.Tensor:
    """a * sigmoid(b) with [a; b] = x (Dauphin et al., 2017, eq. 1).  [..., 2D] -> [..., D].

    Another `gate` gives one of its variants (Shazeer, 2020): `tf.nn.gelu` is GEGLU, `tf.nn.silu`
    SwiGLU, `tf.identity` the bilinear one.

    Raises ValueError for an odd last axis.

    >>> glu(tf.constant([[3.0, 0.0]])).numpy().tolist()
    [[1.5]]
    """
    passed, gates = _halves(x)
    return passed * as_converted(gate)(gates)


@keras.saving.register_keras_serializable("keras_attention")
def gated_tanh(x: tf.Tensor) -> tf.Tensor:
    """tanh(a) * sigmoid(b) with [a; b] = x (van den Oord et al., 2016, eq. 2).

    [..., 2D] -> [..., D]. Raises ValueError for an odd last axis.

    >>> gated_tanh(tf.constant([[100.0, 0.0]])).numpy().tolist()
    [[0.5]]
    """
    passed, gates = _halves(x)
    return tf.tanh(passed) * tf.sigmoid(gates)
