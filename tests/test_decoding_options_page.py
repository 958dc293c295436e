"""docs/decoding_options.md is true of this library: each option is an argument that works."""

import pathlib
import re

import numpy as np
import pytest

PAGE = (pathlib.Path(__file__).parent.parent / "docs" / "decoding_options.md").read_text("utf-8")
ROWS = [line.split("|")[1:-1] for line in PAGE.splitlines() if line.startswith("| ")]
OPTIONS = {row[0].strip(): row[-1].strip(" `") for row in ROWS if row[-1].startswith(" `")}


@pytest.fixture(scope="module")
def names():
    found = {}
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(code, "docs/decoding_options.md", "exec"), found)
    return found


def evaluated(code, names):
    if not re.match(r"\w+=", code):  # a call
        return eval(code, names)
    settings = eval(f"dict({code})", names)
    return names["generate"](names["model"], names["source"], **{"max_length": 5, **settings})


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_is_an_argument_that_works(option, names):
    found = evaluated(OPTIONS[option], names)
    if isinstance(found, names["SearchResult"]):
        assert np.isfinite(found.scores[:, 0]).all() and (found.lengths[:, 0] > 0).numpy().all()
    else:
        assert len(found) > 0


def test_every_processor_has_a_row(names):
    """Those that have no namesake elsewhere are in docs/decoding.md."""
    alone = {
        "allowed_at", "check", "combine", "exact_length", "length_between", "relative_length",
        "repetition_pattern", "LogitsProcessor", "SearchInfo",
    }  # fmt: skip
    code = " ".join(OPTIONS.values())
    public = set(names["processors"].__all__) - alone
    assert {name for name in public if not re.search(rf"\b{name}\b", code)} == set()
