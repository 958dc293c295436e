"""What Keras asks of a decoder and does not offer: one place for each of its corners."""

from typing import Any, NamedTuple

import keras
import tensorflow as tf

no_autograph = tf.autograph.experimental.do_not_convert
register = keras.saving.register_keras_serializable("keras_attention")


class Opaque:
    """A state that Keras must not look into.

    Keras refuses a call argument that mixes tensors with anything else, and a TensorArray is
    something else. A box is one single argument, and no tensor.
    """

    def __init__(self, content: Any):
        self.content = content


def hide(state: Any) -> Any:
    """The state as Keras may see it: boxed if it holds a TensorArray, itself if not."""
    holds_array = any(isinstance(leaf, tf.TensorArray) for leaf in tf.nest.flatten(state))
    return Opaque(state) if holds_array else state


def reveal(state: Any) -> Any:
    """The inverse of `hide`."""
    return state.content if isinstance(state, Opaque) else state


def serialize(thing: Any) -> Any:
    """A layer or function as JSON, without the shapes of its weights, which the owner keeps."""
    if thing is None or isinstance(thing, str):
        return thing
    config = keras.saving.serialize_keras_object(thing)
    if isinstance(config, dict):
        config.pop("build_config", None)
    return config


def deserialize(config: Any) -> Any:
    """The inverse of `serialize`."""
    return keras.saving.deserialize_keras_object(config) if isinstance(config, dict) else config


def static_shape(x: Any) -> tuple:
    """[None, 3] of a tensor whose batch is unknown, as a tuple of int and None."""
    return tuple(tf.TensorShape(x.shape).as_list())


def in_xla() -> bool:
    """Whether this code is being traced for XLA, where arrays have a fixed size."""
    if tf.executing_eagerly():
        return False
    from tensorflow.python.ops import control_flow_util  # no public name tells

    graph = tf.compat.v1.get_default_graph()
    return bool(control_flow_util.GraphOrParentsInXlaContext(graph))


def same_structure(template: Any, value: Any) -> Any:
    """`value` in the containers of `template`: Keras hands tuples back as lists."""
    return tf.nest.pack_sequence_as(template, tf.nest.flatten(value))


class DropoutMasks(NamedTuple):
    """The dropout masks of a decoding, drawn before its loop and dropped after it.

    Keras' cells draw their mask at the first step and keep it; inside a loop that first step
    is the loop's body, and what was drawn there must not be used outside.
    """

    cells: tuple

    @classmethod
    def of(cls, cell: Any) -> "DropoutMasks":
        """Every cell below `cell` that draws masks: `.cell` and `.cells` are followed."""
        inner = [getattr(cell, "cell", None), *(getattr(cell, "cells", None) or ())]
        found = [leaf for part in inner if part is not None for leaf in cls.of(part).cells]
        if hasattr(cell, "kernel") and hasattr(cell, "reset_dropout_mask"):
            found.append(cell)
        return cls(tuple(found))

    def draw(self, batch_size: tf.Tensor) -> None:
        """One mask per cell for the whole sequence, as `keras.layers.RNN` draws them."""
        self.drop()
        for cell in self.cells:
            dtype = cell.compute_dtype
            cell.get_dropout_mask(tf.ones([batch_size, cell.kernel.shape[0]], dtype))
            cell.get_recurrent_dropout_mask(tf.ones([batch_size, cell.units], dtype))

    def drop(self) -> None:
        """Forget the masks, so that the next sequence gets its own."""
        for cell in self.cells:
            cell.reset_dropout_mask()
            cell.reset_recurrent_dropout_mask()
