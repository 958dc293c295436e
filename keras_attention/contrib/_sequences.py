"""Where a sequence begins for a cell that keeps something for all its steps: dropout masks."""

from typing import Any

import tensorflow as tf
from tensorflow.python.ops.control_flow_v2_func_graphs import (
    ControlFlowFuncGraph,
)  # no public name


class Sequence:
    """The masks of one sequence.

    `by_hand`: no loop says where the sequence ends, so the states of the steps must tell; see
    `is_continued_by`.
    """

    def __init__(self, masks: Any, by_hand: bool, first: Any = None):
        self.masks = masks
        self._by_hand, self._first = by_hand, first
        self._last, self._hands_over = None, False

    def is_continued_by(self, state: Any) -> bool:
        """Whether a step from this state belongs to the sequence.

        It does not if the sequence began with that very state, or if the steps so far handed over
        the states as they were and this one is another. Where states are changed between all
        steps (a search reorders them), nothing can be told, and the sequence goes on.
        """
        if not self._by_hand or self._last is None:
            return True
        if _are_same(state, self._last):
            self._hands_over = True
            return True
        return not (self._hands_over or _are_same(state, self._first))

    def note(self, state: Any) -> None:
        """The state that a step gave."""
        if self._by_hand:
            self._last = state


def graphs_around() -> list:
    """The graph of this code, those around it, and last None, which stands for eager code."""
    graphs = []
    if not tf.executing_eagerly():
        graph = tf.compat.v1.get_default_graph()
        while graph is not None:
            graphs.append(graph)
            graph = getattr(graph, "outer_graph", None)
    return [*graphs, None]


def graphs_of_function() -> list:
    """The graph of this code and those of the loops and branches around it, up to the function.

    What is made in the last of them may be used anywhere in the function, and is made anew by each
    call of it. What is made outside of it is a constant to the function.
    """
    graphs = graphs_around()
    for count, graph in enumerate(graphs, 1):
        if not isinstance(graph, ControlFlowFuncGraph):
            return graphs[:count]
    raise AssertionError("loops and branches of a graph lie in a function or graph")


def _are_same(state, other) -> bool:
    """Whether both hold the same tensors, not only the same values."""
    leaves, others = tf.nest.flatten(state), tf.nest.flatten(other)
    return len(leaves) == len(others) and all(x is y for x, y in zip(leaves, others))
