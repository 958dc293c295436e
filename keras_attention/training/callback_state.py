"""The state of callbacks: what has changed of their attributes since `fit` began."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import keras
import numpy as np

from keras_attention.training.packing import CannotPack, fingerprint, is_code, pack, unpack

# Attributes of every callback that are no state of it.
_NO_STATE = {"_model", "model", "params", "validation_data"}
# Their objects are files, which they open again.
_FILES = (keras.callbacks.CSVLogger, keras.callbacks.TensorBoard)


class CallbackState:
    """The state of a callback, relative to the moment when this is made.

    >>> callback = keras.callbacks.EarlyStopping()
    >>> state = CallbackState("EarlyStopping", callback)
    >>> callback.wait = 3
    >>> saved, lost = state.save({})
    >>> saved, lost
    ({'attributes': {'wait': 3}}, [])
    >>> again = keras.callbacks.EarlyStopping()
    >>> CallbackState("EarlyStopping", again).restore(saved, {})
    >>> again.wait
    3
    """

    def __init__(self, key: str, callback: keras.callbacks.Callback):
        self.key, self.callback = key, callback
        self._first, self.lost = self._fingerprints()

    def save(self, arrays: dict[str, np.ndarray]) -> tuple[dict[str, Any], list[str]]:
        """What has changed, as JSON with arrays added to `arrays`; and what cannot be saved.

        Raises ValueError if `get_state` of the callback returns something that cannot be saved.
        """
        now, lost = self._fingerprints()
        name = f"callbacks/{self.key}"
        state = {
            attribute: pack(getattr(self.callback, attribute), arrays, f"{name}/{attribute}")
            for attribute, value in now.items()
            if self._first.get(attribute) != value
        }
        found: dict[str, Any] = {"attributes": state} if state else {}
        if hasattr(self.callback, "get_state"):
            try:
                found["state"] = pack(
                    self.callback.get_state(), arrays, f"{name}/state of get_state"
                )
            except CannotPack as error:
                raise ValueError(
                    f"get_state of {type(self.callback).__name__} must return numbers, strings, "
                    f"arrays, or lists and dicts of these. Received: a {error}."
                ) from error
        return found, lost

    def restore(self, saved: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        """Set what `save` returned first."""
        for name, packed in saved.get("attributes", {}).items():
            now = getattr(self.callback, name, None)
            setattr(self.callback, name, unpack(packed, arrays, now))
        if "state" in saved and hasattr(self.callback, "set_state"):
            self.callback.set_state(unpack(saved["state"], arrays))

    def _fingerprints(self) -> tuple[dict[str, str], list[str]]:
        """Of the attributes that can be saved; the names of the others, if they may matter."""
        found, lost = {}, []
        tells = hasattr(self.callback, "get_state") or isinstance(self.callback, _FILES)
        for name, value in _attributes(self.callback).items():
            try:
                found[name] = fingerprint(value)
            except CannotPack as error:
                pure = callable(value) and getattr(value, "__closure__", value) is None
                of_keras = type(self.callback).__module__.startswith("keras.")
                if not tells and not (pure and of_keras):
                    lost.append(f"{self.key}.{name} ({error})")
        return found, lost


def states_of(callbacks: Iterable[keras.callbacks.Callback]) -> list[CallbackState]:
    """One of each, named by its class, with a number where there are several of one."""
    callbacks = list(callbacks)
    return [CallbackState(key, callback) for key, callback in zip(_keys(callbacks), callbacks)]


def _keys(callbacks) -> Iterator[str]:
    seen: dict = {}
    for callback in callbacks:
        name = type(callback).__qualname__
        number = seen[name] = seen.get(name, 0) + 1
        yield name if number == 1 else f"{name} {number}"


def _attributes(callback):
    """What may be state of a callback, by name."""
    if isinstance(callback, keras.callbacks.ProgbarLogger):
        return {}
    # Keras' monitors change the sign of min_delta when they choose monitor_op, a function. In a new
    # process they choose it again, and change the sign again.
    unsaved = _NO_STATE | ({"min_delta"} if hasattr(callback, "monitor_op") else set())
    return {
        name: value
        for name, value in vars(callback).items()
        if name not in unsaved and value is not callback.model and not is_code(value)
    }
