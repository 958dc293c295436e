"""The task of `attention_growth.py`: a training step of one layer of self-attention."""

import functools
import resource

import keras
import tensorflow as tf
from worker import serve

from keras_attention import layers

HEADS, WIDTH = 4, 256


def make(name, radius, length):
    """A layer that looks at one sequence of D = 256, as a function."""
    makers = {
        "full": lambda: layers.MultiHeadAttention(HEADS),
        "memory-efficient": lambda: layers.MemoryEfficientAttention(HEADS),
        "restricted": lambda: layers.RestrictedAttention(HEADS, radius),
        "linear": lambda: layers.LinearAttention(HEADS),
        "strided": lambda: layers.StridedAttention(HEADS, max(1, round(length**0.5))),
    }
    if name in makers:
        layer = makers[name]()
        layer.build((1, length, WIDTH))
        return layer, layer
    window = {"sliding_window": 2 * radius} if "window" in name else {}
    layer = keras.layers.MultiHeadAttention(HEADS, WIDTH // HEADS, **window)
    layer.build((1, length, WIDTH), (1, length, WIDTH))
    return layer, lambda x: layer(x, x)


def step(settings, arrays):
    """Gradients of inputs and weights; the value is the rise of the peak, in MB."""

    def compiled(length):
        layer, call = make(settings["layer"], settings["radius"], length)

        @tf.function(autograph=False)
        def gradients(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                loss = tf.reduce_sum(tf.square(call(x)))
            return tape.gradient(loss, [x, *layer.trainable_variables])

        return gradients

    compiled(16)(tf.zeros([1, 16, WIDTH]))  # what libraries need once does not count
    before = _first_peak()
    x = tf.constant(arrays["x"])
    gradients = compiled(x.shape[1])

    def run():
        gradients(x)
        return tf.constant(_peak() - before)

    return run


@functools.cache
def _first_peak():
    return _peak()


def _peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    serve({"step": step})
