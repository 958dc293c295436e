"""Lines of text files in any encoding: one reader for training, evaluation and inference."""

import codecs
import contextlib
import gzip
import itertools
import os
import re
import select
import stat
import zlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

BinaryFile = BinaryIO | gzip.GzipFile
CHUNK = 1 << 16
WAIT = 10  # seconds to wait for a writer of a named pipe

# Longer marks first: the one of UTF-32 begins with that of UTF-16.
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}


class Limits(NamedTuple):
    """Limits of how much text is read; more is an error that names the limit.

    Attributes:
        max_line_bytes: bytes of a line, or of a quoted cell with its line breaks.
        max_data_bytes: bytes of a file, after decompression.
        max_data_lines: lines of a file.
    """

    max_line_bytes: float = 10_000_000
    max_data_bytes: float = 1_000_000_000
    max_data_lines: float = 10_000_000


def read_lines(
    file: BinaryFile, limits: Limits | None = None, name: str = "the input"
) -> Iterator[bytes]:
    """The lines of a binary stream, each as soon as it is complete, as UTF-8 without line ends.

    A byte order mark is removed, also inside of concatenated files; with that of UTF-16 or UTF-32
    the text is converted. A line ends in LF or CRLF; or in CR if the stream has no LF at all, or
    if the CRs of a line separate rows with the same number of columns. Other carriage returns are
    removed next to a tab, and replaced by a space within a text. Bytes that are not text are left
    for `decode_line` to reject, so that a reader can continue with the next line.

    Args:
        file: a file opened with "rb", `sys.stdin.buffer`, a `gzip.GzipFile`.
        limits: default: `Limits()`.
        name: of the file, for errors.

    Raises:
        ValueError: a limit is exceeded.

    >>> import io
    >>> list(read_lines(io.BytesIO("\\ufeffgood day\\r\\n你好".encode("utf-16-le"))))
    [b'good day', b'\\xe4\\xbd\\xa0\\xe5\\xa5\\xbd']
    """
    limits = limits or Limits()
    end, rest, count = b"\n", b"", 0
    for chunk in _utf8(_chunks(file, limits, name)):
        rest += chunk
        if not count and b"\n" not in rest and b"\r" in rest and len(rest) > limits.max_line_bytes:
            end = b"\r"
        *whole, rest = rest.split(end)
        for row in itertools.chain.from_iterable(map(_rows, whole)):
            count += 1
            yield _checked(row, count, limits, name)
        _check("max_line_bytes", len(rest), limits, f"{name}, line {count + 1}: more bytes")
    if not count and b"\r" in rest.rstrip(b"\r"):
        end, rest = b"\r", rest.removesuffix(b"\r")
    for row in itertools.chain.from_iterable(map(_rows, rest.split(end) if rest else [])):
        count += 1
        yield _checked(row, count, limits, name)


def decode_line(line: bytes) -> str:
    """The text of a line from `read_lines`.

    Raises ValueError if it is not UTF-8, or contains a zero byte, like binary files and UTF-16
    without a byte order mark.
    """
    if b"\0" in line:
        raise ValueError("a zero byte")
    return line.decode("utf-8")


@contextlib.contextmanager
def open_lines(path: str) -> Iterator[BinaryFile]:
    """Open a file for `read_lines`, decompressed if its name ends in `.gz`.

    Raises ValueError if it is missing, a directory, a pipe without a writer, or unreadable.
    """
    if not os.path.exists(path):
        raise ValueError(
            f"Expected a file of text. Received: {path!r}, which does not exist. Check the path; "
            "two files of pairs are given as SOURCE,TARGET."
        )
    if os.path.isdir(path):
        raise ValueError(f"Expected a file. Received: {path}, a directory. Name a file in it.")
    try:
        file = _opened(path)
    except OSError as error:
        raise ValueError(_unreadable(path, error)) from error
    with file:
        yield gzip.GzipFile(fileobj=file) if path.endswith(".gz") else file


def _unreadable(name, error) -> str:
    return f"Cannot read {name}: {error}. Is it complete and readable?"


def _opened(path) -> BinaryIO:
    if not stat.S_ISFIFO(os.stat(path).st_mode):
        return open(path, "rb")
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a usual `open` waits for a writer
    if not select.select([handle], [], [], WAIT)[0]:
        os.close(handle)
        raise OSError(f"it is a pipe, and nothing was written to it for {WAIT} seconds")
    os.set_blocking(handle, True)
    return os.fdopen(handle, "rb")


def _chunks(file, limits, name) -> Iterator[bytes]:
    """The data available, without waiting for more than one line."""
    read, total = file.read1 if hasattr(file, "read1") else file.read, 0
    while True:
        try:
            chunk = read(CHUNK)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(_unreadable(name, error)) from error
        if not chunk:
            return
        total += len(chunk)
        _check("max_data_bytes", total, limits, f"{name} has more bytes")
        yield chunk


def _utf8(chunks: Iterator[bytes]) -> Iterator[bytes]:
    head = b""
    for chunk in chunks:
        head += chunk
        if not any(mark.startswith(head) for mark in _MARKS):  # it is not part of a longer mark
            break
    mark = next((mark for mark in _MARKS if head.startswith(mark)), b"")
    head, encoding = head[len(mark) :], _MARKS.get(mark, "utf-8")
    if encoding == "utf-8":
        yield head
        yield from chunks
        return
    decoder = codecs.getincrementaldecoder(encoding)("surrogatepass")
    with contextlib.suppress(UnicodeDecodeError):
        for chunk in itertools.chain([head], chunks):
            yield decoder.decode(chunk).encode("utf-8", "surrogatepass")
        yield decoder.decode(b"", True).encode("utf-8", "surrogatepass")
        return
    yield b"\xff"  # rejected by `decode_line`


def _rows(line: bytes) -> list[bytes]:
    """The line, or its rows if a file with CRs was extended by a line with LF."""
    if b"\r" not in line:
        return [line]
    rows = [row for row in line.split(b"\r") if row]
    columns = {row.count(b"\t") for row in rows}
    whole = not any(row.startswith(b"\t") or row.endswith(b"\t") for row in rows)
    return rows if whole and len(columns) == 1 and columns != {0} else [line]


def _checked(line, number, limits, name) -> bytes:
    """The line without stray carriage returns, after checking the limits."""
    _check("max_line_bytes", len(line), limits, f"{name}, line {number}: more bytes")
    _check("max_data_lines", number, limits, f"{name} has more lines")
    line = line.removeprefix(codecs.BOM_UTF8)
    if b"\r" in line:
        line = re.sub(rb"\r*\t\r*", b"\t", line.strip(b"\r"))
        line = re.sub(rb"\r+", b" ", line)
    return line


def _check(limit, count, limits, what) -> None:
    most = getattr(limits, limit)
    if count > most:
        raise ValueError(
            f"{what} than {limit}={most:,} allows. Is it the right file? If so, raise {limit}."
        )
