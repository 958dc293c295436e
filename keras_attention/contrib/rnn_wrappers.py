"""Cells of tf.contrib.rnn that contain cells: stacked, with dropout, or residual."""

import contextlib
import hashlib
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_attention.backend.keras import (
    DrawsMasks,
    DropoutMasks,
    listed_cells,
    no_autograph,
    same_structure,
    track,
)
from keras_attention.backend.per_thread import HasPerThread, PerThread
from keras_attention.contrib._sequences import Sequence as MaskedSequence
from keras_attention.contrib._sequences import graphs_around, graphs_of_function
from keras_attention.contrib.rnn_cells import (
    LSTMStateTuple,
    RNNCell,
    check_reuse,
    training_argument,
    zeros_of,
)


class _Composed(DrawsMasks, RNNCell):
    """A cell made of cells, without its own weights.

    It overrides Keras' call, which rejects a state with a TensorArray, such as an alignment
    history. `keras.layers.RNN` draws and removes its dropout masks, and it those of inner cells.
    """

    @no_autograph
    def __call__(self, inputs, state, scope=None, training=None):
        return self._call_directly(inputs, same_structure(self.state_size, state), training)

    def get_dropout_mask(self, step_input):
        """Draw the masks of the inner cells, for one sequence."""
        DropoutMasks.of(self).draw(tf.shape(step_input)[0])

    def get_recurrent_dropout_mask(self, step_input):
        """Drawn together with the other masks."""

    def reset_dropout_mask(self):
        """Remove the masks of the inner cells."""
        DropoutMasks.of(self).drop()

    def reset_recurrent_dropout_mask(self):
        """Removed together with the other masks."""


class MultiRNNCell(_Composed):
    """Stacked cells: the output of each is the input of the next.

    The state is the tuple of their states, or with `state_is_tuple=False` their concatenation,
    [N, sum of widths]. A subclass may call the cells (`self._cells`, as in contrib) in another way:
    it overrides `call(inputs, state)` or `__call__(inputs, state, scope=None)`.

    >>> from keras_attention.contrib import rnn
    >>> cell = MultiRNNCell([rnn.GRUCell(3), rnn.LSTMCell(4)])
    >>> output, state = cell(tf.ones([2, 5]), cell.zero_state(2, tf.float32))
    >>> output.shape, len(state), type(state[1]).__name__
    (TensorShape([2, 4]), 2, 'LSTMStateTuple')
    """

    def __init__(self, cells: Sequence, state_is_tuple: bool = True):
        super().__init__()
        if not cells or not isinstance(cells, (list, tuple)):
            raise ValueError(f"cells must be a list of at least one cell. Received: {cells!r}")
        nested = [cell.state_size for cell in cells if not isinstance(cell.state_size, int)]
        if not state_is_tuple and nested:
            raise ValueError(
                "state_is_tuple=False needs cells whose states are single tensors. Received cells "
                f"with states {nested}"
            )
        self.cells = list(cells)
        track(self, "cell", cells)
        self._state_is_tuple = state_is_tuple

    @property
    def _cells(self) -> list:
        """`cells`, under the name that subclasses of contrib's class use."""
        return self.cells

    @property
    def state_size(self):
        sizes = tuple(cell.state_size for cell in self.cells)
        return sizes if self._state_is_tuple else sum(sizes)

    @property
    def output_size(self):
        return self.cells[-1].output_size

    @no_autograph
    def zero_state(self, batch_size, dtype):
        if not self._state_is_tuple:
            return super().zero_state(batch_size, dtype)
        return tuple(_zero_state(cell, batch_size, dtype) for cell in self.cells)

    def build(self, input_shape) -> None:
        kind = type(self)
        if kind.call is MultiRNNCell.call and kind.__call__ is MultiRNNCell.__call__:
            width = input_shape
            for cell in self.cells:
                _build(cell, width)
                width = (None, cell.output_size)
        super().build(input_shape)  # only the call of a subclass knows the inputs of each cell

    def call(self, inputs, state, training=None):
        sizes = [cell.state_size for cell in self.cells]
        states = state if self._state_is_tuple else tf.split(state, sizes, axis=1)
        new_states = []
        for cell, old in zip(self.cells, states):
            inputs, new = _step(cell, inputs, old, training)
            new_states.append(new)
        return inputs, tuple(new_states) if self._state_is_tuple else tf.concat(new_states, 1)


