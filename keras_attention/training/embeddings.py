"""Pretrained word vectors in the text format of word2vec and GloVe."""

import bz2
import codecs
import gzip
import os
import zlib
from collections.abc import Iterable

import numpy as np


def read_embeddings(
    path: str | os.PathLike, words: Iterable[str | bytes], width: int | None = None, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """The vectors of `words`, one row each, from a file that may be far larger than memory.

    A line is `word x_1 ... x_D`, separated by single spaces; a first line `N D` is a header, after
    which N lines follow; a byte order mark is skipped. A word may contain spaces (the last D fields
    are the vector); of a repeated word the first counts. Words that are not in the file get normal
    values with the standard deviation of the found ones (1/sqrt(D) if there is none), so that they
    start at the same scale.

    Args:
        path: UTF-8 text, plain or compressed by gzip or bzip2 (according to the name in `.gz` or
            `.bz2`, or else to its first bytes). Read once, line by line, until all words are found.
        words: the V requested words, in the order of the rows; str, or bytes of UTF-8.
        width: D, if known; otherwise taken from the header or the first line.
        seed: of the values for missing words.

    Returns:
        matrix [V, D] float32, and found [V] bool.

    Raises:
        ValueError: the file is missing, empty, of another kind (zip, xz), has another number of
            lines than its header says, or a line of another width, a bad number or invalid UTF-8;
            the message names the file and the line. `words` is one string, or holds other things.

    Source: Mikolov et al. (2013); Pennington et al. (2014).

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "vectors.txt")
    ...     _ = path.write_text("the 1 2\\ncat 3 4\\n")
    ...     matrix, found = read_embeddings(path, ["cat", "dog"])
    >>> matrix[0].tolist(), found.tolist()
    ([3.0, 4.0], [True, False])
    """
    words = _check_words(words)
    rows = {word: row for row, word in enumerate(dict.fromkeys(words))}
    vectors = {}
    promised, lines = None, 0
    try:
        with _open(path) as file:
            for number, line in enumerate(file, 1):
                if number == 1:
                    line = line.removeprefix(codecs.BOM_UTF8)
                fields = line.rstrip(b" \r\n").split(b" ")
                if number == 1 and _is_header(fields):
                    promised = int(fields[0])
                    width = _agreed_width(int(fields[1]), width, path)
                    continue
                lines += 1
                width = width or len(fields) - 1
                word, values = _split(fields, width, path, number)
                if word in rows and word not in vectors:
                    vectors[word] = _vector(values, path, number)
                    if len(vectors) == len(rows):
                        break
            else:
                _check_lines(promised, lines, path)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"Cannot read word vectors from {path}: {error}.") from error
    if not width:
        raise ValueError(f"Expected lines of a word and its vector. Received: {path} is empty.")
    matrix, found = _filled(rows, vectors, width, seed)
    order = [rows[word] for word in words]
    return matrix[order], found[order]


def _check_words(words):
    if isinstance(words, str | bytes):
        raise ValueError(f"words must be a list of words. Received: {words!r}.")
    listed = [word.decode("utf-8") if isinstance(word, bytes) else word for word in words]
    for word in listed:
        if not isinstance(word, str):
            raise ValueError(f"words must be str, or bytes of UTF-8. Received: {word!r}.")
    return listed


def _open(path):
    name = os.fspath(path)
    with open(path, "rb") as file:
        begin = file.read(10)
    if name.endswith(".gz") or begin.startswith(b"\x1f\x8b"):
        return gzip.open(path)
    if name.endswith(".bz2") or (begin.startswith(b"BZh") and begin[4:] == b"1AY&SY"):
        return bz2.open(path)
    for kind, magic in (("a zip archive", b"PK\x03\x04"), ("an xz file", b"\xfd7zXZ\x00")):
        if begin.startswith(magic):
            raise ValueError(
                f"{path} must be UTF-8 text, plain or compressed by gzip or bzip2. Received: "
                f"{kind}. Unpack it first."
            )
    return open(path, "rb")


def _check_lines(promised, lines, path):
    if promised not in (None, lines):
        raise ValueError(
            f"{path}, line 1: the header promises {promised} vectors. Received: {lines}. The file "
            "is cut off or its header is wrong: load it again, or repair the header."
        )


def _is_header(fields):
    return len(fields) == 2 and all(field.isdigit() for field in fields)


def _agreed_width(header, width, path):
    if width not in (None, header):
        raise ValueError(f"{path}, line 1: expected width {width}. Received: {header}.")
    return header


def _split(fields, width, path, number):
    """The word, and the last `width` fields."""
    pieces = fields[:-width]
    # A word may end in a space and a number, but a vector that is too long is much more likely.
    if not pieces or (len(pieces) > 1 and _is_number(pieces[-1])):
        raise ValueError(
            f"{path}, line {number}: expected a word and {width} numbers. Received: "
            f"{len(fields)} fields. Pass the right `width`, or repair the file."
        )
    try:
        return b" ".join(pieces).decode("utf-8"), fields[-width:]
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}, line {number}: expected UTF-8. Received: {error}. Convert the file."
        ) from error


def _is_number(field):
    try:
        float(field)
    except ValueError:
        return False
    return True


def _vector(values, path, number):
    try:
        vector = np.array(values).astype(np.float32)
    except ValueError as error:
        raise ValueError(f"{path}, line {number}: expected numbers. Received: {error}.") from error
    if not np.isfinite(vector).all():
        raise ValueError(f"{path}, line {number}: expected finite numbers. Received: {vector}.")
    return vector


def _filled(rows, vectors, width, seed):
    found = np.array([word in vectors for word in rows], bool)
    known = np.array(list(vectors.values()), np.float32)
    scale = (known.std() if len(known) else 0.0) or width**-0.5  # one number has no deviation
    random = np.random.default_rng(seed)
    matrix = random.normal(0.0, scale, [len(rows), width]).astype(np.float32)
    for word, vector in vectors.items():
        matrix[rows[word]] = vector
    return matrix, found
