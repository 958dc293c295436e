"""Which cells `functional.recurrence` can run, and their steps all at once.

`parts_of` looks at a cell, and `fused_steps` runs it; everything else goes step by step.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from keras_attention import functional
from keras_attention.backend.keras import KERAS_3, in_xla, is_plain_dense, same_structure
from keras_attention.functional import Memory
from keras_attention.functional.dtypes import widen
from keras_attention.functional.packing import pack, unpack
from keras_attention.functional.recurrence import computed, recurrence
from keras_attention.functional.recurrent_attention import ACTIVATIONS, RecurrentAttention
from keras_attention.functional.recurrent_cells import GRUWeights, LSTMWeights
from keras_attention.seq2seq import _dropout
from keras_attention.seq2seq.attention_wrapper import AttentionWrapper
from keras_attention.seq2seq.mechanisms import BahdanauAttention, LuongAttention

_LSTM = (keras.layers.LSTMCell, _dropout.LSTMCell)
_GRU = (keras.layers.GRUCell, _dropout.GRUCell)
_ALLOWED = (
    "LSTMCell and GRUCell (tanh, sigmoid, reset_after, without recurrent_dropout), "
    "StackedRNNCells of them, alone or in an AttentionWrapper with one BahdanauAttention or "
    "LuongAttention"
)


class NotFusible(Exception):
    """A part that `functional.recurrence` does not know; the message names it."""


class Parts(NamedTuple):
    """The parts of a cell that can be fused."""

    cells: list  # of Keras, from the first to the last layer
    wrapper: AttentionWrapper | None
    feeds: bool  # whether the attention is fed to the next step


def check_fused(fused: Any) -> Any:
    """The argument `fused`; ValueError unless it is "auto", True or False."""
    if fused not in ("auto", True, False):
        raise ValueError(f"fused must be 'auto', True or False. Received: fused={fused!r}")
    if fused is True and not KERAS_3:
        raise ValueError(
            f"fused=True needs Keras 3. Received: Keras {keras.__version__}; use fused='auto'."
        )
    return fused


def fused_or_none(fused: Any, run: Callable) -> Any:
    """What `run()` gives, or None where the steps must be taken one by one.

    Raises ValueError for `fused=True` with a part that prevents it.
    """
    if fused is False:
        return None
    try:
        return run()
    except NotFusible as reason:
        if fused == "auto":
            return None
        raise ValueError(
            f"fused=True needs {_ALLOWED}. Received: {reason}. Use fused='auto' to take the steps "
            "one by one where that is necessary."
        ) from None


def parts_of(cell: Any) -> Parts:
    """The parts of a cell; `NotFusible` if there are others than those that can be fused."""
    if not KERAS_3:
        raise NotFusible("Keras 2")
    wrapper = cell if isinstance(cell, AttentionWrapper) else None
    inner = cell if wrapper is None else wrapper.cell
    cells = list(inner.cells) if type(inner) is keras.layers.StackedRNNCells else [inner]
    for each in cells:
        _check_cell(each)
    feeds = wrapper is not None and _check_wrapper(wrapper)
    parts: list = list(cells)
    if wrapper is not None:
        parts += [wrapper, wrapper.attention_mechanism, wrapper.attention_layer]
    dtypes = {part.compute_dtype for part in parts if part is not None}
    if len(dtypes) > 1:
        raise NotFusible(f"parts of several dtypes, {sorted(dtypes)}")
    return Parts(cells, wrapper, feeds)


def _check_cell(cell) -> None:
    name = type(cell).__name__
    if type(cell) not in _LSTM + _GRU:
        raise NotFusible(f"a cell of type {name}")
    if "call" in vars(cell):
        raise NotFusible(f"{name} with another call")
    if cell.activation is not keras.activations.tanh:
        raise NotFusible(f"{name} with activation={_name(cell.activation)}")
    if cell.recurrent_activation is not keras.activations.sigmoid:
        raise NotFusible(f"{name} with recurrent_activation={_name(cell.recurrent_activation)}")
    if cell.recurrent_dropout or (cell.dropout and cell.implementation == 1):
        raise NotFusible(f"{name} with a dropout mask for each gate (recurrent_dropout)")
    if type(cell) in _GRU and not cell.reset_after:
        raise NotFusible(f"{name} with reset_after=False")


def _check_wrapper(wrapper) -> bool:
    """-> whether it feeds its attention to the next step."""
    if type(wrapper) is not AttentionWrapper:
        raise NotFusible(f"{type(wrapper).__name__}, a subclass of AttentionWrapper")
    mechanisms, layer = wrapper.attention_mechanism, wrapper.attention_layer
    if isinstance(mechanisms, (list, tuple)):
        raise NotFusible("a list of attention mechanisms")
    if type(mechanisms) not in (BahdanauAttention, LuongAttention):
        raise NotFusible(f"an attention of type {type(mechanisms).__name__}")
    if mechanisms.probability_fn not in ("softmax", functional.softmax):
        raise NotFusible(f"probability_fn={_name(mechanisms.probability_fn)}")
    if mechanisms.query_layer is not None:
        _check_dense(mechanisms.query_layer, "query_layer", ("linear",), bias=False)
    if layer is not None:
        _check_dense(layer, "attention_layer", tuple(ACTIVATIONS))
    given = wrapper.step_functions
    if given.attention_fn is not None:
        raise NotFusible("attention_fn")
    if given.cell_input_fn is None:
        return True
    inputs, attention = tf.zeros([1, 1]), tf.zeros([1, 1])
    try:
        if given.cell_input_fn(inputs, attention) is inputs:
            return False
    except Exception:  # it needs other widths, so it does more than return its inputs
        pass
    raise NotFusible("cell_input_fn other than (inputs, attention) -> inputs")


def _check_dense(layer, role, activations, bias=True) -> None:
    if not is_plain_dense(layer) or layer.activity_regularizer is not None:
        raise NotFusible(f"{role} other than a plain Dense layer")
    if _name(layer.activation) not in activations or layer.activation is not keras.activations.get(
        _name(layer.activation)
    ):
        raise NotFusible(f"{role} with activation={_name(layer.activation)}")
    if layer.use_bias and not bias:
        raise NotFusible(f"{role} with a bias")


def check_row_wise(layer: Any) -> None:
    """`NotFusible` unless an output layer may be applied to the outputs of all steps at once."""
    if layer is not None and type(layer) is not keras.layers.Dense:
        raise NotFusible(f"output_layer of type {type(layer).__name__}")
    if layer is not None and layer.activity_regularizer is not None:
        raise NotFusible("output_layer with an activity_regularizer")
    if layer is not None and getattr(keras.activations, _name(layer.activation), None) is None:
        raise NotFusible(f"output_layer with activation={_name(layer.activation)}")


def _name(function) -> str:
    return function if isinstance(function, str) else getattr(function, "__name__", repr(function))


class FusedSteps(NamedTuple):
    """What all steps of a cell gave, time major."""

    outputs: Any  # [T, B, A]
    weights: Any  # [T, B, S], None without attention
    state: Any  # after the last step, without alignment history


def can_fuse(cell: Any) -> bool:
    """Whether all parts of a cell can be fused."""
    try:
        parts_of(cell)
    except NotFusible:
        return False
    return True


def fused_steps(
    parts: Parts,
    inputs: Any,
    state: Any,
    memory: Memory | None,
    active: Any,
    training: Any,
    gaps: bool = True,
) -> FusedSteps:
    """All steps of a cell.

    inputs [T, B, D]; state: of the cell, before the first step; memory: projected; active: [T, B]
    bool or None, where it is False the state stays as it is; gaps: whether a row may be active
    after a step in which it is not. Rows are sorted by their last active step, so that a step
    computes only rows that have not ended (not under XLA, whose shapes are fixed).
    """
    masks = [_dropout_mask(cell, training) for cell in parts.cells]
    if active is None or in_xla():
        return _steps(parts, inputs, state, memory, active, None, masks)
    steps = tf.range(1, tf.shape(active)[0] + 1)[:, None]
    last = tf.reduce_max(tf.where(active, steps, 0), 0)
    order = tf.argsort(last, direction="DESCENDING", stable=True)
    rows = tf.reduce_sum(tf.cast(steps <= last, tf.int32), 1)

    back = tf.math.invert_permutation(order)

    def take(nest, index, inverse, axis=0):
        return tf.nest.map_structure(
            lambda x: _permuted(x, index, inverse, axis) if tf.is_tensor(x) else x, nest
        )

    inputs, active = take((inputs, active if gaps else None), order, back, 1)
    history = getattr(state, "alignment_history", None)
    if history is not None:
        state = state._replace(alignment_history=())
    state, memory, masks = take((state, memory, masks), order, back)
    outputs, weights, state = _steps(parts, inputs, state, memory, active, rows, masks)
    outputs, weights = take((outputs, weights), back, order, 1)
    state = take(state, back, order)
    if history is not None:
        state = state._replace(alignment_history=history)
    return FusedSteps(outputs, weights, state)


def _permuted(x, index, inverse, axis):
    """x with its entries in another order; the gradient is a gather, too."""

    @tf.custom_gradient
    def permuted(x):
        return tf.gather(x, index, axis=axis), lambda dy: _permuted(dy, inverse, index, axis)

    return tf.ensure_shape(permuted(x), x.shape)


def _steps(parts, inputs, state, memory, active, rows, masks):
    """See `fused_steps`; rows: those of `recurrence`."""
    cells, wrapper = parts.cells, parts.wrapper
    dtype = tf.as_dtype(cells[0].compute_dtype)
    cell_state = state if wrapper is None else state.cell_state
    layers = [_weights(cell, dtype, mask) for cell, mask in zip(cells, masks)]
    packing = None if rows is None else computed(rows, tf.shape(inputs)[1])
    given, layers[0] = _project(layers[0], inputs, packing, dtype)
    attention, mask, activation, start = None, None, "linear", None
    if wrapper is not None and memory is not None:
        attention, activation = _attention(wrapper, memory, dtype)
        mask, start = memory.mask, tf.cast(state.attention, dtype)
        _check_rows(memory, inputs)
    leaves = iter(tf.nest.flatten(cell_state))
    counts = [2 if type(cell) in _LSTM else 1 for cell in cells]
    states = [tuple(tf.cast(next(leaves), dtype) for _ in range(count)) for count in counts]
    found = recurrence(given, layers, states, attention, start, mask, active, activation, rows)
    after = [tf.cast(leaf, dtype) for leaf in tf.nest.flatten(found.states)]
    after = same_structure(cell_state, after)
    if wrapper is None:
        return FusedSteps(found.hidden, None, after)
    alignments = tf.cast(_last(found.weights, state.alignments, active, rows), dtype)
    after = state._replace(
        cell_state=after, attention=found.fed, alignments=alignments, attention_state=alignments
    )
    outputs = found.attention if wrapper.step_functions.output_attention else found.hidden
    return FusedSteps(outputs, tf.cast(found.weights, dtype), after)


def zero_inactive(x: Any, active: Any) -> Any:
    """x [T, B, ...] in the active rows and steps [T, B], zeros elsewhere."""
    shape = tf.concat([tf.shape(active), tf.ones([x.shape.rank - 2], tf.int32)], 0)
    return tf.where(tf.reshape(active, shape), x, tf.zeros([], x.dtype))


def _check_rows(memory, inputs) -> None:
    """One row of the memory for each row: a product would broadcast a memory of one row."""
    tf.debugging.assert_equal(
        tf.shape(memory.keys)[0],
        tf.shape(inputs)[1],
        message="The memory must have one row for each row of the inputs.",
    )


def _dropout_mask(cell, training):
    """The mask of a cell's inputs [B, I], drawn before; None without dropout."""
    if not training or not cell.dropout:
        return None
    return cell.get_dropout_mask(None)


