"""Functions that decoders need and Keras does not offer."""

import contextlib
import os
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import tensorflow as tf
from tensorflow.python.autograph.core import config as autograph_rules

from keras_attention.backend.cells import (  # noqa: F401
    check_cell,
    output_width,
    step,
    zero_state,
)
from keras_attention.backend.saving import (  # noqa: F401
    deserialize,
    listed_cells,
    serialize,
    track,
)
from keras_attention.backend.states import check_structure

KERAS_3 = int(keras.__version__.split(".")[0]) >= 3  # else the legacy stack's Keras 2.15

# RNN handles the dropout masks only of cells of this type, which has no public name.
if KERAS_3:
    from keras import KerasTensor
    from keras.src.layers.rnn.dropout_rnn_cell import DropoutRNNCell as DrawsMasks  # noqa: F401
else:
    from keras.src.engine.keras_tensor import KerasTensor
    from keras.src.layers.rnn.dropout_rnn_cell_mixin import (
        DropoutRNNCellMixin as DrawsMasks,  # noqa: F401
    )

no_autograph = tf.autograph.experimental.do_not_convert

register = keras.saving.register_keras_serializable("keras_attention")


class _NotConverted(autograph_rules.DoNotConvert):
    """A rule for the modules in one directory, whatever they are called."""

    def get_action(self, module):
        inside = str(getattr(module, "__file__", None) or "").startswith(self._prefix + os.sep)
        actions = autograph_rules.Action
        return actions.DO_NOT_CONVERT if inside else actions.NONE


def never_convert(package: str) -> None:
    """Exempt the modules below this directory from autograph.

    A plain `tf.function` converts the source of all that it calls, which takes seconds for a model.
    No public function exempts a whole package.
    """
    rules = autograph_rules.CONVERSION_RULES
    autograph_rules.CONVERSION_RULES = (_NotConverted(package), *rules)


never_convert(os.path.dirname(os.path.dirname(__file__)))  # keras_attention


def as_converted(function: Callable) -> Callable:
    """A caller's function, converted by autograph if the code that calls us is converted.

    Autograph does not see a function that is called from here.
    """
    status = tf.__internal__.autograph.control_status_ctx()
    if status.status.name != "ENABLED":
        return function
    return tf.__internal__.autograph.tf_convert(function, status)


class Opaque:
    """A state that Keras must treat as one opaque argument.

    Keras rejects a call argument that mixes tensors with other objects, and a TensorArray is such
    an object. A box is a single argument that is not a tensor.
    """

    def __init__(self, content: Any):
        self.content = content


def to_containers(state: Any) -> Any:
    """The state as an argument for Keras: boxed if it holds a TensorArray, else unchanged."""
    holds_array = any(isinstance(leaf, tf.TensorArray) for leaf in tf.nest.flatten(state))
    return Opaque(state) if holds_array else state


def from_containers(state: Any) -> Any:
    """The inverse of `to_containers`."""
    return state.content if isinstance(state, Opaque) else state


def as_tensors(nest: Any) -> Any:
    """NumPy arrays, numbers and variables as tensors; other arguments unchanged."""

    def convert(leaf):
        keep = isinstance(leaf, (KerasTensor, tf.TensorArray)) or callable(leaf) or leaf is None
        return leaf if keep or tf.is_tensor(leaf) else tf.convert_to_tensor(leaf)

    return tf.nest.map_structure(convert, nest)


def tensors_of(values: Any) -> Any:
    """A nest of tensors; numbers in lists are one tensor."""
    if not any(hasattr(leaf, "shape") for leaf in tf.nest.flatten(values)):
        return tf.convert_to_tensor(values)
    return tf.nest.map_structure(tf.convert_to_tensor, values)


def state_width(size: Any) -> Any:
    """A width for `state_size` of a cell; an unknown one is None, or a shape in Keras 2.

    `()`, no state, is returned as it is.
    """
    if isinstance(size, int) or size == ():
        return size
    return None if KERAS_3 else tf.TensorShape([None])


# One lock for all layers: a layer builds the layers inside of it, and two may share one.
_building = threading.RLock()


@contextlib.contextmanager
def building(layer: Any):
    """Within: weights are made as in a call of the layer, by one thread at a time.

    Their names contain the layer's name, which distinguishes them in an .h5 file of Keras 2, and
    they are made outside of the graph that is being traced. Threads that make the first call of a
    layer together wait for the first of them; each must check inside whether the layer is built
    already. (The replicas of a tf.distribute strategy take turns by themselves.)
    """
    alone = contextlib.nullcontext() if tf.distribute.has_strategy() else _building
    with alone, tf.init_scope(), tf.name_scope(layer.name):
        yield


