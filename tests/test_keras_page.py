"""docs/keras.md is true: its Python runs."""

import pathlib
import re

PAGE = (pathlib.Path(__file__).parent.parent / "docs" / "keras.md").read_text(encoding="utf-8")


def test_its_python_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for number, code in enumerate(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)):
        exec(compile(code, f"docs/keras.md, block {number}", "exec"), names)
    assert names["model"].name
