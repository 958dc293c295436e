"""An optimizer wrapper: clipping with the same result on one device and on many."""

import contextlib

import keras
import tensorflow as tf

from keras_attention.training.accumulation import AccumulateGradients
from keras_attention.training.clipping import checked, clip_by_global_norm
from keras_attention.training.wrapped_optimizer import (
    WrappedOptimizer,
    is_overwritten,
    sum_once,
    summed_already,
)

_RULES = (
    "clipnorm",
    "global_clipnorm",
    "clipvalue",
    "gradient_accumulation_steps",
    "loss_scale_factor",
)


# Of tests/benchmarks/worker_throughput.py, each gradient by itself takes 1.5 times as long as packs
# of 8 MB, and packs of 64 MB 1.8 times.
_IN_PACKS = tf.distribute.experimental.CommunicationOptions(bytes_per_pack=8 << 20)


@keras.saving.register_keras_serializable(package="keras_attention")
class ClipByGlobalNorm(WrappedOptimizer):
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
        super().__init__(_check_no_clipping(keras.optimizers.get(optimizer)), name)
        self.norm = checked(norm)
        self._sums_once = self.built and sum_once(self.inner_optimizer)

    def _check_setting(self, name, value):
        if name in _RULES and value is not None:
            raise ValueError(_reject_setting(name, value))

    def build(self, variables):
        super().build(variables)
        _check_no_clipping(self.inner_optimizer)
        self._sums_once = sum_once(self.inner_optimizer)

    def apply(self, grads, trainable_variables=None):
        """Clip `grads`, summed over the replicas if there are several, and apply them."""
        grads, variables, passed = self._lists(grads, trainable_variables)
        overwritten = [is_overwritten(variable) for variable in variables]
        kept = [None if over else gradient for over, gradient in zip(overwritten, grads)]
        once = self._sums_once and not any(overwritten)  # Keras sums those
        clipped = _clipped_over_replicas(kept, self.norm, once)
        both = zip(overwritten, grads, clipped)
        clipped = [given if over else gradient for over, given, gradient in both]
        with summed_already() if once else contextlib.nullcontext():
            self.inner_optimizer.apply(clipped, passed)

    def get_config(self):
        return {**super().get_config(), "norm": self.norm}


def _clipped_over_replicas(gradients, norm, once):
    """The clipped sum of the replicas' gradients; if the optimizer sums again, a share of it."""
    context = tf.distribute.get_replica_context()
    replicas = context.num_replicas_in_sync if context else 1
    if replicas == 1:
        return clip_by_global_norm(gradients, norm)[0]
    # Dense, because a sum of sparse gradients keeps repeated rows.
    dense = [tf.convert_to_tensor(g) for g in gradients if g is not None]
    if not dense:
        return gradients
    summed = context.all_reduce("SUM", dense, options=_IN_PACKS)
    clipped = iter(clip_by_global_norm(summed, norm)[0])
    share = 1 if once else replicas
    return [None if g is None else next(clipped) / tf.cast(share, g.dtype) for g in gradients]


def _check_no_clipping(optimizer):
    """Reject optimizers that would clip twice, clip each small batch, or clip scaled gradients."""
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        raise ValueError(
            "ClipByGlobalNorm would clip scaled gradients. Received: a LossScaleOptimizer. "
            "Reverse the order: LossScaleOptimizer(ClipByGlobalNorm(optimizer, norm))."
        )
    if isinstance(optimizer, AccumulateGradients):
        raise ValueError(
            "ClipByGlobalNorm would clip each small batch. Received: an AccumulateGradients. "
            "Reverse the order: AccumulateGradients(ClipByGlobalNorm(optimizer, norm), steps)."
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
