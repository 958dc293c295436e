"""A recurrent cell that looks back at all of its own states."""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from keras_attention.backend import cells
from keras_attention.backend.saving import deserialize, serialize
from keras_attention.functional import additive, attend, softmax
from keras_attention.layers._base import Layer
from keras_attention.layers._shapes import check_shapes


class LSTMNState(NamedTuple):
    """The state of an LSTMN, flat as `keras.layers.RNN` needs it.

    The newest of the M slots is the last.

    >>> LSTMNCell(4, memory_length=10).get_initial_state(batch_size=2).hidden.shape
    TensorShape([2, 40])
    """

    hidden: Any  # [N, M * D], the tape of h
    cell: Any  # [N, M * D], the tape of c
    keys: Any  # [N, M * D], W_h h
    filled: Any  # [N, M], 1 where a step has been written
    summary: Any  # [N, D], h~ of the last step


@keras.saving.register_keras_serializable("keras_attention")
class LSTMNCell(Layer):
    """An LSTM with a tape instead of one state (Cheng et al., 2016, LSTMN).

    At step t it attends over the steps i < t, for h and c with the same weights:

        a_i = v . tanh(W_h h_i + W_x x_t + W_s h~_{t-1})        s = softmax_i(a)
        h~_t = sum s_i h_i        c~_t = sum s_i c_i
        h_t, c_t = LSTM(x_t, (h~_t, c~_t))

    The first step has no earlier state: h~ and c~ are zero. With `memory_length=1` it is
    `keras.layers.LSTM`, for step t - 1 gets all the weight.

    Args:
        units: D.
        memory_length: M, the number of steps in the state: attend to the last M steps. Use the
            length of the longest sequence to attend to all.
        feed_summary: use h~_{t-1} in the score, as in the paper's equations. The authors' encoder
            does not.
        normalize: `(scores, mask) -> weights`.
        return_cell: output [h; c], as an encoder whose tapes a decoder reads.

    Call: `(inputs [N, D'], state) -> (h [N, D], LSTMNState)`, in `keras.layers.RNN` or step by
    step. Each step costs time and memory for M D numbers. Masked steps of the RNN write
    nothing, but must be finite, or the gradients are not: set padding to zero before.

    Raises ValueError for units or a memory_length below 1.

    >>> cell = LSTMNCell(4, memory_length=10)
    >>> keras.layers.RNN(cell, return_sequences=True)(tf.ones([2, 5, 3])).shape
    TensorShape([2, 5, 4])
    """

    def __init__(
        self,
        units: int,
        memory_length: int,
        feed_summary: bool = True,
        normalize: Callable = softmax,
        return_cell: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if units < 1 or memory_length < 1:
            raise ValueError(
                "units and memory_length must be at least 1. Received: "
                f"units={units}, memory_length={memory_length}"
            )
        self.units, self.memory_length = units, memory_length
        self.feed_summary, self.return_cell = feed_summary, return_cell
        self.normalize = normalize
        policy = self.dtype_policy
        self.lstm = keras.layers.LSTMCell(units, dtype=policy)
        self.keys = keras.layers.Dense(units, use_bias=False, dtype=policy)  # W_h
        self.query = keras.layers.Dense(units, use_bias=False, dtype=policy)  # [W_x; W_s]
        tape = memory_length * units
        self.state_size = LSTMNState(tape, tape, tape, memory_length, units)
        self.output_size = 2 * units if return_cell else units

    def build(self, input_shape) -> None:
        """Build the LSTM, and the layers of the score."""
        check_shapes(inputs=("N D'", input_shape))
        width = input_shape[-1]
        self.lstm.build((None, width))
        self.keys.build((None, self.units))
        self.query.build((None, width + (self.units if self.feed_summary else 0)))
        self.v = self.add_weight(shape=(self.units,), name="v")
        self.built = True

    def get_initial_state(self, batch_size: Any = None) -> LSTMNState:
        """A state without earlier steps."""
        dtype = self.compute_dtype
        return LSTMNState(*(tf.zeros([batch_size, size], dtype) for size in self.state_size))

    def call(self, inputs, states, training=None) -> tuple[tf.Tensor, LSTMNState]:
        """See the class."""
        state = LSTMNState(*states)
        summary, carried, _ = self.look_back(inputs, state)
        output, (h, c) = self.lstm(inputs, [summary, carried])
        output = tf.concat([h, c], -1) if self.return_cell else output
        return output, self.write(state, h, c, summary)

    # -- the parts, from which decoders are composed

    def look_back(self, inputs, state: LSTMNState) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Attend to the tapes.  [N, D'], state -> h~ [N, D], c~ [N, D], weights [N, M]."""
        hidden, cell, keys = self._tapes(state)
        fed = [inputs, tf.cast(state.summary, inputs.dtype)] if self.feed_summary else [inputs]
        query = self.query(tf.concat(fed, -1))[:, None]  # [N, 1, D]
        scores = additive(query, keys, self.v)
        both = tf.concat([hidden, cell], -1)  # one set of weights for both tapes
        context, weights = attend(scores, both, state.filled[:, None] > 0.5, self.normalize)
        summary, carried = tf.split(context[:, 0], 2, axis=-1)
        return summary, carried, weights[:, 0]

    def write(self, state: LSTMNState, h, c, summary) -> LSTMNState:
        """Append h [N, D] and c [N, D] to the tapes, and remember h~ [N, D]."""
        hidden, cell, keys = (
            tf.reshape(cells.push(tape, newest), tf.shape(state.hidden))
            for tape, newest in zip(self._tapes(state), (h, c, self.keys(h)))
        )
        filled = cells.push(state.filled, tf.ones_like(state.filled[:, 0]))
        return LSTMNState(hidden, cell, keys, filled, summary)

    def _tapes(self, state):
        """Hidden states, cell states, keys.  3 x [N, M, D]."""
        shape = [-1, self.memory_length, self.units]
        return [tf.reshape(tape, shape) for tape in (state.hidden, state.cell, state.keys)]

    def get_config(self) -> dict:
        names = ("units", "memory_length", "feed_summary", "return_cell")
        config = {**super().get_config(), **{name: getattr(self, name) for name in names}}
        return {**config, "normalize": serialize(self.normalize)}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "normalize": deserialize(config["normalize"])})
