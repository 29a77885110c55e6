"""Packed Cholesky against LAPACK's own conversion and dense solves."""

import numpy as np
import pytest
from scipy.linalg import lapack

from karat.core.errors import BadInput, CalculationFailed
from karat.potentials.kernel import packed
from karat.potentials.kernel.packed import PackedMatrix, packed_bytes


@pytest.mark.parametrize("order", [1, 2, 3, 7, 10, 24, 25])
@pytest.mark.parametrize("width", [1, 3, 5, 30])
def test_layout_and_solution(order, width):
    generator = np.random.default_rng(order)
    root = generator.normal(size=(order, order))
    dense = root @ root.T + order * np.eye(order)
    matrix = PackedMatrix(order)
    for start in range(0, order, width):
        panel = dense[start:, start : start + width].copy()
        panel[np.triu_indices_from(panel, 1)] = np.nan  # above the diagonal: not looked at
        matrix.fill(start, panel)
    expected, info = lapack.dtrttf(np.asfortranarray(dense), uplo="L")
    assert info == 0
    np.testing.assert_array_equal(matrix._numbers, expected)
    assert matrix._numbers.nbytes == packed_bytes(order)
    matrix.add_to_diagonal(0.5)
    matrix.factorise()
    wanted = generator.normal(size=(order, 3))
    found = matrix.solve((dense + 0.5 * np.eye(order)) @ wanted)
    np.testing.assert_allclose(found, wanted, atol=1e-10)


def test_what_is_not_positive_definite_or_too_large_is_refused(monkeypatch):
    matrix = PackedMatrix(3)
    matrix.fill(0, np.diag([1.0, -1.0, 1.0]))
    with pytest.raises(CalculationFailed, match="row 2 of 3") as error:
        matrix.factorise()
    assert error.value.kind == "not-positive-definite"
    with pytest.raises(BadInput, match="at most 65534"):
        PackedMatrix(70_000)
    monkeypatch.setattr(packed, "available_bytes", lambda: 10**9)
    with pytest.raises(BadInput, match=r"needs 3\.2 GB; 1\.0 GB"):
        PackedMatrix(28_284)


def test_memory_that_is_there_is_a_plausible_number():
    assert 2**27 < packed.available_bytes() < 2**46
