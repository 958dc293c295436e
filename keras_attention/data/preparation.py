"""Read a corpus once, through the tokenizer, into the files of a `PreparedCorpus`."""

import collections
import concurrent.futures
import contextlib
import errno
import hashlib
import itertools
import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from keras_attention.data import prepared
from keras_attention.data.batch import check_row
from keras_attention.functional.arguments import check_whole
from keras_attention.text import PAD

try:
    import fcntl
except ImportError:  # no POSIX system
    fcntl = None

CHUNK = 4096  # pairs that are encoded together
_LARGEST = np.iinfo(np.int32).max
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def prepare(
    pairs: Iterable,
    directory: str,
    tokenizer: Any = None,
    *,
    max_length: int | None = None,
    pad: int = 0,
    workers: int = 1,
    progress: Callable[[int], None] | None = None,
) -> prepared.PreparedCorpus:
    """Write pairs of texts or token ids into the files of a `PreparedCorpus`.

    The pairs are read once, one after the other, so they may be a generator and need not fit into
    memory. Their order and the files do not depend on `workers`. The directory appears when it is
    complete: the files are written into `directory + ".preparing"`, which is renamed last. What a
    killed run leaves there is removed by the next one.

    Args:
        pairs: (source, target), texts if there is a tokenizer, else rows of token ids without start
            and end.
        directory: must not exist yet, unless it is empty.
        tokenizer: a `keras_attention.text` tokenizer, or those of sources and targets.
        max_length: of ids on each side; longer pairs are skipped, and counted in the manifest.
        pad: the padding id, which no row may hold.
        workers: processes that encode; 1 encodes in this one. More are started anew, so a script
            that passes them needs `if __name__ == "__main__":`.
        progress: is called with the number of pairs read so far, now and then.

    Raises:
        ValueError: something is no pair, text or row of ids (the message has its number), no pair
            is left, `directory` is there already, or another process is writing it.
        OSError: the disk is full, or cannot be written.
        RuntimeError: a process that encodes was killed.

    >>> import tempfile
    >>> from keras_attention.text import Characters
    >>> characters = Characters.train(["abc"])
    >>> with tempfile.TemporaryDirectory() as parent:
    ...     corpus = prepare([("ab", "c"), ("abc", "")], f"{parent}/c", characters, max_length=2)
    ...     print(len(corpus), corpus.manifest["skipped"])
    1 {'source longer than max_length': {'count': 1, 'first': 1}}
    """
    if not isinstance(directory, (str, os.PathLike)) or not os.fspath(directory):
        raise ValueError(f"directory must be a path. Received: {directory!r}.")
    if not isinstance(pairs, Iterable):
        raise ValueError(f"pairs must be (source, target) pairs. Received: {pairs!r:.80}")
    if progress is not None and not callable(progress):
        raise ValueError(f"progress must be a function of a number. Received: {progress!r:.80}")
    directory = os.path.abspath(os.fspath(directory))
    tokenizers = None if tokenizer is None else prepared.both(tokenizer)
    check_whole("workers", workers, 1, 10_000)
    check_whole("pad", pad, 0, _LARGEST)
    if tokenizers is not None and pad != PAD:
        raise ValueError(f"pad must be {PAD}, that of the tokenizers. Received: {pad}.")
    if max_length is not None:
        check_whole("max_length", max_length, 1, _LARGEST)
    if os.path.exists(directory) and (not os.path.isdir(directory) or os.listdir(directory)):
        raise ValueError(
            f"{directory} must not exist yet, or be empty. Open it with PreparedCorpus, or remove "
            "it to prepare it again."
        )
    if tokenizers is None:
        encoded = _checked(_chunks(pairs), pad)
        dtype = np.int32
    else:
        chunks = (_texts(first, chunk) for first, chunk in _chunks(pairs))
        encoded = _encoded(chunks, tokenizers, workers)
        small = max(one.vocab_size for one in tokenizers) <= 1 << 16
        dtype = np.uint16 if small else np.int32
    with contextlib.closing(encoded), _written_whole(directory) as part:
        content = _write(part, encoded, dtype, max_length, progress)
        content |= {"pad": int(pad), "tokenizers": prepared.fingerprints(tokenizers)}
        content |= {"format": prepared.FORMAT, "version": prepared.VERSION}
        with open(os.path.join(part, prepared.MANIFEST), "wb") as file:
            file.write(prepared.manifest_bytes(content))
    return prepared.PreparedCorpus(directory, verify=False)


