"""Text pairs from files, with errors that name the file and the line."""

import functools
import itertools
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from keras_attention.data.lines import Limits, decode_line, open_lines, read_lines

BETWEEN_TURNS = "\u241e"  # a symbol that texts do not contain: a token of every tokenizer

# First rows of a CSV file that are column names.
SOURCES = {"source", "src", "input", "question", "questions", "query", "prompt", "first"}
TARGETS = {"target", "tgt", "output", "answer", "answers", "reply", "response", "completion"}
HEADERS = SOURCES | TARGETS | {"second", "text"}

_BLANK = re.compile("[\\s\\x00-\\x1f\\x7f-\\x9f\\u200b\\u2060\\ufeff]*")


class PairFile(NamedTuple):
    """The pairs of a file, and how it was read.

    Attributes:
        pairs: (source, target), in the order of the file.
        lines: lines of the file.
        form: how its columns are separated.
        ignored: lines with columns that were not read.
        skipped: reason -> (number of skipped lines, number of the first one). A line of a
            conversation counts once per turn.
    """

    pairs: list[tuple[str, str]]
    lines: int
    form: str
    ignored: int
    skipped: dict[str, tuple[int, int]]

    def summary(self) -> str:
        """A one-line summary of what was read and what was skipped.

        >>> PairFile([("a", "b")], 3, "tab-separated", 1, {"no target": (2, 2)}).summary()
        '1 pair from 3 lines (tab-separated); further columns of 1 line ignored; 2 skipped: no \
target (first: line 2)'
        """
        return _summary(len(self.pairs), self.lines, self.form, self.ignored, self.skipped)


def read_pairs(
    path: str | os.PathLike, context_turns: int = 0, limits: Limits | None = None
) -> list[tuple[str, str]]:
    """The (source, target) pairs of a corpus, in the order of the file.

    With `context_turns` N > 0 a line of more than two columns is a conversation: each turn after
    the first is the target of a pair, whose source is `with_context` of the previous turn and up to
    N turns before that.

    Args:
        path: a file of lines `source TAB target` (further columns are ignored), a `.csv` file, or
            two line-aligned files as "SOURCE,TARGET". Names that end in `.gz` are decompressed.
            UTF-8, or UTF-16 and UTF-32 with a byte order mark; see `read_lines` for line ends. An
            existing file whose name contains a comma is read as one file. Pairs with a blank source
            or target are skipped. Cells are unquoted if the file quotes like spreadsheets, and a
            tab or line break in a quoted cell is read as a space: see `read_pair_file`.
        context_turns: N.
        limits: how much may be read; default: `Limits()`.

    Raises:
        ValueError: a file is missing, a directory, empty, binary or not UTF-8; a line has one
            column; the lines of a CSV file have different numbers of columns; the two files have
            different numbers of lines; a limit is exceeded.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "pairs.tsv")
    ...     _ = path.write_text("good day\\tguten Tag\\nthank you\\tdanke\\n")
    ...     read_pairs(path)
    [('good day', 'guten Tag'), ('thank you', 'danke')]
    """
    return read_pair_file(path, context_turns, limits).pairs


def read_pair_file(
    path: str | os.PathLike, context_turns: int = 0, limits: Limits | None = None
) -> PairFile:
    """The result of `read_pairs`, with a report of how the file was read.

    A `.csv` file has commas, semicolons or tabs between its cells. A first row of names such as
    `question,answer` is skipped; `id,answer,question` also selects the columns. In other files
    quotation marks are part of the text, unless the whole file shows that they quote cells: marks
    occur only around a cell or doubled inside one, and either a quoted cell contains a mark, a tab
    or a line break, or every cell is quoted, or exactly the cells with a comma are. (A cell with
    both a tab and a line break is rather read as several rows, one of which begins with a mark and
    another ends with one.)

    Raises ValueError as `read_pairs`.
    """
    stream = PairStream(path, context_turns, limits, keep_lines=True)
    pairs = list(stream)
    return PairFile(pairs, stream.lines, stream.form, stream.ignored, stream.skipped)


