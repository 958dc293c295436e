"""The sample of a product has what it promises, and the product stays whole."""

import itertools

import pytest

from tests.sampled import sampled

COLUMNS = (["a", "b", "c"], [1, 2, 3], [False, True], ["x", "y", "z"])


@pytest.mark.parametrize("together, most", [(1, 3), (2, 12), (4, 54)])
def test_any_values_of_different_columns_meet_and_every_row_is_there(together, most):
    params = sampled(*COLUMNS, together=together)
    assert [tuple(param.values) for param in params] == list(itertools.product(*COLUMNS))
    default = [param.values for param in params if not param.marks]
    assert len(default) <= most
    for places in itertools.combinations(range(4), together):
        met = {tuple(row[i] for i in places) for row in default}
        assert met == set(itertools.product(*(COLUMNS[i] for i in places)))
