"""Classes that Keras can find by their registered names before their files are imported."""

from collections.abc import Callable
from typing import Any

import keras


class LateClass:
    """A placeholder for a class in Keras' registry, until it is used.

    It is replaced when the file of the class is imported.
    """

    def __init__(self, find: Callable[[], type]):
        self._find = find

    def __getattr__(self, name: str) -> Any:
        # Special methods, which copy uses, are its own; `_find` is missing in a new copy.
        if name == "_find" or (name.startswith("__") and name != "__name__"):
            raise AttributeError(name)
        return getattr(self._find(), name)

    def __call__(self, *args, **kwargs) -> Any:
        return self._find()(*args, **kwargs)


def register_late(name: str, find: Callable[[], type]) -> None:
    """Let Keras find `keras_attention>name` by calling `find()`, unless it is registered."""
    objects = keras.saving.get_custom_objects()
    known = objects.get(f"keras_attention>{name}")
    if known is None or isinstance(known, LateClass):
        objects[f"keras_attention>{name}"] = LateClass(find)
