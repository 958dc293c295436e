"""Split off a held-out part that shares no source with the rest."""

import hashlib
from collections.abc import Sequence

Pair = tuple[str, str]


def split_by_source(
    pairs: Sequence[Pair], fraction: float = 0.1, seed: int = 0
) -> tuple[list[Pair], list[Pair]]:
    """Split pairs so that equal sources are on one side; the order within each side is kept.

    The side of a source depends on its own hash and `seed` only, so it stays the same when the
    corpus grows, on any machine. The sizes are therefore only close to `fraction`; but neither
    side is empty if there are two distinct sources. With fewer, nothing is held out.

    Args:
        pairs: (source, target).
        fraction: share of the distinct sources to hold out, between 0 and 1.
        seed: another seed gives another split.

    Returns:
        train, held_out.

    Raises:
        ValueError: `fraction` is not between 0 and 1.

    >>> train, held_out = split_by_source([("a", "1"), ("b", "2"), ("a", "3")], fraction=0.5)
    >>> {source for source, _ in train} & {source for source, _ in held_out}
    set()
    """
    split = SourceSplit(fraction, seed)
    for source in dict.fromkeys(source for source, _ in pairs):
        split.add(source)
    held = [split.holds_out(source) for source, _ in pairs]
    train = [pair for pair, out in zip(pairs, held) if not out]
    return train, [pair for pair, out in zip(pairs, held) if out]


class SourceSplit:
    """The rule of `split_by_source` for a corpus that is read as a stream.

    Read it once to `add` all sources, in any order; then `holds_out` gives the side of each. Only a
    few sources are kept.

    Args:
        fraction, seed: as of `split_by_source`.

    Raises:
        ValueError: `fraction` is not between 0 and 1.

    >>> split = SourceSplit(fraction=0.5)
    >>> for source in ("a", "b", "c"):
    ...     split.add(source)
    >>> [source for source in ("a", "b", "c") if split.holds_out(source)]
    ['b', 'c']
    """

    def __init__(self, fraction: float = 0.1, seed: int = 0):
        if not 0 < fraction < 1:
            raise ValueError(f"fraction must be between 0 and 1. Received: {fraction}.")
        self._fraction, self._seed = fraction, seed
        # The sources of the lowest and the highest number; of equal ones the lesser source, so that
        # the order of the corpus does not matter.
        self._lowest: tuple[float, str] | None = None
        self._highest: tuple[float, str] | None = None

    def add(self, source: str) -> None:
        """Take notice of a source."""
        place = _place(source, self._seed), source
        self._lowest = place if self._lowest is None else min(self._lowest, place)
        self._highest = place if self._highest is None else max(self._highest, place)

    @property
    def holds_out_any(self) -> bool:
        """Whether there are two distinct sources."""
        return self._lowest != self._highest

    def holds_out(self, source: str) -> bool:
        """Whether a source that was added is in the held-out part."""
        if self._lowest is None or self._highest is None or not self.holds_out_any:
            return False
        if self._lowest[0] >= self._fraction:
            return source == self._lowest[1]
        if self._highest[0] < self._fraction:
            return source != self._highest[1]
        return _place(source, self._seed) < self._fraction


def _place(source, seed):
    """A pseudo-random number in [0, 1) that is the same on every machine."""
    key = f"{seed}:{source}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") / 2**64
