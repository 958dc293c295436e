"""One check of shapes, in the letters of the docs."""

from collections.abc import Sequence


def fit(**named: tuple[str, Sequence]) -> None:
    """Each argument has the axes it is said to have, and what bears one letter has one size.

    `fit(query=("B T D", shape), memory=("B S D'", shape))`. A last axis D must be known; what else
    is None fits. Raises ValueError naming the axis, what was expected and what came.

    >>> fit(query=("B T D", (None, 3, 4)), memory=("B S E", (2, 5, 4)))
    >>> fit(query=("B T D", (None, 3, 4)), memory=("B S E", (2, 4)))
    Traceback (most recent call last):
    ValueError: memory must be [B, S, E]. Received: memory of shape (2, 4)
    """
    sizes: dict = {}
    for name, (letters, shape) in named.items():
        axes, shape = letters.split(), tuple(shape or ())
        wanted = f"{name} must be [{', '.join(axes)}]"
        if len(axes) != len(shape):
            raise ValueError(f"{wanted}. Received: {name} of shape {shape}")
        if axes[-1].startswith("D") and shape[-1] is None:
            raise ValueError(f"{wanted} with a known {axes[-1]}. Received: {name} of shape {shape}")
        for axis, size in zip(axes, shape):
            expected, of = sizes.setdefault(axis, (size, name))
            if size is not None and expected is not None and size != expected:
                raise ValueError(
                    f"{wanted} with {axis} = {expected}, as in {of}. Received: {name} of shape "
                    f"{shape}"
                )
            if expected is None:
                sizes[axis] = (size, name)
