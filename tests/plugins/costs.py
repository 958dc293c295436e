"""The cost of each test: CPU seconds and memory, per folder and file with --durations."""

import collections
import os
import resource
from pathlib import Path

import pytest


def resident_mb():
    """Memory of this process now."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:  # not on Linux: the largest that it has been
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    return pages * os.sysconf("SC_PAGE_SIZE") >> 20


class _Meter:
    """CPU seconds of this process, and of those that it started and that have ended."""

    def __init__(self):
        self.restart()

    def restart(self):
        self.begin = self._now()

    def seconds(self):
        """Since it was last asked."""
        begin, self.begin = self.begin, self._now()
        return self.begin - begin

    @staticmethod
    def _now():
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(part.ru_utime + part.ru_stime for part in used)


_meter = _Meter()
_seconds = collections.Counter()  # of files
_tests = collections.Counter()
_peak = {}  # worker -> MB after a test


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol():
    _meter.restart()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    report = yield
    report.cpu_seconds = _meter.seconds()
    report.memory_mb = resident_mb()
    return report


def pytest_runtest_logreport(report):
    name = report.nodeid.split("::")[0]
    _tests[name] += report.when == "call"
    _seconds[name] += getattr(report, "cpu_seconds", 0.0)  # not of a process that died
    worker = getattr(report, "worker_id", "main")
    _peak[worker] = max(_peak.get(worker, 0), getattr(report, "memory_mb", 0))


def pytest_terminal_summary(terminalreporter, config):
    """CPU seconds of each folder, and of the twenty files that took most."""
    if config.option.durations is None or not _seconds:
        return
    folders = collections.Counter()
    for name, seconds in _seconds.items():
        folders[os.path.dirname(name)] += seconds
    for title, found in (("folder", folders), ("file", _seconds)):
        terminalreporter.section(f"CPU seconds per {title}")
        for name, seconds in found.most_common(20 if title == "file" else None):
            tests = sum(n for of, n in _tests.items() if name in (of, os.path.dirname(of)))
            terminalreporter.write_line(f"{seconds:8.1f}  {name or '.'} ({tests} tests)")
    peaks = ", ".join(f"{worker} {peak} MB" for worker, peak in sorted(_peak.items()))
    terminalreporter.write_line(
        f"{sum(_seconds.values()):8.1f}  in all; most memory after a test: {peaks}"
    )