class _Wrapper(_Composed):
    """A cell around a cell, with the same state and output size."""

    def __init__(self, cell: Any, **kwargs):
        super().__init__(**kwargs)
        self.cell = cell
        track(self, "cell", listed_cells(cell))

    @property
    def state_size(self):
        return self.cell.state_size

    @property
    def output_size(self):
        return self.cell.output_size

    def zero_state(self, batch_size, dtype):
        return _zero_state(self.cell, batch_size, dtype)

    def build(self, input_shape) -> None:
        _build(self.cell, input_shape)
        super().build(input_shape)


class DropoutWrapper(HasPerThread, _Wrapper):
    """Dropout on a cell's inputs, outputs and new states; the c of an LSTM is never dropped.

    As in contrib there is no training flag: a probability below 1 always drops. Pass 1.0 (or set a
    `tf.Variable` to 1) to disable it.

    Args:
        cell: the cell.
        input_keep_prob, output_keep_prob, state_keep_prob: numbers in [0, 1], scalar tensors, or
            variables, which are read at every step.
        variational_recurrent: one mask for a whole sequence (and, as in contrib, for all its
            rows) instead of a new one at every step; see below.
        input_size: width of the inputs, required by variational dropout of inputs.
        dtype: type of the masks, required by variational dropout.
        seed: of the draws.
        dropout_state_filter_visitor: `state -> bool, or a structure of bools`: which parts of a
            state are dropped.

    With `variational_recurrent` every sequence has new masks: each run of `dynamic_decode`,
    `tf.compat.v1.nn.dynamic_rnn` and `keras.layers.RNN`, also from a given `initial_state`, and
    each call of a `tf.function` that steps the cell. If steps are called one by one in eager mode,
    a sequence begins with `zero_state`, and with a step from a state that is not the result of the
    previous step. If such a loop carries a state from one batch to the next, call `draw_masks()`
    before each batch.

    Source of the variational form: Gal & Ghahramani, 2016.

    >>> from keras_attention.contrib import rnn
    >>> cell = DropoutWrapper(rnn.GRUCell(3), output_keep_prob=0.5)
    >>> output, _ = cell(tf.ones([1, 5]), tf.ones([1, 3]))
    >>> output.shape
    TensorShape([1, 3])
    """

    _sequences = PerThread(())  # (graph, MaskedSequence) pairs, of the innermost function last

    def __init__(
        self,
        cell: Any,
        input_keep_prob: Any = 1.0,
        output_keep_prob: Any = 1.0,
        state_keep_prob: Any = 1.0,
        variational_recurrent: bool = False,
        input_size: Any = None,
        dtype: Any = None,
        seed: int | None = None,
        dropout_state_filter_visitor: Callable | None = None,
        **kwargs,
    ):
        super().__init__(cell, dtype=dtype, **kwargs)
        for argument, value in (
            ("input_keep_prob", input_keep_prob),
            ("output_keep_prob", output_keep_prob),
            ("state_keep_prob", state_keep_prob),
        ):
            known = _known(value)
            if known is not None and not 0 <= known <= 1:
                raise ValueError(f"{argument} must be between 0 and 1. Received: {known}")
        if variational_recurrent and dtype is None:
            raise ValueError("variational_recurrent=True needs dtype, the type of the masks.")
        if variational_recurrent and _drops(input_keep_prob) and input_size is None:
            raise ValueError(
                "variational_recurrent=True with input_keep_prob below 1 (or not known) needs "
                f"input_size, the width of the inputs. Received: input_keep_prob={input_keep_prob}"
            )
        self._input_keep_prob = input_keep_prob
        self._output_keep_prob = output_keep_prob
        self._state_keep_prob = state_keep_prob
        self._variational = variational_recurrent
        self._input_size = input_size
        self._seed = seed
        self._is_dropped = dropout_state_filter_visitor or _all_but_memory

    @property
    def wrapped_cell(self):
        """The inner cell."""
        return self.cell

    @no_autograph
    def zero_state(self, batch_size, dtype):
        if self._variational:
            self._begin(graphs_around()[0], by_hand=True)
        return super().zero_state(batch_size, dtype)

    def draw_masks(self, batch_size=None) -> None:
        """Begin a sequence: its masks are used until the next one begins, or `drop_masks`."""
        if self._variational:
            self._begin(graphs_around()[0], by_hand=False)

    def drop_masks(self) -> None:
        """Remove the masks that were drawn here, because they belong to one sequence."""
        here = graphs_around()[0]
        self._sequences = tuple(entry for entry in self._sequences if entry[0] is not here)

    def _begin(self, graph, by_hand, first=None) -> MaskedSequence:
        """A sequence with masks that are drawn in this graph, or in eager mode (None)."""
        with contextlib.nullcontext() if graph is None else graph.as_default():
            sequence = MaskedSequence(self._noise(), by_hand and graph is None, first)
        around = {id(other) for other in graphs_around()} - {id(graph)}
        kept = (entry for entry in self._sequences if id(entry[0]) in around)
        self._sequences = (*kept, (graph, sequence))
        return sequence

    def _sequence_of(self, state) -> MaskedSequence:
        """The sequence to which a step from this state belongs."""
        graphs = graphs_of_function()
        known = {id(graph): sequence for graph, sequence in self._sequences}
        for graph in graphs:
            if id(graph) in known and known[id(graph)].is_continued_by(state):
                return known[id(graph)]
        return self._begin(graphs[-1], by_hand=True, first=state)

    def _noise(self):
        """Uniform random numbers for inputs, state and output, each [1, width]."""
        parts = (self._input_size, self.cell.state_size, self.cell.output_size)
        places = itertools.count()

        def noise(width):
            seed, shape = self._salted(next(places)), [1, *tf.TensorShape(width)]
            return tf.random.uniform(shape, dtype=self.compute_dtype, seed=seed)

        known = parts if self._input_size is not None else (0, *parts[1:])
        return tf.nest.map_structure(noise, known)

    def call(self, inputs, state, training=None):
        if not self._variational:
            return self._step(inputs, state, (None, None, None), training)
        sequence = self._sequence_of(state)
        output, new_state = self._step(inputs, state, sequence.masks, training)
        sequence.note(new_state)
        return output, new_state

    def _step(self, inputs, state, noise, training):
        input_noise, state_noise, output_noise = noise
        if _drops(self._input_keep_prob):
            inputs = self._dropout(inputs, input_noise, self._input_keep_prob, "input")
        output, new_state = _step(self.cell, inputs, state, training)
        if _drops(self._state_keep_prob):
            new_state = self._dropout_state(new_state, state_noise)
        if _drops(self._output_keep_prob):
            output = self._dropout(output, output_noise, self._output_keep_prob, "output")
        return output, new_state

    def _dropout(self, x, noise, keep_prob, salt):
        if noise is None:
            return tf.nn.dropout(x, rate=1.0 - keep_prob, seed=self._salted(salt))
        keep_prob = tf.cast(keep_prob, x.dtype)
        return x / keep_prob * tf.floor(keep_prob + tf.cast(noise, x.dtype))

    def _dropout_state(self, state, noise, salt="state"):
        """Apply the filter at every level of the state, and drop the tensors where it is True."""
        chosen = self._is_dropped(state)
        if not isinstance(state, (list, tuple)):
            return self._dropout(state, noise, self._state_keep_prob, salt) if chosen else state
        chosen = (chosen,) * len(state) if isinstance(chosen, bool) else chosen
        noise = (None,) * len(state) if noise is None else noise
        parts = [
            self._dropout_state(part, part_noise, f"{salt}_{place}") if part_chosen else part
            for place, (part, part_noise, part_chosen) in enumerate(zip(state, noise, chosen))
        ]
        return type(state)(*parts) if hasattr(state, "_fields") else type(state)(parts)

    def _salted(self, salt):
        """A different seed for every mask, so that masks of the same shape differ."""
        if self._seed is None:
            return None
        digest = hashlib.md5(f"{self._seed}{salt}".encode()).hexdigest()
        return int(digest[:8], 16) & 0x7FFFFFFF


