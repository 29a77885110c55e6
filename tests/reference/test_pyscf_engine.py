"""PySCF: published energies, central differences, dispersion, what is refused."""

import numpy as np
import pytest
from ase.build import molecule

from karat.core import units
from karat.core.errors import (
    BadInput,
    CalculationFailed,
    MissingDependency,
    UnknownElement,
    UnsuitableStructure,
)
from karat.reference.conformance import CHECKS, EngineCase
from karat.reference.pyscf_engine import Pyscf
from karat.structures.structure import Structure

pytest.importorskip("pyscf", reason="PySCF is not installed: pip install 'karat[qm]'")


def structure(numbers, positions, **more):
    return Structure(np.array(numbers), np.array(positions, dtype=float), **more)


def rattled(name, **changes):
    atoms = molecule(name)
    atoms.rattle(0.05, seed=1)
    return Structure.from_ase(atoms).replace(**changes)


def hartree(engine, molecule):
    return engine.compute(molecule, ("energy",)).energy / units.HARTREE


def bent(r, degrees):
    angle = np.deg2rad(degrees)
    return structure([8, 1, 1], [[0, 0, 0], [r, 0, 0], [r * np.cos(angle), r * np.sin(angle), 0]])


def planar_methyl(r):
    angles = np.arange(3) * 2.0 * np.pi / 3.0
    hydrogens = r * np.stack([np.cos(angles), np.sin(angles), 0.0 * angles], axis=1)
    return structure([6, 1, 1, 1], np.vstack([np.zeros(3), hydrogens]))


@pytest.mark.parametrize(
    ("molecule", "published"),
    [
        (bent(0.9474, 105.5), -76.01075),
        (structure([8, 1], [[0, 0, 0], [0.9585, 0, 0]]), -75.38228),
        (planar_methyl(1.0729), -39.55899),
        (structure([8, 8], [[0, 0, 0], [1.168, 0, 0]], multiplicity=3), -149.61791),
    ],
    ids=["water", "hydroxyl", "methyl", "oxygen"],
)
def test_hartree_fock_published(molecule, published):
    # Hehre, Radom, Schleyer, Pople, Ab Initio Molecular Orbital Theory (1986): (U)HF/6-31G* at
    # its own minimum, five decimals; the rounding of the geometry is of second order
    engine = Pyscf("hf", basis="6-31g*", cartesian=True, density_fit=False)
    assert hartree(engine, molecule) == pytest.approx(published, abs=1.5e-5)


def test_correlation_energies_published():
    # Crawford's programming projects 3 to 6: water, STO-3G, all electrons correlated
    bohr = [
        [0, -0.143225816552, 0],
        [1.638036840407, 1.136548822547, 0],
        [-1.638036840407, 1.136548822547, 0],
    ]
    water = structure([8, 1, 1], np.array(bohr) * units.BOHR)
    settings = {"basis": "sto-3g", "density_fit": False}
    scf = hartree(Pyscf("hf", **settings), water)
    assert scf == pytest.approx(-74.942079928192, abs=1e-8)
    mp2 = hartree(Pyscf("mp2", frozen_core=False, **settings), water) - scf
    assert mp2 == pytest.approx(-0.049149636120, abs=1e-8)
    triples = hartree(Pyscf("ccsd(t)", frozen_core=False, **settings), water) - scf
    # CCSD and (T); amplitudes converged to 1e-7
    assert triples == pytest.approx(-0.070680088376 - 0.000099877272, abs=1e-8)
    frozen = hartree(Pyscf("mp2", frozen_core=True, **settings), water) - scf
    assert mp2 < frozen < 0.9 * mp2  # the 1s pair of oxygen contributes a little


def test_density_fitting_moves_energies_by_little():
    water = rattled("H2O")
    for method in ("hf", "mp2", "ccsd(t)"):
        exact, fitted = (hartree(Pyscf(method, density_fit=fit), water) for fit in (False, True))
        assert 1e-7 < abs(exact - fitted) < 3e-4


METHODS = {
    "hf": Pyscf("hf", basis="sto-3g"),
    "dft": Pyscf("dft", "pbe", basis="sto-3g", dispersion="d3bj", grid_level=0),
    "mp2": Pyscf("mp2", basis="6-31g", density_fit=False),
    "mp2-fitted": Pyscf("mp2", basis="6-31g"),
}
PERIODIC = structure([1], [[0, 0, 0]], cell=10.0 * np.eye(3), periodic=np.ones(3, bool))


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("name", METHODS)
def test_conformance(name, check, tmp_path):
    # forces contain the response of the grid: differences leave 3e-5 eV/Å of truncation
    case = EngineCase(
        METHODS[name], rattled("NH2"), refused=PERIODIC, force_tolerance=2e-4, components=2
    )
    CHECKS[check](case, tmp_path)


