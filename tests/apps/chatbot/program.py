"""The program as a shell runs it, but in this process: TensorFlow is imported once."""

import contextlib
import io
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import keras
from absl import app, flags
from absl.testing import flagsaver

from apps.chatbot import __main__ as chatbot
from apps.chatbot import command_line

HOME = Path(__file__).parents[3]
SMALL = (
    "--units=16",
    "--epochs=2",
    "--batch_size=8",
    "--dropout=0.1",
    "--max_length=30",
    "--beam_width=2",
)


class Ran(NamedTuple):
    code: int
    out: str
    err: str


def run(*arguments: str, stdin: bytes = b"") -> Ran:
    """What the command ends with; an exception that it lets through is the test's failure."""
    if "mode" not in flags.FLAGS:
        command_line.define_flags()
    out, err, given = (
        io.TextIOWrapper(io.BytesIO(content), "utf-8", newline="", write_through=True)
        for content in (b"", b"", stdin)
    )
    with (
        flagsaver.flagsaver(),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        mock.patch.object(sys, "stdin", given),
    ):
        try:
            code = chatbot.main(app.parse_flags_with_usage(["chatbot", *map(str, arguments)]))
        except SystemExit as end:
            code = end.code
        finally:
            keras.config.set_dtype_policy("float32")
    return Ran(code, *(stream.buffer.getvalue().decode() for stream in (out, err)))


def start(*arguments: str, cwd: str, **kwargs) -> subprocess.Popen:
    """A process of its own, in a folder that is not ours."""
    return subprocess.Popen(
        [sys.executable, "-m", "apps.chatbot", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(HOME), "PYTHONUNBUFFERED": "1"},
        stdin=kwargs.pop("stdin", subprocess.PIPE),
        stdout=kwargs.pop("stdout", subprocess.PIPE),
        stderr=kwargs.pop("stderr", subprocess.PIPE),
        # A shell without job control leaves SIGINT ignored in its background; we are not one.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        **kwargs,
    )


def shipped(name: str, count: int, longest: int = 1000) -> list[str]:
    """The first lines of a shipped file, `source TAB target`, neither longer than `longest`."""
    lines = (HOME / "apps/chatbot/data" / name).read_text("utf-8").splitlines()
    return [line for line in lines if max(map(len, line.split("\t"))) <= longest][:count]
