"""`Repair` drops and mends what needs no guess, counts it, and leaves the rest bit by bit."""

import numpy as np
from doctor_example import change, crystals, every, molecules

from karat.data.doctor import check
from karat.data.repair import WORDS, Repair
from karat.data.survey import survey


def repaired(entries, test=None):
    repair = Repair(survey(entries), None if test is None else survey(test))
    kept = list(repair.apply(entries))
    assert len(kept) == repair.kept
    return kept, dict(repair.done)


def test_clean_sets_stay_as_they_are():
    for entries in (molecules(), crystals()):
        kept, done = repaired(entries)
        assert all(one is two for one, two in zip(kept, entries, strict=True))
        assert done == {}


def test_spoilt_structures_are_dropped():
    entries = molecules()
    spoilt = change(entries, [3], lambda e: {"energy": float("nan")})
    spoilt = change(spoilt, [5, 6], lambda e: {"energy": None, "forces": None})
    spoilt = change(spoilt, [8], lambda e: {"numbers": e.numbers * 0})
    spoilt = [*spoilt, entries[20], spoilt[3]]
    kept, done = repaired(spoilt)
    assert done == {"not-finite": 2, "no-labels": 2, "bad-geometry": 1, "duplicates": 1}
    assert [e.name for e in kept] == [
        e.name for i, e in enumerate(entries) if i not in (3, 5, 6, 8)
    ]
    assert {finding.severity for finding in check(kept)} == {"info"}


def test_leaked_frames_are_dropped_from_the_training_set():
    entries = molecules()
    mirrored = every(
        [entries[40]],
        lambda e: {"positions": e.positions * [1, -1, 1], "forces": e.forces * [1, -1, 1]},
    )
    test = [*molecules(seed=11, name="other"), entries[7], *mirrored]
    kept, done = repaired(entries, test)
    assert done == {"leakage": 2}
    assert {e.name for e in entries} - {e.name for e in kept} == {"run:7", "run:40"}
    codes = {finding.code for finding in check(kept, test)}
    assert not {"leakage", "equivalent-leakage", "near-leakage"} & codes


def test_left_handed_cells_are_the_same_crystal_afterwards():
    entries = crystals()
    left = change(entries, [4], lambda e: {"cell": e.cell[[1, 0, 2]]})
    kept, done = repaired(left)
    assert done == {"left-handed-cell": 1}
    assert np.linalg.det(kept[4].cell) > 0
    # every lattice vector of one is a whole combination of those of the other
    ratio = kept[4].cell @ np.linalg.inv(left[4].cell)
    np.testing.assert_allclose(ratio, np.round(ratio), atol=1e-12)
    assert abs(np.linalg.det(ratio)) == 1.0
    np.testing.assert_array_equal(kept[4].positions, left[4].positions)
    np.testing.assert_array_equal(kept[4].stress, left[4].stress)
    assert "left-handed-cell" not in {finding.code for finding in check(kept)}


def test_rounded_stress_is_made_symmetric_and_a_wrong_one_dropped():
    entries = crystals()
    largest = np.abs(entries[4].stress).max()
    upper = np.triu(np.ones((3, 3)), 1)
    spoilt = change(entries, [4], lambda e: {"stress": e.stress + 2e-3 * largest * upper})
    spoilt = change(spoilt, [9], lambda e: {"stress": e.stress + 5.0 * upper})
    kept, done = repaired(spoilt)
    assert done == {"rounded-stress": 1, "asymmetric-stress": 1}
    np.testing.assert_array_equal(kept[4].stress, kept[4].stress.T)
    assert [e.name for e in entries if e.name not in {k.name for k in kept}] == ["copper:9"]


def test_units_and_signs_are_never_touched():
    entries = every(crystals(), lambda e: {"stress": -e.stress * 1602.2, "energy": e.energy * 23})
    kept, done = repaired(entries)
    assert done == {}
    assert kept[0].energy == entries[0].energy


def test_every_code_has_words():
    assert set(WORDS) >= {"bad-geometry", "left-handed-cell", "rounded-stress", "leakage"}
