"""The file of --output: written in windows of lines, and continued after a kill at any moment.

The answers go into OUTPUT.part, which becomes OUTPUT when it is complete. A journal beside it,
OUTPUT.part.json, is replaced after each window: how many lines of the input are answered, where
their answers end, and what made them. Whoever goes on cuts OUTPUT.part there.
"""

import hashlib
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, BinaryIO

from apps.chatbot import files

try:
    import fcntl
except ImportError:  # no POSIX system
    fcntl = None

PART, JOURNAL, VERSION = ".part", ".part.json", 1
_KINDS = {
    "lines": int, "bytes": int, "unanswered": int, "complete": bool, "seed": int,
    "input": str, "model": str, "settings": dict,
}  # fmt: skip


class AnswerStream:
    """Answers that are written at once, to standard output, a pipe or a device."""

    lines = unanswered = 0

    def __init__(self, file: BinaryIO, seed: int):
        self._file, self.seed = file, seed

    def skip_answered(self, lines: Iterable[bytes]) -> Iterator[bytes]:
        """The lines that are not answered yet: all."""
        return iter(lines)

    def write(self, lines: Sequence[bytes], answers: Sequence[bytes], unanswered: int) -> None:
        """The answers to the next lines; `unanswered` of them are empty for a reason."""
        self._file.write(b"".join(answer + b"\n" for answer in answers))
        self._file.flush()
        self.lines += len(lines)
        self.unanswered += unanswered

    def finish(self) -> None:
        """All lines are answered."""


