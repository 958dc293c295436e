"""A check shared by the layers that contain an attention."""

from typing import Any

from keras_attention.layers.attention import Attention


def inner(attention: Any, policy: Any) -> Attention:
    """The inner attention; by default `Attention(dot)`."""
    attention = Attention(dtype=policy) if attention is None else attention
    if isinstance(attention, Attention):
        return attention
    raise ValueError(
        "attention must be a keras_attention.layers.Attention, such as Attention(dot). Received: "
        f"attention={attention!r}"
    )
