"""The cells of tf.contrib.rnn, built on those of Keras."""

import collections
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from keras_attention.backend.cells import takes
from keras_attention.backend.keras import DropoutMasks, no_autograph, same_structure
from keras_attention.contrib.template import in_template


class LSTMStateTuple(collections.namedtuple("LSTMStateTuple", ("c", "h"))):
    """The state of an LSTM: c, the memory, and h, the output. In Keras it is `[h, c]`."""

    __slots__ = ()

    @property
    def dtype(self) -> tf.DType:
        """The dtype of both."""
        if self.c.dtype != self.h.dtype:
            raise TypeError(f"c and h must have one type. Received: {self.c.dtype}, {self.h.dtype}")
        return self.c.dtype


class RNNCell(keras.layers.Layer):
    """The base class of cells: a subclass defines `state_size`, `output_size` and `call`."""

    @property
    def state_size(self) -> Any:
        """Width of the state; a nest of widths for a nest of tensors."""
        raise NotImplementedError

    @property
    def output_size(self) -> int:
        """Width of the output."""
        raise NotImplementedError

    def zero_state(self, batch_size: Any, dtype: Any) -> Any:
        """The initial state: zeros [batch_size, width]."""
        return zeros_of(self.state_size, batch_size, dtype)

    @property
    def get_initial_state(self) -> Callable:
        """`zero_state`, under Keras' name.

        `dynamic_rnn` of TensorFlow calls it only if it gets no state, but always checks that it
        exists. That is the only sign that it begins a sequence, so this draws the dropout masks of
        the inner cells.
        """
        _draw_masks(self)
        return self._initial_state

    def _initial_state(self, inputs=None, batch_size=None, dtype=None):
        if inputs is not None:
            batch_size, dtype = tf.shape(inputs)[0], inputs.dtype
        state = self.zero_state(batch_size, dtype or self.compute_dtype)
        _draw_masks(self)  # `zero_state` is for steps that are called one by one
        return state

    @no_autograph
    def __call__(self, inputs, state, scope=None, training=None):
        """One step. `scope` is accepted as in contrib, and not used: the cell owns its weights."""
        state = same_structure(self.state_size, state)  # Keras' RNN passes lists
        if type(self).build is keras.layers.Layer.build:
            self.built = True  # else Keras would run the call again, which may create layers
        if any(isinstance(leaf, tf.TensorArray) for leaf in tf.nest.flatten(state)):
            return self._call_directly(inputs, state, training)
        return super().__call__(inputs, state, training=training)

    def _call_directly(self, inputs, state, training):
        """One step without Keras, which rejects a TensorArray in a state."""
        if not self.built:
            self.build(inputs.shape)
        with tf.name_scope(self.name):
            return self.call(inputs, state, **training_argument(self.call, training))


class _KerasCell(RNNCell):
    """A cell whose weights are those of a Keras cell, and whose state is its output."""

    def __init__(self, cell, reuse, name, dtype, **kwargs):
        check_reuse(reuse)
        super().__init__(name=name, dtype=dtype, **kwargs)
        self.cell = cell

    @property
    def state_size(self):
        return self.cell.units

    @property
    def output_size(self):
        return self.cell.units

    def build(self, input_shape) -> None:
        """contrib initializes the kernels of inputs and state as one matrix [D + units, ...]."""
        cell, width = self.cell, input_shape[-1]
        if not cell.built:
            draw, total = _fresh(cell.kernel_initializer), width + cell.units
            cell.kernel_initializer = _rows(draw, total, slice(0, width))
            cell.recurrent_initializer = _rows(draw, total, slice(width, None))
            cell.build((None, width))
        super().build(input_shape)

    def call(self, inputs, state, training=None):
        output, _ = self.cell(inputs, [state], training=training)
        return output, output


class BasicRNNCell(_KerasCell):
    """h' = tanh(W [x; h] + b).

    >>> cell = BasicRNNCell(3)
    >>> output, state = cell(tf.ones([2, 5]), cell.zero_state(2, tf.float32))
    >>> output.shape, state is output
    (TensorShape([2, 3]), True)
    """

    def __init__(
        self,
        num_units: int,
        activation: str | Callable | None = None,
        reuse: bool | None = None,
        name: str | None = None,
        dtype: Any = None,
        **kwargs,
    ):
        cell = keras.layers.SimpleRNNCell(num_units, activation=activation or "tanh", dtype=dtype)
        super().__init__(cell, reuse, name, dtype, **kwargs)


class GRUCell(_KerasCell):
    """h' = u h + (1 - u) tanh(W [x; r h] + b), with gates r, u = sigmoid(W' [x; h] + b').

    The reset gate is applied before the recurrent product (`reset_after=False` in Keras). The
    initial bias of the gates is 1 and of the candidate 0, unless `bias_initializer` is given.
    Source: Cho et al., 2014.

    >>> cell = GRUCell(3)
    >>> output, state = cell(tf.ones([2, 5]), cell.zero_state(2, tf.float32))
    >>> output.shape, cell.cell.bias.numpy().tolist()
    (TensorShape([2, 3]), [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0])
    """

    def __init__(
        self,
        num_units: int,
        activation: str | Callable | None = None,
        reuse: bool | None = None,
        kernel_initializer: Any = None,
        bias_initializer: Any = None,
        name: str | None = None,
        dtype: Any = None,
        **kwargs,
    ):
        cell = keras.layers.GRUCell(
            num_units,
            activation=activation or "tanh",
            reset_after=False,
            kernel_initializer=kernel_initializer or "glorot_uniform",
            bias_initializer=bias_initializer or _bias_of_gates(1, 1, 0),
            dtype=dtype,
        )
        super().__init__(cell, reuse, name, dtype, **kwargs)


