"""Windows of lines, and batches of similar length within them."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

WINDOW_LINES, WINDOW_BYTES = 4096, 4_000_000
MIN_ROWS, MAX_ROWS = 16, 128  # of a batch: fewer are slower, more are no faster


def windows(
    lines: Iterable[bytes], most: int = WINDOW_LINES, max_bytes: int = WINDOW_BYTES
) -> Iterator[list[bytes]]:
    """Consecutive lines, `most` at a time, fewer if they are longer than `max_bytes` together.

    If `lines` raises ValueError, those before come first.

    >>> list(windows([b"a", b"b", b"ccc", b"dd"], most=3, max_bytes=4))
    [[b'a', b'b', b'ccc'], [b'dd']]
    """
    window, size = [], 0
    try:
        for line in lines:
            window.append(line)
            size += len(line)
            if len(window) >= most or size >= max_bytes:
                yield window
                window, size = [], 0
    except ValueError:
        if window:
            yield window
        raise
    if window:
        yield window


def batches(
    lengths: Sequence[int], tokens: int, beam_width: int, max_length: int, least: int = 1
) -> list[np.ndarray]:
    """Indices of each batch, longest first: lines of similar length, so that little is padded.

    A line counts as `beam_width` hypotheses of its batch's longest source and `max_length` tokens.
    A batch has at most so many `tokens` and MAX_ROWS lines, and at least one line. There are at
    `least` so many batches, for as many cores, unless they would have fewer than MIN_ROWS lines.

    >>> [batch.tolist() for batch in batches([3, 9, 4, 8], tokens=40, beam_width=2, max_length=1)]
    [[1, 3], [2, 0]]
    """
    order = np.argsort(-np.asarray(lengths, np.int64), kind="stable")
    rows = min(MAX_ROWS, max(MIN_ROWS, -(-len(order) // least)))
    found, begin = [], 0
    while begin < len(order):
        of_each = beam_width * (lengths[order[begin]] + max_length)
        count = min(rows, max(1, tokens // of_each))
        found.append(order[begin : begin + count])
        begin += count
    return found
