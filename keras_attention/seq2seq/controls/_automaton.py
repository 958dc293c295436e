"""Which phrases a text holds, told token by token: tables that are made once, in NumPy."""

from typing import NamedTuple

import numpy as np


class Automaton(NamedTuple):
    """A node stands for the end of a text that may become a phrase (Aho & Corasick, 1975).

    Node 0 is nothing. Symbol 0 is any token that no phrase has, symbol i > 0 is tokens[i - 1].
    """

    tokens: np.ndarray  # [A]
    step: np.ndarray  # [Q, A + 1]: the node after a symbol
    said: np.ndarray  # [Q]: the phrases that end there, a bit each


def needful(phrases: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Without repetitions, and without what is said along with a longer phrase."""
    phrases = list(dict.fromkeys(phrases))
    return [p for p in phrases if not any(p != other and _holds(other, p) for other in phrases)]


def automaton(phrases: list[tuple[int, ...]]) -> Automaton:
    """Of phrases none of which holds another."""
    tokens = sorted({token for phrase in phrases for token in phrase})
    begins = {phrase[:i] for phrase in phrases for i in range(len(phrase) + 1)}
    nodes = sorted(begins | {()}, key=lambda node: (len(node), node))
    place = {node: i for i, node in enumerate(nodes)}

    def follow(node, token):
        text = (*node, token)
        while text not in place:
            text = text[1:]
        return place[text]

    step = [[0, *(follow(node, token) for token in tokens)] for node in nodes]
    said = [1 << phrases.index(node) if node in phrases else 0 for node in nodes]
    return Automaton(*(np.array(part, np.int32) for part in (tokens, step, said)))


def tokens_needed(machine: Automaton, phrases: int) -> np.ndarray:
    """The fewest tokens after which all is said, from a node with a set of phrases said.

    -> [Q, 2^phrases] int32. Shortest paths: each round looks one token further ahead.
    """
    sets = np.arange(1 << phrases)
    far = np.iinfo(np.int32).max // 2
    need = np.where(sets == sets[-1], 0, far) + np.zeros([len(machine.step), 1], np.int32)
    while True:
        before = need
        for after in machine.step.T:  # [Q], for one symbol
            joined = sets | machine.said[after][:, None]
            need = np.minimum(need, 1 + before[after[:, None], joined])
        if (need == before).all():
            return need.astype(np.int32)


def _holds(text: tuple, phrase: tuple) -> bool:
    return any(text[i : i + len(phrase)] == phrase for i in range(len(text) - len(phrase) + 1))
