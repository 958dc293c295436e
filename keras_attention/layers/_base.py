"""The base class of the layers: output shapes, errors for Keras' names, rematerialization."""

import inspect
import random
from typing import Any

import keras
import tensorflow as tf

from keras_attention.backend.keras_names import check_call, check_settings
from keras_attention.backend.saving import as_tensor
from keras_attention.layers._masks import warn_of_lost_mask
from keras_attention.layers._remat import Rematerialized

# Roles of arguments, by the last word of their names.
_DTYPES = {"mask": "bool", **dict.fromkeys(("ids", "tokens", "token", "length"), "int32")}


class _UnknownShape(ValueError, NotImplementedError):
    """ValueError for callers; Keras' `summary` shows "?" only for a NotImplementedError."""


class InfersOutputShape:
    """Before `keras.layers.Layer`: infers output shapes by tracing `call`.

    Keras 3 traces `call` for the output of a symbolic call, but `compute_output_shape`, which
    `TimeDistributed`, `Bidirectional`, `Sequential` and `summary` use, raises NotImplementedError.
    Here both trace `call`, so they agree for every argument.
    """

    def compute_output_shape(self, *shapes, **named_shapes) -> Any:
        """The output shapes of `call` for inputs of these shapes; None is an unknown size.

        Shapes are passed in the order of the arguments of `call`, or by name, with or without the
        suffix `_shape`. A layer that is not built stays so: a copy is traced. Raises ValueError if
        it cannot be copied, for instance because it holds a lambda.
        """
        if not hasattr(keras, "Operation"):  # Keras 2 traces by itself
            return super().compute_output_shape(*shapes, **named_shapes)
        parameters = inspect.signature(self.call).parameters
        names = list(parameters)
        takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        arguments = dict(zip(names, shapes))
        for name, shape in named_shapes.items():
            name = name.removesuffix("_shape")
            known = name in names or (takes_any and name != "input")
            arguments[name if known else names[0]] = shape
        arguments = {
            name: _tensors(shape, _DTYPES.get(name.split("_")[-1], self.compute_dtype))
            for name, shape in arguments.items()
            if shape is not None
        }
        if self.built:
            try:
                spec = self.compute_output_spec(**arguments)
            except (TypeError, ValueError) as error:  # TypeError: an argument without a shape
                raise _UnknownShape(*error.args) from error
        else:
            spec = _call_copy(self, arguments)
        return keras.tree.map_structure(lambda x: None if x is None else tuple(x.shape), spec)

    def compute_output_spec(self, *args, **kwargs) -> Any:
        """Trace `call`: `compute_output_shape` would give Keras shapes, but no dtypes."""
        warn_of_lost_mask(self, args, kwargs)
        return super(keras.layers.Layer, self).compute_output_spec(*args, **kwargs)


class Layer(InfersOutputShape, Rematerialized, keras.layers.Layer):
    """A Keras layer that accepts numbers in nested lists, and infers its output shape.

    >>> class Twice(Layer):
    ...     def call(self, x):
    ...         return tf.concat([x, x], -1)
    >>> Twice().compute_output_shape((None, 3))
    (None, 6)
    >>> Twice()([[1.0, 2.0]]).shape
    TensorShape([1, 4])
    """

    def __init__(self, **kwargs):
        check_settings(self, kwargs)
        super().__init__(**kwargs)

    @tf.autograph.experimental.do_not_convert
    def __call__(self, *args, **kwargs):
        args = [as_tensor(value) for value in args]
        kwargs = {name: as_tensor(value) for name, value in kwargs.items()}
        check_call(self, args, kwargs)
        return super().__call__(*args, **kwargs)


def _tensors(shape: Any, dtype: Any) -> Any:
    """A symbolic tensor of this shape, or a nest of them."""
    if isinstance(shape, dict):
        return {name: _tensors(part, dtype) for name, part in shape.items()}
    if all(size is None or isinstance(size, int) for size in shape):
        return keras.KerasTensor(tuple(shape), dtype)
    parts = [None if part is None else _tensors(part, dtype) for part in shape]
    return type(shape)(*parts) if hasattr(shape, "_fields") else type(shape)(parts)


def _call_copy(layer: keras.layers.Layer, arguments: dict) -> Any:
    """The result of a new layer with the same configuration."""
    state = random.getstate()  # Keras draws seeds from it: keep later seeds unchanged
    try:
        try:
            copy = type(layer).from_config(layer.get_config())
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"The output shape of an unbuilt {type(layer).__name__} is inferred from a copy: "
                "build or call the layer first, or register its functions with Keras. "
                f"Received: a layer that cannot be copied: {error}"
            ) from error
        with tf.init_scope():
            return copy(**arguments)
    finally:
        random.setstate(state)
