"""A check shared by the layers that contain an attention."""

from typing import Any

from keras_attention.layers.attention import Attention


def inner(attention: Any, policy: Any) -> Attention:
    """The inner attention; by default `Attention(dot)`."""
    attention = Attention(dtype=policy) if attention is None else attention
    if isinstance(attention, Attention):
        return attention
    raise ValueError(f"attention must be an Attention. Received: attention={attention!r}")