def _weights(cell, dtype, mask):
    """The weights of a cell, in its compute dtype, with all of its kernel."""
    kernel, recurrent = (tf.cast(w, dtype) for w in (cell.kernel, cell.recurrent_kernel))
    bias = None if not cell.use_bias else tf.cast(cell.bias, dtype)
    if type(cell) in _LSTM:
        return LSTMWeights(recurrent, kernel, bias, mask)
    both = (None, None) if bias is None else (bias[0], bias[1])
    return GRUWeights(recurrent, kernel, both[0], mask, both[1])


def _project(layer, inputs, packing, dtype):
    """The product of all inputs, which needs no loop, and what is left of the layer.

    inputs [T, B, D]; packing: of the rows and steps that are computed, None for all -> the inputs
    times their part of the kernel, plus the bias, [T, B, G]; the layer with the part of its kernel
    that multiplies the attention, or None.
    """
    width = inputs.shape[2]
    fed = layer.kernel.shape[0] - width
    # Parts of a split have one gradient together; those of slices would be padded and added.
    kernel, of_attention = tf.split(layer.kernel, [width, fed]) if fed else (layer.kernel, None)
    rows, mask = tf.cast(inputs, dtype), layer.mask
    if mask is not None:
        rows *= tf.cast(mask[:, :width], dtype)
        mask = mask[:, width:] if fed else None
    flat = tf.reshape(rows, [-1, width]) if packing is None else pack(rows, packing)
    flat = tf.matmul(flat, kernel)
    if layer.bias is not None:
        flat += layer.bias
    if packing is None:
        given = tf.reshape(flat, [*_sizes(inputs), kernel.shape[1]])
    else:
        given = unpack(flat, packing)
    given = tf.ensure_shape(given, [*inputs.shape[:2], kernel.shape[1]])
    return given, layer._replace(kernel=of_attention, mask=mask, bias=None)


