"""An optimizer wrapper: clipping with the same result on one device and on many."""

import copy

import keras
import tensorflow as tf

from keras_attention.training.clipping import checked, clip_by_global_norm

_RULES = (
    "clipnorm",
    "global_clipnorm",
    "clipvalue",
    "gradient_accumulation_steps",
    "loss_scale_factor",
)
_OWN = {"name", "norm", "inner_optimizer", "built", "_lock", "_tracker"}


@keras.saving.register_keras_serializable(package="keras_attention")
class ClipByGlobalNorm(keras.optimizers.Optimizer):
    """An optimizer that clips by the true global norm, then lets another optimizer apply.

    `keras.optimizers.Adam(global_clipnorm=...)` differs in two ways: it does not add repeated
    rows of an embedding's gradient before taking the norm, and under `tf.distribute` it clips on
    each replica before the sum. Here the gradients are summed over the replicas first, so
    training on n devices equals training on one.

    It has no state: all other attributes (`variables`, `learning_rate`, `use_ema`, the `optimizers`
    of a `keras.optimizers.MultiOptimizer`, ...) are read from and set on `optimizer`, so Keras'
    callbacks work as with it. Variables that Keras overwrites with their gradient (the scales of
    float8 training) are not clipped, and not part of the norm. For float16, put it inside:
    `LossScaleOptimizer(ClipByGlobalNorm(Adam()))`, which `model.compile` also creates under a
    mixed_float16 policy.

    Args:
        optimizer: a `keras.optimizers.Optimizer` without clipping, gradient accumulation or
            loss scaling of its own (nor in the parts of a `MultiOptimizer`), or its name.
        norm: the limit, > 0, in the units of the gradient.

    Raises:
        ValueError: `norm` is not positive and finite, or `optimizer` clips, accumulates or scales
            (parts that a `MultiOptimizer` chooses by a function are known when it is built).

    >>> weight = keras.Variable([0.0, 0.0])
    >>> optimizer = ClipByGlobalNorm(keras.optimizers.SGD(1.0), norm=1.0)
    >>> optimizer.apply([tf.constant([3.0, 4.0])], [weight])
    >>> [round(float(x), 6) for x in weight.numpy()]
    [-0.6, -0.8]
    """

    def __init__(self, optimizer: keras.optimizers.Optimizer | str, norm: float, name=None):
        super().__init__(learning_rate=0.0, name=name)
        self.norm = checked(norm)
        inner = _check_no_clipping(keras.optimizers.get(optimizer))
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
        if inner is None or name in _OWN or name.startswith("_") or hasattr(type(self), name):
            super().__setattr__(name, value)
        elif name in _RULES and value is not None:
            raise ValueError(_reject_setting(name, value))
        else:
            setattr(inner if hasattr(inner, name) else super(), name, value)

    def build(self, variables):
        self.inner_optimizer.build(variables)
        _check_no_clipping(self.inner_optimizer)
        self.built = True

    def apply_gradients(self, grads_and_vars):
        """Apply (gradient, variable) pairs, and return the number of steps so far."""
        self.apply(*zip(*grads_and_vars))
        return self.iterations

    def apply(self, grads, trainable_variables=None):
        """Clip `grads`, summed over the replicas if there are several, and apply them."""
        grads = list(grads)
        if not self.built and trainable_variables is not None:
            self.build(list(trainable_variables))
        known = trainable_variables is None
        variables = self._trainable_variables if known else list(trainable_variables)
        clipped = _clipped_over_replicas(
            [None if _is_overwritten(v) else g for g, v in zip(grads, variables)],
            self.norm,
        )
        both = zip(grads, clipped, variables)
        clipped = [given if _is_overwritten(v) else gradient for given, gradient, v in both]
        self.inner_optimizer.apply(clipped, None if known else variables)

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
        return {"name": self.name, "optimizer": optimizer, "norm": self.norm}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        # A copy: Keras modifies the configuration of an optimizer that it creates.
        inner = copy.deepcopy(config["optimizer"])
        optimizer = keras.saving.deserialize_keras_object(inner, custom_objects=custom_objects)
        return cls(**{**config, "optimizer": optimizer})


def _is_overwritten(variable):
    """Whether Keras assigns the gradient to this variable instead of descending (float8)."""
    return getattr(variable, "overwrite_with_gradient", False)


def _clipped_over_replicas(gradients, norm):
    """The gradients of each replica for an optimizer that sums over the replicas again."""
    context = tf.distribute.get_replica_context()
    replicas = context.num_replicas_in_sync if context else 1
    if replicas == 1:
        return clip_by_global_norm(gradients, norm)[0]
    # Dense, because the optimizer's own sum would repeat each sparse row once per replica.
    dense = [tf.convert_to_tensor(g) for g in gradients if g is not None]
    if not dense:
        return gradients
    clipped = iter(clip_by_global_norm(context.all_reduce("SUM", dense), norm)[0])
    return [None if g is None else next(clipped) / tf.cast(replicas, g.dtype) for g in gradients]


def _check_no_clipping(optimizer):
    """Reject optimizers that would clip twice, clip each small batch, or clip scaled gradients."""
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        raise ValueError(
            "ClipByGlobalNorm would clip scaled gradients. Received: a LossScaleOptimizer. "
            "Reverse the order: LossScaleOptimizer(ClipByGlobalNorm(optimizer, norm))."
        )
    if isinstance(optimizer, ClipByGlobalNorm):
        raise ValueError(_reject_setting("norm", optimizer.norm))
    for rule in _RULES:
        value = getattr(optimizer, rule, None)
        if value is not None:
            raise ValueError(_reject_setting(rule, value))
    for part in getattr(optimizer, "optimizers", ()):
        _check_no_clipping(part)
    return optimizer


def _reject_setting(rule, value):
    return (
        f"The optimizer inside ClipByGlobalNorm must leave {rule} at None, or the limit "
        f"would not hold. Received: {rule}={value}."
    )
