"""A corpus of token pairs in files, of any size."""

import hashlib
import json
import os
import threading
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_attention.data.batch import (
    check_special_ids,
    padded_width,
    sorted_widths,
    teacher_forcing,
)
from keras_attention.data.order import BatchOrder
from keras_attention.functional.arguments import check_whole

FORMAT, VERSION = "keras_attention.PreparedCorpus", 1
MANIFEST = "manifest.json"
IDS, OFFSETS, BY_LENGTH = "ids.bin", "offsets.bin", "by_length.bin"
CHUNK = 1 << 13  # examples that are read together where all are read
_REMEDY = "Prepare the corpus again, or restore it from a copy."


class PreparedCorpus:
    """The pairs of token ids that `prepare` wrote, read from their files where they are needed.

    Opening it costs one reading of the files, to compare their hashes. After that an example is
    found by its index in O(1). Nothing is kept but what the operating system caches: resident
    memory does not grow with the corpus. The files are plain arrays, which `numpy.memmap` opens,
    too; for random batches of a corpus that is larger than the memory a mapping costs three times
    the CPU time, because each page that is touched has to be mapped, and unmapped again.

    Why not Grain (0.2.18) over ArrayRecord (0.8.6): it has no batches by length whose order can be
    entered anywhere, and random batches of 64 of 1e5 pairs took 25 s of CPU time for 1e6 pairs
    without read-ahead, 53 s with the default options. tests/benchmarks/prepared_corpus.py prints
    what it is here, the order included.

    Args:
        directory: as `prepare` wrote it.
        tokenizer: if given, what the corpus must have been prepared with: a tokenizer, or those of
            sources and targets.
        verify: compare the hashes of the files; False compares only their sizes.

    Attributes:
        manifest: what `prepare` wrote about the corpus: `count`, `skipped`, `tokens` and `longest`
            of sources and of targets, `tokenizers` (fingerprints), `lengths` (length of the longer
            side, number of examples), `files`.

    Raises:
        ValueError: a file is missing, truncated, changed or foreign, the manifest is damaged or of
            another version, or the tokenizer is another one. The message names the file.

    >>> import tempfile
    >>> from keras_attention.data import prepare
    >>> with tempfile.TemporaryDirectory() as parent:
    ...     corpus = prepare([([5, 6], [7]), ([8], [9, 4])], f"{parent}/corpus")
    ...     print(len(corpus), *corpus[1], corpus.lengths([0, 1]).tolist())
    2 [8] [9 4] [[2, 1], [1, 2]]
    """

    def __init__(self, directory: str, tokenizer: Any = None, verify: bool = True):
        if not isinstance(directory, (str, os.PathLike)):
            raise ValueError(f"directory must be a path. Received: {directory!r}.")
        self.directory = os.fspath(directory)
        self.manifest = _read_manifest(self.directory)
        if tokenizer is not None:
            expected = fingerprints(tokenizer)
            if self.manifest["tokenizers"] != expected:
                raise ValueError(
                    f"{self.directory} must have been prepared with this tokenizer, fingerprint "
                    f"{_short(expected)}. Received: one prepared with "
                    f"{_short(self.manifest['tokenizers'])}. Pass the tokenizer that it was "
                    "prepared with, or prepare the corpus again with this one."
                )
        for name, about in self.manifest["files"].items():
            _check_file(os.path.join(self.directory, name), about, verify)
        self._ids, self._offsets, self._by_length = (
            _Numbers(os.path.join(self.directory, name), self.manifest["files"][name]["dtype"])
            for name in (IDS, OFFSETS, BY_LENGTH)
        )

    def __len__(self) -> int:
        return self.manifest["count"]

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Source and target of an example, int32 arrays of ids without start and end."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"index must be -{len(self)} to {len(self) - 1}. Received: {index}.")
        bounds = self._bounds(np.array([index % len(self)]))
        (source, _), (target, _) = self._rows(bounds)
        return source, target

    def __reduce__(self):
        return PreparedCorpus, (self.directory, None, False)

    def lengths(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Lengths of source and target of examples: indices [N] -> int64 [N, 2]."""
        found = np.asarray(indices)
        if found.ndim != 1 or found.size and found.dtype.kind not in "iu":
            raise ValueError(f"indices must be a row of whole numbers. Received: {indices!r:.80}.")
        if outside := found[(found < 0) | (found >= len(self))].tolist():
            raise ValueError(f"indices must be 0 to {len(self) - 1}. Received: {outside[0]}.")
        return np.diff(self._bounds(found.astype(np.int64)), axis=1)

    def target_counts(self, vocab_size: int, end: int = 2) -> np.ndarray:
        """How often each id occurs in the targets, with an end id after each: int64 [vocab_size].

        The files are read once, from the beginning to the end.
        """
        check_whole("vocab_size", vocab_size, 1)
        check_whole("end", end, 0, vocab_size - 1)
        counts = np.zeros(vocab_size, np.int64)
        for first in range(0, len(self), CHUNK):
            _, (ids, lengths) = self._range(first, min(first + CHUNK, len(self)))
            if ids.size and ids.max() >= vocab_size:
                raise ValueError(
                    f"vocab_size must be above all ids of the targets. Received: {vocab_size}, but "
                    f"{self.directory} has the id {ids.max()}."
                )
            counts += np.bincount(ids, minlength=vocab_size)
            counts[end] += len(lengths)
        return counts

    def order(
        self,
        batch_size: int | None = None,
        *,
        batch_tokens: int | None = None,
        seed: int | None = None,
        multiple: int = 1,
        widths: Sequence[int] | None = None,
    ) -> BatchOrder:
        """The order that `batches` has with the same arguments: see `BatchOrder`."""
        widths = self._widths(multiple, widths)
        return BatchOrder(
            self.manifest["lengths"],
            self._by_length,
            batch_size,
            batch_tokens,
            seed,
            lambda length: padded_width(length + 1, multiple, widths),
        )

    def batches(
        self,
        batch_size: int | None = None,
        *,
        batch_tokens: int | None = None,
        seed: int | None = None,
        place: int = 0,
        count: int | None = None,
        worker: int = 0,
        workers: int = 1,
        start: int = 1,
        end: int = 2,
        multiple: int = 1,
        widths: Sequence[int] | None = None,
    ) -> tf.data.Dataset:
        """Batches of teacher forcing, ready for `model.fit`; elements as those of `data.batches`.

        The place in the data is one number, `place`: how many batches a training has seen, all
        epochs together. A resumed training passes it, and gets the batches that would have come.
        For several epochs in one dataset pass `count`, and `steps_per_epoch=order.per_epoch` to
        `fit`.

        With workers, each reads its rows of the global batch, padded to the lengths of the global
        batch: the shares in the order of the workers are the batch of a single one. If a batch has
        a number of rows that `workers` does not divide (the last one of an epoch's examples, or one
        of `batch_tokens`), the last shares are filled with empty rows of weight 0.

        Args:
            batch_size: examples in a global batch; or
            batch_tokens: the most tokens in a global batch, padding included, on the side that has
                more.
            seed: of the order, see `BatchOrder`; None does not shuffle.
            place: how many batches were already seen.
            count: how many batches to give; default: the rest of the epoch of `place`.
            worker, workers: which share of each batch, of how many.
            start, end: token ids that are added to the rows.
            multiple, widths: of padded lengths, as in `data.batches`.

        Raises:
            ValueError: `workers` does not divide `batch_size`, or an argument is out of its range.
        """
        check_whole("workers", workers, 1)
        check_whole("worker", worker, 0)
        if worker >= workers:
            raise ValueError(
                f"worker must be 0 to workers - 1. Received: worker={worker}, workers={workers}."
            )
        if batch_size is not None:
            check_whole("batch_size", batch_size, 1)
        if batch_size is not None and batch_size % workers:
            raise ValueError(
                "batch_size is that of the global batch, a multiple of workers. Received: "
                f"batch_size={batch_size}, workers={workers}."
            )
        pad = self.manifest["pad"]
        check_special_ids(start, end, pad)
        order = self.order(
            batch_size, batch_tokens=batch_tokens, seed=seed, multiple=multiple, widths=widths
        )
        widths = self._widths(multiple, widths)
        check_whole("place", place, 0)
        if count is None:
            count = order.per_epoch - place % order.per_epoch
        check_whole("count", count, 0)

        def batch(number):
            examples = order.batch(int(number))
            bounds = self._bounds(examples)
            longest = np.diff(bounds, axis=1).max(0)
            rows = -(-len(examples) // workers)
            share = bounds[worker * rows : (worker + 1) * rows]
            filled = rows - len(share)
            sides = [
                (ids, np.append(lengths, np.zeros(filled, int)))
                for ids, lengths in self._rows(share)
            ]
            padded = [padded_width(int(length) + 1, multiple, widths) for length in longest]
            inputs, target_out, weights = teacher_forcing(
                sides[0], sides[1], padded, start, end, pad
            )
            target_out[len(share) :], weights[len(share) :] = pad, 0
            return *inputs, target_out, weights

        def tensors(number):
            dtypes = [tf.int32, tf.int32, tf.int32, tf.float32]
            parts = tf.numpy_function(batch, [number], dtypes)
            for part in parts:
                part.set_shape([None, None])
            source, target_in, target_out, weights = parts
            return (source, target_in), target_out, weights

        # By number, because a generator takes a third more time.
        return tf.data.Dataset.range(place, place + count).map(tensors).prefetch(tf.data.AUTOTUNE)

    def _widths(self, multiple, widths):
        longest = self.manifest["lengths"][-1][0]
        return sorted_widths(widths, multiple, longest)

    def _bounds(self, indices):
        """[N, 3]: where the source begins among all ids, and the target, and where that ends."""
        return self._offsets.spans(2 * indices, 2 * indices + 3).reshape(-1, 3)

    def _rows(self, bounds):
        """((ids of all sources, lengths [B]), the same of the targets), from their bounds."""
        both = self._ids.spans(bounds[:, 0], bounds[:, 2])
        return _parted(both, np.diff(bounds, axis=1))

    def _range(self, first, last):
        """The same of all examples from the first to the last, which is not included."""
        edges = self._offsets.spans(np.array([2 * first]), np.array([2 * last + 1]))
        both = self._ids.spans(edges[:1], edges[-1:])
        return _parted(both, np.diff(edges).reshape(-1, 2))


def _parted(ids, lengths):
    """The ids of sources and targets in turn, as those of the one and the other side."""
    ids, of_target = ids.astype(np.int32), np.tile([False, True], len(lengths))
    of_target = np.repeat(of_target, lengths.reshape(-1))
    return [(ids[of_target == side], lengths[:, side]) for side in (0, 1)]


class _Numbers:
    """A file of numbers that are read where they are asked for, by several threads at once."""

    def __init__(self, path, dtype):
        self.path, self.dtype = path, np.dtype(dtype)
        self._file = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        weakref.finalize(self, os.close, self._file)

    def __getitem__(self, places: np.ndarray) -> np.ndarray:
        """The numbers at places [N]."""
        return self.spans(places, places + 1)

    def spans(self, begins: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """The numbers from begins [N] to ends [N], one span after the other."""
        size, file = self.dtype.itemsize, self._file
        places, sizes = (begins * size).tolist(), ((ends - begins) * size).tolist()
        content = b"".join([_pread(file, size, place) for size, place in zip(sizes, places)])
        if len(content) != sum(sizes):
            raise ValueError(f"{self.path} was truncated while it was read. {_REMEDY}")
        return np.frombuffer(content, self.dtype)


def _seek_and_read(file, size, place, /):
    with _SEEK:
        os.lseek(file, place, os.SEEK_SET)
        return os.read(file, size)


_SEEK = threading.Lock()
_pread = getattr(os, "pread", _seek_and_read)  # Windows has none


def fingerprints(tokenizer: Any) -> list[str] | None:
    """Those of the tokenizers of sources and targets, which may be one."""
    return tokenizer and [one.fingerprint for one in both(tokenizer)]


def both(tokenizer: Any) -> tuple:
    """One tokenizer, or a pair of them, as a pair."""
    pair = tuple(tokenizer) if isinstance(tokenizer, (tuple, list)) else (tokenizer, tokenizer)
    if len(pair) != 2 or not all(hasattr(one, "fingerprint") for one in pair):
        raise ValueError(
            "tokenizer must be a keras_attention.text tokenizer, or those of sources and targets. "
            f"Received: {tokenizer!r}"
        )
    return pair


def manifest_bytes(content: dict[str, Any]) -> bytes:
    """The manifest file of `content`, with the hash of it."""
    return json.dumps({**content, "sha256": _digest(content)}, indent=1).encode()


def file_sha256(path: str) -> str:
    with open(path, "rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(content):
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _read_manifest(directory):
    path = os.path.join(directory, MANIFEST)
    try:
        with open(path, "rb") as file:
            content = json.loads(file.read())
        expected = content.pop("sha256", None)
        found = content.get("format"), content.get("version")
    except OSError as error:
        raise ValueError(
            f"{directory} must be a prepared corpus. Received: {path} cannot be read "
            f"({error.strerror}). Write it with keras_attention.data.prepare."
        ) from error
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error}). {_REMEDY}") from error
    if found != (FORMAT, VERSION):
        raise ValueError(
            f"{path} must be of format {FORMAT}, version {VERSION}. Received: format {found[0]}, "
            f"version {found[1]}. Prepare the corpus with this release."
        )
    if _digest(content) != expected:
        raise ValueError(f"{path} is damaged: it was changed after it was written. {_REMEDY}")
    return content


def _check_file(path, about, verify):
    try:
        size = os.path.getsize(path)
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}). {_REMEDY}") from error
    if size != about["bytes"]:
        raise ValueError(
            f"{path} must have {about['bytes']} bytes. Received: {size}; it is truncated, or the "
            f"file of another corpus. {_REMEDY}"
        )
    if verify and file_sha256(path) != about["sha256"]:
        raise ValueError(
            f"{path} is corrupt, or the file of another corpus: its SHA-256 is not that of "
            f"{MANIFEST}. {_REMEDY}"
        )


def _short(found):
    return (
        "none (token ids)"
        if found is None
        else " / ".join(one[:12] for one in dict.fromkeys(found))
    )
