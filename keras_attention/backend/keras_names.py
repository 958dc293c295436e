"""Errors for arguments with the names of Keras' attention layers, which state our names."""

import inspect
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

# Name in Keras -> ours; the message states the first one that the layer has.
_SETTINGS = {
    "key_dim": ("key_width",),
    "value_dim": ("value_width",),
    "head_dim": ("key_width",),
    "output_shape": ("output_width",),
    "num_query_heads": ("num_heads",),
    "num_key_value_heads": ("num_key_heads", "key_heads"),
    "num_heads": ("heads",),
    "intermediate_dim": ("ff_width",),
    "score_mode": ("score",),
    "use_scale": ("score",),
}
_ARGUMENTS = {
    "value": ("memory",),
    "key": ("memory",),
    "attention_mask": ("mask",),
    "padding_mask": ("mask",),
    "value_mask": ("memory_mask", "mask"),
    "key_mask": ("memory_mask", "mask"),
    "use_causal_mask": ("causal", "mask"),
    "return_attention_scores": ("return_weights",),
}
_NOTES = {
    "key": "Keys and values are two projections of one memory.",
    "use_causal_mask": "For a causal mask use causal=True, or mask=functional.causal(T).",
    "score_mode": "A score is a function or a layer: Attention(dot), Attention(AdditiveScore()).",
    "use_scale": "Attention(scaled_dot) is scaled; Attention(GeneralScore()) learns a matrix.",
}


def check_settings(layer: Any, settings: dict) -> None:
    """Raise ValueError for constructor arguments that Keras' layers have and this one does not."""
    if settings.keys() & _SETTINGS.keys():
        parameters = {
            name
            for parent in type(layer).__mro__  # a variant passes its **kwargs to them
            if parent.__module__.startswith("keras_attention.") and "__init__" in vars(parent)
            for name in inspect.signature(parent.__init__).parameters
        }
        _refuse(layer, settings, _SETTINGS, parameters, type(layer).__name__)


def check_call(layer: Any, args: Sequence, kwargs: dict) -> None:
    """Raise ValueError for a call in the way of Keras: `layer([q, v])`, `layer(q, v, k)`."""
    if kwargs.keys() & _ARGUMENTS.keys():
        parameters = set(inspect.signature(layer.call).parameters)
        _refuse(layer, kwargs, _ARGUMENTS, parameters, "The call of this layer")
    plain = type(args[0]) in (list, tuple) if args else False  # not a NamedTuple
    if not plain and len(args) < 3 and not isinstance(kwargs.get("mask"), (list, tuple)):
        return
    names = list(inspect.signature(layer.call).parameters)
    if "memory" not in names[:2]:
        return
    name = type(layer).__name__
    if plain and any(hasattr(x, "shape") for x in args[0]):
        raise ValueError(
            f"{name} takes two arguments, layer(query, memory), not a list as the attention layers "
            f"of Keras do. Received: a {type(args[0]).__name__} of {len(args[0])}"
        )
    mask: Any = args[2] if len(args) > 2 and names[2] == "mask" else kwargs.get("mask")
    if isinstance(mask, (list, tuple)) and any(m is None or hasattr(m, "shape") for m in mask):
        of_memory = "memory_mask" if "memory_mask" in names else "mask"
        raise ValueError(
            f"{name} takes one mask of its memory, {of_memory}=, not a list of masks as the "
            f"attention layers of Keras do. Received: a list of {len(mask)}"
        )
    if len(args) > 2 and names[2] == "mask" and getattr(mask, "dtype", tf.bool) != tf.bool:
        if len(mask.shape) == 3 and tf.as_dtype(mask.dtype).is_floating:
            raise ValueError(
                f"The third argument of {name} is mask, boolean, where the attention layers of "
                "Keras take a key: keys and values are two projections of one memory. Received: "
                f"{tf.as_dtype(mask.dtype).name} of shape {tuple(mask.shape)}"
            )


def _refuse(layer, given, table, parameters, owner):
    for name in given:
        if name not in table or name in parameters:
            continue
        ours = next((new for new in table[name] if new in parameters), None)
        if ours is None:
            continue
        note = f" {_NOTES[name]}" if name in _NOTES else ""
        raise ValueError(
            f"{owner} has no argument {name!r}, the name in Keras: use {ours!r} of "
            f"{type(layer).__name__}.{note} Received: {name}={_short(given[name])}"
        )


def _short(value):
    return f"a tensor of shape {tuple(value.shape)}" if hasattr(value, "shape") else repr(value)