@pytest.mark.parametrize("check", ["forces", "wanted", "bits"])
def test_conformance_of_closed_shell_coupled_cluster(check, tmp_path):
    engine = Pyscf("ccsd(t)", basis="6-31g", density_fit=False)
    CHECKS[check](EngineCase(engine, rattled("H2O"), force_tolerance=2e-4), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("functional", ["wb97m-d3bj", "b3lyp-d4", "wb97m-v"])
def test_forces_of_other_functionals(functional, tmp_path):
    # non-local correlation: PySCF has no response of the grid, so 5e-3 eV/Å at grid level 3
    nonlocal_correlation = functional.endswith("-v")
    tolerance = 5e-3 if nonlocal_correlation else 2e-4
    molecule = rattled("H2" if nonlocal_correlation else "H2O")  # minutes for water
    case = EngineCase(Pyscf("dft", functional), molecule, force_tolerance=tolerance, components=2)
    CHECKS["forces"](case, tmp_path)


def test_dispersion_falls_off_with_the_sixth_power():
    # Grimme et al., J. Chem. Phys. 132, 154104 (2010): C6 of two argon atoms 64.6 hartree bohr^6;
    # at 30 bohr C8/R^8 adds 4 %, D4's own C6 differs by a few per cent
    distance = 30.0
    pair = structure([18, 18], [[0, 0, 0], [distance * units.BOHR, 0, 0]])
    plain = hartree(Pyscf("hf", basis="sto-3g"), pair)
    for dispersion in ("d3bj", "d4"):
        energy = hartree(Pyscf("hf", basis="sto-3g", dispersion=dispersion), pair) - plain
        assert energy * distance**6 == pytest.approx(-64.6, rel=0.1)


def test_heavy_elements_use_the_core_potential_of_the_basis():
    iodide = structure([53, 1], [[0, 0, 0], [1.6, 0, 0]])
    # 25 valence electrons of iodine instead of 53: about -297 hartree, not -6900
    assert -300 < hartree(Pyscf("hf", basis="def2-svp"), iodide) < -290


def test_charges_and_dipole():
    cation = rattled("NH3", charge=1)
    labels = Pyscf("hf", basis="sto-3g").compute(cation, ("charges", "dipole"))
    assert labels.charges.sum() == pytest.approx(1.0, abs=1e-9)
    water = Structure.from_ase(molecule("H2O"))  # oxygen above the hydrogens
    dipole = Pyscf("hf", basis="def2-svp").compute(water, ("dipole",)).dipole
    assert dipole[2] < 0
    assert 0.35 < np.linalg.norm(dipole) < 0.5  # e Å; experiment: 0.386


def test_one_electron_has_no_correlation():
    hydrogen = structure([1], [[0, 0, 0]])
    scf = hartree(Pyscf("hf"), hydrogen)
    assert scf == pytest.approx(-0.4993, abs=1e-3)  # exact: -0.5
    assert hartree(Pyscf("mp2"), hydrogen) == scf
    assert hartree(Pyscf("ccsd(t)"), hydrogen) == scf


def test_quantities_are_truthful():
    assert Pyscf("mp2").quantities == ("energy",)
    water = rattled("H2O")
    with pytest.raises(UnsuitableStructure, match="Set density_fit to false"):
        Pyscf("ccsd(t)").check(water, ("energy", "forces"))
    with pytest.raises(UnsuitableStructure, match="not exact in PySCF"):
        Pyscf("ccsd(t)", density_fit=False).check(rattled("CH3"), ("forces",))
    Pyscf("ccsd(t)", density_fit=False).check(water, ("forces",))


@pytest.mark.parametrize(
    ("engine", "molecule", "error", "words"),
    [
        (Pyscf("hf"), PERIODIC, UnsuitableStructure, "Quantum ESPRESSO"),
        (Pyscf("hf", basis="6-31gg"), rattled("H2O"), UnknownElement, "no basis '6-31gg'"),
        (Pyscf("hf", basis="6-31g*"), structure([79, 1], [[0, 0, 0], [1.5, 0, 0]]),
         UnknownElement, "for Au"),
        (Pyscf("dft", "b3lypp"), rattled("H2O"), BadInput, "no functional 'b3lypp'"),
        (Pyscf("dft", "wb97x-d3"), rattled("H2O"), BadInput, "no functional 'wb97x-d3'"),
    ],
)  # fmt: skip
def test_refuses(engine, molecule, error, words):
    with pytest.raises(error, match=words):
        engine.check(molecule, ("energy",))


@pytest.mark.parametrize(
    "values",
    [
        {"method": "dft"},
        {"method": "hf", "functional": "pbe"},
        {"method": "mp2", "dispersion": "d4"},
        {"method": "dft", "functional": "wb97m-d3bj", "dispersion": "d3bj"},
        {"method": "hf", "grid_level": 12},
    ],
)
def test_settings_that_do_not_fit_together(values):
    with pytest.raises(BadInput, match="pyscf"):
        Pyscf(**values)


def test_not_converged():
    with pytest.raises(CalculationFailed, match="did not converge") as caught:
        Pyscf("hf", max_cycles=1).compute(rattled("H2O"), ("energy",))
    assert caught.value.kind == "not-converged"


def test_level_of_theory():
    own = Pyscf("dft", "wb97m-d3bj", basis="def2-tzvp").level
    assert (own.method, own.dispersion, own.label) == ("wb97m", "D3(BJ)", "wb97m-D3(BJ)/def2-tzvp")
    assert own.program.startswith("PySCF 2.")
    b3lyp = Pyscf("dft", "b3lyp", basis="def2-svp")
    assert not b3lyp.level.same_as(Pyscf("dft", "b3lyp", dispersion="d3bj").level)
    assert not Pyscf("hf", cartesian=True).level.same_as(Pyscf("hf").level)
    assert b3lyp.level.digest != Pyscf("dft", "b3lyp", grid_level=5).level.digest


def test_missing_package_names_the_command(monkeypatch):
    import importlib.util

    def missing(name, *arguments):
        return None if name.startswith("pyscf") else object()

    monkeypatch.setattr(importlib.util, "find_spec", missing)
    with pytest.raises(MissingDependency, match=r"pip install 'karat\[qm\]'"):
        Pyscf("hf").check(rattled("H2O"), ("energy",))
