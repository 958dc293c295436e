"""An optimizer around another one, which keeps the state."""

import contextlib
import copy
import threading
from collections.abc import Iterator
from typing import Any

import keras

_OWN = {"name", "inner_optimizer", "built", "_lock", "_tracker"}


class WrappedOptimizer(keras.optimizers.Optimizer):
    """Changes the gradients, then lets another optimizer apply them.

    All attributes that a subclass lacks (`variables`, `learning_rate`, `use_ema`, the `optimizers`
    of a `keras.optimizers.MultiOptimizer`, ...) are read from and set on `inner_optimizer`, so
    Keras' callbacks work as with it. A subclass defines `apply`, and `get_config` with its own
    arguments beside the optimizer's.

    Args:
        inner: a `keras.optimizers.Optimizer`.
        name: of this one.
    """

    def __init__(self, inner: keras.optimizers.Optimizer, name: str | None = None):
        if not isinstance(inner, keras.optimizers.Optimizer):
            raise ValueError(
                f"{type(self).__name__} needs a keras.optimizers.Optimizer, or its name. "
                f"Received: {inner!r}."
            )
        super().__init__(learning_rate=0.0, name=name)
        # Attributes that Keras' constructor sets on an optimizer with state are read from `inner`.
        for attribute in set(vars(self)) & set(vars(inner)) - _OWN:
            if not attribute.startswith("_self_"):  # TensorFlow's own tracking
                delattr(self, attribute)
        self.inner_optimizer = inner
        self.built = inner.built

    def __getattr__(self, name):
        """Attributes that this class lacks are those of the inner optimizer."""
        if name == "inner_optimizer" or name.startswith(("__", "_self_")):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self.inner_optimizer, name)

    def __setattr__(self, name, value):
        """Attributes of the inner optimizer that this class lacks are set there."""
        inner = vars(self).get("inner_optimizer")
        own = name in _OWN or name.startswith("_") or name in vars(self)
        if inner is None or own or hasattr(type(self), name) or not hasattr(inner, name):
            super().__setattr__(name, value)
        else:
            self._check_setting(name, value)
            setattr(inner, name, value)

    def _check_setting(self, name, value):
        """Raise ValueError if the inner optimizer must not have this value."""

    def build(self, variables):
        self.inner_optimizer.build(variables)
        self.built = True

    def _lists(self, grads, trainable_variables):
        """Gradients, their variables, and the variables to pass to the inner optimizer, if any."""
        if not self.built and trainable_variables is not None:
            self.build(list(trainable_variables))
        if trainable_variables is None:
            return list(grads), self._trainable_variables, None
        variables = list(trainable_variables)
        return list(grads), variables, variables

    def apply_gradients(self, grads_and_vars):
        """Apply (gradient, variable) pairs, and return the number of steps so far."""
        self.apply(*zip(*grads_and_vars))
        return self.iterations

    @property
    def variables(self):
        return self.inner_optimizer.variables

    @property
    def iterations(self):
        return self.inner_optimizer.iterations

    @property
    def learning_rate(self):
        return self.inner_optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, learning_rate):
        self.inner_optimizer.learning_rate = learning_rate

    def set_weights(self, weights):
        self.inner_optimizer.set_weights(weights)

    def exclude_from_weight_decay(self, var_list=None, var_names=None):
        self.inner_optimizer.exclude_from_weight_decay(var_list, var_names)

    def finalize_variable_values(self, var_list):
        self.inner_optimizer.finalize_variable_values(var_list)

    def save_own_variables(self, store):
        """Nothing: Keras also visits `inner_optimizer`, which saves the state."""

    def load_own_variables(self, store):
        """Nothing, as in `save_own_variables`."""

    def get_config(self):
        optimizer = keras.saving.serialize_keras_object(self.inner_optimizer)
        return {"name": self.name, "optimizer": optimizer}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        # A copy: Keras modifies the configuration of an optimizer that it creates.
        inner = copy.deepcopy(config["optimizer"])
        optimizer = keras.saving.deserialize_keras_object(inner, custom_objects=custom_objects)
        return cls(**{**config, "optimizer": optimizer})


def is_overwritten(variable) -> bool:
    """Whether Keras assigns the gradient to this variable instead of descending (float8)."""
    return getattr(variable, "overwrite_with_gradient", False)


_here = threading.local()  # each replica of a process has a thread


@contextlib.contextmanager
def summed_already() -> Iterator[None]:
    """Within: optimizers after `sum_once` take gradients as summed over the replicas."""
    before, _here.summed = getattr(_here, "summed", False), True
    try:
        yield
    finally:
        _here.summed = before


def sum_once(optimizer: Any) -> bool:
    """Let an optimizer skip its own sum over the replicas within `summed_already`.

    There is no public way to hand Keras' optimizers gradients that are summed: they would be sent
    over the network a second time. Returns False if this Keras has no such method; then gradients
    must be divided by the number of replicas instead.
    """
    parts = getattr(optimizer, "optimizers", None)
    if parts:
        return all([sum_once(part) for part in parts])
    own_sum = getattr(optimizer, "_all_reduce_sum_gradients", None)
    if own_sum is None:
        return False

    def sum_or_not(pairs):
        return list(pairs) if getattr(_here, "summed", False) else own_sum(pairs)

    optimizer._all_reduce_sum_gradients = sum_or_not  # noqa: SLF001
    return True
