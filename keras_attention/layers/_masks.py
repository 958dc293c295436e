"""Warn about masks that Keras drops before one of our layers."""

import inspect
import warnings
from typing import Any

import keras

# These drop the mask from Keras 3.16 on.
_WRAPPERS = (keras.layers.RNN, keras.layers.Bidirectional, keras.layers.TimeDistributed)


def warn_of_lost_mask(layer: keras.layers.Layer, args: tuple, kwargs: dict) -> None:
    """Warn if the padding of a sequence is attended to because a Keras RNN dropped its mask.

    `args` and `kwargs` are those of a symbolic call of the layer. The mask in question is that of
    the memory, or of the first argument if the layer is called without a memory.
    """
    parameters = inspect.signature(layer.call).parameters
    arguments = inspect.signature(layer.call).bind_partial(*args, **kwargs).arguments
    sequence, mask = arguments.get("memory"), "memory_mask"
    if sequence is None:
        sequence, mask = arguments.get(next(iter(parameters))), "mask"
    mask = mask if mask in parameters else "mask"
    given = [arguments.get(name) for name in (mask, "memory_sequence_length")]
    if mask not in parameters or any(x is not None for x in given):
        return
    source = _where_lost(sequence)
    if source is not None:
        warnings.warn(
            f"The layer {layer.name!r} attends to padding: its input comes from the layer "
            f"{source.name!r}, a {type(source).__name__}, which drops the mask from Keras 3.16 on. "
            "Compute the mask once, mask = embedding.compute_mask(ids), and pass it to both layers "
            f"({mask}=mask here). See docs/keras.md.",
            stacklevel=2,
        )


def _where_lost(x: Any) -> Any:
    """The Keras RNN or wrapper that dropped the mask of the sequence x, or None."""
    while getattr(x, "_keras_mask", None) is None:
        history = getattr(x, "_keras_history", None)
        if history is None or history.tensor_index > 0:  # not a symbolic tensor, or a state
            return None
        operation = history.operation
        node = operation._inbound_nodes[history.node_index]
        drops = isinstance(operation, _WRAPPERS) and not operation.supports_masking
        keeps_steps = getattr(operation, "return_sequences", True)
        if not (node.input_tensors and keeps_steps and (drops or _supports_masking(operation))):
            return None
        x = node.input_tensors[0]
        explicit_mask = node.arguments.kwargs.get("mask")
        if drops and (explicit_mask is not None or getattr(x, "_keras_mask", None) is not None):
            return operation
    return None


def _supports_masking(operation: Any) -> bool:
    return getattr(operation, "supports_masking", False)
