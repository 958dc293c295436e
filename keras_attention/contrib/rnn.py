"""tf.contrib.rnn's cells and cell wrappers, on the cells of Keras.

A cell is called as contrib's: `cell(inputs [N, D], state) -> (output [N, units], state)`, with
`zero_state(batch_size, dtype)`, `state_size` and `output_size`. The state of an LSTM is
`LSTMStateTuple(c, h)`, where Keras has `[h, c]`. A Keras cell below owns the weights (`cell.cell`),
except those of `LayerNormBasicLSTMCell`; `keras_attention.contrib.weights` converts contrib's.
"""

from keras_attention.contrib.rnn_cells import (
    BasicLSTMCell,
    BasicRNNCell,
    GRUCell,
    LayerNormBasicLSTMCell,
    LSTMCell,
    LSTMStateTuple,
    RNNCell,
)
from keras_attention.contrib.rnn_functions import stack_bidirectional_dynamic_rnn
from keras_attention.contrib.rnn_wrappers import (
    DeviceWrapper,
    DropoutWrapper,
    InputProjectionWrapper,
    MultiRNNCell,
    OutputProjectionWrapper,
    ResidualWrapper,
)

__all__ = [
    "BasicLSTMCell",
    "BasicRNNCell",
    "DeviceWrapper",
    "DropoutWrapper",
    "GRUCell",
    "InputProjectionWrapper",
    "LSTMCell",
    "LSTMStateTuple",
    "LayerNormBasicLSTMCell",
    "MultiRNNCell",
    "OutputProjectionWrapper",
    "RNNCell",
    "ResidualWrapper",
    "stack_bidirectional_dynamic_rnn",
]
