"""A disk that is full."""

import contextlib
import resource


@contextlib.contextmanager
def full_disk(at: int):
    """No file may grow past `at` bytes: writing fails as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (at, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
