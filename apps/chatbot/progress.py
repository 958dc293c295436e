"""Progress of a long task: on one line in a terminal, else in a line from time to time."""

import sys
import time
from collections.abc import Callable

TELL_EVERY = 30.0  # seconds between lines, if the output is not a terminal
BAR = 20  # characters


class Progress:
    """Prints the newest line about a task, at most twice a second in a terminal."""

    def __init__(self) -> None:
        self.terminal = sys.stdout.isatty()
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
        print(f"\r{line()}\033[K" if self.terminal else line(), end="" if self.terminal else "\n")
        sys.stdout.flush()

    def end(self) -> None:
        """Remove the line from a terminal."""
        if self.terminal:
            print("\r\033[K", end="", flush=True)


def bar(task: str, done: int, total: int | None, seconds: float) -> str:
    """A line with a bar: how much of a task is done, and how long the rest will take.

    Without a total, a line with what is done.

    >>> bar("preparing", 250, 1000, 10.0)
    '  preparing [=====>              ] 25 %, 250 of 1,000 pairs, 25 pairs/s, 0:30 left'
    """
    rate = done / seconds if seconds else 0.0
    if total is None:
        return f"  {task}: {done:,} pairs, {rate:,.0f} pairs/s"
    share = min(1.0, done / max(1, total))
    length = int(BAR * share)
    drawn = ("=" * length + ">" * (length < BAR)).ljust(BAR)
    left = f", {clock((total - done) / rate)} left" if rate else ""
    return (
        f"  {task} [{drawn}] {100 * share:.0f} %, {done:,} of {total:,} pairs, {rate:,.0f} pairs/s"
        + left
    )


def clock(seconds: float) -> str:
    """Minutes and seconds, and hours if there are any.

    >>> clock(75), clock(3605)
    ('1:15', '1:00:05')
    """
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
