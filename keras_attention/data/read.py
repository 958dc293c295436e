"""Text pairs from files, with errors that name the file and the line."""

import gzip
import itertools
import os
import zlib
from collections.abc import Iterator, Sequence

BETWEEN_TURNS = "\u241e"  # a visible sign that texts do not have: a token of every tokenizer


def read_pairs(path: str | os.PathLike, context_turns: int = 0) -> list[tuple[str, str]]:
    """The (source, target) pairs of a corpus, in the order of the file.

    With `context_turns` N > 0 a line of more than two columns is a conversation: each turn but the
    first is the target of a pair, whose source is `with_context` of the turn before it and of up to
    N turns before that one.

    Args:
        path: a file of lines `source TAB target` (further columns are ignored), or two
            line-aligned files as "SOURCE,TARGET". Names that end in `.gz` are unzipped. UTF-8,
            with or without a byte order mark; lines end in LF or CRLF. An existing file whose
            name holds a comma is read as one file. Lines that are blank (in both files) are
            skipped; a blank source or target beside a text is kept, as "".
        context_turns: N.

    Raises:
        ValueError: a file is missing, a directory, empty, binary or not UTF-8; a line has one
            column; the two files have different numbers of lines.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "pairs.tsv")
    ...     _ = path.write_text("good day\\tguten Tag\\nthank you\\tdanke\\n")
    ...     read_pairs(path)
    [('good day', 'guten Tag'), ('thank you', 'danke')]
    """
    path = os.fspath(path)
    parts = [path] if os.path.exists(path) else _two_names(path)
    pairs = _from_one(path, context_turns) if len(parts) == 1 else _from_two(*parts)
    pairs = [pair for pair in pairs if pair[0].strip() or pair[1].strip()]
    if not pairs:
        raise ValueError(f"Expected at least one pair of texts. Received: {path} holds none.")
    return pairs


def with_context(turns: Sequence[str], context_turns: int) -> str:
    """The last turn of a conversation, after the N before it, as one source.

    >>> with_context(["Hi", "Hello!", "How are you?"], 1)
    'Hello!␞How are you?'
    """
    return BETWEEN_TURNS.join(turns[-1 - context_turns :])


def _two_names(path):
    """Split at the comma that gives two existing names, if there is one; else at the first."""
    commas = [place for place, letter in enumerate(path) if letter == ","]
    splits = [(path[:place], path[place + 1 :]) for place in commas]
    existing = [names for names in splits if all(map(os.path.exists, names))]
    return next(iter(existing or splits), [path])


def _from_one(path, context_turns):
    for number, line in enumerate(_lines(path), 1):
        if line.strip():
            columns = line.split("\t")
            if len(columns) < 2:
                raise ValueError(
                    f"{path}, line {number}: expected `source TAB target`. Received: one column, "
                    f"{_shown(line)}. Separate the two texts by a tab, or pass SOURCE,TARGET files."
                )
            if not context_turns:
                columns = columns[:2]
            while len(columns) > 2 and not columns[-1].strip():
                columns.pop()
            for place in range(1, len(columns)):
                yield with_context(columns[:place], context_turns), columns[place]


def _from_two(source, target):
    pairs = list(itertools.zip_longest(_lines(source), _lines(target)))
    counts = [sum(line is not None for line in lines) for lines in zip(*pairs)]
    if len(set(counts)) > 1:
        raise ValueError(
            f"{source} and {target} must have equally many lines. Received: {counts[0]} and "
            f"{counts[1]}. Line {min(counts) + 1} has no partner; align the files line by line."
        )
    return pairs


def _lines(path) -> Iterator[str]:
    """Only LF ends a line: a form feed or U+2028 within a sentence must not shift the partner."""
    if not os.path.exists(path):
        raise ValueError(
            f"Expected a file of text pairs. Received: {path!r}, which does not exist. Check the "
            "path; two files are given as SOURCE,TARGET."
        )
    if os.path.isdir(path):
        raise ValueError(f"Expected a file. Received: {path}, a directory. Name a file in it.")
    try:
        with gzip.open(path) if path.endswith(".gz") else open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                yield _decoded(line, path, number)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"Cannot read {path}: {error}. Is it whole, and readable?") from error


def _decoded(line, path, number):
    line = line.removesuffix(b"\n").removesuffix(b"\r")
    try:
        if b"\0" in line:
            raise ValueError("a zero byte")
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except ValueError as error:
        raise ValueError(
            f"{path}, line {number}: expected UTF-8 text. Received: {error}. Convert the file to "
            "UTF-8; a compressed one must be gzip and end in .gz."
        ) from error


def _shown(text):
    return repr(text if len(text) <= 60 else text[:60] + "...")
