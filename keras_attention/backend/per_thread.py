"""Attributes that hold the arguments of a call, separately for each thread."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

_NOTHING = object()


class PerThread:
    """An attribute with a value for each thread.

    The interfaces of tfa.seq2seq store arguments on the object: `setup_memory` before a call,
    `initialize` before `step`. If several threads use such an object at once, they must not see
    each other's values. So a thread reads the value that it set last itself. A thread that never
    set the attribute reads the value that any thread set last: workers can use a memory that the
    main thread has bound.

    >>> class Box:
    ...     content = PerThread()
    >>> box = Box()
    >>> box.content = "mine"
    >>> other = threading.Thread(target=setattr, args=(box, "content", "theirs"))
    >>> other.start(), other.join()
    (None, None)
    >>> box.content
    'mine'
    """

    def __init__(self, default: Any = _NOTHING):
        self._default = default

    def __set_name__(self, owner, name):
        self._name = name

    def _values(self, instance) -> "_Values":
        return vars(instance).setdefault(f"_each_{self._name}", _Values(self._default))

    def __get__(self, instance, owner=None) -> Any:
        if instance is None:
            return self
        value = self._values(instance).get()
        if value is _NOTHING:
            raise AttributeError(f"{type(instance).__name__} has no {self._name!r} yet.")
        return value

    def __set__(self, instance, value):
        self._values(instance).set(value)

    @contextlib.contextmanager
    def within(self, instance: Any, value: Any) -> Iterator[None]:
        """Within: this thread reads `value`; other threads are not affected."""
        own = self._values(instance).own
        before = vars(own).copy()
        own.value = value
        try:
            yield
        finally:
            vars(own).clear()
            vars(own).update(before)


class _Values:
    """The value of each thread, and the latest value of all."""

    def __init__(self, latest):
        self.latest, self.own = latest, threading.local()

    def get(self):
        return getattr(self.own, "value", self.latest)

    def set(self, value):
        self.own.value = self.latest = value

    def __reduce__(self):  # a copy starts with the value of the thread that copies
        return _Values, (self.get(),)


class HasPerThread:
    """Before `keras.layers.Layer`, which skips setting an attribute to the value it has."""

    def __setattr__(self, name, value):
        field = getattr(type(self), name, None)
        if isinstance(field, PerThread):
            field.__set__(self, value)
        else:
            super().__setattr__(name, value)
