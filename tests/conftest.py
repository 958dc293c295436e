"""Draws that are the same at every run."""

import sys

import pytest


@pytest.fixture(autouse=True)
def same_draws_at_every_run():
    """Only where Keras is loaded: most tests of strings and files can do without it."""
    if "keras" in sys.modules:
        sys.modules["keras"].utils.set_random_seed(0)
