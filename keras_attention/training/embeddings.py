"""Pretrained word vectors in the text format of word2vec and GloVe."""

import gzip
import os
import zlib
from collections.abc import Sequence

import numpy as np


def read_embeddings(
    path: str | os.PathLike, words: Sequence[str], width: int | None = None, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """The vectors of `words`, one row each, from a file that may be far larger than memory.

    A line is `word x_1 ... x_D`, separated by single spaces; a first line `N D` is a header. A
    word may hold spaces (the last D fields are the vector); of a repeated word the first counts.
    Words that the file lacks get normal values with the standard deviation of the found ones
    (1/sqrt(D) when none is found), so that they start at the same scale.

    Args:
        path: UTF-8 text, gzipped when its name ends in `.gz`. Read once, line by line, and only
            until every word is found.
        words: the V words wanted, in the order of the rows.
        width: D, when known; otherwise taken from the header or the first line.
        seed: of the values for missing words.

    Returns:
        matrix [V, D] float32, and found [V] bool.

    Raises:
        ValueError: the file is missing, empty, or has a line of another width, a bad number or
            invalid UTF-8; the message names the file and the line.

    Source: Mikolov et al. (2013); Pennington et al. (2014).

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "vectors.txt")
    ...     _ = path.write_text("the 1 2\\ncat 3 4\\n")
    ...     matrix, found = read_embeddings(path, ["cat", "dog"])
    >>> matrix[0].tolist(), found.tolist()
    ([3.0, 4.0], [True, False])
    """
    rows = {word: row for row, word in enumerate(dict.fromkeys(words))}
    vectors = {}
    try:
        with _open(path) as file:
            for number, line in enumerate(file, 1):
                fields = line.rstrip(b" \r\n").split(b" ")
                if number == 1 and _is_header(fields):
                    width = _agreed_width(int(fields[1]), width, path)
                    continue
                width = width or len(fields) - 1
                word, values = _split(fields, width, path, number)
                if word in rows and word not in vectors:
                    vectors[word] = _vector(values, path, number)
                    if len(vectors) == len(rows):
                        break
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"Cannot read word vectors from {path}: {error}.") from error
    if not width:
        raise ValueError(f"Expected lines of a word and its vector. Received: {path} is empty.")
    matrix, found = _filled(rows, vectors, width, seed)
    order = [rows[word] for word in words]
    return matrix[order], found[order]


def _open(path):
    return gzip.open(path) if os.fspath(path).endswith(".gz") else open(path, "rb")


def _is_header(fields):
    return len(fields) == 2 and all(field.isdigit() for field in fields)


def _agreed_width(header, width, path):
    if width not in (None, header):
        raise ValueError(f"{path}, line 1: expected width {width}. Received: {header}.")
    return header


def _split(fields, width, path, number):
    """The word, and the last `width` fields."""
    pieces = fields[:-width]
    # A word may end in a space and a number, but a vector that is too long is far likelier.
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
    scale = known.std() if len(known) else width**-0.5
    random = np.random.default_rng(seed)
    matrix = random.normal(0.0, scale, [len(rows), width]).astype(np.float32)
    for word, vector in vectors.items():
        matrix[rows[word]] = vector
    return matrix, found