class ResidualWrapper(_Wrapper):
    """output = inputs + the cell's output, or `residual_fn(inputs, output)`.

    >>> from keras_attention.contrib import rnn
    >>> cell = ResidualWrapper(rnn.GRUCell(3), residual_fn=lambda inputs, outputs: inputs)
    >>> cell(tf.ones([1, 3]), cell.zero_state(1, tf.float32))[0].numpy().tolist()
    [[1.0, 1.0, 1.0]]
    """

    def __init__(self, cell: Any, residual_fn: Callable | None = None, **kwargs):
        super().__init__(cell, **kwargs)
        self._residual_fn = residual_fn or _add

    def call(self, inputs, state, training=None):
        output, new_state = _step(self.cell, inputs, state, training)
        return self._residual_fn(inputs, output), new_state


class _Projecting(_Wrapper):
    """A cell with a linear layer beside it."""

    def __init__(self, cell, width, name, activation, reuse, **kwargs):
        check_reuse(reuse)
        if width < 1:
            raise ValueError(f"{name} must be at least 1. Received: {name}={width}")
        super().__init__(cell, **kwargs)
        self.projection = keras.layers.Dense(width, activation=activation)


class InputProjectionWrapper(_Projecting):
    """The input of the cell is W x + b of width `num_proj`, or `activation` of it.

    >>> from keras_attention.contrib import rnn
    >>> cell = InputProjectionWrapper(rnn.GRUCell(3), 4)
    >>> cell(tf.ones([1, 5]), cell.zero_state(1, tf.float32))[0].shape, cell.cell.cell.kernel.shape
    (TensorShape([1, 3]), TensorShape([4, 9]))
    """

    def __init__(
        self,
        cell: Any,
        num_proj: int,
        activation: Callable | None = None,
        input_size: Any = None,
        reuse: bool | None = None,
        **kwargs,
    ):
        super().__init__(cell, num_proj, "num_proj", activation, reuse, **kwargs)

    def build(self, input_shape) -> None:
        _build(self.projection, input_shape)
        super().build((*input_shape[:-1], self.projection.units))

    def call(self, inputs, state, training=None):
        return _step(self.cell, self.projection(inputs), state, training)


