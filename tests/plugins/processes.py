"""Tests run in children of a worker, and a child that has grown too large runs no other file.

TensorFlow frees no compiled function, so a process that runs many tests grows without limit. A new
xdist worker costs ten seconds, to import everything and to collect all tests again. A fork of a
worker that has done both costs next to nothing, as long as TensorFlow has not run in the worker:
a fork does not take its threads along.
"""

import contextlib
import gc
import importlib.util
import os
import sys
from multiprocessing import Pipe
from pathlib import Path

import pytest

from tests.plugins.costs import resident_mb

# Not beside TensorFlow Addons, whose few tests compare tensors made when they are collected.
FORKS = sys.platform == "linux" and importlib.util.find_spec("tensorflow_addons") is None
LARGE_MB = 1400
WORKER_BYTES = 2 << 30  # what a worker, its child and the programs that its tests start may need


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


# -- collection


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    """A module that runs TensorFlow while it is imported fails, by name."""
    before = _tensorflow_runs()
    report = yield
    if FORKS and report.passed and not before and _tensorflow_runs():
        report.outcome = "failed"
        report.longrepr = (
            f"{collector.nodeid} runs TensorFlow when it is collected, so that no test could run "
            "in a fork of this process. Make tensors and layers inside of tests and fixtures."
        )
    return report


def _tensorflow_runs():
    if "tensorflow" not in sys.modules:
        return False
    from tensorflow.python.eager import context

    return context.context()._initialized


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session):
    """What is there now stays: no collector need look at it again, and no fork copies it."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    if FORKS and "PYTEST_XDIST_WORKER" in os.environ:
        session.config.pluginmanager.register(Children(session.config))


# -- running


class Children:
    """Hands each test of a worker to the child that runs now."""

    def __init__(self, config):
        plugins = config.pluginmanager.get_plugins()
        self.worker = next(plugin for plugin in plugins if hasattr(plugin, "sendevent"))
        self.child = None  # its process id
        self.connection = None
        self.memory = 0  # MB of the child

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item, nextitem):
        if self.child is None:
            self._fork(item.config)
        large = self.memory > LARGE_MB and nextitem is not None and nextitem.path != item.path
        last = nextitem is None or large
        try:
            self.connection.send(
                (self.worker.item_index, None if last else self.worker.nextitem_index)
            )
            self._relay()
        except (EOFError, ConnectionError):
            self._report_crash(item)
        else:
            if last:
                self._wait()
        return True

    def _relay(self):
        """What the child tells of its test goes to the controller."""
        while True:
            name, facts = self.connection.recv()
            if name == "done":
                self.memory = facts["memory"]
                return
            self.worker.sendevent(name, **facts)

    def _fork(self, config):
        self.connection, theirs = Pipe()
        self.child = os.fork()
        if self.child:
            theirs.close()
            return
        try:
            self.connection.close()
            config.pluginmanager.unregister(self)
            self._run(config, theirs)
        finally:
            os._exit(1)

    def _run(self, config, connection):
        """The child: runs what it is told, until the test that it is told is its last."""
        worker = self.worker
        items = worker.session.items
        worker.sendevent = lambda name, **facts: connection.send((name, facts))
        following = 0
        while following is not None:
            worker.item_index, following = connection.recv()
            config.hook.pytest_runtest_protocol(
                item=items[worker.item_index],
                nextitem=None if following is None else items[following],
            )
            connection.send(("done", {"memory": resident_mb()}))
        os._exit(0)

    def _report_crash(self, item):
        status = self._wait()
        how = f"signal {-status}" if status < 0 else f"exit code {status}"
        item.ihook.pytest_runtest_logreport(
            report=pytest.TestReport(
                item.nodeid, item.location, {}, "failed", f"The process ended with {how}.", "call"
            )
        )

    def _wait(self):
        """-> the exit code of the child, or -signal."""
        self.connection.close()
        _, status = os.waitpid(self.child, 0)
        self.child, self.memory = None, 0
        return os.waitstatus_to_exitcode(status)


# -- memory


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item, nextitem):
    """Frees what a file left behind, where it is much."""
    result = yield
    if resident_mb() > _garbage.limit:
        if "keras" in sys.modules and (nextitem is None or nextitem.path != item.path):
            sys.modules["keras"].backend.clear_session()  # it keeps names and seeds
        gc.collect()  # graphs and functions refer to each other in cycles
        _garbage.limit = resident_mb() + _garbage.STEP
    return result


class _garbage:
    STEP = 100  # MB
    limit = 1000