class AnswerFile:
    """A file that appears at `path` when all lines are answered; use it in a `with` statement.

    Args:
        path: of the file; one that is there is replaced at the end.
        source: name of the input, for errors.
        model: what identifies the model.
        settings: those that answers depend on.
        seed: of the draws, for a new file; one that is continued keeps its own.

    Attributes:
        lines: number of lines that are answered.
        unanswered: how many of them had no answer.
        seed: of the draws.

    Raises ValueError for an unfinished file of another model or of other settings, that is not ours
    or is damaged, or that another process writes; OSError if it cannot be written.
    """

    def __init__(self, path: str, source: str, model: str, settings: dict[str, Any], seed: int):
        path = os.path.realpath(path)  # not the link is replaced
        self._path, self._source = path, source
        self._part, self._journal = path + PART, path + JOURNAL
        self._again = (
            f"Run the command that began it to go on, or remove {self._part} and {self._journal} "
            "to begin anew."
        )
        self._hash = hashlib.sha256()
        self._about = {"model": model, "settings": settings}
        self._handle = -1
        self._is_placed = False
        self.lines = self.unanswered = self._bytes = 0
        self.seed, self._complete = seed, False
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    def _begin(self) -> None:
        folder = os.path.dirname(self._path)
        if not os.path.isdir(folder):
            raise ValueError(f"Expected an --output in a directory that exists. Received: {folder}")
        if os.path.lexists(self._journal):
            self._continue(_read(self._journal, self._again))
        elif os.path.lexists(self._part):
            raise ValueError(
                f"{self._part} is in the way: answers are written there until all are complete, "
                f"and {self._journal}, which would tell how far they are, is missing. Remove or "
                "rename it."
            )
        else:
            self._save()  # before the part: a part without it is somebody else's
            self._open()

    def __enter__(self) -> "AnswerFile":
        return self

    def __exit__(self, *error) -> None:
        self.close()

    def close(self) -> None:
        """Stop; an unfinished file can be continued."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def skip_answered(self, lines: Iterable[bytes]) -> Iterator[bytes]:
        """The lines that are not answered yet.

        Raises ValueError if those before them are not the lines that were answered.
        """
        if self._is_placed:
            return iter(())
        lines, count = iter(lines), 0
        for line in itertools.islice(lines, self.lines):
            self._add(line)
            count += 1
        if count < self.lines or self._hash.hexdigest() != self._input:
            raise ValueError(
                f"{self._part} holds the answers to {self.lines:,} lines that {self._source} does "
                f"not begin with: they are of another input. {self._again}"
            )
        return lines

    def write(self, lines: Sequence[bytes], answers: Sequence[bytes], unanswered: int) -> None:
        """The answers to the next lines, with the journal; `unanswered` are empty for a reason.

        Raises OSError if they cannot be written; those of earlier lines are safe.
        """
        content = b"".join(answer + b"\n" for answer in answers)
        try:
            rest = memoryview(content)
            while rest:
                rest = rest[os.write(self._handle, rest) :]
            files.flush(self._part)
        except OSError as error:
            raise OSError(
                f"Could not write {self._part}: {error.strerror or error}. The answers to the "
                f"first {self.lines:,} lines are safe. Free some space, then run the same command "
                "again to continue."
            ) from error
        for line in lines:
            self._add(line)
        self.lines += len(lines)
        self.unanswered += unanswered
        self._bytes += len(content)
        self._save()

    def finish(self) -> None:
        """All lines are answered: the file gets its name."""
        if not self._is_placed:
            self._complete = True
            self._save()
            os.replace(self._part, self._path)
            files.flush(os.path.dirname(self._path))
        os.remove(self._journal)

    def _continue(self, journal: dict[str, Any]) -> None:
        self._check(journal)
        self.lines, self.unanswered = journal["lines"], journal["unanswered"]
        self._bytes, self._input, self.seed = journal["bytes"], journal["input"], journal["seed"]
        if journal["complete"] and not os.path.lexists(self._part):
            self._is_placed = True  # killed just before the journal was removed
            return
        if self._bytes and not os.path.lexists(self._part):
            raise ValueError(f"{self._part} is missing. Restore it, or remove {self._journal}.")
        self._open()
        size = os.fstat(self._handle).st_size
        if size < self._bytes:
            raise ValueError(
                f"{self._part} is damaged: {self._journal} tells of {self._bytes:,} bytes, and it "
                f"has {size:,}. Remove both to begin anew."
            )
        os.truncate(self._handle, self._bytes)
        os.lseek(self._handle, 0, os.SEEK_END)

    def _check(self, journal: dict[str, Any]) -> None:
        """ValueError, with what differs, if the answers are of another model or other settings."""
        differing = ["of another model"] if journal["model"] != self._about["model"] else []
        stored, wanted = journal["settings"], self._about["settings"]
        names = [name for name in wanted if stored.get(name) != wanted[name]]
        if names:
            shown = [f"--{name}={stored.get(name)} (now {wanted[name]})" for name in names]
            differing.append(f"made with other settings, {', '.join(shown)}")
        if differing:
            raise ValueError(
                f"{self._part} holds the answers to {journal['lines']:,} lines, and they are "
                f"{' and '.join(differing)}. {self._again}"
            )

    def _open(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_NONBLOCK | getattr(os, "O_BINARY", 0)
        self._handle = os.open(self._part, flags, 0o666)
        files.check_regular(self._part)
        if fcntl is None:
            return
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"{self._part} is being written by another process. Wait for it to end, or stop "
                "it; or choose another --output."
            ) from None
        except OSError:
            pass  # a file system without locks

    def _add(self, line: bytes) -> None:
        self._hash.update(line + b"\n")

    def _save(self) -> None:
        self._input = self._hash.hexdigest()
        content = {
            "version": VERSION,
            "lines": self.lines,
            "bytes": self._bytes,
            "unanswered": self.unanswered,
            "complete": self._complete,
            "seed": self.seed,
            "input": self._input,
            **self._about,
        }
        files.write_json(self._journal, content)


def _read(path: str, again: str) -> dict[str, Any]:
    found = files.read_json(path, VERSION, again, "Use that release to go on, or " + again)
    wrong = [name for name in _KINDS if type(found.get(name)) is not _KINDS[name]]
    if wrong or min(found["lines"], found["bytes"], found["unanswered"]) < 0:
        raise ValueError(f"{path} is damaged ({', '.join(wrong) or 'a negative count'}). {again}")
    return found
