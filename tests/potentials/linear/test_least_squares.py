"""Streamed triangles, against NumPy's least squares on all rows at once."""

import time

import numpy as np
import pytest

from karat.core.errors import BadInput
from karat.potentials.linear.least_squares import (
    Equations,
    Factors,
    Triangle,
    solve_least_squares,
)


def structures(rng, count, features, truth=None):
    """Made-up equations of structures of two kinds."""
    truth = rng.normal(size=features) if truth is None else truth
    made = []
    for index in range(count):
        parts = []
        for quantity, rows in (("energy", 1), ("forces", int(rng.integers(3, 40)))):
            matrix = rng.normal(size=(rows, features))
            targets = matrix @ truth + 0.1 * rng.normal(size=rows)
            kind = "ab"[index % 2]
            parts.append(Equations(quantity, kind, np.column_stack([matrix, targets])))
        made.append(parts)
    return made


def whole(made, weights):
    """All rows of all structures, weighted, one on top of another."""
    return np.concatenate(
        [weights[p.quantity] * weights[p.kind] * p.matrix for parts in made for p in parts]
    )


@pytest.mark.parametrize("features", [3, 30, 400])
def test_streamed_is_numpys_least_squares(features):
    rng = np.random.default_rng(features)
    made = structures(rng, 60, features)
    weights = {"energy": 7.0, "forces": 0.5, "a": 1.0, "b": 3.0}
    factors = Factors(features + 1).add(made)
    parts = factors.weighted({"b": 3.0})
    mean, root = solve_least_squares(weights[q] * t.matrix for q, t in parts.items())
    rows = whole(made, weights)
    exact, *_ = np.linalg.lstsq(rows[:, :-1], rows[:, -1])
    # condition number below 10⁴
    np.testing.assert_allclose(mean, exact, rtol=1e-9, atol=1e-10)
    gram = rows[:, :-1].T @ rows[:, :-1]
    np.testing.assert_allclose(root.T @ gram @ root, np.eye(features), atol=1e-8)
    assert parts["forces"].rows == sum(len(p[1].matrix) for p in made)
    assert max(len(t.matrix) for t in factors.triangles.values()) <= features + 1


def test_adding_is_the_same_as_all_at_once():
    rng = np.random.default_rng(2)
    made = structures(rng, 50, 20)
    at_once, later = Factors(21).add(made), Factors(21).add(made[:40])
    before = {key: t.matrix.copy() for key, t in later.triangles.items()}
    added = later.add(made[40:])
    merged = later.merged(Factors(21).add(made[40:]))
    for key, triangle in at_once.triangles.items():
        for other in (added, merged):
            found = other.triangles[key]
            assert found.rows == triangle.rows
            np.testing.assert_allclose(
                found.matrix.T @ found.matrix, triangle.matrix.T @ triangle.matrix, atol=1e-10
            )
        np.testing.assert_array_equal(later.triangles[key].matrix, before[key])
    assert (added.structures, merged.structures) == (50, 50)


def test_ten_more_structures_cost_no_refit():
    rng = np.random.default_rng(3)
    made = structures(rng, 1500, 150)
    started = time.perf_counter()
    factors = Factors(151).add(made)
    whole_seconds = time.perf_counter() - started
    tries = []
    for _ in range(3):
        started = time.perf_counter()
        factors.add(made[:10])
        tries.append(time.perf_counter() - started)
    # 1/150 of the rows, and one factorisation more of each triangle
    assert min(tries) < 0.2 * whole_seconds


def test_kinds_of_weight_zero_do_not_count():
    rng = np.random.default_rng(4)
    made = structures(rng, 20, 5)
    parts = Factors(6).add(made).weighted({"b": 0.0}, leave_out=("energy",))
    only = Factors(6).add(made[::2]).weighted({})["forces"]
    assert list(parts) == ["forces"]
    assert parts["forces"].rows == only.rows
    np.testing.assert_allclose(np.abs(parts["forces"].matrix), np.abs(only.matrix), atol=1e-11)


def test_files_keep_everything(tmp_path):
    rng = np.random.default_rng(5)
    factors = Factors(9).add(structures(rng, 12, 8))
    path = tmp_path / "factors.safetensors"
    factors.save(path, "abc12", {29: -1.5})
    found, references = Factors.read(path, lambda count: f"abc{count}", 9)
    assert found.structures == 12
    assert references == {29: -1.5}
    for key, triangle in factors.triangles.items():
        assert found.triangles[key].rows == triangle.rows
        np.testing.assert_array_equal(found.triangles[key].matrix, triangle.matrix)
    nothing, references = Factors.read(tmp_path / "none", lambda count: "", 9)
    assert (nothing.structures, references) == (0, {})
    with pytest.raises(BadInput, match="other data or another basis"):
        Factors.read(path, lambda count: "abd", 9)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(BadInput, match="damaged"):
        Factors.read(path, lambda count: "abc12", 9)


def test_what_cannot_be_solved_is_refused():
    rng = np.random.default_rng(6)
    rows = rng.normal(size=(30, 6))
    with pytest.raises(BadInput, match="4 equations for 5 coefficients"):
        solve_least_squares([rows[:4]])
    twice = np.column_stack([rows[:, 0], rows])
    with pytest.raises(BadInput, match="1 of 6 coefficients undetermined"):
        solve_least_squares([twice])
    rows[:, 2] = 0
    with pytest.raises(BadInput, match="1 of 5 coefficients undetermined"):
        solve_least_squares([rows])


def test_badly_scaled_columns_are_no_singular_design():
    rng = np.random.default_rng(7)
    rows = rng.normal(size=(50, 5))
    scale = np.array([1e-12, 1.0, 1e9, 1e3, 1.0])
    mean, _ = solve_least_squares([rows * scale])
    exact, *_ = np.linalg.lstsq(rows[:, :-1], rows[:, -1])
    np.testing.assert_allclose(mean * scale[:-1], exact, rtol=1e-10)


@pytest.mark.parametrize("sizes", [(3, 4, 4), (4, 1), (1,) * 9, (2, 1, 3), (5, 4)])
def test_whatever_the_sizes_of_blocks_no_row_is_lost(sizes):
    rng = np.random.default_rng(8)
    rows = rng.normal(size=(sum(sizes), 4))
    triangle = Triangle(np.zeros((0, 4)), 0)
    for block in np.split(rows, np.cumsum(sizes)[:-1]):
        triangle = triangle.add([block])
    assert triangle.rows == len(rows)
    np.testing.assert_allclose(triangle.matrix.T @ triangle.matrix, rows.T @ rows, atol=1e-12)


def test_few_rows_are_kept_as_they_are():
    rows = np.arange(12.0).reshape(3, 4)
    triangle = Triangle(np.zeros((0, 4)), 0).add([rows[:2], rows[2:]])
    np.testing.assert_array_equal(triangle.matrix, rows)
    assert triangle.rows == 3