class LSTMCell(_KerasCell):
    """c' = sigmoid(f + forget_bias) c + sigmoid(i) tanh(j), h' = sigmoid(o) tanh(c').

    i, j, f, o are linear in [x; h]. The state is `LSTMStateTuple(c, h)`, or [N, 2 units] with
    `state_is_tuple=False`; `forget_bias` is the initial bias of f. Peepholes, clipping and
    projection, which Keras' cell does not have, are a ValueError.
    Source: Hochreiter & Schmidhuber, 1997; Gers, Schmidhuber, Cummins, 1999.

    >>> cell = LSTMCell(3)
    >>> output, state = cell(tf.ones([2, 5]), cell.zero_state(2, tf.float32))
    >>> state.h is output, state.c.shape
    (True, TensorShape([2, 3]))
    """

    def __init__(
        self,
        num_units: int,
        use_peepholes: bool = False,
        cell_clip: float | None = None,
        initializer: Any = None,
        num_proj: int | None = None,
        proj_clip: float | None = None,
        num_unit_shards: int | None = None,
        num_proj_shards: int | None = None,
        forget_bias: float = 1.0,
        state_is_tuple: bool = True,
        activation: str | Callable | None = None,
        reuse: bool | None = None,
        name: str | None = None,
        dtype: Any = None,
        **kwargs,
    ):
        unsupported = {
            "use_peepholes": use_peepholes,
            "cell_clip": cell_clip,
            "num_proj": num_proj,
            "proj_clip": proj_clip,
        }
        unsupported = {argument: value for argument, value in unsupported.items() if value}
        if unsupported:
            raise ValueError(
                "LSTMCell uses Keras' LSTMCell, which has no peepholes, clipping or "
                "projection. Write such a cell as a subclass of RNNCell (all decoders here accept "
                f"it), or leave them out. Received: {unsupported}"
            )
        cell = keras.layers.LSTMCell(
            num_units,
            activation=activation or "tanh",
            unit_forget_bias=False,
            kernel_initializer=initializer or "glorot_uniform",
            bias_initializer=_bias_of_gates(0, forget_bias, 0, 0),
            dtype=dtype,
        )
        super().__init__(cell, reuse, name, dtype, **kwargs)
        self._state_is_tuple = state_is_tuple

    @property
    def state_size(self):
        units = self.cell.units
        return LSTMStateTuple(units, units) if self._state_is_tuple else 2 * units

    def call(self, inputs, state, training=None):
        c, h = state if self._state_is_tuple else tf.split(state, 2, axis=1)
        output, (h, c) = self.cell(inputs, [h, c], training=training)
        return output, LSTMStateTuple(c, h) if self._state_is_tuple else tf.concat([c, h], 1)


class BasicLSTMCell(LSTMCell):
    """`LSTMCell` with the arguments of contrib's first LSTM."""

    def __init__(
        self,
        num_units: int,
        forget_bias: float = 1.0,
        state_is_tuple: bool = True,
        activation: str | Callable | None = None,
        reuse: bool | None = None,
        name: str | None = None,
        dtype: Any = None,
        **kwargs,
    ):
        super().__init__(
            num_units,
            forget_bias=forget_bias,
            state_is_tuple=state_is_tuple,
            activation=activation,
            reuse=reuse,
            name=name,
            dtype=dtype,
            **kwargs,
        )


