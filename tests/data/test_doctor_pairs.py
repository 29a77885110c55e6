"""Training against test sets: what leaks is found and named, independent sets pass."""

import dataclasses

import numpy as np
import pytest
from doctor_example import atoms, change, crystals, every, molecules

from karat.core.errors import BadInput
from karat.data.dataset import Dataset
from karat.data.doctor import CHECKS, PAIR_CHECKS, check
from karat.data.survey import survey
from karat.structures.labels import LevelOfTheory

TURN = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))[0]


def other(frames=40, seed=11):
    return molecules(frames, seed=seed, name="other")


def found(*sets):
    return {finding.code: finding for finding in check(*sets)}


def test_independent_sets_have_no_complaint():
    for train, test in ((molecules(), other()), (crystals(), crystals(20, seed=9))):
        findings = check(train, test)
        assert {finding.severity for finding in findings} == {"info"}
        assert "same-system" in {finding.code for finding in findings}


def renamed(entries, name="copy"):
    return [
        dataclasses.replace(entry, name=f"{name}:{row}", group=name, frame=row)
        for row, entry in enumerate(entries)
    ]


@pytest.mark.parametrize(
    ("code", "severity", "make"),
    [
        ("leakage", "error", lambda e: {}),
        (
            "equivalent-leakage",
            "warning",
            lambda e: {"positions": e.positions * [1, 1, -1], "forces": e.forces * [1, 1, -1]},
        ),
        (
            "near-leakage",
            "error",
            lambda e: {
                "positions": np.round(e.positions @ TURN, 4) + 3.0,
                "forces": e.forces @ TURN + 1e-4,
            },
        ),
        (
            "near-leakage",
            "error",
            lambda e: {"positions": np.round(e.positions, 3), "forces": None},
        ),
    ],
)
def test_copies_are_found(code, severity, make):
    train = molecules()
    copies = every(renamed([train[3], train[30]]), make)
    finding = found(train, other() + copies)[code]
    assert (finding.severity, finding.offenders) == (severity, ("copy:0", "copy:1"))
    assert "2 of 42" in finding.message
    assert code not in found(train, other())


def test_neighbouring_frames_by_number():
    frames = molecules()
    assert "neighbouring-frames" in found(frames[:60], frames[61:])
    assert "neighbouring-frames" not in found(frames[:60], frames[62:])


def test_neighbouring_frames_by_geometry_alone():
    """Two files, each counting its own frames: every other frame of one trajectory."""
    frames = molecules(frames=200, every=1, seed=6)
    finding = found(renamed(frames[::2], "a"), renamed(frames[1::2], "b"))["neighbouring-frames"]
    assert finding.severity == "error"
    assert len(finding.offenders) == 10


def test_frames_of_other_runs_are_no_neighbours():
    assert "neighbouring-frames" not in found(
        molecules(frames=300, every=25, seed=20), molecules(frames=100, seed=21, name="b")
    )


def test_levels_elements_and_energies():
    train, test = molecules(), other()
    changed = every(test, lambda e: {"level": LevelOfTheory("PBE0")})
    assert found(train, changed)["different-levels"].severity == "error"
    copper = found(train, test + crystals()[:3])["new-elements"]
    assert copper.offenders == ("copper:0", "copper:1", "copper:2")
    shifted = every(test, lambda e: {"energy": e.energy + 20.0})
    assert found(train, shifted)["energy-shift"].severity == "error"
    hot = change(test, [5], lambda e: {"forces": e.forces * 20})
    assert found(train, hot)["outside-training"].offenders == ("other:5",)


def test_what_can_be_checked():
    entries = molecules()
    records = Dataset(tuple(entry.record() for entry in entries), LevelOfTheory("PBE", "def2-SVP"))
    wanted = [finding.as_dict() for finding in check(entries)]
    assert [finding.as_dict() for finding in check(records)] == wanted
    assert [finding.as_dict() for finding in check(iter(entries))] == wanted
    assert [finding.as_dict() for finding in check(survey(entries))] == wanted
    with pytest.raises(BadInput, match="no structure"):
        check([])


def test_single_structures_and_atoms_pass():
    for entries in (molecules(1), crystals(1), atoms(), atoms([8])):
        assert "error" not in {finding.severity for finding in check(entries, entries[:0] or None)}


def test_errors_come_first_and_every_check_is_listed_once():
    spoilt = change(molecules(), [1], lambda e: {"energy": float("nan")})
    severities = [finding.severity for finding in check(spoilt, other())]
    assert severities == sorted(severities, key=["error", "warning", "info"].index)
    assert len(CHECKS) == len(set(CHECKS)) >= 30
    assert len(PAIR_CHECKS) == len(set(PAIR_CHECKS)) >= 6
