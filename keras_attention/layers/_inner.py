"""What layers share that draw from an attention, or cut it."""

from typing import Any

from keras_attention.layers.attention import Attention


def inner(attention: Any, policy: Any) -> Attention:
    """What another layer weighs its slots with; by dot, if None."""
    attention = Attention(dtype=policy) if attention is None else attention
    if isinstance(attention, Attention):
        return attention
    raise ValueError(f"attention must be an Attention. Received: attention={attention!r}")
