"""How the suite runs: in parallel, in bounded memory, with a quick tier, and what it costs."""

import collections
import contextlib
import fcntl
import gc
import os
import resource
import sys
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# A test runs what it compiled once or twice: optimising it costs more than it saves.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
)

ROOT = Path(__file__).parent
WORKER_BYTES = 2 << 30  # what one worker and the processes that its tests start may need
RETIRING_MB = 1500  # a worker of more gets no other file: compiled functions are never freed

# The inner loop: what finds most faults for its time.
QUICK = (
    "tests/data",
    "tests/functional",
    "tests/text",
    "tests/test_imports_point_down.py",
)

# Long files first, so that no worker is left with one at the end.
LONG = (
    "tests/conformance/test_layers.py",
    "tests/apps",
    "tests/export",
    "tests/models",
    "tests/migrate",
)


# -- workers


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config):
    """As many as cores and memory allow; none for a few files, which start faster without."""
    named = [Path(argument.split("::")[0]) for argument in config.option.file_or_dir]
    if named and len(named) <= 3 and all(path.is_file() for path in named):
        return 0
    return max(1, min(len(os.sched_getaffinity(0)), _free_bytes() // WORKER_BYTES))


def _free_bytes():
    """Memory that is free on this machine, or in the container that this runs in."""
    free = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        free.append(next(int(x.split()[1]) << 10 for x in lines if x.startswith("MemAvailable")))
    with contextlib.suppress(OSError, ValueError):
        free.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return min(free)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """A worker that has grown too large ends after its file, and a new one takes its place."""
    if config.option.dist != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Retiring(LoadFileScheduling):
        def _reschedule(self, node):
            if node not in self.registered_collections:
                return  # it is new, and asks again when it has collected
            if self.workqueue and _memory.get(node.gateway.id, 0) > RETIRING_MB:
                node.shutting_down or node.shutdown()
            else:
                super()._reschedule(node)

    return Retiring(config, log)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error):
    session = node.config.pluginmanager.getplugin("dsession")
    if error is None and session.sched.workqueue and not session.shouldstop:
        session._clone_node(node)
    if error is None:
        node.gateway.exit()  # or its process would wait, with its memory, for the end


@pytest.fixture(scope="session")
def once_for_all_workers(tmp_path_factory):
    """`made(name, make)` -> a folder that `make(folder)` filled once, whichever worker came first.

    It is shared: a test that changes it copies it.
    """
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # of all workers of this run

    def made(name, make):
        folder, done = root / "shared" / name, root / "shared" / f"{name}.done"
        folder.parent.mkdir(exist_ok=True)
        with open(root / "shared" / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                folder.mkdir()
                make(folder)
                done.touch()
        return folder

    return made


# -- which tests, in which order


def _below(item, paths):
    """The place in `paths` of the first one that the item is below, or None."""
    name = item.nodeid.split("::")[0]
    places = (i for i, path in enumerate(paths) if name == path or name.startswith(f"{path}/"))
    return next(places, None)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        whole = not (item.get_closest_marker("full") or item.get_closest_marker("slow"))
        if whole and _below(item, QUICK) is not None:
            item.add_marker("quick")
    items.sort(key=lambda item: len(LONG) if (at := _below(item, LONG)) is None else at)


# -- memory


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session):
    """What is there now stays: no collector need look at it again, nor after every few objects."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    _garbage.limit = _resident_mb() + _garbage.STEP


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item, nextitem):
    _meter.restart()
    result = yield
    if _resident_mb() > _garbage.limit:
        if "keras" in sys.modules and (nextitem is None or nextitem.path != item.path):
            sys.modules["keras"].backend.clear_session()  # it keeps names and seeds
        gc.collect()  # graphs and functions refer to each other in cycles
        _garbage.limit = _resident_mb() + _garbage.STEP
    return result


class _garbage:
    STEP = 100  # MB
    limit = 0


def _resident_mb():
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:  # not on Linux: the largest that it has been
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    return pages * os.sysconf("SC_PAGE_SIZE") >> 20


# -- what it costs


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
_peak = {}  # worker -> MB
_memory = {}  # worker -> MB after its last test


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    report.cpu_seconds = _meter.seconds()
    report.memory_mb = _resident_mb()
    return report


def pytest_runtest_logreport(report):
    name = report.nodeid.split("::")[0]
    _tests[name] += report.when == "call"
    _seconds[name] += getattr(report, "cpu_seconds", 0.0)  # not of a worker that died
    worker = getattr(report, "worker_id", "main")
    _memory[worker] = getattr(report, "memory_mb", 0)
    _peak[worker] = max(_peak.get(worker, 0), _memory[worker])


def pytest_terminal_summary(terminalreporter, config):
    """With --durations: CPU seconds of each folder, and of the twenty files that took most."""
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
