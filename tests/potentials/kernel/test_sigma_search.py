"""The walk over a grid of widths: finds minima, survives failures and interruptions."""

import json
import math

import pytest

from karat.core.errors import BadInput, CalculationFailed
from karat.potentials.kernel.sigma_search import NAME, SigmaTable, climb, search

GRID = (5.0, 10.0, 20.0, 40.0, 80.0)


def walk(tmp_path, errors, grid=GRID, table=None):
    asked = []

    def error_of(size, sigma):
        assert size == 7
        asked.append(sigma)
        if errors[sigma] is None:
            raise CalculationFailed("not positive definite", kind="not-positive-definite")
        return errors[sigma]

    return search(7, grid, 20.0, error_of, table or SigmaTable(tmp_path / NAME, "d")), asked


@pytest.mark.parametrize("best", GRID)
def test_finds_the_minimum_wherever_it_is(tmp_path, best):
    errors = {sigma: abs(math.log(sigma / best)) for sigma in GRID}
    assert walk(tmp_path, errors)[0] == best


def test_does_not_try_what_it_need_not(tmp_path):
    errors = {5.0: 9.0, 10.0: 2.0, 20.0: 1.0, 40.0: 2.0, 80.0: 9.0}
    found, asked = walk(tmp_path, errors)
    assert found == 20.0
    assert sorted(asked) == [10.0, 20.0, 40.0]


def test_widths_that_fail_are_passed_by(tmp_path):
    found, _ = walk(tmp_path, {5.0: 3.0, 10.0: 2.0, 20.0: None, 40.0: None, 80.0: None})
    assert found == 10.0
    found, _ = walk(tmp_path / "b", {5.0: 3.0, 10.0: 2.0, 20.0: 1.0, 40.0: None, 80.0: None})
    assert found == 20.0
    with pytest.raises(CalculationFailed, match="positive"):
        walk(tmp_path / "c", dict.fromkeys(GRID))
    assert walk(tmp_path / "d", {7.0: 1.0}, grid=(7.0,))[0] == 7.0


def test_goes_on_where_it_was_stopped(tmp_path):
    errors = {5.0: 3.0, 10.0: 1.0, 20.0: None, 40.0: None, 80.0: None}
    assert walk(tmp_path, errors)[0] == 10.0
    again = SigmaTable.read(tmp_path, "d", fresh=False)
    assert again.errors == {(7, 5.0): 3.0, (7, 10.0): 1.0, (7, 20.0): math.inf}
    assert again.rows()[-1] == [7, 20.0, None]
    found, asked = walk(tmp_path, {}, table=again)
    assert (found, asked) == (10.0, [])
    assert SigmaTable.read(tmp_path, "d", fresh=True).errors == {}
    with pytest.raises(BadInput, match="other data or settings"):
        SigmaTable.read(tmp_path, "e", fresh=False)
    for text in ("{", "[]", json.dumps({"digest": "d", "errors": [["x", 1, 2]]})):
        (tmp_path / NAME).write_text(text)
        with pytest.raises(BadInput, match="damaged"):
            SigmaTable.read(tmp_path, "d", fresh=False)


def test_small_sets_lead_the_search_of_large_ones(tmp_path):
    """The best width falls from 80 to 10; the large set is never asked about 80."""
    best = {10: 80.0, 20: 40.0, 40: 10.0}
    asked = []

    def error_of(size, sigma):
        asked.append((size, sigma))
        return abs(math.log(sigma / best[size]))

    table = SigmaTable(tmp_path / NAME, "d")
    assert climb([10, 20, 40], GRID, 20.0, error_of, table) == 10.0
    # from 40, the best of 20 structures, downhill without a look at the other side
    assert [sigma for size, sigma in asked if size == 40] == [40.0, 20.0, 10.0, 5.0]
    assert len(asked) == len(set(asked)) == len(table.errors)
