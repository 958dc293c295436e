"""The order of an epoch as a pure function of seed and epoch, computed batch by batch."""

import bisect
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from keras_attention.functional.arguments import check_whole

ROUNDS = 8  # of the Feistel network
LEAST = 8  # batches of a bucket: with fewer, the same examples would meet in every epoch
GROWTH = 16  # a bucket is by 1/16 longer than the one before it


class BatchOrder:
    """Which examples make up each batch of a training, one batch at a time.

    Examples of like length form buckets, each a whole number of batches but for the last one, so an
    epoch has one batch that is smaller. In each epoch the examples of a bucket are permuted, and so
    are the batches of all buckets. Both permutations are generalized Feistel networks (Black and
    Rogaway, 2002) whose cycles are followed until they are in range: a place is mapped by
    itself, no array of N numbers is made, and batch 10,000,000 costs what batch 0 does.

    Without a seed: the order as given for `batch_size`, the shortest first for `batch_tokens`.

    Args:
        counts: (length, how many examples are so long), by ascending length.
        by_length: [N], the examples by ascending length; a list, or what is indexed by an array as
            a NumPy array is.
        batch_size: examples a batch; or
        batch_tokens: the most tokens a batch has, its padding and the added id included, on the
            side that has more.
        seed: at least 0, or None.
        width_of: length of the longest example -> padded length; default: one more.

    Attributes:
        per_epoch: batches in an epoch, the same number in each.

    Raises:
        ValueError: no examples, or an argument out of its range.

    >>> order = BatchOrder([(1, 2), (3, 1)], [1, 2, 0], batch_size=2)
    >>> order.per_epoch, order.batch(0).tolist(), order.batch(1).tolist()
    (2, [0, 1], [2])
    """

    def __init__(
        self,
        counts: Sequence[tuple[int, int]],
        by_length: Any,
        batch_size: int | None = None,
        batch_tokens: int | None = None,
        seed: int | None = None,
        width_of: Callable[[int], int] = lambda length: length + 1,
    ):
        if (batch_size is None) == (batch_tokens is None):
            raise ValueError(
                "Give batch_size or batch_tokens, one of the two. Received: "
                f"batch_size={batch_size}, batch_tokens={batch_tokens}."
            )
        for name, value in {"batch_size": batch_size, "batch_tokens": batch_tokens}.items():
            if value is not None:
                check_whole(name, value, 1)
        if seed is not None:
            check_whole("seed, if it is not None,", seed, 0)
        self.seed, self.count = seed, sum(count for _, count in counts)
        if not self.count:
            raise ValueError("There must be at least one example. Received: none.")
        if batch_tokens is None:
            sizes = {length: batch_size for length, _ in counts}
        else:
            sizes = {length: batch_tokens // width_of(length) for length, _ in counts}
            longest = counts[-1][0]
            if not sizes[longest]:
                raise ValueError(
                    f"batch_tokens must be at least {width_of(longest)}, for the longest example. "
                    f"Received: {batch_tokens}. Raise it, or prepare with a lower max_length."
                )
        keeps_order = seed is None and batch_tokens is None
        if isinstance(by_length, (list, tuple)):
            by_length = np.asarray(by_length)
        self._by_length: Any = None if keeps_order else by_length
        self._buckets = _buckets(counts[-1:] if keeps_order else counts, sizes, self.count)
        batches = [-(-(end - begin) // size) for begin, end, size in self._buckets]
        self._first_batches = [0, *itertools.accumulate(batches)]
        self.per_epoch = self._first_batches[-1]

    def batch(self, place: int) -> np.ndarray:
        """The examples [B], int64, of a batch, counted from the first one of epoch 0."""
        if place < 0:
            raise ValueError(f"place must be at least 0. Received: {place}.")
        epoch, place = divmod(place, self.per_epoch)
        place = int(self._permuted(np.array([place]), self.per_epoch, epoch, 0)[0])
        bucket = bisect.bisect_right(self._first_batches, place) - 1
        begin, end, size = self._buckets[bucket]
        first = (place - self._first_batches[bucket]) * size
        inside = np.arange(first, min(first + size, end - begin))
        found = begin + self._permuted(inside, end - begin, epoch, bucket + 1)
        return found if self._by_length is None else self._by_length[found].astype(int)

    def _permuted(self, places, count, epoch, part):
        if self.seed is None:
            return places
        keys = np.random.SeedSequence([self.seed, epoch, part]).generate_state(ROUNDS, np.uint64)
        return permuted(places, count, keys)


def permuted(places: np.ndarray, count: int, keys: np.ndarray) -> np.ndarray:
    """Where a permutation of 0 .. count - 1 has these places, int64 [B] -> int64 [B].

    A place is a pair of numbers below a and b, about the square root of `count` each; in turn one
    of the two is shifted by a function of the other. The few results that are out of the range go
    through it again.

    Args:
        places: in 0 .. count - 1.
        count: how many places there are.
        keys: uint64, one of each round; other keys, another permutation.
    """
    a = math.isqrt(count - 1) + 1
    sizes = np.uint64(a), np.uint64(-(-count // a))

    def once(values):
        pair = [values // sizes[1], values % sizes[1]]
        for number, key in enumerate(keys):
            side = number % 2
            pair[side] = (pair[side] + _mixed(pair[1 - side] ^ key) % sizes[side]) % sizes[side]
        return pair[0] * sizes[1] + pair[1]

    found = once(places.astype(np.uint64))
    while (outside := found >= count).any():
        found[outside] = once(found[outside])
    return found.astype(np.int64)


def _mixed(values):
    """The finalizer of SplitMix64 (Steele et al., 2014), after a step of its sequence."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ values >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ values >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return values ^ values >> np.uint64(31)


def _buckets(counts, sizes, total) -> list[tuple[int, int, int]]:
    """(begin, end, batch size) of each, places among the examples by length.

    What a bucket has beyond whole batches goes to the next one, whose batches are no larger.
    """
    found, begin, limit = [], 0, counts[0][0] + counts[0][0] // GROWTH
    ends = itertools.accumulate(count for _, count in counts[:-1])
    lengths = [length for length, _ in counts]
    for length, following, end in zip(lengths, lengths[1:], ends):
        whole = (end - begin) // sizes[length]
        if following > limit and whole >= LEAST:
            found.append((begin, begin + whole * sizes[length], sizes[length]))
            begin, limit = found[-1][1], following + following // GROWTH
    size = sizes[lengths[-1]]
    lacking = LEAST * size - (total - begin)
    if found and lacking > 0:  # of the longest examples: some shorter ones join them
        first, end, before = found.pop()
        moved = -(-lacking // before) * before
        if end - moved - first >= LEAST * before:
            found.append((first, end - moved, before))
        begin = found[-1][1] if found else 0
    return [*found, (begin, total, size)]
