"""The door of the package."""

import subprocess
import sys

import pytest

import keras_attention

LATE = """
import sys
import keras_attention
before = [name for name in keras_attention.__all__ if f"keras_attention.{name}" not in sys.modules]
found = [getattr(keras_attention, name).__name__ for name in keras_attention.__all__]
print(before, found == [f"keras_attention.{name}" for name in keras_attention.__all__])
"""


def test_every_part_is_there_and_the_rarer_ones_are_imported_when_asked_for():
    told = subprocess.run([sys.executable, "-c", LATE], check=True, capture_output=True, text=True)
    assert told.stdout.strip() == "['contrib', 'export', 'migrate', 'visualize'] True"
    assert set(keras_attention.__all__) <= set(dir(keras_attention))


def test_what_is_not_there_is_named():
    with pytest.raises(AttributeError, match="keras_attention.*'nothing'"):
        _ = keras_attention.nothing
