"""Checks of arguments that are Python numbers."""

import numbers
from typing import Any


def check_whole(name: str, value: Any, least: int, most: int | None = None) -> None:
    """Raise ValueError unless `value` is a whole number from `least` to `most`.

    A bool is none, and a float would be rounded to another number.

    >>> check_whole("steps", 3, least=1)
    """
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if whole and least <= int(value) and (most is None or int(value) <= most):
        return
    wanted = (
        f"a whole number of at least {least}"
        if most is None
        else f"whole numbers from {least} to {most}"
    )
    raise ValueError(f"{name} must be {wanted}. Received: {value!r}")
