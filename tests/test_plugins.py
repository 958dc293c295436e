"""Tests run in children of the workers."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("xdist")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks on Linux alone")

FILES = {
    "test_a.py": "def test_here(): pass\ndef test_b(): assert False",
    "test_c.py": "import os\ndef test_crash(): os.abort()\ndef test_after(): pass",
    "test_d.py": "import warnings\ndef test_warns(): warnings.warn('of a child')",
    "test_e.py": "import pytest\n@pytest.fixture(scope='session')\ndef made():\n    yield\n"
    "    open('torn_down', 'w').close()\ndef test_made(made): pass",
}


def test_a_child_that_dies_costs_its_test_alone(tmp_path):
    for name, content in FILES.items():
        (tmp_path / name).write_text(content)
    plugins = ("-p", "tests.plugins.costs", "-p", "tests.plugins.processes")
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-n1", "--dist=loadfile", "-q", "-rA", *plugins],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
    )
    assert re.search("2 failed, 4 passed, 1 warning", ran.stdout), ran.stdout + ran.stderr
    assert "The process ended with signal 6" in ran.stdout
    assert "of a child" in ran.stdout and "assert False" in ran.stdout
    assert (tmp_path / "torn_down").exists()
