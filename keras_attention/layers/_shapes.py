"""Checks of shapes that several layers share."""

from typing import Any

import tensorflow as tf

from keras_attention.functional.attend import Memory
from keras_attention.functional.shapes import check_shapes

__all__ = ["check_shapes", "check_head_shapes", "check_spatial_shapes"]

_MASKS = {2: "B? S", 3: "B? T? S?", 4: "B? H? T? S?"}


def check_head_shapes(query: Any, memory: Any = None, mask: Any = None) -> None:
    """Check the arguments of multi-head attention.

    query [B, T, D]; memory [B, S, D'], a `Memory` of heads, or None: the query itself; mask
    [B, S], [B, T, S] or [B, H, T, S]. Raises ValueError that names the axis that does not fit.
    """
    slots = "T" if memory is None else "S"
    letters = "B S D'"
    if isinstance(memory, Memory):
        memory, letters = memory.keys, "B G S Dk"
    of_mask = "B? S"
    if mask is not None:
        mask = tf.convert_to_tensor(mask)
        if len(mask.shape) not in _MASKS:
            raise ValueError(
                f"mask must be [B, S], [B, T, S] or [B, H, T, S]. Received: shape {mask.shape}"
            )
        of_mask = _MASKS[len(mask.shape)]
    check_shapes(
        query=("B T D", query),
        memory=(letters, memory),
        mask=(of_mask.replace("S", slots), mask),
    )


def check_spatial_shapes(x: Any, mask: Any = None) -> None:
    """Check a sequence, image or video [B, ..., D], and its mask [B, ...].

    Raises ValueError that names the axis that does not fit.
    """
    places = {3: "S", 4: "Y X", 5: "Z Y X"}.get(len(x.shape))
    if places is not None:
        lead = " ".join(f"{place}?" for place in places.split())
        check_shapes(x=(f"B {places} D", x), mask=(f"B? {lead}", mask))
