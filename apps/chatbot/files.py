"""Files of a model directory: written atomically, checked before they are read."""

import contextlib
import errno
import json
import os
import socket
import stat
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

try:
    import fcntl
except ImportError:  # no POSIX system
    fcntl = None

MAX_JSON_BYTES = 1_000_000
LOCK = "training.lock"
_NO_FLUSH = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF, errno.EACCES)


def replace(path: str, save: Callable[[str], None]) -> None:
    """Write a file by `save(temporary path)`: what was at `path` stays until the new one is safe.

    The content is flushed to the disk before the rename, and the rename before this returns, so
    after a power failure there is either the old or the new file.

    Raises OSError, naming `path`, if it cannot be written.
    """
    folder, name = os.path.split(path)
    part = os.path.join(folder, "unfinished." + name)
    try:
        save(part)
        flush(part)
        os.replace(part, path)
        flush(folder or ".")
    except OSError as error:
        raise OSError(
            f"Could not save {path}: {error.strerror or error}. Earlier files are intact. "
            "Free some space, then run the same command again to continue."
        ) from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(part)


def write_json(path: str, content: dict[str, Any]) -> None:
    """Replace a file by `content`."""
    encoded = json.dumps(content, indent=2, ensure_ascii=False).encode("utf-8", "surrogatepass")

    def save(part):
        with open(part, "wb") as file:
            file.write(encoded)

    replace(path, save)


_DAMAGED = (
    "the model directory is damaged. Restore it from a copy, or start a new training in another "
    "--model_dir."
)
_OTHER = "Use the release that trained the model, or train again."


def read_json(
    path: str, version: int, damaged: str = _DAMAGED, other: str = _OTHER
) -> dict[str, Any]:
    """The content that `write_json` wrote, without its version.

    Raises ValueError if it cannot be read, is no JSON object or is of another version; `damaged`
    and `other` are what to do then.
    """
    try:
        check_regular(path, MAX_JSON_BYTES)
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
        found = content.pop("version")
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read ({error}): {damaged}") from error
    if found != version or isinstance(found, bool):
        raise ValueError(
            f"{path} is of version {found}, this program reads version {version}. {other}"
        )
    return content


def check_regular(path: str, max_bytes: float = float("inf")) -> None:
    """Check that a path is a regular file: reading a pipe would wait, a device never end.

    Raises ValueError if it is something else, or larger than `max_bytes`.
    """
    about = os.stat(path)
    if not stat.S_ISREG(about.st_mode):
        raise ValueError(f"{path} must be a regular file. Received: a directory, pipe or device.")
    if about.st_size > max_bytes:
        raise ValueError(
            f"{path} must have at most {max_bytes:,.0f} bytes. Received: {about.st_size:,}."
        )


def check_directory(directory: str) -> None:
    """Check that a model directory holds only regular files and directories.

    Raises ValueError with the path of anything else.
    """
    for folder, _, names in os.walk(directory):
        for path in (os.path.join(folder, name) for name in names):
            if os.path.exists(path):  # a broken link is reported when it is read
                check_regular(path)


@contextlib.contextmanager
def locked(directory: str) -> Iterator[None]:
    """Lock a directory, which is created if necessary, for one training process at a time.

    The lock belongs to the open file `training.lock`: the system releases it when the process
    ends, even if it is killed, so a remaining file does not block other processes.

    Raises ValueError with the owner's process if another one holds it, OSError if the directory
    cannot be made or written.
    """
    made = _make(directory)
    path = os.path.join(directory, LOCK)
    try:
        handle = _acquire(path)
    except OSError as error:
        _remove_empty(made)
        raise OSError(
            f"--model_dir={directory} cannot be written: {error.strerror}. Choose another one."
        ) from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.remove(path)
        os.close(handle)
        _remove_empty(made)


def _acquire(path: str) -> int:
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK, 0o644)
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise ValueError(f"{path} must be a regular file. Remove it.")
        if fcntl is None:
            _warn_unlocked(path)
            return handle
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(handle, 1000).decode("utf-8", "replace").strip() or "another process"
            os.close(handle)
            raise ValueError(
                f"{os.path.dirname(path)!r} is being trained by {owner}. Wait for it to end, or "
                "stop it; or choose another --model_dir."
            ) from None
        except OSError:  # a file system without locks
            _warn_unlocked(path)
            return handle
        if _is_at(handle, path):
            break
        os.close(handle)  # its owner removed it in between
    about = f"process {os.getpid()} on {socket.gethostname()}, since {time.strftime('%F %T')}\n"
    with contextlib.suppress(OSError):  # the disk may be full: it is locked anyway
        os.truncate(handle, 0)
        os.write(handle, about.encode())
    return handle


def _warn_unlocked(path: str) -> None:
    print(
        f"{os.path.dirname(path)!r} cannot be locked here: let no other process train in it.",
        file=sys.stderr,
        flush=True,
    )


def _is_at(handle: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def _make(directory: str) -> list[str]:
    """Create missing directories; return them, the innermost last."""
    missing, folder = [], os.path.abspath(directory)
    while not os.path.lexists(folder):
        missing.insert(0, folder)
        folder = os.path.dirname(folder)
    try:
        os.makedirs(directory, exist_ok=True)
    except OSError as error:
        _remove_empty(missing)
        raise OSError(
            f"--model_dir={directory} cannot be made: {error.strerror}. Choose another one."
        ) from error
    return missing


def _remove_empty(folders: list[str]) -> None:
    for folder in reversed(folders):
        with contextlib.suppress(OSError):
            os.rmdir(folder)


def flush(path: str) -> None:
    """Flush a file or directory to the disk, if the file system supports it."""
    try:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:  # some network file systems, and Windows, refuse it for directories
        if error.errno not in _NO_FLUSH:
            raise