def _sizes(x):
    """T and B, static where known."""
    dynamic = tf.shape(x)
    return [x.shape[i] if x.shape[i] is not None else dynamic[i] for i in range(2)]


def _attention(wrapper, memory, dtype):
    """The attention of a wrapper and the name of its activation."""
    mechanism, layer = wrapper.attention_mechanism, wrapper.attention_layer
    keys, v = widen(memory.keys), None
    if isinstance(mechanism, BahdanauAttention):
        v, bias = mechanism.direction()
        keys = keys if bias is None else keys + bias
    else:
        keys = mechanism.scaled(keys)
    query = mechanism.query_layer
    part = RecurrentAttention(
        keys,
        memory.values,
        None if query is None else tf.cast(query.kernel, dtype),
        v,
        None if layer is None else tf.cast(layer.kernel, dtype),
        None if layer is None or not layer.use_bias else tf.cast(layer.bias, dtype),
    )
    return part, "linear" if layer is None else _name(layer.activation)


def _last(weights, first, active, rows):
    """The alignments of each row's last active step.  [T, B, S], [B, S], [T, B] -> [B, S]."""
    weights = tf.concat([tf.cast(first, weights.dtype)[None], weights], 0)
    if active is None and rows is None:
        return weights[-1]
    if active is None:
        active = tf.range(tf.shape(first)[0]) < rows[:, None]
    steps = tf.range(1, tf.shape(active)[0] + 1)[:, None]
    index = tf.reduce_max(tf.where(active, steps, 0), 0)
    return tf.gather(tf.transpose(weights, [1, 0, 2]), index, batch_dims=1)
