"""Windows of lines, and batches of similar length within them."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

WINDOW_LINES, WINDOW_BYTES = 4096, 4_000_000
MAX_ROWS = 128  # of a batch; more are no faster


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
    lengths: Sequence[int], tokens: int, beam_width: int, max_length: int, rows: int = MAX_ROWS
) -> list[np.ndarray]:
    """Indices of each batch, longest first: lines of similar length, so that little is padded.

    A line counts as `beam_width` hypotheses of its batch's longest source and `max_length` tokens.
    A batch has at most so many `tokens` and `rows`, and at least one line.

    >>> [batch.tolist() for batch in batches([3, 9, 4, 8], tokens=40, beam_width=2, max_length=1)]
    [[1, 3], [2, 0]]
    """
    order = np.argsort(-np.asarray(lengths, np.int64), kind="stable")
    found, begin = [], 0
    while begin < len(order):
        of_each = beam_width * (lengths[order[begin]] + max_length)
        count = min(rows, max(1, tokens // of_each))
        found.append(order[begin : begin + count])
        begin += count
    return found
