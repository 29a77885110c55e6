"""Deviations are those that were put in."""

import dataclasses

import numpy as np
import pytest

from karat.core.errors import BadInput, UnknownKey
from karat.simulation.export.protocol import EXACT, Route
from karat.simulation.export.verify import AMPLITUDE, COPIES, compare, own_labels, rattled
from karat.simulation.export.write import export
from karat.structures.labels import Labels

ROUTE = Route("r", (), EXACT)


def shifted(labels, energy=0.0, force=0.0, stress=0.0):
    forces = np.array(labels.forces)
    forces[3, 1] += force
    tensor = np.array(labels.stress)
    tensor[0, 2] -= stress
    return Labels(energy=labels.energy + energy, forces=forces, stress=tensor)


@pytest.fixture
def answers():
    rng = np.random.default_rng(1)
    return [Labels(-3.0, rng.normal(size=(4, 3)), rng.normal(size=(3, 3))) for _ in range(2)]


def test_deviations_are_those_put_in(answers):
    found = [answers[0], shifted(answers[1], 0.02, 0.3, 0.004)]
    result = compare(ROUTE, answers, found)
    assert result.largest.energy_mev_per_atom == pytest.approx(5.0)  # 20 meV, 4 atoms
    assert result.largest.forces_ev_per_angstrom == pytest.approx(0.3)
    assert result.largest.stress_ev_per_cubic_angstrom == pytest.approx(0.004)
    assert not result.passed


@pytest.mark.parametrize("wrong", [{"energy": 1e-5}, {"force": 2e-6}, {"stress": 2e-8}])
def test_each_quantity_can_fail(answers, wrong):
    assert compare(ROUTE, answers, answers).passed
    assert not compare(ROUTE, answers, [answers[0], shifted(answers[1], **wrong)]).passed


def test_nan_does_not_pass(answers):
    broken = dataclasses.replace(answers[1], forces=np.full((4, 3), np.nan))
    assert not compare(ROUTE, answers, [answers[0], broken]).passed


def test_rattled_copies_differ_and_repeat(silicon):
    copies, again = rattled(silicon), rattled(silicon)
    assert len(copies) == COPIES
    moves = np.array([c.positions - silicon.positions for c in copies])
    # 960 normal numbers: relative error of the deviation 2.3 %; 10 % is 4.4 σ, chance 1e-5
    assert moves.std() == pytest.approx(AMPLITUDE, rel=0.1)
    assert [c.digest for c in copies] == [c.digest for c in again]
    assert len({c.digest for c in copies}) == COPIES


def test_stress_only_where_there_is_one(network_file, molecule, silicon):
    from karat.potentials.karat_file import load

    assert own_labels(load(network_file((1, 6, 8))), [molecule])[0].stress is None
    assert own_labels(load(network_file((14,))), [silicon])[0].stress is not None


def test_refusals_come_before_files(argon_options, silicon, mixture, tmp_path):
    folder = tmp_path / "out"
    with pytest.raises(UnknownKey, match="lammps"):
        export("lennard_jones", "lamps", folder, [mixture], argon_options)
    with pytest.raises(BadInput, match="Si"):
        export("lennard_jones", "ase", folder, [silicon], argon_options)
    with pytest.raises(BadInput, match="no structure"):
        export("lennard_jones", "ase", folder, [], argon_options)
    assert not folder.exists()
    folder.mkdir()
    (folder / "thesis.tex").write_text("\\documentclass{book}")
    with pytest.raises(BadInput, match="other files"):
        export("lennard_jones", "ase", folder, [mixture], argon_options)