class PairStream:
    """The pairs of a file that need not fit into memory; each iteration reads it anew.

    The pairs are those of `read_pairs`, from the same files with the same errors. The file is read
    once when the stream is made, to count its lines and to see whether it quotes its cells, so that
    what is no text is reported before any pair is given. It must not change in the meantime.

    Args:
        path, context_turns, limits: as of `read_pairs`.
        keep_lines: keep all lines in memory, to read the file only once. A pipe needs it.

    Attributes:
        lines, form: as of `PairFile`.
        count: of the pairs, after a whole iteration; as are the next ones.
        ignored, skipped: as of `PairFile`.

    Raises:
        ValueError: as `read_pairs` does, in part from the iteration; a pipe without `keep_lines`.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "pairs.tsv")
    ...     _ = path.write_text("good day\\tguten Tag\\n\\nthank you\\tdanke\\n")
    ...     stream = PairStream(path)
    ...     for source, target in stream:
    ...         print(source, "->", target)
    ...     print(stream.summary())
    good day -> guten Tag
    thank you -> danke
    2 pairs from 3 lines (tab-separated); 1 skipped: blank (first: line 2)
    """

    def __init__(
        self,
        path: str | os.PathLike,
        context_turns: int = 0,
        limits: Limits | None = None,
        keep_lines: bool = False,
    ):
        self._path, self._turns, limits = os.fspath(path), context_turns, limits or Limits()
        sides: list[Iterable[str]] = []
        for name in file_names(self._path):
            if not keep_lines and os.path.exists(name) and stat.S_ISFIFO(os.stat(name).st_mode):
                raise ValueError(
                    f"Expected a file that can be read several times. Received: {name}, a pipe. "
                    "Write it into a file first, or pass keep_lines=True."
                )
            texts = _Again(functools.partial(_texts, name, limits))
            sides.append([*texts] if keep_lines else texts)
        surveys = [_survey(side) for side in sides]
        self.lines = surveys[0][0]
        if len(sides) == 2:
            _check_aligned(file_names(self._path), [count for count, _ in surveys])
            self.form, self._rows = "two files", _Again(lambda: enumerate(zip(*sides), 1))
        else:
            marked = surveys[0][1]
            self.form, self._rows = _rows_of(sides[0], marked, self._path, limits, context_turns)
        self.count = self.ignored = 0
        self.skipped: dict[str, tuple[int, int]] = {}

    def __iter__(self) -> Iterator[tuple[str, str]]:
        turns, count, ignored, skipped = self._turns, 0, 0, {}

        def skip(reason, number):
            times, first = skipped.get(reason, (0, number))
            skipped[reason] = times + 1, first

        for number, cells in self._rows:
            if cells is None:
                skip("names of columns", number)
                continue
            while len(cells) > 2 and _blank(cells[-1]):
                cells = cells[:-1]
            if all(map(_blank, cells)):
                skip("blank", number)
                continue
            if len(cells) > 2 and not turns:
                ignored += 1
                cells = cells[:2]
            for place in range(1, len(cells)):
                if _blank(cells[place]):
                    skip("no target", number)
                elif _blank(cells[place - 1]):
                    skip("no source", number)
                else:
                    count += 1
                    yield with_context(cells[:place], turns), cells[place]
        self.count, self.ignored, self.skipped = count, ignored, skipped
        if not count:
            raise ValueError(
                f"Expected at least one pair of texts. Received: {self._path} holds none: "
                f"{self.summary()}."
            )

    def summary(self) -> str:
        """A one-line summary of what a whole iteration read and skipped: see `PairFile`."""
        return _summary(self.count, self.lines, self.form, self.ignored, self.skipped)


def _summary(count, lines, form, ignored, skipped):
    parts = [f"{_count(count, 'pair')} from {_count(lines, 'line')} ({form})"]
    if ignored:
        parts.append(f"further columns of {_count(ignored, 'line')} ignored")
    for reason, (times, first) in skipped.items():
        parts.append(f"{times:,} skipped: {reason} (first: line {first})")
    return "; ".join(parts)


def with_context(turns: Sequence[str], context_turns: int) -> str:
    """The last turn of a conversation, after the N turns before it, as one source.

    >>> with_context(["Hi", "Hello!", "How are you?"], 1)
    'Hello!␞How are you?'
    """
    return BETWEEN_TURNS.join(turns[-1 - context_turns :])


def file_names(path: str) -> list[str]:
    """The file, or the two files of "SOURCE,TARGET", that `read_pairs` reads.

    Of several commas, the one that separates two existing files is used.
    """
    if os.path.exists(path):
        return [path]
    commas = [place for place, letter in enumerate(path) if letter == ","]
    splits = [[path[:place], path[place + 1 :]] for place in commas]
    existing = [names for names in splits if all(map(os.path.exists, names))]
    return next(iter(existing or splits), [path])


class _Again:
    """What a function makes, made anew for each iteration."""

    def __init__(self, make: Callable[[], Iterable]):
        self._make = make

    def __iter__(self):
        return iter(self._make())


def _texts(path, limits) -> Iterator[str]:
    with open_lines(path) as file:
        for number, line in enumerate(read_lines(file, limits, path), 1):
            yield _decoded(line, path, number)


