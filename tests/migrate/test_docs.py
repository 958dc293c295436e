"""All commands of docs/migrate_weights.md work as documented."""

import os
import pathlib
import re
import shlex
import subprocess
import sys

import pytest
import tensorflow as tf

from keras_attention.migrate import migrate
from tests.migrate.paths import CHECKPOINTS, ROOT, old

TEXT = (ROOT / "docs" / "migrate_weights.md").read_text("utf-8")


@pytest.mark.full
def test_its_commands_run_in_its_order(tmp_path):
    (tmp_path / "old").mkdir()
    for file in CHECKPOINTS.glob("tfa_rnn.[di]*"):
        name = file.name.replace("tfa_rnn", "translate-20000")
        (tmp_path / "old" / name).write_bytes(file.read_bytes())
    blocks = re.findall(r"```(\w+)\n(.*?)```", TEXT, re.DOTALL)
    assert [language for language, _ in blocks] == [
        "bash",
        "python",
        "bash",
        "python",
        "json",
        "bash",
    ]
    for language, block in blocks:
        if language == "json":
            (tmp_path / "rules.json").write_text(block)
        elif block.startswith("# my_model.py"):
            (tmp_path / "my_model.py").write_text(block)
        elif language == "python":
            assert run(["-c", block], tmp_path).strip() == str(expected_ids(tmp_path))
        else:
            for command in block.splitlines():
                python, *arguments = shlex.split(command)
                assert python == "python"
                assert_as_told(arguments, run(arguments, tmp_path), tmp_path)


def expected_ids(folder):
    made = {}
    exec((folder / "my_model.py").read_text(), made)
    model = made["build"]()
    migrate(old("tfa_rnn"), model)
    return model.generate(tf.constant([[5, 3, 8, 4]]), beam_width=3, max_length=7).ids


def run(arguments, folder: pathlib.Path) -> str:
    process = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    return process.stdout


def assert_as_told(arguments, printed, folder):
    last = printed.splitlines()[-1]
    if "--list" in arguments:
        assert last == "20 weights, 1,693 parameters"
    elif "--out" in arguments:
        assert last == f"{arguments[-1]}: written and verified"
        assert (folder / arguments[-1]).exists()
    else:
        assert last == "no --out: not written"
        assert not list(folder.glob("new.*"))


def test_the_files_it_speaks_of_are_small():
    assert sum(file.stat().st_size for file in CHECKPOINTS.iterdir()) < 300_000
    assert pathlib.Path(old("tfa_rnn.index")).exists()
