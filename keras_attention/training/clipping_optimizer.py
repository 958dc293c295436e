"""An optimizer around an optimizer: clipping that is the same on one device and on many."""

import keras
import tensorflow as tf

from keras_attention.training.clipping import checked, clip_by_global_norm


@keras.saving.register_keras_serializable(package="keras_attention")
class ClipByGlobalNorm(keras.optimizers.Optimizer):
    """An optimizer that clips by the true global norm, then lets another optimizer apply.

    `keras.optimizers.Adam(global_clipnorm=...)` differs in two ways: it does not add repeated
    rows of an embedding's gradient before taking the norm, and under `tf.distribute` it clips on
    each replica before the sum. Here the gradients are summed over the replicas first, so
    training on n devices equals training on one.

    It owns no state: `variables`, `learning_rate` and `iterations` are those of `optimizer`.
    For float16, keep it inside: `LossScaleOptimizer(ClipByGlobalNorm(Adam()))`, which is also
    what `model.compile` makes of it under a mixed_float16 policy.

    Args:
        optimizer: a `keras.optimizers.Optimizer` without clipping, gradient accumulation or
            loss scaling of its own, or its name.
        norm: the limit, > 0, in the units of the gradient.

    Raises:
        ValueError: `norm` is not positive and finite, or `optimizer` clips, accumulates or scales.

    >>> weight = keras.Variable([0.0, 0.0])
    >>> optimizer = ClipByGlobalNorm(keras.optimizers.SGD(1.0), norm=1.0)
    >>> optimizer.apply([tf.constant([3.0, 4.0])], [weight])
    >>> [round(float(x), 6) for x in weight.numpy()]
    [-0.6, -0.8]
    """

    def __init__(self, optimizer: keras.optimizers.Optimizer | str, norm: float, name=None):
        super().__init__(learning_rate=0.0, name=name)
        self.norm = checked(norm)
        self.inner_optimizer = _without_own_rules(keras.optimizers.get(optimizer))

        self.built = self.inner_optimizer.built

    def build(self, variables):
        self.inner_optimizer.build(variables)
        self.built = True

    def apply(self, grads, trainable_variables=None):
        """Clip `grads`, summed over the replicas when there are several, and apply them."""
        clipped = _clipped_over_replicas(list(grads), self.norm)
        self.inner_optimizer.apply(clipped, trainable_variables)
        self.built = self.inner_optimizer.built

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
        """Nothing: Keras also visits `inner_optimizer`, which saves the state once."""

    def load_own_variables(self, store):
        """Nothing, as in `save_own_variables`."""

    def get_config(self):
        optimizer = keras.saving.serialize_keras_object(self.inner_optimizer)
        return {"name": self.name, "optimizer": optimizer, "norm": self.norm}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        optimizer = keras.saving.deserialize_keras_object(
            config["optimizer"], custom_objects=custom_objects
        )
        return cls(**{**config, "optimizer": optimizer})


def _clipped_over_replicas(gradients, norm):
    """What each replica hands to an optimizer that will sum over the replicas once more."""
    context = tf.distribute.get_replica_context()
    replicas = context.num_replicas_in_sync if context else 1
    if replicas == 1:
        return clip_by_global_norm(gradients, norm)[0]
    # Dense: the optimizer's own sum would otherwise repeat each row once per replica.
    dense = [tf.convert_to_tensor(g) for g in gradients if g is not None]
    if not dense:
        return gradients
    clipped = iter(clip_by_global_norm(context.all_reduce("SUM", dense), norm)[0])
    return [None if g is None else next(clipped) / tf.cast(replicas, g.dtype) for g in gradients]


def _without_own_rules(optimizer):
    """Refuse what would clip twice, clip each small batch, or clip scaled gradients."""
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        raise ValueError(
            "ClipByGlobalNorm would clip scaled gradients. Received: a LossScaleOptimizer. "
            "Turn them around: LossScaleOptimizer(ClipByGlobalNorm(optimizer, norm))."
        )
    clips = ("clipnorm", "global_clipnorm", "clipvalue")
    for rule in (*clips, "gradient_accumulation_steps", "loss_scale_factor"):
        value = getattr(optimizer, rule, None)
        if value is not None:
            raise ValueError(
                f"The optimizer inside ClipByGlobalNorm must leave {rule} at None, or the limit "
                f"would not hold. Received: {rule}={value}."
            )
    return optimizer