def _survey(lines) -> tuple[int, bool]:
    """The number of lines, and whether any has a quotation mark."""
    count, marked = 0, False
    for line in lines:
        count += 1
        marked = marked or '"' in line
    return count, marked


def _check_aligned(names, counts):
    if counts[0] != counts[1]:
        raise ValueError(
            f"{names[0]} and {names[1]} must have the same number of lines. Received: {counts[0]} "
            f"and {counts[1]}. Line {min(counts) + 1} has no partner; align the files line by line."
        )


def _rows_of(lines, marked, path, limits, context_turns) -> tuple[str, Iterable]:
    """The form of a file, and its rows."""
    if path.removesuffix(".gz").lower().endswith(".csv"):
        return _csv(lines, path, limits, context_turns)
    if marked and _quotes_cells(lines, limits):
        rows = _Again(lambda: _quoted_rows(lines, limits))
        return "tab-separated, with quoted cells", rows
    marked = marked and any(line.startswith('"') or '\t"' in line for line in lines)
    form = "tab-separated" + ", quotation marks read as text" * marked
    return form, _Again(lambda: _tab_separated(lines, path))


def _decoded(line, path, number):
    try:
        return decode_line(line)
    except ValueError as error:
        raise ValueError(
            f"{path}, line {number}: expected UTF-8 text. Received: {error}. Convert the file to "
            "UTF-8; a compressed one must be gzip and end in .gz."
        ) from error


def _tab_separated(lines, path) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(lines, 1):
        cells = line.split("\t")
        if len(cells) < 2 and not _blank(line):
            raise ValueError(
                f"{path}, line {number}: expected `source TAB target`. Received: one column, "
                f"{_shown(line)}. Separate the two texts by a tab, or pass SOURCE,TARGET files."
            )
        if number == 1 and _columns(cells) not in (None, (0, 1)):
            raise ValueError(
                f"{path}, line 1: expected the texts in the first two columns. Received: columns "
                f"named {_shown(', '.join(cells))}. Remove the others, or export a .csv file, in "
                "which column names select the columns."
            )
        yield number, cells


# -- quoted cells

Row = tuple[int, list[str], list[bool]]  # number of its first line, cells, which are quoted


class _Misquoted(ValueError):
    """A quotation mark that is not at the beginning or end of a cell."""


def _quotes_cells(lines, limits) -> bool:
    """Whether a tab-separated file quotes cells as spreadsheets do."""
    evidence, every, commas = False, True, True
    try:
        for _, cells, quoted in _unquoted(lines, "\t", limits, strict=True):
            if len(cells) == 1 and not _blank(cells[0]):
                return False
            if any("\t" in cell and "\n" in cell for cell in cells):
                return False
            for cell, marked in zip(cells, quoted):
                evidence |= marked and any(sign in cell for sign in '"\t\n')
                every &= marked or not cell
                commas &= marked == any(sign in cell for sign in '",;\t\n')
    except _Misquoted:
        return False
    return evidence or every or commas


def _quoted_rows(lines, limits) -> Iterator[tuple[int, list[str]]]:
    for number, cells, _ in _unquoted(lines, "\t", limits, strict=True):
        yield number, [_one_line(cell) for cell in cells]


def _csv(lines, path, limits, context_turns):
    names = {"\t": "tabs", ",": "commas", ";": "semicolons"}
    first = next(iter(lines), "")
    if first[:4] == "sep=" and first[4:] in names:  # a hint for Excel
        separator, whole = first[4:], lines
        lines = _Again(lambda: itertools.chain([""], itertools.islice(whole, 1, None)))
    else:
        fitness = {sign: _fitness(sign, lines, limits) for sign in names}
        # The first of equally good ones: tabs are rarely part of texts, commas are frequent.
        separator = max(names, key=fitness.__getitem__) if any(map(any, fitness.values())) else ","
    header = _first_rows(lines, separator, limits, 1)
    columns = _columns(header[0][0]) if header else None
    form = f"CSV, with {names[separator]}"
    if columns and columns != (0, 1):
        form += ", columns {!r} and {!r}".format(*(header[0][0][i].strip() for i in columns))
    arguments = lines, separator, columns, path, limits, context_turns
    return form, _Again(lambda: _csv_rows(*arguments))


def _first_rows(lines, sign, limits, count) -> list[tuple[list[str], list[bool]]]:
    """The first rows that are not blank: cells, and which are quoted; [] if misquoted."""
    try:
        rows = ((cells, quoted) for _, cells, quoted in _unquoted(lines, sign, limits))
        return list(itertools.islice((row for row in rows if not all(map(_blank, row[0]))), count))
    except _Misquoted:
        return []


