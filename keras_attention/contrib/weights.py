"""Weights of tf.contrib.rnn's cells in the layout of Keras' cells: NumPy in, NumPy out.

contrib has one kernel [D + units, gates * units] for inputs and state; Keras has `kernel` [D, ...]
and `recurrent_kernel` [units, ...], and another order of gates. Pass the result to the Keras cell's
`set_weights`. Gradients are converted in the same way, with `forget_bias=0`.
"""

import numpy as np


def lstm_weights(kernel, bias, forget_bias: float = 1.0) -> list[np.ndarray]:
    """LSTMCell, BasicLSTMCell -> `keras.layers.LSTMCell`.  [D + units, 4 units], [4 units].

    contrib's gates are i, j, f, o, Keras' are i, f, c (contrib's j), o. contrib adds
    `forget_bias` to f at every step; here it becomes part of the bias.

    >>> kernel, recurrent, bias = lstm_weights([[1, 2, 3, 4], [5, 6, 7, 8]], [0, 0, 0, 0])
    >>> kernel.tolist(), recurrent.tolist(), bias.tolist()
    ([[1, 3, 2, 4]], [[5, 7, 6, 8]], [0.0, 1.0, 0.0, 0.0])
    """
    units = _units(kernel, 4)
    kernel, bias = _keras_order(kernel), _keras_order(bias)
    bias = bias + np.repeat(np.asarray([0, forget_bias, 0, 0], np.result_type(bias, 0.0)), units)
    return [*_split_rows(kernel, units), bias]


def gru_weights(gates_kernel, gates_bias, candidate_kernel, candidate_bias) -> list[np.ndarray]:
    """GRUCell -> `keras.layers.GRUCell(reset_after=False)`.

    [D + units, 2 units], [2 units], [D + units, units], [units]. contrib's gates are r, u and the
    candidate; Keras' are z (contrib's u), r, h.

    >>> kernel, recurrent, bias = gru_weights([[1, 2], [3, 4]], [5, 6], [[7], [8]], [9])
    >>> kernel.tolist(), recurrent.tolist(), bias.tolist()
    ([[2, 1, 7]], [[4, 3, 8]], [6, 5, 9])
    """
    units = _units(candidate_kernel, 1)

    def joined(gates, candidate):
        reset, update = np.split(np.asarray(gates), 2, axis=-1)
        return np.concatenate([update, reset, np.asarray(candidate)], axis=-1)

    kernel = joined(gates_kernel, candidate_kernel)
    return [*_split_rows(kernel, units), joined(gates_bias, candidate_bias)]


def basic_rnn_weights(kernel, bias) -> list[np.ndarray]:
    """BasicRNNCell -> `keras.layers.SimpleRNNCell`.  [D + units, units], [units].

    >>> [part.tolist() for part in basic_rnn_weights([[1.0], [2.0]], [3.0])]
    [[[1.0]], [[2.0]], [3.0]]
    """
    return [*_split_rows(np.asarray(kernel), _units(kernel, 1)), np.asarray(bias)]


def _keras_order(x):
    i, j, f, o = np.split(np.asarray(x), 4, axis=-1)
    return np.concatenate([i, f, j, o], axis=-1)


def _split_rows(kernel, units):
    return kernel[:-units], kernel[-units:]


def _units(kernel, gates: int) -> int:
    shape = np.shape(kernel)
    units = shape[-1] // gates if len(shape) == 2 else 0
    if units * gates != shape[-1] or shape[0] <= units:
        raise ValueError(
            f"A kernel of contrib's has shape [inputs + units, {gates} * units]. Received: {shape}"
        )
    return units
