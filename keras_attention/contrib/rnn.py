"""tf.contrib.rnn's cells and cell wrappers, built on the cells of Keras.

A cell is called as in contrib: `cell(inputs [N, D], state) -> (output [N, units], state)`, with
`zero_state(batch_size, dtype)`, `state_size` and `output_size`. The state of an LSTM is
`LSTMStateTuple(c, h)`, in Keras it is `[h, c]`. A Keras cell inside owns the weights (`cell.cell`),
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
