"""Products of settings: a sample by default, and all of them in the full run."""

import itertools

import pytest


def sampled(*columns, together=2):
    """Rows of the product of `columns`, for `pytest.mark.parametrize`.

    Any `together` values of different columns meet in a row of the default run; the other rows are
    marked `full`. With together=0 the first row alone runs by default.
    """
    rows = list(itertools.product(*(range(len(column)) for column in columns)))
    missing = {met for row in rows for met in _meetings(row, together)}
    chosen = set()
    while missing:  # the row with most that has not met yet
        best = max(rows, key=lambda row: len(missing & _meetings(row, together)))
        chosen.add(best)
        missing -= _meetings(best, together)
    return [_param(row, columns, row in chosen) for row in rows]


def _meetings(row, together):
    return set(itertools.combinations(enumerate(row), together))


def _param(row, columns, by_default):
    values = [column[i] for column, i in zip(map(list, columns), row)]
    name = "-".join(str(getattr(value, "__name__", value)) for value in values)
    return pytest.param(*values, id=name, marks=[] if by_default else [pytest.mark.full])


def full(*values):
    """These values of an argument, or tuples of several arguments, for the full run alone."""
    rows = (value if isinstance(value, tuple) else (value,) for value in values)
    return [pytest.param(*row, marks=pytest.mark.full) for row in rows]
