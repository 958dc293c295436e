"""Weights set to their moving average now and then, also under `tf.distribute`."""

import keras

from keras_attention.functional.arguments import check_whole


class OverwriteWithAverage(keras.callbacks.Callback):
    """Sets the weights to their moving average every `steps` updates.

    The average is that of the optimizer: `keras.optimizers.Adam(use_ema=True, ema_momentum=0.99)`.
    It does what `ema_overwrite_frequency` of Keras' optimizers does on one device, which fails
    under `tf.distribute` (github.com/keras-team/keras/issues/20582). At the end of `fit` Keras sets
    the weights to the average anyway; to evaluate with the average during a training, see
    `keras.callbacks.SwapEMAWeights`.

    Args:
        steps: updates between two overwritings, at least 1. With `steps_per_execution` it happens
            after the execution in which the number is reached.

    Raises:
        ValueError: `steps` is no whole number of at least 1, or, when `fit` begins, the optimizer
            has no average.

    >>> OverwriteWithAverage(100).steps
    100
    """

    def __init__(self, steps: int):
        super().__init__()
        check_whole("steps", steps, 1)
        self.steps = int(steps)
        self._last = 0

    def on_train_begin(self, logs=None):
        optimizer = self.model.optimizer
        optimizer = getattr(optimizer, "inner_optimizer", optimizer)
        if not getattr(optimizer, "use_ema", False):
            raise ValueError(
                "OverwriteWithAverage needs an optimizer with use_ema=True. Received: "
                f"{type(optimizer).__name__} without. Pass use_ema=True and ema_momentum to it."
            )
        self._last = self._updates()

    def on_train_batch_end(self, batch, logs=None):
        now = self._updates()
        if now // self.steps > self._last // self.steps:
            self.model.optimizer.finalize_variable_values(self.model.trainable_variables)
        self._last = now

    def _updates(self):
        return int(self.model.optimizer.iterations.numpy())
