"""Which phrases a text holds, told token by token: tables that are made once, in NumPy."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

Phrases = Sequence[tuple[int, ...]]
_FAR = np.iinfo(np.int32).max // 2


class Automaton(NamedTuple):
    """A node stands for the end of a text that may become a phrase (Aho & Corasick, 1975).

    Node 0 is nothing. Symbol 0 is any token that no phrase has, symbol i > 0 is tokens[i - 1].
    """

    tokens: np.ndarray  # [A]
    step: np.ndarray  # [Q, A + 1]: the node after a symbol
    said: np.ndarray  # [Q]: the phrases that end there, a bit each
    wrong: np.ndarray  # [Q] bool: something banned ends there


def needful(phrases: Phrases) -> list[tuple[int, ...]]:
    """Without repetitions, and without what is said along with a longer phrase."""
    phrases = list(dict.fromkeys(phrases))
    return [p for p in phrases if not any(p != other and _holds(other, p) for other in phrases)]


def automaton(phrases: Phrases, banned: Phrases = ()) -> Automaton:
    """Of phrases none of which holds another, and of others that may not be said."""
    texts = [*phrases, *banned]
    tokens = sorted({token for text in texts for token in text})
    begins: set[tuple[int, ...]] = {text[:i] for text in texts for i in range(len(text) + 1)}
    begins.add(())
    nodes = sorted(begins, key=lambda node: (len(node), node))
    place = {node: i for i, node in enumerate(nodes)}
    symbol = {token: i for i, token in enumerate(tokens, 1)}

    step = np.zeros([len(nodes), len(tokens) + 1], np.int32)
    for node in nodes[1:]:
        step[place[node[:-1]], symbol[node[-1]]] = place[node]
    said = np.array([1 << phrases.index(n) if n in phrases else 0 for n in nodes], np.int32)
    wrong = np.array([node in banned for node in nodes])
    shorter = np.zeros(len(nodes), np.int32)  # the longest end of a node that is a node as well
    for i, node in enumerate(nodes[1:], 1):
        if len(node) > 1:
            shorter[i] = step[shorter[place[node[:-1]]], symbol[node[-1]]]
        step[i] = np.where(step[i] > 0, step[i], step[shorter[i]])
        said[i] |= said[shorter[i]]
        wrong[i] |= wrong[shorter[i]]
    return Automaton(np.array(tokens, np.int32), step, said, wrong)


def tokens_needed(machine: Automaton, phrases: int, forced: Sequence[int] = ()) -> np.ndarray:
    """The fewest tokens after which all is said, from a node with a set of phrases said.

    At P positions a token is forced, -1 for none; from the last on all are alike.
    -> [P + 1, Q, 2^phrases] int32.
    """
    sets, said, wrong = np.arange(1 << phrases), machine.said, machine.wrong
    complete = np.where(wrong, _FAR, 0)  # [Q]
    last = np.flatnonzero((said > 0) & ~wrong)  # where a phrase ends: from one to the next, to all
    way = _ways(machine, last)
    free = np.repeat(complete[:, None], len(sets), 1)
    for some in sets[-2::-1]:
        new = (said[last] & ~some) > 0
        free[:, some] = np.min(way[:, new] + free[last, some | said[last]][new], 1, initial=_FAR)

    symbols = {token: i for i, token in enumerate(machine.tokens.tolist(), 1)}
    need = [free]
    for token in reversed(forced):
        ways = machine.step if token < 0 else machine.step[:, [symbols.get(token, 0)]]
        now = np.full_like(free, _FAR)
        for after in _unlike(ways):
            joined = sets | said[after][:, None]
            now = np.minimum(now, 1 + need[-1][after[:, None], joined])
        now[wrong] = _FAR
        now[:, -1] = complete
        need.append(now)
    return np.stack(need[::-1]).astype(np.int32)


def _ways(machine: Automaton, ends: np.ndarray) -> np.ndarray:
    """The fewest tokens, one at least, from each node to some, by nothing banned.  -> [Q, ends]."""
    way, afters = np.full([len(machine.step), len(ends)], _FAR), _unlike(machine.step)
    while True:
        rest = np.where(np.arange(len(way))[:, None] == ends, 0, way)
        longer = 1 + np.min([rest[after] for after in afters], 0)
        longer = np.where(machine.wrong[:, None], _FAR, np.minimum(longer, way))
        if (longer == way).all():
            return way
        way = longer


def _unlike(step: np.ndarray) -> np.ndarray:
    """The nodes after each node, each at least once: few, for most tokens lead to the same.

    [Q, A] -> [W, Q].
    """
    nodes = [np.unique(row) for row in step]
    return np.stack([np.resize(row, max(map(len, nodes))) for row in nodes], 1)


def _holds(text: tuple, phrase: tuple) -> bool:
    return any(text[i : i + len(phrase)] == phrase for i in range(len(text) - len(phrase) + 1))
