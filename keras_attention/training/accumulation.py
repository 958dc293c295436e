"""Gradients of several steps, applied at once, also under `tf.distribute`."""

from typing import Any

import keras
import tensorflow as tf

from keras_attention.functional.arguments import check_whole
from keras_attention.training.wrapped_optimizer import WrappedOptimizer, is_overwritten


@keras.saving.register_keras_serializable(package="keras_attention")
class AccumulateGradients(WrappedOptimizer):
    """An optimizer that applies the mean gradient of every `steps` steps.

    It trains with batches that do not fit into memory: `steps` batches of B examples make one
    update, as one batch of `steps` B does if each has the same number of tokens (the mean is taken
    of the batches' mean losses). `iterations`, and so learning-rate schedules, count updates.

    `gradient_accumulation_steps` of Keras' optimizers does the same on one device and fails under
    `tf.distribute` (github.com/keras-team/keras/issues/20582). Here each replica adds up its own
    gradients, and only an update sums them over the replicas.

    Put it outermost, but for loss scaling: `AccumulateGradients(ClipByGlobalNorm(Adam(), 1.0), 4)`
    clips the accumulated gradient. Under mixed_float16 the `LossScaleOptimizer` that
    `model.compile` puts around it skips a step that overflows.

    Args:
        optimizer: a `keras.optimizers.Optimizer` that does not accumulate itself, or its name.
        steps: batches for an update, at least 1.

    Raises:
        ValueError: `steps` is no whole number of at least 1, or `optimizer` accumulates too.

    >>> weight = keras.Variable([0.0])
    >>> optimizer = AccumulateGradients(keras.optimizers.SGD(1.0), steps=2)
    >>> for gradient in (1.0, 3.0, 5.0):
    ...     optimizer.apply([tf.constant([gradient])], [weight])
    ...     print(float(weight[0]))
    0.0
    -2.0
    -2.0
    """

    def __init__(self, optimizer: keras.optimizers.Optimizer | str, steps: int, name=None):
        check_whole("steps", steps, 1)
        super().__init__(_check_inner(keras.optimizers.get(optimizer)), name)
        self.steps = int(steps)
        self._seen: Any = None  # until it is built
        self._sums: list[keras.Variable] = []

    def build(self, variables):
        super().build(variables)
        self._seen = keras.Variable(0, dtype="int64", trainable=False, name="seen")
        self._sums = [
            keras.Variable(
                tf.zeros(variable.shape, variable.dtype),
                trainable=False,
                # Each replica adds to its own; the value is their sum.
                aggregation="sum",
                synchronization="on_read",
                name=f"{variable.path.replace('/', '_')}_sum",
            )
            for variable in variables
        ]

    @property
    def _own_variables(self):
        return [] if self._seen is None else [self._seen, *self._sums]

    @property
    def variables(self):
        return [*self.inner_optimizer.variables, *self._own_variables]

    def apply(self, grads, trainable_variables=None):
        """Add `grads` to those of the earlier steps; every `steps` steps, apply their mean."""
        grads, variables, passed = self._lists(grads, trainable_variables)
        for total, gradient, variable in zip(self._sums, grads, variables, strict=True):
            if gradient is None:
                continue
            sums: Any = total.value
            if isinstance(gradient, tf.IndexedSlices) and not _has_replicas(sums):
                values = tf.cast(gradient.values, total.dtype)
                sums.scatter_add(tf.IndexedSlices(values, gradient.indices))
                continue
            dense = tf.cast(tf.convert_to_tensor(gradient), total.dtype)
            if is_overwritten(variable):
                total.value.assign(dense)
            else:
                total.value.assign_add(dense)
        self._seen.assign((tf.convert_to_tensor(self._seen) + 1) % self.steps)
        empty = [gradient is None for gradient in grads]

        def update():
            means = []
            for total, none, variable in zip(self._sums, empty, variables):
                value = tf.convert_to_tensor(total)
                mean = value if is_overwritten(variable) else value / self.steps
                means.append(None if none else mean)
            self.inner_optimizer.apply(means, passed)
            for total in self._sums:
                total.value.assign(tf.zeros_like(total.value))

        context = tf.distribute.get_replica_context()
        if context is None or context.num_replicas_in_sync == 1:
            self._when_full(update)
        else:
            # The inner optimizer communicates, which TensorFlow refuses inside a condition of a
            # replica: the condition must be outside of the replicas.
            context.merge_call(
                lambda strategy: self._when_full(
                    lambda: strategy.extended.call_for_each_replica(update)
                )
            )

    def _when_full(self, update):
        full = tf.equal(tf.convert_to_tensor(self._seen), 0)

        def branch():
            update()
            return 0

        tf.cond(full, branch, lambda: 0)

    def save_own_variables(self, store):
        """The sums and how many steps they are of; Keras also visits `inner_optimizer`."""
        for place, variable in enumerate(self._own_variables):
            store[str(place)] = tf.convert_to_tensor(variable).numpy()

    def load_own_variables(self, store):
        """As `save_own_variables` wrote them."""
        for place, variable in enumerate(self._own_variables):
            variable.assign(store[str(place)])

    def get_config(self):
        return {**super().get_config(), "steps": self.steps}


def _has_replicas(variable):
    """Whether a variable has a value for each replica; TensorFlow cannot add rows to these."""
    return isinstance(variable, tf.distribute.DistributedValues)


def _check_inner(inner):
    if isinstance(inner, keras.optimizers.LossScaleOptimizer):
        raise ValueError(
            "AccumulateGradients would add gradients of different loss scales. Received: a "
            "LossScaleOptimizer. Reverse the order: "
            "LossScaleOptimizer(AccumulateGradients(optimizer, steps))."
        )
    own = getattr(inner, "gradient_accumulation_steps", None)
    if own is not None or isinstance(inner, AccumulateGradients):
        raise ValueError(
            "The optimizer inside AccumulateGradients must not accumulate itself. Received: "
            f"{type(inner).__name__} with {own or inner.steps} steps."
        )
    return inner
