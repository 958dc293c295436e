"""The only function of tf.contrib.rnn that is not in tf.compat.v1.nn of TensorFlow 2."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from keras_attention.functional.masks import as_lengths


def stack_bidirectional_dynamic_rnn(
    cells_fw: Sequence,
    cells_bw: Sequence,
    inputs: tf.Tensor,
    initial_states_fw: Sequence | None = None,
    initial_states_bw: Sequence | None = None,
    dtype: Any = None,
    sequence_length: Any = None,
    parallel_iterations: int | None = None,
    time_major: bool = False,
    scope: str | None = None,
    swap_memory: bool = False,
):
    """Stacked bidirectional RNNs: each reads the concatenated outputs of the one below.

    Args:
        cells_fw, cells_bw: a cell for each layer and direction.
        inputs: [B, S, D], or [S, B, D] with `time_major`.
        initial_states_fw, initial_states_bw: a state for each cell; default: zeros of `dtype`.
        dtype: type of the zeros, required without initial states.
        sequence_length: [B], the lengths of the rows; outputs beyond are zeros.
        parallel_iterations, swap_memory: as in `tf.while_loop`.
        scope: a name for the ops.

    Returns:
        (outputs, states_fw, states_bw): outputs [B, S, U_fw + U_bw] of the last layer, in the
        layout of the inputs, and a tuple of last states for each direction.

    Raises ValueError for lists of different lengths, and a sequence_length that is not integer.
    Source: Graves, Jaitly, Mohamed, 2013 (deep bidirectional LSTM).

    >>> from keras_attention.contrib import rnn
    >>> forward, backward = ([rnn.GRUCell(3), rnn.GRUCell(4)] for _ in range(2))
    >>> outputs, _, states = stack_bidirectional_dynamic_rnn(
    ...     forward, backward, tf.ones([2, 5, 6]), dtype=tf.float32
    ... )
    >>> outputs.shape, states[-1].shape
    (TensorShape([2, 5, 8]), TensorShape([2, 4]))
    """
    depth = len(cells_fw) if isinstance(cells_fw, (list, tuple)) else 0
    given = {
        "cells_fw": cells_fw,
        "cells_bw": cells_bw,
        "initial_states_fw": initial_states_fw,
        "initial_states_bw": initial_states_bw,
    }
    for name, values in given.items():
        if values is None and name.startswith("initial"):
            continue
        if not isinstance(values, (list, tuple)) or len(values) != depth or depth == 0:
            raise ValueError(
                f"{name} must be a list with one entry for each layer, at least one; cells_fw has "
                f"{depth}. Received: {name}={values!r}"
            )
    if sequence_length is not None:
        sequence_length = as_lengths(sequence_length, "sequence_length")
    no_states = [None] * depth
    outputs, states = inputs, []
    with tf.compat.v1.variable_scope(scope or "stack_bidirectional_rnn"):
        layers = zip(
            cells_fw, cells_bw, initial_states_fw or no_states, initial_states_bw or no_states
        )
        for layer, (cell_fw, cell_bw, state_fw, state_bw) in enumerate(layers):
            with tf.compat.v1.variable_scope(f"cell_{layer}"):
                outputs, last = tf.compat.v1.nn.bidirectional_dynamic_rnn(
                    cell_fw,
                    cell_bw,
                    outputs,
                    sequence_length=sequence_length,
                    initial_state_fw=state_fw,
                    initial_state_bw=state_bw,
                    dtype=dtype,
                    parallel_iterations=parallel_iterations,
                    swap_memory=swap_memory,
                    time_major=time_major,
                )
            outputs = tf.concat(outputs, -1)
            states.append(last)
    states_fw, states_bw = zip(*states)
    return outputs, states_fw, states_bw
