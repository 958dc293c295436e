"""Logits that remember the output layer that they come from."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_attention.functional.linear_cross_entropy import (
    LinearCrossEntropyOutput,
    linear_cross_entropy,
)

# Time of `linear_cross_entropy` over that of all logits, for 2560 tokens without padding and with a
# quarter of it: 300 ids 1.11 and .85, 1000 ids 1.02 and .79, 2000 ids 1.14 and .74
# (tests/benchmarks/linear_cross_entropy.py --threads 1 --size 512-300 512-1000 512-2000).
LEAST_VOCABULARY = 1000
_ATTRIBUTE = "_keras_attention_projection"


class Projection:
    """The product that logits are: hidden [..., D] W + b, with W [D, V], or [V, D] if transposed.

    A loss or a metric of tokens that finds it on logits (see `projection_of`) can call
    `cross_entropy` instead of reading them, and the graph of the training step then leaves out the
    logits, which nothing reads. The pass over the tokens is shared by all that ask for the same.
    """

    def __init__(self, hidden: Any, matrix: Any, bias: Any = None, transposed: bool = False):
        self.hidden, self.matrix, self.bias, self.transposed = hidden, matrix, bias, transposed
        self._known: list[tuple] = []

    def shape(self) -> tf.Tensor:
        """The shape of the logits, without computing them."""
        width = self.matrix.shape[0 if self.transposed else 1]
        return tf.concat([tf.shape(self.hidden)[:-1], [width]], 0)

    def once(self, key: tuple, compute: Callable, accept: Callable = lambda _: True) -> Any:
        """`compute()`, or what it returned before in this graph for the same objects as keys."""
        graph = tf.compat.v1.get_default_graph()
        for known_graph, known, value in self._known:
            same = known_graph is graph and len(known) == len(key)
            if same and all(a is b for a, b in zip(known, key)) and accept(value):
                return value
        value = compute()
        self._known.append((graph, key, value))
        return value

    def cross_entropy(
        self,
        labels: tf.Tensor,
        counted: tf.Tensor,
        weights: tf.Tensor | None = None,
        smoothing: float = 0.0,
    ) -> LinearCrossEntropyOutput:
        """`linear_cross_entropy` of labels [...], counted [...] and weights [...], 0 elsewhere.

        Without weights for log_p and correct alone, which do not depend on them.
        """

        def compute():
            given = tf.cast(counted, tf.float32) if weights is None else weights
            return (
                weights,
                smoothing,
                linear_cross_entropy(
                    self.hidden, self.matrix, labels, self.bias, given, smoothing, self.transposed
                ),
            )

        def accept(value):
            return weights is None or (value[0] is weights and value[1] == smoothing)

        return self.once(("cross entropy", labels, counted), compute, accept)[-1]


def remember(logits: tf.Tensor, projection: Projection) -> tf.Tensor:
    """The same logits, which remember what they are the product of.

    Only in a graph, which computes them when they are read: in eager mode they exist already. Any
    other tensor computed from them does not remember it. A small vocabulary is not worth it.
    """
    large = (logits.shape[-1] or 0) >= LEAST_VOCABULARY
    if large and isinstance(logits, tf.Tensor) and not tf.executing_eagerly():
        setattr(logits, _ATTRIBUTE, projection)
    return logits


def projection_of(logits: Any) -> Projection | None:
    """The projection that logits remember, None if there is none.

    >>> projection_of(tf.zeros([2, 4])) is None
    True
    """
    return None if tf.executing_eagerly() else getattr(logits, _ATTRIBUTE, None)


def forget(logits: Any) -> None:
    """Let logits, or a nest of them, be read by all losses and metrics."""
    for tensor in tf.nest.flatten(logits):
        if hasattr(tensor, _ATTRIBUTE):
            delattr(tensor, _ATTRIBUTE)
