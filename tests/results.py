"""The measured figures of docs/results, for tests that hold them against their bars."""

import json
import pathlib
import statistics

import pytest

FOLDER = pathlib.Path(__file__).parent.parent / "docs" / "results"


def figure(name: str, run: str, metric: str) -> float:
    """The mean of a figure over the seeds of a run; skips the test if it was not run."""
    return statistics.mean(figures(name, run, metric))


def figures(name: str, run: str, metric: str) -> list[float]:
    """The figure of each seed of a run; skips the test if it was not run."""
    path = FOLDER / f"{name}.json"
    if not path.exists():
        pytest.skip(f"{name} was not run: python tests/benchmarks/results.py {name}")
    outcomes = json.loads(path.read_text(encoding="utf-8"))["runs"][run].values()
    return [outcome["figures"][metric] for outcome in outcomes]
