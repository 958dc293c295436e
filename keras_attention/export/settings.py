"""The search settings that a request may change."""

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from keras_attention.decoding import LogitsProcessor
from keras_attention.decoding.processors import temperature, top_k, top_p

__all__ = ["Settings"]

_WHOLE = ("top_k", "max_length", "seed")  # numbers; as tensors of int32


class Settings(NamedTuple):
    """The search settings that a request may change, with their defaults."""

    length_penalty: Any = 0.0  # exponent of the length; higher values prefer longer answers
    coverage_penalty: Any = 0.0
    temperature: Any = 1.0
    top_k: Any = 0  # 0: off
    top_p: Any = 1.0  # 1: off
    max_length: Any = 64  # tokens of an answer, including the end token
    seed: Any = -1  # negative: the exported strategy; else K draws, the same for the same seed

    def processors(self) -> list[LogitsProcessor]:
        """The processors of the settings that are not off.

        Whether a tensor is off is known at run time only: then it is checked at each step.

        >>> [processor.name for processor in Settings(temperature=0.8, top_k=5).processors()]
        ['temperature(0.8)', 'top_k(5)']
        """
        t, k, p = self.temperature, self.top_k, self.top_p
        return [
            *_if(t != 1.0, temperature, t),
            *_if(k > 0, top_k, k),
            *_if(p < 1.0, top_p, p),
        ]

    def check_ranges(self, has_attention: bool, longest: int | None = None) -> None:
        """ValueError for values outside of their ranges; InvalidArgumentError for tensors, at run
        time.

        `has_attention`: whether a coverage penalty is possible; `longest`: maximum `max_length`.
        """
        length = self.max_length
        ranges = [
            (name, abs(getattr(self, name)) < float("inf"), "a finite number")
            for name in ("length_penalty", "coverage_penalty")
        ]
        if not has_attention:
            no_attention = "0, as this model has no attention"
            ranges.append(("coverage_penalty", self.coverage_penalty == 0.0, no_attention))
        ranges += [
            ("temperature", self.temperature > 0, "above 0"),
            ("temperature", self.temperature < float("inf"), "a finite number"),
            ("top_k", self.top_k >= 0, "0 or more"),
            ("top_p", (self.top_p > 0) & (self.top_p <= 1), "above 0 and at most 1"),
            ("max_length", length >= 1, "1 or more"),
        ]
        if longest is not None:
            wanted = f"1 to {longest}, the exported one"
            ranges[-1] = ("max_length", (length >= 1) & (length <= longest), wanted)
        for name in _WHOLE:
            value = getattr(self, name)
            if not tf.is_tensor(value):
                whole = abs(value) < 2**31 and value == int(value)
                ranges.append((name, whole, "a whole number below 2^31"))
        for name, holds, wanted in ranges:
            value = getattr(self, name)
            if tf.is_tensor(holds):
                tf.debugging.Assert(holds, [f"Expected {name} {wanted}. Received: ", value])
            elif not holds:
                raise ValueError(f"Expected {name} {wanted}. Received: {name}={value}")


def _spec(name: str) -> tf.TensorSpec:
    return tf.TensorSpec([], tf.int32 if name in _WHOLE else tf.float32, name)


SPECS = Settings(*map(_spec, Settings._fields))


def _if(is_on: Any, make: Callable[[Any], LogitsProcessor], value: Any) -> list[LogitsProcessor]:
    if not tf.is_tensor(is_on):
        return [make(value)] if is_on else []
    one = make(value)

    def apply(log_probs, state):
        return tf.cond(is_on, lambda: one.apply(log_probs, state), lambda: log_probs)

    return [one._replace(apply=apply)]