class LayerNormBasicLSTMCell(RNNCell):
    """An LSTM whose gates and memory are normalized, with dropout of the candidate.

        c' = LN(sigmoid(LN f + forget_bias) c + sigmoid(LN i) dropout(tanh(LN j)))
        h' = sigmoid(LN o) tanh(c')

    i, j, f, o are linear in [x; h]. LN x = gain (x - mean) / std + shift over the units, with a
    gain and a shift for each of the five. The state is `LSTMStateTuple(c, h)`.

    Args:
        num_units: width of c and h.
        forget_bias: added to f at every step.
        input_size: not used.
        activation: instead of tanh.
        layer_norm: False: LN x = x, and a bias is added to i, j, f, o.
        norm_gain, norm_shift: initial values of gains and shifts.
        dropout_keep_prob: of the candidate, at every call (there is no training flag): a number in
            (0, 1], a scalar tensor or a variable.
        dropout_prob_seed: of the draws.
        reuse: only within `make_template`.

    Source: Ba, Kiros, Hinton, 2016; the dropout: Semeniuta, Severyn, Barth, 2016.

    >>> cell = LayerNormBasicLSTMCell(3)
    >>> output, state = cell(tf.ones([2, 5]), cell.zero_state(2, tf.float32))
    >>> state.h is output, state.c.shape
    (True, TensorShape([2, 3]))
    """

    _NORMALIZED = ("input", "transform", "forget", "output", "state")

    def __init__(
        self,
        num_units: int,
        forget_bias: float = 1.0,
        input_size: Any = None,
        activation: Callable = tf.tanh,
        layer_norm: bool = True,
        norm_gain: float = 1.0,
        norm_shift: float = 0.0,
        dropout_keep_prob: Any = 1.0,
        dropout_prob_seed: int | None = None,
        reuse: bool | None = None,
        **kwargs,
    ):
        check_reuse(reuse)
        super().__init__(**kwargs)
        self._units, self._forget_bias, self._activation = num_units, forget_bias, activation
        self._layer_norm, self._norm_gain, self._norm_shift = layer_norm, norm_gain, norm_shift
        self._keep_prob, self._seed = dropout_keep_prob, dropout_prob_seed

    @property
    def state_size(self):
        return LSTMStateTuple(self._units, self._units)

    @property
    def output_size(self):
        return self._units

    def build(self, input_shape) -> None:
        units = self._units
        self.kernel = self._weight("kernel", (input_shape[-1] + units, 4 * units), "glorot_uniform")
        if not self._layer_norm:
            self.bias = self._weight("bias", (4 * units,), "zeros")
        for name in self._NORMALIZED if self._layer_norm else ():
            for kind, first in (("gamma", self._norm_gain), ("beta", self._norm_shift)):
                initializer = keras.initializers.Constant(first)
                setattr(
                    self, f"{name}_{kind}", self._weight(f"{name}_{kind}", (units,), initializer)
                )
        super().build(input_shape)

    def _weight(self, name, shape, initializer):
        return self.add_weight(name=name, shape=shape, initializer=initializer)

    def call(self, inputs, state, training=None):
        c, h = state
        gates = tf.matmul(tf.concat([inputs, h], 1), self.kernel)
        if not self._layer_norm:
            gates += self.bias
        i, j, f, o = (
            self._normalized(gate, name)
            for gate, name in zip(tf.split(gates, 4, axis=1), self._NORMALIZED)
        )
        candidate = self._activation(j)
        if not (isinstance(self._keep_prob, (int, float)) and self._keep_prob == 1):
            candidate = tf.nn.dropout(candidate, rate=1.0 - self._keep_prob, seed=self._seed)
        c = c * tf.sigmoid(f + self._forget_bias) + tf.sigmoid(i) * candidate
        c = self._normalized(c, "state")
        h = self._activation(c) * tf.sigmoid(o)
        return h, LSTMStateTuple(c, h)

    def _normalized(self, x, name):
        if not self._layer_norm:
            return x
        mean, variance = tf.nn.moments(x, [1], keepdims=True)
        epsilon = 1e-3 if x.dtype == tf.float16 else 1e-12  # of contrib's layer_norm
        gain, shift = getattr(self, f"{name}_gamma"), getattr(self, f"{name}_beta")
        return (x - mean) * tf.math.rsqrt(variance + epsilon) * gain + shift


def check_reuse(reuse: bool | None) -> None:
    """Raise ValueError for a cell that should share weights in the way of TensorFlow 1."""
    if reuse and not in_template():
        raise ValueError(
            "To share weights, use the same cell object, or create cells in a function passed to "
            f"keras_attention.contrib.make_template. Received: reuse={reuse}"
        )


def training_argument(cell, training) -> dict:
    """`training` as an argument for cells that have it: those of contrib have not."""
    function = type(cell).__call__ if isinstance(cell, keras.layers.Layer) else cell
    return {} if training is None or not takes(function, "training") else {"training": training}


def _draw_masks(cell) -> None:
    """Begin a sequence for the cells of this module inside of a cell."""
    for inner in DropoutMasks.of(cell).cells:
        if hasattr(inner, "draw_masks"):
            inner.draw_masks()


def zeros_of(state_size, batch_size, dtype):
    """Zeros [batch_size, width] for a nest of widths."""

    def zeros(width):
        shape = tf.TensorShape(width)
        leaf = tf.zeros(tf.concat([[batch_size], shape], 0), dtype)
        leaf.set_shape([tf.get_static_value(batch_size), *shape])
        return leaf

    return tf.nest.map_structure(zeros, state_size)


def _fresh(initializer):
    """Keras' initializers always draw the same values: each cell needs its own copy."""
    if isinstance(initializer, keras.initializers.Initializer):
        return type(initializer).from_config(initializer.get_config())
    return initializer


def _rows(initializer, total, rows):
    """An initializer of some rows of a matrix that is drawn as a whole."""

    def initialize(shape, dtype=None, **_):
        return initializer((total, shape[1]), dtype=dtype)[rows]

    return initialize


def _bias_of_gates(*values):
    """One value for each gate, in Keras' order."""

    def initialize(shape, dtype=None, **_):
        return tf.repeat(tf.constant(values, dtype or "float32"), shape[0] // len(values))

    return initialize
