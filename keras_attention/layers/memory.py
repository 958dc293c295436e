"""The Neural Turing Machine: a controller with an external memory."""

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from keras_attention.backend import cells
from keras_attention.backend.saving import deserialize, listed_cells, serialize, track
from keras_attention.functional import addressing
from keras_attention.functional.dtypes import widen
from keras_attention.layers._base import Layer
from keras_attention.layers._shapes import check_shapes


class NTMState(NamedTuple):
    """The state of an NTM, flat, as `keras.layers.RNN` requires it.

    >>> cell = NTMCell(4, keras.layers.LSTMCell(8), slots=6, width=3)
    >>> cell.build((None, 7))
    >>> cell.get_initial_state(batch_size=2).memory.shape
    TensorShape([2, 18])
    """

    memory: Any  # [N, S * D]
    weights: Any  # [N, H * S], of the read heads and then of the write heads
    reads: Any  # [N, R * D]
    controller: Any  # the controller's state


@keras.saving.register_keras_serializable("keras_attention")
class NTMCell(Layer):
    """A cell whose controller reads and writes S slots of D numbers (Graves et al., 2014).

    One step: the controller gets [x_t; r_{t-1}]; from its output o_t each of R read and W write
    heads computes key k, strength b = softplus, gate g = sigmoid, shift s = softmax and sharpness
    y = 1 + softplus, and then its weights over the slots of M_{t-1} (eq. 5 to 9):

        content = softmax(b cos(k, M))    gated = g content + (1 - g) w_{t-1}
        w_t = rotate(gated, s)^y / sum

    Then, in this order: every read head reads M_{t-1}, r_t = w_t M_{t-1} (eq. 2); every write head
    erases, e = sigmoid, and every write head adds (eq. 3, 4):
    M_t = M_{t-1} prod(1 - w_t e_t) + sum w_t a_t. Output: W_o [o_t; r_t] + b_o.
    So what is written at a step can be read at the next step at the earliest; the paper does not
    define it.

    Args:
        units: D' of the output.
        controller: any Keras cell without dropout.
        slots: S.
        width: D of a slot.
        read_heads, write_heads: R and W, at least one each.
        shift_range: how many slots a head can move in either direction in a step.
        clip: the outputs of the controller for the heads are clipped to [-clip, clip].

    The memory is initially 1e-6 everywhere. The initial weights of the heads are learned, starting
    at the first slot, because uniform weights make shifts useless; so are the initial reads.
    Gradients of long sequences should be clipped (the paper: each to [-10, 10]).

    Call: `(inputs [N, D], state) -> (output [N, D'], NTMState)`, in `keras.layers.RNN` or directly.
    Masked steps of the RNN must be finite, or gradients are not: set padding to zero first.
    Raises ValueError for sizes below 1, a clip of 0 or less, shifts longer than the memory, or a
    controller with dropout.

    >>> cell = NTMCell(4, keras.layers.LSTMCell(8), slots=6, width=3)
    >>> keras.layers.RNN(cell, return_sequences=True)(tf.ones([2, 5, 7])).shape
    TensorShape([2, 5, 4])
    """

    def __init__(
        self,
        units: int,
        controller: Any,
        slots: int = 128,
        width: int = 20,
        read_heads: int = 1,
        write_heads: int = 1,
        shift_range: int = 1,
        clip: float = 20.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        sizes = dict(units=units, slots=slots, width=width)
        heads = dict(read_heads=read_heads, write_heads=write_heads)
        if min(*sizes.values(), *heads.values()) < 1:
            raise ValueError(f"Sizes and heads must be at least 1. Received: {sizes | heads}")
        if clip <= 0:
            raise ValueError(f"clip must be more than 0. Received: clip={clip}")
        if not 0 <= 2 * shift_range < slots:
            raise ValueError(
                "shift_range must be at least 0, and 2 shift_range + 1 shifts at most as many as "
                f"the S slots. Received: shift_range={shift_range}, slots={slots}"
            )
        self.controller = cells.without_dropout(controller, "controller")
        track(self, "controller", listed_cells(controller))
        self.units, self.slots, self.width, self.clip = units, slots, width, clip
        self.read_heads, self.write_heads, self.shift_range = read_heads, write_heads, shift_range
        self._heads = read_heads + write_heads
        self._parts = [width, 1, 1, 2 * shift_range + 1, 1]  # k, b, g, s, y of a head
        drawn = self._heads * sum(self._parts) + write_heads * 2 * width
        self.heads = keras.layers.Dense(drawn, dtype=self.dtype_policy)
        self.output_layer = keras.layers.Dense(units, dtype=self.dtype_policy)
        self.state_size = NTMState(
            slots * width, self._heads * slots, read_heads * width, controller.state_size
        )
        self.output_size = units

    def build(self, input_shape) -> None:
        """The controller, the layer of the heads, and their initial weights."""
        check_shapes(inputs=("N D", input_shape))
        reads = self.read_heads * self.width
        if not self.controller.built:
            self.controller.build((None, input_shape[-1] + reads))
        self.heads.build((None, cells.output_width(self.controller)))
        self.output_layer.build((None, cells.output_width(self.controller) + reads))
        self.first_places = self.add_weight(
            shape=(self._heads, self.slots), initializer=_first_slot, name="first_places"
        )
        small = keras.initializers.RandomNormal(stddev=0.05)
        self.first_reads = self.add_weight(shape=(reads,), initializer=small, name="first_reads")
        self.built = True

    def get_initial_state(self, batch_size: Any = None) -> NTMState:
        """The initial state; the cell must be built, because a part of it is learned."""
        if not self.built:
            raise ValueError(
                "The initial state of an NTM is learned: build it first, by calling its RNN, or "
                "by cell.build((None, D)). Received: a cell that is not built"
            )
        dtype = self.compute_dtype
        places = tf.reshape(tf.nn.softmax(tf.convert_to_tensor(self.first_places)), [1, -1])
        reads = tf.convert_to_tensor(self.first_reads)[None]
        return NTMState(
            tf.fill([batch_size, self.slots * self.width], tf.constant(1e-6, dtype)),
            tf.tile(tf.cast(places, dtype), [batch_size, 1]),
            tf.tile(tf.cast(reads, dtype), [batch_size, 1]),
            cells.zero_state(self.controller, batch_size, dtype),
        )

    def call(self, inputs, states, training=None) -> tuple[tf.Tensor, NTMState]:
        """See the class."""
        state = NTMState(*states)
        memory = tf.reshape(state.memory, [-1, self.slots, self.width])
        seen = tf.concat([inputs, tf.cast(state.reads, inputs.dtype)], -1)
        output, controller = cells.step(self.controller, seen, state.controller, training)
        drawn = tf.clip_by_value(self.heads(output), -self.clip, self.clip)
        weights = self._place(drawn, state.weights, memory)  # [N, H, S]
        reading, writing = tf.split(weights, [self.read_heads, self.write_heads], axis=1)
        reads = tf.reshape(addressing.read_memory(reading, memory), tf.shape(state.reads))
        memory = addressing.write_memory(memory, writing, *self._erase_and_add(drawn))
        output = self.output_layer(tf.concat([output, tf.cast(reads, output.dtype)], -1))
        return output, NTMState(
            tf.reshape(memory, tf.shape(state.memory)),
            tf.cast(tf.reshape(weights, tf.shape(state.weights)), state.weights.dtype),
            reads,
            controller,
        )

    def _place(self, drawn, previous, memory):
        """The new weights of all heads, from M_{t-1}."""
        drawn = drawn[:, : self._heads * sum(self._parts)]
        drawn = tf.reshape(drawn, [-1, self._heads, sum(self._parts)])
        key, strength, gate, shift, sharpness = tf.split(drawn, self._parts, axis=-1)
        strength, gate, sharpness = map(widen, (strength, gate, sharpness))
        content = addressing.content_weights(key, memory, tf.nn.softplus(strength))
        previous = tf.reshape(previous, [-1, self._heads, self.slots])
        return addressing.address(
            content,
            previous,
            tf.sigmoid(gate),
            tf.nn.softmax(widen(shift)),
            1 + tf.nn.softplus(sharpness),
        )

    def _erase_and_add(self, drawn):
        drawn = drawn[:, self._heads * sum(self._parts) :]
        drawn = tf.reshape(drawn, [-1, self.write_heads, 2 * self.width])
        erase, add = tf.split(drawn, 2, axis=-1)
        return tf.sigmoid(erase), add

    def get_config(self) -> dict:
        names = "units slots width read_heads write_heads shift_range clip".split()
        config = {**super().get_config(), **{name: getattr(self, name) for name in names}}
        return {**config, "controller": serialize(self.controller)}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "controller": deserialize(config["controller"])})


def _first_slot(shape, dtype=None):
    """Logits of a head that is almost certainly at the first slot, and can still learn."""
    return 10 * tf.one_hot(tf.zeros(shape[0], tf.int32), shape[1], dtype=dtype)
