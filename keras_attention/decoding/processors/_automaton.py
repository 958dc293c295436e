"""A finite automaton that finds phrases token by token: tables that are built once, in NumPy."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

Phrases = Sequence[tuple[int, ...]]
_FAR = np.iinfo(np.int32).max // 2


class Automaton(NamedTuple):
    """The states of the search for phrases (Aho & Corasick, 1975).

    Each node is a prefix of a phrase; node 0 is the empty prefix. Symbol 0 is any token that occurs
    in no phrase, symbol i > 0 is tokens[i - 1].
    """

    tokens: np.ndarray  # [A]
    step: np.ndarray  # [Q, A + 1]: the node after a symbol
    ended: np.ndarray  # [Q]: a bit for each phrase that is complete at this node
    wrong: np.ndarray  # [Q] bool: a banned phrase is complete


def minimal_phrases(phrases: Phrases) -> list[tuple[int, ...]]:
    """The phrases without duplicates, and without those contained in a longer phrase."""
    phrases = list(dict.fromkeys(phrases))
    return [p for p in phrases if not any(p != other and _holds(other, p) for other in phrases)]


def automaton(phrases: Phrases, banned: Phrases = ()) -> Automaton:
    """Build the automaton of phrases, none of which contains another, and of banned phrases."""
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
    ended = np.array([1 << phrases.index(n) if n in phrases else 0 for n in nodes], np.int32)
    wrong = np.array([node in banned for node in nodes])
    shorter = np.zeros(len(nodes), np.int32)  # the longest proper suffix that is a node, too
    for i, node in enumerate(nodes[1:], 1):
        if len(node) > 1:
            shorter[i] = step[shorter[place[node[:-1]]], symbol[node[-1]]]
        step[i] = np.where(step[i] > 0, step[i], step[shorter[i]])
        ended[i] |= ended[shorter[i]]
        wrong[i] |= wrong[shorter[i]]
    return Automaton(np.array(tokens, np.int32), step, ended, wrong)


def tokens_needed(machine: Automaton, phrases: int, forced: Sequence[int] = ()) -> np.ndarray:
    """The minimum number of tokens until all phrases are complete, for a node and a set of phrases.

    At P positions a token is forced, -1 for none; all positions after them are alike.
    -> [P + 1, Q, 2^phrases] int32.
    """
    sets, ended, wrong = np.arange(1 << phrases), machine.ended, machine.wrong
    complete = np.where(wrong, _FAR, 0)  # [Q]
    last = np.flatnonzero((ended > 0) & ~wrong)  # nodes where a phrase is complete
    way = _ways(machine, last)
    free = np.repeat(complete[:, None], len(sets), 1)
    for some in sets[-2::-1]:
        new = (ended[last] & ~some) > 0
        free[:, some] = np.min(way[:, new] + free[last, some | ended[last]][new], 1, initial=_FAR)

    symbols = {token: i for i, token in enumerate(machine.tokens.tolist(), 1)}
    need = [free]
    for token in reversed(forced):
        ways = machine.step if token < 0 else machine.step[:, [symbols.get(token, 0)]]
        now = np.full_like(free, _FAR)
        for after in _unlike(ways):
            joined = sets | ended[after][:, None]
            now = np.minimum(now, 1 + need[-1][after[:, None], joined])
        now[wrong] = _FAR
        now[:, -1] = complete
        need.append(now)
    return np.stack(need[::-1]).astype(np.int32)


def _ways(machine: Automaton, ends: np.ndarray) -> np.ndarray:
    """Length (>= 1) of the shortest allowed path from each node to some nodes.  -> [Q, ends]."""
    way, afters = np.full([len(machine.step), len(ends)], _FAR), _unlike(machine.step)
    while True:
        rest = np.where(np.arange(len(way))[:, None] == ends, 0, way)
        longer = 1 + np.min([rest[after] for after in afters], 0)
        longer = np.where(machine.wrong[:, None], _FAR, np.minimum(longer, way))
        if (longer == way).all():
            return way
        way = longer


def _unlike(step: np.ndarray) -> np.ndarray:
    """The distinct nodes after each node: few, because most tokens lead to the same one.

    [Q, A] -> [W, Q].
    """
    nodes = [np.unique(row) for row in step]
    return np.stack([np.resize(row, max(map(len, nodes))) for row in nodes], 1)


def _holds(text: tuple, phrase: tuple) -> bool:
    return any(text[i : i + len(phrase)] == phrase for i in range(len(text) - len(phrase) + 1))
