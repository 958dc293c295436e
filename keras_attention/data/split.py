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
    if not 0 < fraction < 1:
        raise ValueError(f"fraction must be between 0 and 1. Received: {fraction}.")
    places = {source: _place(source, seed) for source in dict.fromkeys(s for s, _ in pairs)}
    held = {source for source, place in places.items() if place < fraction}
    if len(places) < 2:
        held = set()
    elif not held:
        held = {min(places, key=places.__getitem__)}
    elif len(held) == len(places):
        held.remove(max(places, key=places.__getitem__))
    train = [pair for pair in pairs if pair[0] not in held]
    return train, [pair for pair in pairs if pair[0] in held]


def _place(source, seed):
    """A pseudo-random number in [0, 1) that is the same on every machine."""
    key = f"{seed}:{source}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") / 2**64
