"""What this machine can do: its rate of matrix products, and a bare chain of a search's products.

The chain is the least a search can cost in the same library: the products of an encoder, once,
and of a decoding step, T times, each on the outcome of the one before, and nothing else. Attention
over the memory and the cache is left out.
"""

import numpy as np
import tensorflow as tf
from worker import serve


def product(settings, arrays):
    """A product of two square matrices."""
    n, dtype = settings["n"], settings["dtype"]
    a, b = (tf.cast(np.random.default_rng(i).random((n, n), np.float32), dtype) for i in range(2))

    @tf.function
    def multiply(a, b):
        return tf.cast(tf.matmul(a, b)[0, 0], tf.float32)

    return lambda: multiply(a, b)


def chain(settings, arrays):
    """`encoder` and `step` are lists of (width in, width out), for `encoder_rows` and `rows`.

    As a search had best keep them: in panels under XLA, and in bfloat16 transposed for few rows.
    """
    random, dtype, jit = np.random.default_rng(0), tf.as_dtype(settings["dtype"]), settings["jit"]
    turn = dtype == tf.bfloat16 and not jit and settings["rows"] < 16

    def weights(shapes):
        for rows, columns in shapes:
            drawn = random.standard_normal((rows, columns), np.float32) * rows**-0.5
            panels = np.array_split(drawn, -(-columns // 2048) if jit else 1, axis=1)
            yield [tf.cast(panel.T.copy() if turn else panel, dtype) for panel in panels]

    def through(x, layers, shapes):
        for panels, (width, _) in zip(layers, shapes):
            x = _wide(x, width)
            y = tf.concat([tf.matmul(x, panel, transpose_b=turn) for panel in panels], 1)
            x = y + 0.1 * tf.reduce_max(y, 1, keepdims=True)  # needs every column of the product
        return tf.tanh(_wide(x, settings["width"]))

    @tf.function(jit_compile=jit)
    def run(start, encoder, step):
        x = through(start, encoder, settings["encoder"])[: settings["rows"]]

        def body(i, x):
            return i + 1, through(x, step, settings["step"])

        return tf.while_loop(lambda i, x: i < settings["steps"], body, [0, x])[1]

    layers = list(weights(settings["encoder"])), list(weights(settings["step"]))
    rows = max(settings["encoder_rows"], settings["rows"])
    start = tf.cast(random.standard_normal((rows, settings["width"])), dtype)
    return lambda: tf.cast(run(start, *layers), tf.float32)


def _wide(x, width):
    """Cut x, or repeat it, to this width."""
    return x if x.shape[1] == width else tf.tile(x, [1, -(-width // x.shape[1])])[:, :width]


if __name__ == "__main__":
    serve({"product": product, "chain": chain})
