"""The conformance suite accepts a sound engine and catches each broken rule."""

from pathlib import Path

import numpy as np
import pytest

from karat.core.errors import BadInput
from karat.reference.conformance import CHECKS, EngineCase
from karat.structures.labels import Labels
from karat.structures.structure import Structure

STRUCTURE = Structure(np.array([1, 1]), np.array([[0.3, 0.1, 0.2], [-0.4, 1.0, 0.6]]))
URANIUM = Structure(np.array([92]), np.zeros((1, 3)))


@pytest.fixture
def awkward(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(Path(__file__).parent)
    from awkward_engine import Awkward

    return Awkward(log=str(tmp_path / "log"))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "folder").mkdir()
    return tmp_path / "folder"


@pytest.mark.parametrize("name", CHECKS)
def test_a_sound_engine_passes(awkward, folder, name):
    CHECKS[name](EngineCase(awkward, STRUCTURE, URANIUM, force_tolerance=1e-8), folder)


def wrong_forces(self, structure, want):
    return Labels(energy=float(np.sum(structure.positions**2)), forces=-structure.positions)


def forgets_forces(self, structure, want):
    return Labels(energy=1.0)


def not_repeatable(self, structure, want):
    self.memory.append(0)
    return Labels(energy=float(len(self.memory)), forces=np.zeros((2, 3)))


def changes_input(self, structure, want):
    structure.positions.setflags(write=True)
    structure.positions[0, 0] += 1.0
    return Labels(energy=0.0, forces=np.zeros((2, 3)))


def accepts_anything(self, structure, want):
    return None


def refuses_without_a_word(self, structure, want):
    raise BadInput("no")


@pytest.mark.parametrize(
    ("check", "method", "broken"),
    [
        ("forces", "compute", wrong_forces),
        ("wanted", "compute", forgets_forces),
        ("bits", "compute", not_repeatable),
        ("input", "compute", changes_input),
        ("refusal", "check", accepts_anything),
        ("refusal", "check", refuses_without_a_word),
    ],
)
def test_a_broken_rule_is_caught(awkward, folder, monkeypatch, check, method, broken):
    monkeypatch.setattr(type(awkward), "memory", [], raising=False)
    monkeypatch.setattr(type(awkward), method, broken)
    structure = Structure(STRUCTURE.numbers, STRUCTURE.positions)
    with pytest.raises(AssertionError):
        CHECKS[check](EngineCase(awkward, structure, URANIUM), folder)


def test_wrong_stress_is_caught(awkward, folder, monkeypatch):
    def compute(self, structure, want):
        return Labels(energy=structure.volume, stress=2.0 * np.eye(3))  # should be 1

    monkeypatch.setattr(type(awkward), "compute", compute)
    monkeypatch.setattr(type(awkward), "quantities", ("energy", "stress"))
    crystal = STRUCTURE.replace(cell=4.0 * np.eye(3), periodic=np.ones(3, bool))
    with pytest.raises(AssertionError, match="stress xx"):
        CHECKS["stress"](EngineCase(awkward, crystal), folder)


def test_steps_that_differ_from_compute_are_caught(awkward, folder, monkeypatch):
    monkeypatch.setattr(type(awkward), "parse", lambda self, folder: Labels(energy=0.0))
    with pytest.raises(AssertionError):
        CHECKS["steps"](EngineCase(awkward, STRUCTURE), folder)
