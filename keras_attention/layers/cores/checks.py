"""Errors for arguments that a core declares it does not support."""

from typing import Any

from keras_attention.layers.cores.core import Core


def check_call(core: Core, memory: Any, mask: Any, bias: Any, return_weights: bool) -> None:
    """Raise ValueError for an argument of a call that the core declares it does not support."""
    if memory is not None and not core.takes_memory:
        raise ValueError(
            f"{core} supports self-attention only, of one sequence [B, T, D]: leave memory out, "
            "or use a core with takes_memory, such as Full(). Received: a memory"
        )
    if mask is not None and len(mask.shape) != 2 and not core.takes_pair_masks:
        raise ValueError(
            f"{core} computes no [T, S] weights, so mask must be [B, S] (S = T without a memory). "
            f"Received: shape {mask.shape}"
        )
    if bias is not None and not core.takes_bias:
        raise ValueError(
            f"{core} has no [T, S] scores to add a bias to: leave bias out. Received: a bias"
        )
    if return_weights and not core.returns_weights:
        raise ValueError(
            f"{core} computes no [T, S] weights: leave return_weights out, or use the core Full(). "
            f"Received: return_weights={return_weights}"
        )


def check_dropout(core: Core, rate: float) -> None:
    """Raise ValueError for a dropout of weights that the core does not compute."""
    if rate and not core.applies_dropout:
        raise ValueError(
            f"{core} computes no weights that could be dropped: dropout must be 0. "
            f"Received: dropout={rate}"
        )
