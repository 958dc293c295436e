"""The README is true: its Python runs, its flags exist, its test command is the one CI calls."""

import pathlib
import re

import pytest
from absl import flags

from apps.chatbot import command_line

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def _blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("code", _blocks("python"))
def test_its_python_runs(code):
    exec(compile(code, "README.md", "exec"), {})


def test_its_flags_exist():
    if "mode" not in flags.FLAGS:
        command_line.define_flags()
    used = {
        flag
        for block in _blocks("bash")
        for line in block.splitlines()
        if "apps.chatbot" in line
        for flag in re.findall(r"--(\w+)", line)
    }
    assert used and used <= set(flags.FLAGS)


def test_its_second_block_is_what_ci_runs():
    install, test = _blocks("bash")[1].splitlines()[-2:]
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "[test]" in install
    assert test in ci
