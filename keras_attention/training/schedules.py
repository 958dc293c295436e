"""Learning rate schedules."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("keras_attention")
class InverseSquareRoot(keras.optimizers.schedules.LearningRateSchedule):
    """Increase linearly to `peak` at step `warmup`, then decrease with the root of the step.

        rate = peak * min(step / warmup, sqrt(warmup / step)),    step = 1, 2, ...

    (Vaswani et al., 2017, eq. 3, whose peak is (D * warmup)^-0.5: `InverseSquareRoot.of_width`.)

    Args: `peak` > 0, `warmup` >= 1 steps. Raises ValueError otherwise.

    >>> schedule = InverseSquareRoot.of_width(512, warmup=4000)
    >>> [float(f"{float(schedule(step - 1)):.3e}") for step in (1, 4000, 100_000)]
    [1.747e-07, 0.0006988, 0.0001398]
    """

    def __init__(self, peak: float, warmup: int = 4000):
        if peak <= 0 or warmup < 1:
            raise ValueError(
                "peak must be positive and warmup at least 1. Received: "
                f"peak={peak}, warmup={warmup}"
            )
        self.peak, self.warmup = peak, warmup

    @classmethod
    def of_width(cls, width: int, warmup: int = 4000) -> "InverseSquareRoot":
        """The schedule of the paper, for a model of width D."""
        return cls((width * warmup) ** -0.5, warmup)

    def __call__(self, step):
        """`step` starts at 0, as in optimizers; that of the formula at 1."""
        step = tf.cast(step, tf.float32) + 1.0
        return self.peak * tf.minimum(step / self.warmup, tf.sqrt(self.warmup / step))

    def get_config(self):
        return {"peak": self.peak, "warmup": self.warmup}