class OutputProjectionWrapper(_Projecting):
    """The output is W o + b of width `output_size`, or `activation` of it; o is the cell's output.

    >>> from keras_attention.contrib import rnn
    >>> cell = OutputProjectionWrapper(rnn.GRUCell(3), 4)
    >>> output, state = cell(tf.ones([1, 5]), cell.zero_state(1, tf.float32))
    >>> output.shape, state.shape, cell.output_size
    (TensorShape([1, 4]), TensorShape([1, 3]), 4)
    """

    def __init__(
        self,
        cell: Any,
        output_size: int,
        activation: Callable | None = None,
        reuse: bool | None = None,
        **kwargs,
    ):
        super().__init__(cell, output_size, "output_size", activation, reuse, **kwargs)

    @property
    def output_size(self):
        return self.projection.units

    def build(self, input_shape) -> None:
        super().build(input_shape)
        _build(self.projection, (None, self.cell.output_size))

    def call(self, inputs, state, training=None):
        output, new_state = _step(self.cell, inputs, state, training)
        return self.projection(output), new_state


class DeviceWrapper:
    """contrib's class to place a cell; here a device is selected around the call."""

    def __init__(self, cell: Any, device: Any, **kwargs):
        raise NotImplementedError(
            "There is no DeviceWrapper: in TensorFlow 2 a device is selected where the cell is "
            f"called, `with tf.device({device!r}): ...`, or by a tf.distribute strategy."
        )


def _add(inputs, outputs):
    if not inputs.shape.is_compatible_with(outputs.shape):
        raise ValueError(
            "A residual cell's output must have the shape of its inputs; project one of them, or "
            f"pass residual_fn. Received: inputs {inputs.shape}, output {outputs.shape}"
        )
    return inputs + outputs


def _known(keep_prob) -> float | None:
    """The probability if it is static; None for a variable, or a tensor of a graph."""
    if hasattr(keep_prob, "assign"):
        return None
    value = tf.get_static_value(keep_prob) if tf.is_tensor(keep_prob) else keep_prob
    return None if value is None else float(value)


def _drops(keep_prob) -> bool:
    return _known(keep_prob) != 1


def _all_but_memory(state):
    if isinstance(state, LSTMStateTuple):
        return LSTMStateTuple(c=False, h=True)
    return not isinstance(state, tf.TensorArray)


def _step(cell, inputs, state, training):
    """One step of a cell of contrib, of Keras, or of any callable like them."""
    output, new_state = cell(inputs, state, **training_argument(cell, training))
    return output, same_structure(state, new_state)


def _zero_state(cell, batch_size, dtype):
    if hasattr(cell, "zero_state"):
        return cell.zero_state(batch_size, dtype)
    return zeros_of(cell.state_size, batch_size, dtype)  # a Keras cell


def _build(cell, input_shape) -> None:
    if not getattr(cell, "built", True):
        cell.build(tuple(input_shape))
