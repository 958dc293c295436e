"""The argument `memory`: a tensor that is not projected yet, or what `prepare_memory` gave."""

from typing import Any

import tensorflow as tf

from keras_attention.functional import Memory


def is_raw(memory: Any) -> bool:
    """Whether a memory is a tensor [B, S, D] that was not prepared yet."""
    return hasattr(memory, "shape")


def prepared(memory: Any) -> Memory:
    """What `prepare_memory` gave, whatever has become of its type."""
    if len(memory) != 3 or not all(map(is_raw, memory)):
        raise ValueError(
            "memory must be a tensor [B, S, D], or what prepare_memory gave. Received: "
            f"{type(memory).__name__} of {len(memory)}"
        )
    return Memory(*memory)


def refuse_both(lengths: Any, mask: Any) -> None:
    """ValueError where a memory is given lengths and a mask."""
    if lengths is not None and mask is not None:
        raise ValueError(
            "memory_sequence_length and memory_mask cannot be used at the same time: they say the "
            "same thing. Pass the one you have."
        )


def resolve_memory_mask(arguments: dict) -> dict:
    """The arguments of a call, with the Keras mask of a raw memory if nothing else is said."""
    memory = arguments.get("memory")
    lengths, mask = (arguments.get(f"memory_{name}") for name in ("sequence_length", "mask"))
    refuse_both(lengths, mask)
    if memory is None and not (lengths is None and mask is None):
        raise ValueError(
            "memory_sequence_length and memory_mask belong to a memory that is handed over with "
            "them as memory=. Received: no memory. A bound one has its own: see setup_memory."
        )
    implicit = getattr(memory, "_keras_mask", None) if tf.is_tensor(memory) else None
    if implicit is None or lengths is not None or mask is not None:
        return arguments
    return {**arguments, "memory_mask": implicit}
