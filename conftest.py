"""How the suite runs: in which order, and which tests make its quick tier."""

import fcntl
import os

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# A test runs what it compiled once or twice: optimising it costs more than it saves.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
)

pytest_plugins = ["tests.plugins.costs", "tests.plugins.processes"]

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
