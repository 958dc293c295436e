"""The receptive field of stacked dilated causal convolutions (van den Oord et al., 2016)."""

from collections.abc import Iterable


def receptive_field(dilations: Iterable[int], kernel_size: int = 2) -> int:
    """The number of inputs of the last output: 1 + (kernel_size - 1) * sum of the dilations.

    >>> receptive_field([2**i for i in range(10)])  # WaveNet's 1, 2, ..., 512
    1024
    """
    return 1 + (kernel_size - 1) * sum(dilations)


def tc_dilations(length: int, first_exponent: int = 1) -> list[int]:
    """The ceil(log2 T) dilations of SNAIL's TC block, for sequences of T steps.

    The paper's listing begins with 2^1 (Mishra et al., 2018, section 3), so with kernels of 2 an
    output depends only on steps at even distances; with `first_exponent=0` on all T of them.

    Raises ValueError for T below 2.

    >>> tc_dilations(20), tc_dilations(20, first_exponent=0)
    ([2, 4, 8, 16, 32], [1, 2, 4, 8, 16])
    """
    if length < 2 or first_exponent < 0:
        raise ValueError(
            "length T must be at least 2 and first_exponent at least 0. Received: "
            f"T={length}, first_exponent={first_exponent}"
        )
    count = (length - 1).bit_length()  # ceil(log2 T), exactly
    return [2**i for i in range(first_exponent, first_exponent + count)]
