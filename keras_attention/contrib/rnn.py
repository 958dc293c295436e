"""tf.contrib.rnn's cells and cell wrappers, on the cells of Keras.

A cell is called as contrib's: `cell(inputs [N, D], state) -> (output [N, units], state)`, with
`zero_state(batch_size, dtype)`, `state_size` and `output_size`. The state of an LSTM is
`LSTMStateTuple(c, h)`, where Keras has `[h, c]`. Below each cell a Keras cell owns the weights
(`cell.cell`); `keras_attention.contrib.weights` converts contrib's.
"""

from keras_attention.contrib.rnn_cells import (
    BasicLSTMCell,
    BasicRNNCell,
    GRUCell,
    LSTMCell,
    LSTMStateTuple,
    RNNCell,
)
from keras_attention.contrib.rnn_wrappers import (
    DeviceWrapper,
    DropoutWrapper,
    MultiRNNCell,
    ResidualWrapper,
)

__all__ = [
    "BasicLSTMCell",
    "BasicRNNCell",
    "DeviceWrapper",
    "DropoutWrapper",
    "GRUCell",
    "LSTMCell",
    "LSTMStateTuple",
    "MultiRNNCell",
    "RNNCell",
    "ResidualWrapper",
]
