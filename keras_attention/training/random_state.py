"""The random generators of a process: Python's, NumPy's, Keras' and TensorFlow's."""

import contextlib
import functools
import inspect
import random
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.eager import context
from tensorflow.python.ops import stateful_random_ops

from keras_attention.training.packing import generator_state, set_generator_state


def get_random_state(more: Iterable[Any] = ()) -> dict:
    """The states of all of them, and of the generators in `more`, for `set_random_state`.

    None for those that are not in use.

    The generator behind `keras.random` without a seed, and that of `tf.random` without a seed
    outside of functions, are not public. Ops of `tf.random` within a function keep a state of their
    own that nobody can read: `random_ops_of` finds them.

    >>> state = get_random_state()
    >>> drawn = random.random(), np.random.rand()
    >>> set_random_state(state)
    >>> drawn == (random.random(), np.random.rand())
    True
    """
    keras_generator = _of_keras()
    eager = _eager_ops()
    generator = stateful_random_ops.global_generator
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "keras": keras_generator and np.array(keras_generator.state.numpy()),
        "tensorflow": eager and eager.getstate(),
        "generator": generator and np.array(generator.state.numpy()),
        "more": [generator_state(one) for one in more],
    }


def set_random_state(state: dict, more: Iterable[Any] = ()) -> None:
    """Go on from a state that `get_random_state` returned, with the same generators in `more`."""
    for generator, own in zip(more, state.get("more", ())):
        set_generator_state(generator, own)
    if state["keras"] is not None:
        made: Any = _of_keras(create=True)
        made.state.assign(state["keras"])
    if state["generator"] is not None:
        tf.random.get_global_generator().reset(state["generator"])
    eager = _eager_ops()
    if state["tensorflow"] is not None and eager is not None:
        eager.setstate(state["tensorflow"])
    np.random.set_state(state["numpy"])
    random.setstate(state["python"])  # last: a new generator of Keras draws its seed from it


def random_variables() -> list:
    """The variables of those generators that have one."""
    both = (_of_keras(), stateful_random_ops.global_generator)
    return [generator.state for generator in both if generator is not None]


def generators_of(function: Callable) -> list:
    """The random generators that a function draws from by name, in the order of their use.

    They are found in its closure, defaults, globals and object, and in those of functions and
    objects of the same module that it names; not in lists, nor in arguments of calls.

    >>> generator = np.random.default_rng(0)
    >>> generators_of(lambda epoch: generator.permutation(9)) == [generator]
    True
    """
    home, found, seen = getattr(function, "__module__", None), [], set()
    waiting: list[Any] = [function]
    for thing in waiting:  # grows
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, functools.partial):
            waiting += [thing.func, *thing.args, *thing.keywords.values()]
        elif inspect.isclass(thing) or inspect.ismodule(thing):
            continue
        elif generator_state(thing) is not None:
            found.append(thing)
        elif inspect.ismethod(thing):
            waiting += [thing.__self__, thing.__func__]
        elif thing is not function and getattr(thing, "__module__", None) != home:
            continue
        elif inspect.isfunction(thing):
            waiting += _named_by(thing)
        elif hasattr(thing, "__dict__"):
            waiting += [*vars(thing).values(), vars(type(thing)).get("__call__")]
    return found


def _named_by(function):
    """What the code of a function can name, but for builtins and its own variables."""
    cells = []
    for cell in function.__closure__ or ():
        with contextlib.suppress(ValueError):  # it is not set yet
            cells.append(cell.cell_contents)
    defaults = (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
    known = function.__globals__
    return [*cells, *defaults, *(known[n] for n in _names(function.__code__) if n in known)]


def _names(code):
    yield from code.co_names
    for inner in code.co_consts:
        if inspect.iscode(inner):
            yield from _names(inner)


def _of_keras(create=False):
    """The generator of `keras.random` without a seed, or None if nothing has drawn from it."""
    from keras.src.backend.common import global_state  # Keras 3 only
    from keras.src.random import seed_generator

    found = global_state.get_global_attribute(seed_generator.GLOBAL_SEED_GENERATOR)
    return seed_generator.global_seed_generator() if found is None and create else found


def _eager_ops() -> random.Random | None:
    """The generator of the seeds of eager ops, if `tf.random.set_seed` was called."""
    return getattr(context.context(), "_rng", None)