def _chunks(pairs) -> Iterator[tuple[int, list]]:
    iterator, first = iter(pairs), 0
    while chunk := list(itertools.islice(iterator, CHUNK)):
        for number, pair in enumerate(chunk, first):
            if isinstance(pair, (str, bytes)) or not hasattr(pair, "__len__") or len(pair) != 2:
                raise ValueError(
                    f"Each of pairs must be (source, target). Received: {pair!r:.80} as "
                    f"pairs[{number}]"
                )
        yield first, chunk
        first += len(chunk)


def _texts(first, chunk):
    for number, pair in enumerate(chunk, first):
        for text in pair:
            if not isinstance(text, (str, bytes)):
                raise ValueError(
                    "With a tokenizer, pairs must be texts. Received: "
                    f"{text!r:.80} in pairs[{number}]"
                )
    return [[pair[side] for pair in chunk] for side in (0, 1)]


def _checked(chunks, pad):
    """The rows of ids of each chunk, of both sides: all ids, lengths."""
    for first, chunk in chunks:
        sides = []
        for side, name in enumerate(("sources", "targets")):
            rows = [pair[side] for pair in chunk]
            if not _are_ids(rows, pad):  # slower, but with an error that names the row
                rows = [check_row(name, number, row, pad) for number, row in enumerate(rows, first)]
            sides.append((np.concatenate(rows), np.array([len(row) for row in rows])))
        yield sides


def _are_ids(rows, pad) -> bool:
    """Whether rows are arrays that are known to be ids when looked at all together."""
    if not all(isinstance(row, np.ndarray) and row.ndim == 1 for row in rows):
        return False
    ids = np.concatenate(rows)
    if ids.dtype.kind not in "iu":
        return False
    return not ids.size or bool(ids.min() >= 0 and ids.max() <= _LARGEST and (ids != pad).all())


# -- encoding, in this process or in others

_tokenizers: Any = None  # of a process that encodes


def _start(tokenizers):
    global _tokenizers
    _tokenizers = tokenizers
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that reads
    # Else a process whose parent was killed would wait for its next chunk forever.
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent():
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _encode_here(texts):
    return _encode(_tokenizers, texts)


def _encode(tokenizers, texts):
    found = []
    for tokenizer, side in zip(tokenizers, texts):
        ragged = tokenizer.encode(side)
        found.append((ragged.values.numpy(), ragged.row_lengths().numpy()))
    return found


