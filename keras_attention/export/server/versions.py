"""The versions of a model in a folder: the highest is served."""

import gc
import logging
import os
from collections.abc import Callable

from keras_attention.export.server.rows import batching_obstacle
from keras_attention.export.server.servable import Servable, is_saved_model, load
from keras_attention.export.warm_up import FILE, read_warm_up

__all__ = ["NotServed", "Versions"]

_LOG = logging.getLogger(__name__)


class NotServed(LookupError):
    """A model or a version that is not loaded."""


def _warm(directory: str, version: int) -> Servable:
    """Load a version and run its warm-up requests."""
    servable = load(directory, version)
    for signature in servable.signatures.values():
        if why := batching_obstacle(signature):
            _LOG.info("Requests of %r are not batched: %s", signature.name, why)
    if os.path.exists(os.path.join(directory, FILE)):
        for place, request in enumerate(read_warm_up(directory), 1):
            try:
                servable.signature(request.signature)(request.inputs)
            except ValueError as error:
                raise ValueError(f"Warm-up request {place} of {directory!r}: {error}") from error
    return servable


class Versions:
    """The loaded versions of a model.

    `directory` is a SavedModel, served as version 1, or a folder of SavedModels with numbers as
    names. The highest is served. Requests keep the version they started with, so a replaced one
    still answers them, and is freed after the last.

    A version runs its warm-up requests, if any, before it is served.

    Raises the errors of `load` and `read_warm_up` for the first version, and ValueError if a
    warm-up request fails.
    """

    def __init__(self, directory: str, load: Callable[[str, int], Servable] = _warm):
        self._directory, self._load = directory, load
        self._failed: dict[int, tuple[object, str]] = {}  # version -> (its files, the problem)
        found = self._found()
        if not found:
            raise ValueError(
                "Expected a SavedModel, or a folder of SavedModels named 1, 2, ... Received: "
                f"{directory!r}. Export a model there first."
            )
        self._current = load(found[max(found)], max(found))

    def get(self, version: int | None = None) -> Servable:
        """The loaded version. Raises NotServed for a version that is not loaded."""
        current = self._current
        if version not in (None, current.version):
            raise NotServed(
                f"Version {version} is not loaded. Version {current.version} is: leave the "
                "version out to use the newest."
            )
        return current

    def refresh(self) -> None:
        """Load the highest version in the folder, if it is not the one served.

        A version that cannot be loaded, perhaps because it is still being copied, is tried again
        when its files change; until then the served one stays.
        """
        found = self._found()
        self._failed = {version: why for version, why in self._failed.items() if version in found}
        for version in sorted(found, reverse=True):
            if version == self._current.version:
                return
            files = _files(found[version])
            if self._failed.get(version, (None,))[0] == files:
                continue
            try:
                self._current = self._load(found[version], version)
            except Exception as error:  # whatever the problem is, keep the served version
                message = (str(error).splitlines() or [type(error).__name__])[0]
                _LOG.warning("Version %d is not served: %s", version, message)
                self._failed[version] = files, message
            else:
                gc.collect()  # a graph has reference cycles: the old one would stay for long
                return

    def status(self) -> dict[int, str | None]:
        """Version -> its problem, None if it is served; highest first."""
        failed = {version: message for version, (_, message) in self._failed.items()}
        return dict(sorted({**failed, self._current.version: None}.items(), reverse=True))

    def _found(self) -> dict[int, str]:
        if is_saved_model(self._directory):
            return {1: self._directory}
        if not os.path.isdir(self._directory):
            return {}
        paths = {
            name: os.path.join(self._directory, name)
            for name in os.listdir(self._directory)
            if name.isascii() and name.isdigit()
        }
        return {int(name): path for name, path in paths.items() if is_saved_model(path)}


def _files(directory: str) -> list[tuple[str, int, int]]:
    """Names, sizes and times of the files, to detect that a copy has changed."""
    found = []
    for folder, _, names in os.walk(directory):
        for name in names:
            path = os.path.join(folder, name)
            try:
                status = os.stat(path)
            except FileNotFoundError:  # it was renamed in between
                continue
            found.append((path, status.st_size, status.st_mtime_ns))
    return sorted(found)
