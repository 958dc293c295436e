"""Talking to the program: through a pipe, and in a terminal."""

import os
import pty
import select
import time

import pytest

from tests.apps.chatbot.program import start


@pytest.mark.full
def test_each_line_is_answered_before_the_next_is_written(trained, tmp_path):
    directory, _ = trained("char")
    with start("--mode=infer", f"--model_dir={directory}", cwd=tmp_path) as process:
        for line in ("Hello", "", "你好"):
            process.stdin.write(line.encode() + b"\n")
            process.stdin.flush()
            assert until(process.stdout.fileno(), "\n")
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, b"", b"")


@pytest.mark.skipif(not hasattr(pty, "openpty"), reason="needs a terminal")
@pytest.mark.full
def test_a_terminal_is_a_chat_with_a_prompt(trained, tmp_path):
    directory, _ = trained("char")
    ours, theirs = pty.openpty()
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), theirs)
    process = start("--mode=infer", f"--model_dir={directory}", cwd=tmp_path, **streams)
    os.close(theirs)

    def say(line: bytes) -> list[str]:
        """-> what the chat says before its next prompt."""
        os.write(ours, line)
        return until(ours, "> ").splitlines()[1:-1]  # without the echo, and the prompt

    try:
        assert "Ctrl-D" in until(ours, "> ")
        (reply,) = say(b"Hello\n")
        assert say(b"\n") == []
        assert say(b"   \n") == []
        assert "known to the model" in " ".join(say("☃☃\n".encode()))
        assert "UTF-8" in " ".join(say(b"\xff\xfe\n"))
        assert say(b"Hello\n") == [reply]
        os.write(ours, b"\x04")
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        os.close(ours)


def until(handle: int, ending: str) -> str:
    """What is read up to `ending`, which must come within a minute."""
    found, deadline = b"", time.monotonic() + 60
    while not found.endswith(ending.encode()):
        ready, _, _ = select.select([handle], [], [], max(0, deadline - time.monotonic()))
        assert ready, found.decode("utf-8", "replace")
        found += os.read(handle, 4096)
    return found.decode("utf-8", "replace")
