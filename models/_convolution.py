"""The parts of `models.convs2s`: weight-normalised maps, gated convolutions, the decoder."""

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from keras_attention.backend.keras import build, track
from keras_attention.functional import attend, dot, glu
from keras_attention.layers import Dropout

HALF = 0.5**0.5


@keras.saving.register_keras_serializable("keras_attention")
class WeightNormDense(keras.layers.Layer):
    """y = x (g V / |V|) + b, |V| the norm of each column (Salimans and Kingma, 2016, eq. 2).

    V begins with a variance of gain (1 - dropout) / D, which keeps that of x where x was dropped
    (Gehring et al., 2017, section 3.5); g begins as |V|.

    >>> WeightNormDense(3)(tf.zeros([2, 4])).shape
    TensorShape([2, 3])
    """

    def __init__(self, units: int, dropout: float = 0.0, gain: float = 1.0, **kwargs):
        super().__init__(autocast=False, **kwargs)  # norms are computed in float32
        self.units, self.dropout, self.gain = units, dropout, gain

    def build(self, input_shape) -> None:
        width = input_shape[-1]
        deviation = (self.gain * (1 - self.dropout) / width) ** 0.5
        normal = keras.initializers.RandomNormal(stddev=deviation)
        self.direction = self.add_weight(shape=(width, self.units), initializer=normal, name="v")

        def lengths(shape, dtype=None):
            return tf.cast(
                tf.norm(tf.convert_to_tensor(self.direction), axis=0), dtype or "float32"
            )

        self.length = self.add_weight(shape=(self.units,), initializer=lengths, name="g")
        self.bias = self.add_weight(shape=(self.units,), initializer="zeros", name="b")
        self.built = True

    def call(self, x):
        """[..., D] -> [..., units]."""
        x = tf.cast(x, self.compute_dtype)
        kernel = tf.math.l2_normalize(tf.convert_to_tensor(self.direction), 0) * self.length
        return tf.tensordot(x, tf.cast(kernel, x.dtype), 1) + tf.cast(self.bias, x.dtype)

    def get_config(self):
        own = {"units": self.units, "dropout": self.dropout, "gain": self.gain}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable("keras_attention")
class Convolution(keras.layers.Layer):
    """glu(W [x_{t-k/2}; ..; x_{t+k/2}] + b), or of the k steps up to t if a context is given.

    Call: `(x [N, T, U], context=None [N, k - 1, U])` -> [N, T, U]. Zeros stand before and after x;
    a context stands before it.

    >>> Convolution(4, kernel_size=3)(tf.zeros([2, 5, 4])).shape
    TensorShape([2, 5, 4])
    """

    def __init__(self, units: int, kernel_size: int = 3, dropout: float = 0.0, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.units, self.kernel_size = units, kernel_size
        self.dropout = Dropout(dropout, dtype=self.dtype_policy)
        self.linear = WeightNormDense(2 * units, dropout, gain=4.0, dtype=self.dtype_policy)

    def build(self, input_shape) -> None:
        self.linear.build((None, None, self.kernel_size * self.units))
        self.built = True

    def call(self, x, context=None, training=None):
        """See the class."""
        around = self.kernel_size // 2
        steps, x = tf.shape(x)[1], self.dropout(x, training=training)
        if context is None:
            x = tf.pad(x, [[0, 0], [around, around], [0, 0]])
        else:
            x = tf.concat([context, x], 1)
        taps = [x[:, first : first + steps] for first in range(self.kernel_size)]
        return glu(self.linear(tf.concat(taps, -1)))

    def get_config(self):
        own = {"units": self.units, "kernel_size": self.kernel_size, "dropout": self.dropout.rate}
        return {**super().get_config(), **own}


class ConvState(NamedTuple):
    """What the decoder remembers of N hypotheses."""

    time: Any  # [N] int32, the steps taken
    contexts: Any  # for each layer [N, k - 1, U], its last inputs
    alignments: Any  # [N, S], the mean of what the layers attended to in the last step


@keras.saving.register_keras_serializable("keras_attention")
class ConvDecoder(keras.layers.Layer):
    """The decoder as a cell: `(inputs [N, F], state, memory=, beam_width=)` -> (output, state).

    `steps` does many steps at once: what a step must remember of those before is the context of
    each convolution, k - 1 of its inputs.
    """

    def __init__(self, layers, units, width, kernel_size, dropout, positions, **kwargs):
        super().__init__(autocast=False, **kwargs)
        policy, self.positions = self.dtype_policy, positions
        self.dropout = Dropout(dropout, dtype=policy)
        self.map_in = WeightNormDense(units, dropout, dtype=policy, name="in")
        self.convolutions = [
            Convolution(units, kernel_size, dropout, dtype=policy) for _ in range(layers)
        ]
        self.queries = [WeightNormDense(width, dtype=policy) for _ in range(layers)]
        self.contexts = [WeightNormDense(units, dtype=policy) for _ in range(layers)]
        self.map_out = WeightNormDense(width, dtype=policy, name="out")
        for name in ("convolutions", "queries", "contexts"):
            track(self, name, getattr(self, name))

    def build(self, input_shape) -> None:
        width, units = input_shape[-1], self.map_in.units
        for layer in (self.positions, self.map_in, *self.contexts):
            build(layer, (None, None, width))
        for layer in (*self.convolutions, *self.queries, self.map_out):
            build(layer, (None, None, units))
        self.built = True

    def get_initial_state(self, batch_size, memory) -> ConvState:
        before = [batch_size, self.convolutions[0].kernel_size - 1, self.map_in.units]
        contexts = tuple(tf.zeros(before, self.compute_dtype) for _ in self.convolutions)
        alignments = tf.zeros([batch_size, tf.shape(memory.keys)[1]])
        return ConvState(tf.zeros([batch_size], tf.int32), contexts, alignments)

    def call(self, inputs, state, memory=None, beam_width=None, training=None):
        """One step."""
        output, state, _ = self.steps(inputs[:, None], state, memory, training)
        return output[:, 0], state

    def steps(self, inputs, state, memory, training=None):
        """[N, T, F] -> hidden [N, T, F], state, alignments [N, T, S]; N = B K hypotheses."""
        rows, steps, width = tf.unstack(tf.shape(inputs))
        sources, slots = tf.unstack(tf.shape(memory.keys)[:2])
        real = tf.reduce_sum(tf.cast(memory.mask, self.compute_dtype), 1)[:, None, None]
        times = state.time[:, None] + tf.range(steps)
        g = tf.cast(inputs, self.compute_dtype)
        g += self.positions.at(times, inputs.shape[-1], g.dtype)
        g = self.dropout(g, training=training)
        h, contexts, looked_at = self.map_in(g), [], []
        parts = zip(self.convolutions, self.queries, self.contexts, state.contexts)
        for convolution, query, back, before in parts:
            contexts.append(tf.concat([before, h], 1)[:, steps:])
            v = convolution(h, before, training=training)
            d = tf.reshape(query(v) + g, [sources, -1, width])  # beams are queries
            c, weights = attend(dot(d, memory.keys), memory.values, memory.mask[:, None])
            c = tf.reshape(c * tf.sqrt(real), tf.shape(g))
            looked_at.append(tf.reshape(weights, [rows, steps, slots]))
            h = ((v + back(c)) * HALF + h) * HALF
        alignments = tf.cast(tf.add_n(looked_at) / len(looked_at), state.alignments.dtype)
        last = tf.concat([state.alignments[:, None], alignments], 1)[:, -1]
        return self.map_out(h), ConvState(state.time + steps, tuple(contexts), last), alignments
