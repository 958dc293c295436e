"""Detect where a sequence begins, for cells that keep dropout masks for all of its steps."""

from typing import Any

import tensorflow as tf
from tensorflow.python.ops.control_flow_v2_func_graphs import (
    ControlFlowFuncGraph,
)  # there is no public name


class Sequence:
    """The masks of one sequence.

    `by_hand`: no loop marks the end of the sequence, so it is inferred from the states of the
    steps; see `is_continued_by`.
    """

    def __init__(self, masks: Any, by_hand: bool, first: Any = None):
        self.masks = masks
        self._by_hand, self._first = by_hand, first
        self._last, self._hands_over = None, False

    def is_continued_by(self, state: Any) -> bool:
        """Whether a step from this state belongs to the sequence.

        It does not if the sequence began with this state, or if each step so far received the
        state that the previous one returned and this is another one. If states are changed between
        steps (a search reorders them), nothing can be inferred, and the sequence continues.
        """
        if not self._by_hand or self._last is None:
            return True
        if _are_same(state, self._last):
            self._hands_over = True
            return True
        return not (self._hands_over or _are_same(state, self._first))

    def note(self, state: Any) -> None:
        """Store the state that a step returned."""
        if self._by_hand:
            self._last = state


def graphs_around() -> list:
    """The graph of this code, those around it, and last None for eager mode."""
    graphs = []
    if not tf.executing_eagerly():
        graph = tf.compat.v1.get_default_graph()
        while graph is not None:
            graphs.append(graph)
            graph = getattr(graph, "outer_graph", None)
    return [*graphs, None]


def graphs_of_function() -> list:
    """The graph of this code and those of the loops and branches around it, up to the function.

    Tensors of the last one may be used anywhere in the function, and are computed by each call of
    it. Tensors made outside of it are constants for the function.
    """
    graphs = graphs_around()
    for count, graph in enumerate(graphs, 1):
        if not isinstance(graph, ControlFlowFuncGraph):
            return graphs[:count]
    raise AssertionError("loops and branches of a graph lie in a function or graph")


def _are_same(state, other) -> bool:
    """Whether both hold the same tensor objects, not only the same values."""
    leaves, others = tf.nest.flatten(state), tf.nest.flatten(other)
    return len(leaves) == len(others) and all(x is y for x, y in zip(leaves, others))