def build(layer: Any, *shapes: Any) -> None:
    """Build a layer before its first call, once. A plain function is not built."""
    if not getattr(layer, "built", True):
        with building(layer):
            if not layer.built:
                layer.build(*shapes)


@contextlib.contextmanager
def open_for_layers(layer: Any):
    """Within: a built layer accepts new layers as attributes, which Keras 3 rejects."""
    tracker = getattr(layer, "_tracker", None)
    if tracker is None or not getattr(tracker, "locked", False):
        yield
        return
    tracker.unlock()
    try:
        yield
    finally:
        tracker.lock()


def build_part(layer: Any, shape: Any) -> None:
    """Build a part of a decoder, if its input shape is all that it needs.

    A model, or a layer without its own `build`, makes its weights when it is called.
    """
    has_build = getattr(type(layer), "build", None) is not keras.layers.Layer.build
    if isinstance(layer, keras.layers.Layer) and has_build and not isinstance(layer, keras.Model):
        build(layer, shape)


def static_shape(x: Any) -> tuple:
    """The static shape as a tuple of int and None, such as (None, 3)."""
    return tuple(tf.TensorShape(x.shape).as_list())


def is_plain_dense(layer: Any) -> bool:
    """Whether a layer is a Dense that multiplies by its kernel, without quantization or LoRA."""
    return (
        type(layer) is keras.layers.Dense
        and layer.built
        and getattr(layer, "quantization_mode", None) is None  # Keras 2 has neither
        and not getattr(layer, "lora_enabled", False)
    )


def in_xla() -> bool:
    """Whether this code is being traced for XLA, where arrays have a fixed size."""
    if tf.executing_eagerly():
        return False
    from tensorflow.python.ops import control_flow_util  # there is no public function

    graph = tf.compat.v1.get_default_graph()
    return bool(control_flow_util.GraphOrParentsInXlaContext(graph))


def same_structure(template: Any, value: Any) -> Any:
    """`value` in the containers of `template`: Keras returns tuples as lists."""
    if len(tf.nest.flatten(value)) != len(tf.nest.flatten(template)):
        check_structure(template, value, "A state")
    return tf.nest.pack_sequence_as(template, tf.nest.flatten(value))


class DropoutMasks(NamedTuple):
    """The dropout masks of a decoding, drawn before its loop and removed after it.

    Keras' cells draw their mask at the first step and keep it. In a loop the first step is in the
    loop's body, and a tensor made there must not be used outside.
    """

    cells: tuple

    @classmethod
    def of(cls, cell: Any) -> "DropoutMasks":
        """All cells inside of `cell` that draw masks; follows `.cell` and `.cells`."""
        inner = [getattr(cell, "cell", None), *(getattr(cell, "cells", None) or ())]
        found = [leaf for part in inner if part is not None for leaf in cls.of(part).cells]
        draws = hasattr(cell, "kernel") and hasattr(cell, "reset_dropout_mask")
        if draws or hasattr(cell, "draw_masks"):
            found.append(cell)
        return cls(tuple(found))

    def draw(self, batch_size: tf.Tensor) -> None:
        """One mask per cell for the whole sequence, as `keras.layers.RNN` draws them."""
        self.drop()
        for cell in self.cells:
            if hasattr(cell, "draw_masks"):  # not one of Keras': it manages its masks
                cell.draw_masks(batch_size)
                continue
            for getter, width in zip(_MASK_GETTERS, (cell.kernel.shape[0], cell.units)):
                ones = tf.ones([batch_size, width], cell.compute_dtype)
                if KERAS_3:
                    getattr(cell, getter)(ones)
                else:
                    _pin_mask(cell, getter, ones)

    def drop(self) -> None:
        """Remove the masks, so that the next sequence draws new ones."""
        for cell in self.cells:
            if hasattr(cell, "drop_masks"):
                cell.drop_masks()
                continue
            for getter in _MASK_GETTERS:
                vars(cell).pop(getter, None)
            cell.reset_dropout_mask()
            cell.reset_recurrent_dropout_mask()


_MASK_GETTERS = ("get_dropout_mask", "get_recurrent_dropout_mask")
if not KERAS_3:
    _MASK_GETTERS = tuple(f"{getter}_for_cell" for getter in _MASK_GETTERS)


def _pin_mask(cell: Any, getter: str, ones: tf.Tensor) -> None:
    """Keras 2 keeps a mask per graph, and a loop body is a graph: return this mask in both."""
    gates = cell.kernel.shape[1] // cell.units
    mask = getattr(cell, getter)(ones, training=True, count=gates)
    quiet = tf.nest.map_structure(lambda _: ones, mask)
    vars(cell)[getter] = lambda inputs, training, count=1: mask if training else quiet
