"""Attention of a decoder over its own earlier states."""

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from keras_attention.backend import cells
from keras_attention.backend.saving import deserialize, listed_cells, serialize, track
from keras_attention.functional import attend, directional, general
from keras_attention.functional.masks import finite_padding
from keras_attention.layers._base import Layer
from keras_attention.layers._shapes import check_shapes


@keras.saving.register_keras_serializable("keras_attention")
class IntraDecoderAttention(Layer):
    """Each state of a decoder attends to the states before it (Paulus et al., 2017, eq. 6 to 8).

        e_tt' = h_t W h_t', t' < t        a = softmax_t'(e)        c_t = sum a_tt' h_t'

    There is no state before the first: c_1 = 0.

    Call: `(states [B, T, D], mask=None, return_weights=False)` -> c [B, T, D]; with
    `return_weights` also a [B, T, T]. `mask` [B, T], boolean, True = not masked; default: the Keras
    mask of the states, which is also the mask of the output. `IntraDecoderCell` computes the same
    step by step.

    >>> context, weights = IntraDecoderAttention()(tf.ones([1, 3, 2]), return_weights=True)
    >>> weights[0].numpy().tolist()
    [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.5, 0.5, 0.0]]
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def build(self, input_shape) -> None:
        """Create W."""
        check_shapes(states=("B T D", input_shape))
        shape = (input_shape[-1], input_shape[-1])
        self.kernel = self.add_weight(shape=shape, name="kernel")
        self.built = True

    def call(self, states, mask=None, return_weights=False) -> Any:
        """See the class."""
        check_shapes(states=("B T D", states), mask=("B? T", mask))
        states = finite_padding(states, mask)
        before = directional(tf.shape(states)[1])
        if mask is not None:
            before &= tf.cast(mask, tf.bool)[:, None]
        context, weights = attend(general(states, states, self.kernel), states, before)
        return (context, weights) if return_weights else context

    def look_back(self, state: tf.Tensor, past: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """One step of `call`: state [N, D], past [N, M, D], mask [N, M] -> c [N, D]."""
        kernel = tf.cast(self.kernel, state.dtype)
        context, _ = attend(general(state[:, None], past, kernel), past, mask[:, None])
        return context[:, 0]


class IntraDecoderState(NamedTuple):
    """The state of the cell, flat as `keras.layers.RNN` needs it; the newest slot is the last.

    >>> cell = IntraDecoderCell(keras.layers.GRUCell(4), memory_length=10)
    >>> cell.get_initial_state(batch_size=2).past.shape
    TensorShape([2, 40])
    """

    cell: Any  # the state of the inner cell
    past: Any  # [N, M * D], the last outputs of the inner cell
    filled: Any  # [N, M], 1 where a step has been written


@keras.saving.register_keras_serializable("keras_attention")
class IntraDecoderCell(Layer):
    """A cell with attention over its own earlier outputs: `IntraDecoderAttention`.

    One step: `h_t, state = cell(x_t)`; output [h_t; c_t] (Paulus et al., 2017, eq. 6 to 8).

    Args:
        cell: any Keras cell without dropout.
        memory_length: M, the number of steps in the state: attend to the last M steps. Use the
            length of the longest sequence to attend to all.

    Call: `(inputs [N, D'], state) -> (output [N, 2 D], IntraDecoderState)`, in `keras.layers.RNN`
    or step by step. Its `attention` computes the same for all states of a sequence at once. Masked
    steps of the RNN must be finite, or the gradients are not: set padding to zero before.

    Raises ValueError for a memory_length below 1, or a cell with dropout.

    >>> cell = IntraDecoderCell(keras.layers.GRUCell(4), memory_length=10)
    >>> keras.layers.RNN(cell, return_sequences=True)(tf.ones([2, 5, 3])).shape
    TensorShape([2, 5, 8])
    """

    def __init__(self, cell: Any, memory_length: int, **kwargs):
        super().__init__(**kwargs)
        if memory_length < 1:
            raise ValueError(
                f"memory_length must be at least 1. Received: memory_length={memory_length}"
            )
        self.cell, self.memory_length = cells.without_dropout(cell), memory_length
        track(self, "cell", listed_cells(cell))
        self.attention = IntraDecoderAttention(dtype=self.dtype_policy)
        tape = memory_length * cells.output_width(cell)
        self.state_size = IntraDecoderState(cell.state_size, tape, memory_length)
        self.output_size = 2 * cells.output_width(cell)

    def build(self, input_shape) -> None:
        """Build the cell and its attention."""
        check_shapes(inputs=("N D'", input_shape))
        if not self.cell.built:
            self.cell.build((None, input_shape[-1]))
        self.attention.build((None, None, cells.output_width(self.cell)))
        self.built = True

    def get_initial_state(self, batch_size: Any = None) -> IntraDecoderState:
        """The initial state of the cell, without earlier outputs."""
        dtype, sizes = self.compute_dtype, self.state_size
        return IntraDecoderState(
            cells.zero_state(self.cell, batch_size, dtype),
            tf.zeros([batch_size, sizes.past], dtype),
            tf.zeros([batch_size, sizes.filled], dtype),
        )

    def call(self, inputs, states, training=None) -> tuple[tf.Tensor, IntraDecoderState]:
        """See the class."""
        state = IntraDecoderState(*states)
        output, cell = cells.step(self.cell, inputs, state.cell, training)
        past = tf.reshape(state.past, [-1, self.memory_length, output.shape[-1]])
        context = self.attention.look_back(output, past, state.filled > 0.5)
        past = tf.reshape(cells.push(past, output), tf.shape(state.past))
        filled = cells.push(state.filled, tf.ones_like(state.filled[:, 0]))
        joined = tf.concat([output, tf.cast(context, output.dtype)], -1)
        return joined, IntraDecoderState(cell, past, filled)

    def get_config(self) -> dict:
        config = {"cell": serialize(self.cell), "memory_length": self.memory_length}
        return {**super().get_config(), **config}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "cell": deserialize(config["cell"])})