def _fitness(sign, lines, limits) -> tuple[bool, ...]:
    """How well a character separates cells: greater is better.

    Each of the first rows has more than one cell; all have the same number; no space follows the
    character, as it follows the commas of a text; there are two cells in each.
    """
    rows = _first_rows(lines, sign, limits, 20)
    counts = {len(cells) for cells, _ in rows}
    if not counts or min(counts) < 2:
        return (False,)
    spaced = any(
        cell.startswith(" ") and not marked
        for cells, quoted in rows
        for cell, marked in zip(cells[1:], quoted[1:])
    )
    return True, len(counts) == 1, not spaced, counts == {2}


def _columns(cells) -> tuple[int, int] | None:
    """The columns of source and target according to a row of names; None if it is not one."""
    names = [cell.strip().lower() for cell in cells]
    sources, targets = (
        [place for place, name in enumerate(names) if name in known] for known in (SOURCES, TARGETS)
    )
    if sources and targets:
        return sources[0], targets[0]
    return (0, 1) if len(names) > 1 and all(name in HEADERS for name in names[:2]) else None


def _csv_rows(lines, separator, columns, path, limits, context_turns):
    expected = None
    try:
        for number, cells, _ in _unquoted(lines, separator, limits):
            if all(map(_blank, cells)):
                yield number, ["", ""]
                continue
            if len(cells) < 2:
                raise ValueError(
                    f"{path}, line {number}: expected two columns. Received: one, "
                    f"{_shown(cells[0])}. Separate the two texts by a comma, a semicolon or a tab."
                )
            if expected is None:
                expected = len(cells)
                if columns:
                    yield number, None
                    continue
            chosen = columns or (0, 1)
            if len(cells) != expected and (not context_turns or chosen != (0, 1)):
                raise ValueError(
                    f"{path}, line {number}: expected {expected} columns, as above. Received: "
                    f"{len(cells)}. Put quotation marks around a text that holds the separator."
                )
            if chosen != (0, 1):  # what is not chosen comes last, or it would be a turn
                rest = [place for place in range(len(cells)) if place not in chosen]
                cells = [cells[place] for place in (*chosen, *rest * (not context_turns))]
            yield number, [_one_line(cell) for cell in cells]
    except _Misquoted as error:
        raise ValueError(
            f"{path}, {error}. End the cell with a quotation mark, and double those within it."
        ) from error


def _unquoted(
    lines: Iterable[str], separator: str, limits: Limits, strict: bool = False
) -> Iterator[Row]:
    """Rows of cells as in RFC 4180; a quoted cell may span several lines.

    Strict: an unquoted cell must not contain a quotation mark. Otherwise spaces may surround a
    quoted cell.
    """
    numbered = iter(enumerate(lines, 1))
    padded = re.compile(rf' +"([^"]*(?:""[^"]*)*)" *(?={separator}|\Z)')
    for number, line in numbered:
        cells, quoted, begin = [], [], 0
        while True:
            around = None if strict else padded.match(line, begin)
            marked = bool(around) or line.startswith('"', begin)
            if around:
                cell, after = around[1].replace('""', '"'), around.end()
            elif marked:
                end = _closing(line, begin + 1)
                while line[end : end + 1] != '"':
                    _, more = next(numbered, (0, None))
                    if more is None or len(line) + len(more) > limits.max_line_bytes:
                        raise _Misquoted(f"line {number}: a quoted cell does not end")
                    line += "\n" + more
                    end = _closing(line, end)
                cell, after = line[begin + 1 : end].replace('""', '"'), end + 1
                if not strict:
                    after += len(line) - after - len(line[after:].lstrip(" "))
                if after < len(line) and line[after] != separator:
                    raise _Misquoted(f"line {number}: a text stands behind a quoted cell")
            else:
                after = line.find(separator, begin)
                after = len(line) if after < 0 else after
                cell = line[begin:after]
                if strict and '"' in cell:
                    raise _Misquoted(f"line {number}: a quotation mark within a cell")
            cells.append(cell)
            quoted.append(marked)
            if after == len(line):
                break
            begin = after + 1
        yield number, cells, quoted


def _closing(line, begin) -> int:
    """The position of the next mark that is not doubled; the length of the line if none."""
    while True:
        place = line.find('"', begin)
        if place < 0:
            return len(line)
        if not line.startswith('"', place + 1):
            return place
        begin = place + 2


def _one_line(cell):
    return re.sub(r"[\t\n]+", " ", cell)


def _blank(cell) -> bool:
    """Whether a cell has only spaces, control characters, and characters without width."""
    return _BLANK.fullmatch(cell) is not None


def _shown(text):
    return repr(text if len(text) <= 60 else text[:60] + "...")


def _count(count, what) -> str:
    return f"{count:,} {what}" + "s" * (count != 1)
