"""Progress of a long task: on one line in a terminal, else in a line from time to time."""

import sys
import time
from collections.abc import Callable
from typing import TextIO

TELL_EVERY = 30.0  # seconds between lines, if the output is not a terminal
BAR = 20  # characters


class Progress:
    """Prints the newest line about a task, at most twice a second in a terminal.

    `file`: where to; by default standard output.
    """

    def __init__(self, file: TextIO | None = None) -> None:
        self.file = file or sys.stdout
        self.terminal = self.file.isatty()
        self.began = self.told = time.monotonic()

    def restart(self) -> None:
        """Begin another task: its time counts from now."""
        self.began = self.told = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the task began."""
        return time.monotonic() - self.began

    def tell(self, line: Callable[[], str]) -> None:
        """Print `line()`, unless the last line was printed a moment ago."""
        now = time.monotonic()
        if now - self.told < (0.5 if self.terminal else TELL_EVERY):
            return
        self.told = now
        text, end = (f"\r{line()}\033[K", "") if self.terminal else (line(), "\n")
        print(text, end=end, file=self.file, flush=True)

    def end(self) -> None:
        """Remove the line from a terminal."""
        if self.terminal:
            print("\r\033[K", end="", file=self.file, flush=True)


class LineProgress(Progress):
    """Reports of lines that are done, and messages between them, on standard error.

    Args:
        share: how much of the input has been read, 0 to 1; None: not known.
        done: lines that an earlier run has done.
        shown: False for no reports, only messages.
    """

    def __init__(
        self, share: Callable[[], float] | None = None, done: int = 0, shown: bool = True
    ) -> None:
        super().__init__(sys.stderr)
        self._share, self._shown, self._first = share, shown, done
        self._read = self._done = done

    def read(self, count: int) -> None:
        """So many more lines are read."""
        self._read += count

    def done(self, count: int) -> None:
        """So many more lines are done; reports if it is time."""
        self._done += count
        if self._shown:
            self.tell(self._line)

    def note(self, text: str) -> None:
        """Print a message on a line of its own."""
        self.end()
        print(text, file=self.file, flush=True)

    def end(self) -> None:
        """Remove the report from a terminal."""
        if self._shown:
            super().end()

    def _line(self) -> str:
        share = self._share() if self._share else None
        total = max(self._done, round(self._read / share)) if share else None
        return bar("answering", self._done, total, self.seconds, "lines", self._first)


def bar(
    task: str, done: int, total: int | None, seconds: float, unit: str = "pairs", before: int = 0
) -> str:
    """A line with a bar: how much of a task is done, and how long the rest will take.

    Without a total, a line with what is done. `before`: of `done`, not within these `seconds`.

    >>> bar("preparing", 250, 1000, 10.0)
    '  preparing [=====>              ] 25 %, 250 of 1,000 pairs, 25 pairs/s, 0:30 left'
    """
    rate = (done - before) / seconds if seconds else 0.0
    speed = f"{rate:,.{int(rate < 10)}f} {unit}/s"
    if total is None:
        return f"  {task}: {done:,} {unit}, {speed}"
    share = min(1.0, done / max(1, total))
    length = int(BAR * share)
    drawn = ("=" * length + ">" * (length < BAR)).ljust(BAR)
    left = f", {clock((total - done) / rate)} left" if rate else ""
    return f"  {task} [{drawn}] {100 * share:.0f} %, {done:,} of {total:,} {unit}, {speed}{left}"


def clock(seconds: float) -> str:
    """Minutes and seconds, and hours if there are any.

    >>> clock(75), clock(3605)
    ('1:15', '1:00:05')
    """
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
