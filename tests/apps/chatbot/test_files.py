"""Files are replaced safely, and one process trains in a directory."""

import contextlib
import errno
import os
import signal
import stat
import subprocess
import sys

import keras
import pytest

from apps.chatbot import files
from keras_attention.training import TrainingCheckpoint
from tests.apps.chatbot.program import HOME


def write(content):
    def save(path):
        with open(path, "w") as file:
            file.write(content)

    return save


def test_a_file_is_on_the_disk_before_its_name_refers_to_it(tmp_path, monkeypatch):
    events = []
    for name in ("fsync", "replace"):
        usual = getattr(os, name)
        monkeypatch.setattr(
            files.os, name, lambda *a, name=name, usual=usual: events.append(name) or usual(*a)
        )
    files.replace(str(tmp_path / "a"), write("new"))
    assert events == ["fsync", "replace", "fsync"]
    assert (tmp_path / "a").read_text() == "new" and len(os.listdir(tmp_path)) == 1


@pytest.mark.parametrize("code, is_saved", [(errno.EINVAL, True), (errno.EIO, False)])
def test_a_file_system_that_cannot_flush_directories_loses_nothing(
    tmp_path, monkeypatch, code, is_saved
):
    usual = os.fsync

    def fsync(handle):
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(code, os.strerror(code))
        usual(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    model = keras.Sequential([keras.Input([1]), keras.layers.Dense(1)])
    checkpoints = TrainingCheckpoint(tmp_path / "checkpoints", model, keras.optimizers.SGD())
    saves = [
        lambda: files.replace(str(tmp_path / "a"), write("new")),
        lambda: checkpoints.save({}),
    ]
    for save in saves:
        with contextlib.nullcontext() if is_saved else pytest.raises(OSError, match="Could not"):
            save()


def test_a_file_that_cannot_be_written_stays_as_it_was(tmp_path):
    files.replace(str(tmp_path / "a"), write("old"))

    def fails(path):
        write("half")(path)
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="Could not save .*/a: No space left"):
        files.replace(str(tmp_path / "a"), fails)
    assert (tmp_path / "a").read_text() == "old" and len(os.listdir(tmp_path)) == 1


def test_a_lock_leaves_nothing_behind(tmp_path):
    with files.locked(str(tmp_path / "new/model")):
        assert (tmp_path / "new/model").is_dir()
    assert not list(tmp_path.iterdir())
    with files.locked(str(tmp_path / "new/model")):
        (tmp_path / "new/model/kept").touch()
    assert [path.name for path in (tmp_path / "new/model").iterdir()] == ["kept"]


@pytest.fixture
def owner(tmp_path):
    """A process that holds the lock of tmp_path."""
    code = "import sys, time; from apps.chatbot import files\n"
    code += f"with files.locked({str(tmp_path)!r}): print(flush=True); time.sleep(60)"
    environment = {**os.environ, "PYTHONPATH": str(HOME)}
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment
    )
    process.stdout.readline()
    yield process
    process.kill()
    process.communicate()


@pytest.mark.skipif(files.fcntl is None, reason="needs locks of files")
def test_a_directory_is_held_by_one_process_until_it_ends_in_whatever_way(owner, tmp_path):
    with pytest.raises(ValueError, match=rf"being trained by process {owner.pid} on "):
        with files.locked(str(tmp_path)):
            pass
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    assert (tmp_path / files.LOCK).exists()  # a stale one
    with files.locked(str(tmp_path)):
        assert str(os.getpid()) in (tmp_path / files.LOCK).read_text()
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_anything_but_a_file_is_found_without_being_opened(tmp_path):
    (tmp_path / "sub").mkdir()
    os.mkfifo(tmp_path / "sub/pipe")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="sub/pipe must be a regular file"):
        files.check_directory(str(tmp_path))
    os.remove(tmp_path / "sub/pipe")
    files.check_directory(str(tmp_path))
    os.mkfifo(tmp_path / files.LOCK)
    with pytest.raises(ValueError, match="training.lock must be a regular file"):
        with files.locked(str(tmp_path)):
            pass


@pytest.mark.skipif(files.fcntl is None, reason="needs locks of files")
def test_a_directory_that_cannot_be_locked_is_reported_and_used(tmp_path, monkeypatch, capsys):
    def flock(handle, how):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(files.fcntl, "flock", flock)
    with files.locked(str(tmp_path)):
        pass
    assert f"{str(tmp_path)!r} cannot be locked here" in capsys.readouterr().err
