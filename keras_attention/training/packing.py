"""Python values as JSON and arrays, for a checkpoint, and back."""

import collections
import hashlib
import inspect
import json
import random
import sys
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

_SEQUENCES = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}
_SEQUENCES["deque"] = collections.deque
_DICTS = (dict, collections.OrderedDict, collections.defaultdict, collections.Counter)


class CannotPack(ValueError):
    """The value is none of those that `pack` knows."""


def pack(value: Any, arrays: dict[str, np.ndarray], name: str) -> Any:
    """A value as JSON; its arrays are added to `arrays`, under keys that begin with `name`.

    None, numbers, strings, bytes, arrays, tensors, the values of variables, the states of random
    generators, and lists, tuples, sets, deques and dicts of these.

    Raises:
        CannotPack: for anything else.

    >>> arrays = {}
    >>> packed = pack({"best": [1.5, np.ones(2)]}, arrays, "a")
    >>> packed, list(arrays)
    ({'dict': [['best', {'list': [1.5, {'array': 'a/0'}]}]]}, ['a/0'])
    >>> unpack(packed, arrays)
    {'best': [1.5, array([1., 1.])]}
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, bytes):
        return {"bytes": value.decode("latin-1")}
    if (array := _array(value)) is not None:
        kind, content = array
        key = f"{name}/{sum(key.startswith(f'{name}/') for key in arrays)}"
        arrays[key] = content
        return {kind: key}
    if (state := generator_state(value)) is not None:
        return {"generator": pack(state, arrays, name)}
    for kind, of_kind in _SEQUENCES.items():
        if type(value) is of_kind:
            return {kind: [pack(item, arrays, name) for item in value]}
    if type(value) in _DICTS:
        pairs = value.items()
        return {"dict": [[pack(k, arrays, name), pack(v, arrays, name)] for k, v in pairs]}
    raise CannotPack(type(value).__name__)


def unpack(packed: Any, arrays: Mapping[str, np.ndarray], now: Any = None) -> Any:
    """The value that was packed.

    `now`: the present one. Variables, random generators and containers of the same type are
    changed in place, and returned.
    """
    if not isinstance(packed, dict):
        return packed
    [(kind, content)] = packed.items()
    if kind == "bytes":
        return content.encode("latin-1")
    if kind == "generator":
        set_generator_state(now, unpack(content, arrays))
        return now
    if kind in ("array", "number", "tensor", "variable"):
        array = arrays[content]
        if kind == "variable":
            now.assign(array)
            return now
        kinds = {"array": np.array, "number": lambda a: a[()], "tensor": tf.constant}
        return kinds[kind](array)
    if kind == "dict":
        known = now if type(now) in _DICTS else {}
        pairs = ((unpack(k, arrays), v) for k, v in content)
        items = {k: unpack(v, arrays, known.get(k)) for k, v in pairs}
        return _in_place(now, items) if type(now) in _DICTS else items
    present = list(now) if type(now) in (list, tuple) else []
    present += [None] * (len(content) - len(present))
    items = [unpack(item, arrays, old) for item, old in zip(content, present)]
    kept = kind in ("list", "set", "deque") and type(now) is _SEQUENCES[kind]
    return _in_place(now, items) if kept else _SEQUENCES[kind](items)


def fingerprint(value: Any) -> str:
    """The same for equal values that can be packed. Raises CannotPack for others."""
    arrays: dict[str, np.ndarray] = {}
    found = hashlib.blake2b(json.dumps(pack(value, arrays, "")).encode())
    for array in arrays.values():
        found.update(f"{array.dtype} {array.shape}".encode())
        found.update(np.ascontiguousarray(array).view(np.uint8).data if array.size else b"")
    return found.hexdigest()


def is_code(value: Any) -> bool:
    """Whether it is a class, module, or function that can be imported: it has no state."""
    if isinstance(value, np.ufunc) or inspect.isclass(value) or inspect.ismodule(value):
        return True
    found: Any = sys.modules.get(getattr(value, "__module__", None) or "builtins")
    for part in getattr(value, "__qualname__", "<").split("."):
        found = getattr(found, part, None)
    return found is not None and found is value


def _array(value):
    """(kind, array) of an array, NumPy number, tensor or variable of numbers; else None."""
    if isinstance(value, np.generic):
        found = "number", np.array(value)
    elif isinstance(value, np.ndarray):
        found = "array", np.array(value)
    elif isinstance(value, (keras.Variable, tf.Variable)):
        found = "variable", np.array(value.numpy())
    elif isinstance(value, tf.Tensor) and hasattr(value, "numpy"):
        found = "tensor", np.array(value.numpy())
    else:
        return None
    if found[1].dtype.kind not in "biufcV" or found[1].dtype.names:
        return None
    return found


def generator_state(value: Any) -> Any:
    """The state of a random generator, a value for `pack`; None if it is none."""
    if isinstance(value, random.Random) and type(value) is not random.SystemRandom:
        return value.getstate()
    if isinstance(value, np.random.Generator):
        return value.bit_generator.state
    if isinstance(value, np.random.RandomState):
        return value.get_state()
    if isinstance(value, (tf.random.Generator, keras.random.SeedGenerator)):
        return np.array(value.state.numpy())
    return None


def set_generator_state(value: Any, state: Any) -> None:
    """Set the state of a random generator, if it is one."""
    if isinstance(value, random.Random):
        value.setstate(state)
    elif isinstance(value, np.random.Generator):
        value.bit_generator.state = state
    elif isinstance(value, np.random.RandomState):
        value.set_state(state)
    elif value is not None:
        value.state.assign(state)


def _in_place(container, items):
    container.clear()
    container.extend(items) if isinstance(container, (list, collections.deque)) else (
        container.update(items)
    )
    return container
