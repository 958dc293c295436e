"""SIGINT and SIGTERM while `fit` runs."""

import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any


class Signals:
    """Notes SIGINT and SIGTERM while `fit` runs; the second one has its usual effect."""

    def __init__(self, callback_list):
        self.came = False
        self._list = callback_list
        self._before: dict = {}
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGINT, signal.SIGTERM):
            # One that is ignored stays so: a shell ignores SIGINT for what it runs behind.
            if signal.getsignal(number) not in (None, signal.SIG_IGN):
                self._before[number] = signal.signal(number, self._on)

    def _on(self, number, frame):
        inside = any(f.f_locals.get("callbacks") is self._list for f in frames(frame))
        if self.came or not inside:  # `fit` was left by an error
            before = self._before
            self.give_back()
            signal.signal(number, before.get(number, signal.SIG_DFL))
            signal.raise_signal(number)
            return
        self.came = True
        print("\nStopping after this step ...", file=sys.stderr, flush=True)

    def give_back(self):
        for number, handler in self._before.items():
            if signal.getsignal(number) == self._on:
                signal.signal(number, handler)
        self._before = {}


def frames(frame: Any) -> Iterator[Any]:
    """The frame, and those that called it."""
    while frame is not None:
        yield frame
        frame = frame.f_back