def _encoded(chunks, tokenizers, workers):
    """The encoded chunks in order; at most two of each process are in memory."""
    if workers == 1:
        for texts in chunks:
            yield _encode(tokenizers, texts)
        return
    pool = concurrent.futures.ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), _start, (tokenizers,)
    )
    waiting = collections.deque()
    try:
        for number, texts in enumerate(chunks):
            # A task starts a process, if there are fewer.
            with _without_stderr() if number < workers else contextlib.nullcontext():
                waiting.append(pool.submit(_encode_here, texts))
            if len(waiting) >= 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except concurrent.futures.BrokenExecutor as error:
        raise RuntimeError(
            "A process that encodes has ended. Was it killed, or is there too little memory for "
            f"workers={workers}? A script needs `if __name__ == '__main__':` around its call."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _without_stderr():
    """Processes that are started here have no standard error.

    Their exceptions come with their results. The rest are notes that TensorFlow prints when it is
    imported, whatever the log level, in each of them.
    """
    try:
        usual, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    except OSError:  # there is none
        yield
        return
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(usual, 2)
        os.close(usual)
        os.close(nowhere)


# -- the files


@contextlib.contextmanager
def _written_whole(directory):
    """A directory to write into, which gets its name when all is written, and goes on an error."""
    part = directory + ".preparing"
    os.makedirs(part, exist_ok=True)
    handle = os.open(part, os.O_RDONLY)
    try:
        if fcntl is not None:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError(
                    f"Another process is preparing {directory}. Wait for it to end, or stop it."
                ) from None
            if not os.path.exists(part) or not os.path.samestat(os.stat(part), os.fstat(handle)):
                raise ValueError(f"Another process has just prepared {directory}. Open it.")
        for name in os.listdir(part):  # of a run that was killed
            os.remove(os.path.join(part, name))
        try:
            yield part
            for name in os.listdir(part):
                _flush(os.path.join(part, name))
            _flush(part)
            os.rename(part, directory)
            _flush(os.path.dirname(directory))
        except BaseException as error:
            shutil.rmtree(part, ignore_errors=True)
            if isinstance(error, OSError) and error.errno in _NO_SPACE:
                raise OSError(
                    f"{directory} could not be written: {error.strerror}. Nothing is left of it. "
                    "Free some space, or choose a directory on a larger disk, and prepare it again."
                ) from error
            raise
    finally:
        os.close(handle)


def _flush(path):
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class _Output:
    """A file whose hash is known when it is written."""

    def __init__(self, folder, name, dtype):
        self.name, self.dtype = name, np.dtype(dtype).newbyteorder("<")
        self.file, self.hash, self.bytes = (
            open(os.path.join(folder, name), "wb"),
            hashlib.sha256(),
            0,
        )

    def write(self, array):
        content = array.astype(self.dtype).tobytes()
        self.file.write(content)
        self.hash.update(content)
        self.bytes += len(content)

    def close(self):
        self.file.close()
        return {"bytes": self.bytes, "dtype": self.dtype.str, "sha256": self.hash.hexdigest()}


def _write(folder, encoded, dtype, max_length, progress) -> dict[str, Any]:
    """Write ids, offsets and the order by length; what the manifest says about them."""
    ids = _Output(folder, prepared.IDS, dtype)
    offsets = _Output(folder, prepared.OFFSETS, np.int64)
    counts, skipped = collections.Counter(), {}
    tokens, longest, read = np.zeros(2, np.int64), np.zeros(2, np.int64), 0
    with ids.file, offsets.file:
        offsets.write(np.zeros(1))
        for sides in encoded:
            lengths = np.stack([side[1] for side in sides], 1).astype(np.int64)
            kept = np.ones(len(lengths), bool)
            for side, name in enumerate(("source", "target")):
                long = kept & (lengths[:, side] > (max_length or _LARGEST))
                if long.any():
                    found = skipped.setdefault(
                        f"{name} longer than max_length",
                        {"count": 0, "first": read + int(long.argmax())},
                    )
                    found["count"] += int(long.sum())
                kept &= ~long
            read += len(lengths)
            if kept.any():
                first = int(tokens.sum())
                ids.write(_interleaved(sides, lengths, kept))
                lengths = lengths[kept]
                offsets.write(first + np.cumsum(lengths.reshape(-1)))
                tokens += lengths.sum(0)
                longest = np.maximum(longest, lengths.max(0))
                counts.update(dict(zip(*np.unique(lengths.max(1), return_counts=True))))
            if progress is not None:
                progress(read)
        if not counts:
            remedy = f" Raise max_length={max_length}." if skipped else ""
            raise ValueError(
                f"No pair is left. Received: {read} pairs, skipped: {skipped}.{remedy}"
            )
        files = {output.name: output.close() for output in (ids, offsets)}
    lengths = sorted((int(length), int(count)) for length, count in counts.items())
    files[prepared.BY_LENGTH] = _sort_by_length(folder, lengths)
    return {
        "count": sum(count for _, count in lengths),
        "read": read,
        "skipped": skipped,
        "max_length": max_length,
        "tokens": tokens.tolist(),
        "longest": longest.tolist(),
        "lengths": lengths,
        "files": files,
    }


def _interleaved(sides, lengths, kept):
    """Ids of the kept pairs, each source before its target: they are read together."""
    (sources, _), (targets, _) = sides
    both = np.concatenate([sources, targets])
    begins = np.cumsum(lengths, 0) - lengths + [0, len(sources)]
    begins, lengths = begins[kept].reshape(-1), lengths[kept].reshape(-1)
    shifts = begins - (np.cumsum(lengths) - lengths)
    return both[np.repeat(shifts, lengths) + np.arange(lengths.sum())]


def _sort_by_length(folder, counts, chunk=1 << 16):
    """Examples by ascending length of the longer side, equals in their order: a counting sort."""
    path, total = os.path.join(folder, prepared.BY_LENGTH), sum(count for _, count in counts)
    dtype = np.dtype("<u4" if total < 1 << 32 else "<i8")
    keys = np.array([length for length, _ in counts])
    places = np.cumsum([count for _, count in counts]) - [count for _, count in counts]
    # Written by `write`, not through a mapping: that would kill the process on a full disk.
    with (
        open(path, "wb") as output,
        open(os.path.join(folder, prepared.OFFSETS), "rb") as offsets,
    ):
        for first in range(0, total, chunk):
            offsets.seek(16 * first)
            found = np.fromfile(offsets, "<i8", 2 * min(chunk, total - first) + 1)
            lengths = np.searchsorted(keys, np.diff(found).reshape(-1, 2).max(1))
            order = np.argsort(lengths, kind="stable")
            examples = (first + order).astype(dtype)
            sizes = np.bincount(lengths, minlength=len(keys))
            ends = np.cumsum(sizes)
            for length in np.flatnonzero(sizes):
                output.seek(int(places[length]) * dtype.itemsize)
                output.write(examples[ends[length] - sizes[length] : ends[length]].tobytes())
            places += sizes
    return {
        "bytes": total * dtype.itemsize,
        "dtype": dtype.str,
        "sha256": prepared.file_sha256(path),
    }
