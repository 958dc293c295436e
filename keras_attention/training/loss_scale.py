"""Loss scaling in which the replicas decide together."""

from typing import Any

import keras
import tensorflow as tf

# Keras 2 has another one, in `keras.mixed_precision`, which this package does not replace.
_Keras: Any = getattr(keras.optimizers, "LossScaleOptimizer", keras.optimizers.Optimizer)


@keras.saving.register_keras_serializable(package="keras_attention")
class LossScaleOptimizer(_Keras):
    """`keras.optimizers.LossScaleOptimizer` that skips a step if any replica has overflowed.

    (Micikevicius et al., 2018.) That of Keras looks at the gradients before they are summed over
    the replicas of `tf.distribute`: a worker whose gradient overflows skips the step, and the
    others wait for it. Pass this one to `compile` under mixed_float16 and several replicas, with
    other wrappers inside: `LossScaleOptimizer(ClipByGlobalNorm(Adam(), 1.0))`.

    >>> optimizer = LossScaleOptimizer(keras.optimizers.SGD(1.0), initial_scale=8.0)
    >>> weight = keras.Variable([0.0])
    >>> optimizer.apply([tf.constant([float("inf")])], [weight])
    >>> optimizer.apply([tf.constant([8.0])], [weight])  # of a loss times 8, which is now 4
    >>> float(weight[0])
    -2.0
    """

    def __init__(self, inner_optimizer, *args, **kwargs):
        if not isinstance(inner_optimizer, keras.optimizers.Optimizer) or isinstance(
            inner_optimizer, _Keras
        ):
            raise ValueError(
                "LossScaleOptimizer needs an optimizer that does not scale the loss itself. "
                f"Received: {inner_optimizer!r}."
            )
        super().__init__(inner_optimizer, *args, **kwargs)
        if not self.initial_scale > 0 or not self.dynamic_growth_steps >= 1:
            raise ValueError(
                "initial_scale must be above 0, and dynamic_growth_steps at least 1. Received: "
                f"{self.initial_scale} and {self.dynamic_growth_steps}."
            )

    def check_finite(self, grads):
        """Whether all gradients of all replicas are finite, a bool."""
        finite = tf.convert_to_tensor(super().check_finite(grads))
        context = tf.distribute.get_replica_context()
        if context is None or context.num_replicas_in_sync == 1:
            return finite
        count = context.all_reduce("SUM", tf.cast(finite, tf.int32))
        return tf.equal(count, context.num_replicas_in_sync)
