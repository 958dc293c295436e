"""The random generators of a process: Python's, NumPy's, Keras' and TensorFlow's."""

import random

import numpy as np
import tensorflow as tf
from tensorflow.python.eager import context
from tensorflow.python.ops import stateful_random_ops


def get_random_state() -> dict:
    """The states of all of them, for `set_random_state`; None for those that are not in use.

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
    }


def set_random_state(state: dict) -> None:
    """Go on from a state that `get_random_state` returned."""
    if state["keras"] is not None:
        _of_keras(create=True).state.assign(state["keras"])
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


def _of_keras(create=False):
    """The generator of `keras.random` without a seed, or None if nothing has drawn from it."""
    from keras.src.backend.common import global_state  # Keras 3 only
    from keras.src.random import seed_generator

    found = global_state.get_global_attribute(seed_generator.GLOBAL_SEED_GENERATOR)
    return seed_generator.global_seed_generator() if found is None and create else found


def _eager_ops() -> random.Random | None:
    """The generator of the seeds of eager ops, if `tf.random.set_seed` was called."""
    return getattr(context.context(), "_rng", None)
