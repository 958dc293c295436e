"""What of a search a caller may set at run time."""

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from keras_attention.seq2seq import Control
from keras_attention.seq2seq.controls import temperature, top_k, top_p

__all__ = ["Settings"]


class Settings(NamedTuple):
    """What of a search may vary at run time; here as it is when nobody says otherwise."""

    length_penalty: Any = 0.0  # 0 prefers short answers
    coverage_penalty: Any = 0.0
    temperature: Any = 1.0
    top_k: Any = 0  # 0: all
    top_p: Any = 1.0  # 1: all
    max_length: Any = 64  # tokens of an answer, the end token counted
    seed: Any = -1  # negative: the exported search; else K draws, the same for the same seed

    def controls(self) -> tuple[list[Control], list[Control]]:
        """Those that are on: what changes log p, to come first, and what measures it, to come last.

        Of a tensor nobody knows before it runs whether it is off: then that is asked at each step.

        >>> first, last = Settings(top_k=5).controls()
        >>> first, [control.name for control in last]
        ([], ['top_k(5)'])
        """
        t, k, p = self.temperature, self.top_k, self.top_p
        return (
            _if(t != 1.0, temperature, t),
            _if(k > 0, top_k, k) + _if(p < 1.0, top_p, p),
        )

    def demand_ranges(self, longest: int, looks: bool) -> None:
        """InvalidArgumentError, when they arrive, if they are outside of their ranges.

        `longest`: what `max_length` may be; `looks`: whether there is an attention to penalise.
        """
        ranges = {
            "temperature": (self.temperature > 0, "above 0"),
            "top_k": (self.top_k >= 0, "0 or more"),
            "top_p": ((self.top_p > 0) & (self.top_p <= 1), "above 0 and at most 1"),
            "max_length": (
                (self.max_length >= 1) & (self.max_length <= longest),
                f"1 to {longest}, the exported one",
            ),
            "coverage_penalty": (
                tf.equal(self.coverage_penalty, 0.0) | looks,
                "0, as this model has no attention",
            ),
        }
        for name, (holds, wanted) in ranges.items():
            tf.debugging.Assert(
                holds, [f"Expected {name} {wanted}. Received: ", getattr(self, name)]
            )


TYPES = Settings(*[tf.float32] * 3, tf.int32, tf.float32, tf.int32, tf.int32)


def _if(is_on: Any, make: Callable[[Any], Control], value: Any) -> list[Control]:
    if not tf.is_tensor(is_on):
        return [make(value)] if is_on else []
    one = make(value)

    def apply(log_probs, state):
        return tf.cond(is_on, lambda: one.apply(log_probs, state), lambda: log_probs)

    return [one._replace(apply=apply)]
