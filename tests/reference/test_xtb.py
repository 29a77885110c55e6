"""GFN1-/GFN2-xTB: published energies, central differences, what is refused, stored output."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from ase import units
from ase.build import molecule

from karat.core.components import parse
from karat.core.errors import (
    BadInput,
    CalculationFailed,
    UnknownElement,
    UnknownKey,
    UnsuitableStructure,
)
from karat.reference.catalogue import CATALOGUE
from karat.reference.conformance import CHECKS, EngineCase, equal_bits
from karat.reference.xtb import Gfn1Xtb, Gfn2Xtb
from karat.structures.structure import Structure

STORED = Path(__file__).parent / "stored" / "gfn2_water"
ENGINES = {"gfn2_xtb": Gfn2Xtb(), "gfn1_xtb": Gfn1Xtb()}


def rattled(name, seed=1, **changes):
    atoms = molecule(name)
    atoms.rattle(0.05, seed=seed)
    return Structure.from_ase(atoms).replace(**changes)


def boxed_water(edge=10.5):
    """Water in a skewed cell just large enough."""
    cell = np.array([[edge, 0.0, 0.0], [0.7, edge + 0.5, 0.0], [0.3, -0.4, edge + 0.8]])
    return rattled("H2O", cell=cell, periodic=np.ones(3, bool))


URANIUM = Structure(np.array([92]), np.zeros((1, 3)))
CASES = {
    "molecule": rattled("CH3CH2OH"),
    "anion": rattled("HCOOH", charge=-1),
    "radical": rattled("CH3"),
    "triplet": rattled("O2", multiplicity=3),
    "box": boxed_water(),
}


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("kind", CASES)
@pytest.mark.parametrize("name", ENGINES)
def test_conformance(name, kind, check, tmp_path):
    # forces: the declared 1e-3 eV/Å; stress: truncation and rounding are below 1e-5 eV/Å³
    case = EngineCase(
        ENGINES[name], CASES[kind], refused=URANIUM, stress_tolerance=1e-5, components=4
    )
    CHECKS[check](case, tmp_path)


def test_published_energies():
    # documentation of tblite's Python interface (`Result`), SiH4, hartree
    corners = np.array([[0, 0, 0], [1, 1, -1], [-1, -1, -1], [1, -1, 1], [-1, 1, 1]])
    silane = 1.617683897558 * corners
    structure = Structure(np.array([14, 1, 1, 1, 1]), silane * units.Bohr)
    energy = Gfn2Xtb().compute(structure, ("energy",)).energy
    # constants of ASE are those of 2014: 1e-8 lower
    assert energy == pytest.approx(-3.763233750684 * units.Hartree, rel=2e-8)


def test_charges_and_dipole():
    cation = rattled("NH3", charge=1)
    for engine in ENGINES.values():
        labels = engine.compute(cation, ("charges", "dipole"))
        # charges converge like the density: 1e-6 e at accuracy 0.1
        assert labels.charges.sum() == pytest.approx(1.0, abs=1e-5)
        shift = np.array([1.0, 2.0, -3.0])
        moved = engine.compute(cation.replace(positions=cation.positions + shift), ("dipole",))
        np.testing.assert_allclose(moved.dipole - labels.dipole, shift, rtol=0, atol=1e-5)
        water = Structure.from_ase(molecule("H2O"))  # oxygen above the hydrogens
        dipole = engine.compute(water, ("dipole",)).dipole
        assert dipole[2] < 0  # from negative to positive
        assert 0.3 < np.linalg.norm(dipole) < 0.6  # e Å; experiment: 0.386


def test_multiplicity_reaches_the_program():
    # exact: without spin polarisation the two π* electrons have the same density either way, and
    # the four half-filled spin orbitals of the "singlet" bring the entropy k 4 ln 2
    oxygen = Structure.from_ase(molecule("O2"))
    for engine in ENGINES.values():
        singlet, triplet = (
            engine.compute(oxygen.replace(multiplicity=m), ("energy",)).energy for m in (1, 3)
        )
        expected = units.kB * 300.0 * 4.0 * np.log(2.0)
        assert triplet - singlet == pytest.approx(expected, rel=1e-4)


def test_tighter_accuracy_changes_little_and_something():
    structure = rattled("CH3CH2OH")
    loose, default, tight = (
        Gfn2Xtb(accuracy=accuracy).compute(structure, ("energy",)).energy
        for accuracy in (10.0, 0.1, 0.001)
    )
    assert abs(default - tight) < 1e-8 < abs(loose - tight)


def test_electronic_temperature_is_in_kelvin():
    # stretched H2: two states close by, so that -T S counts; hotter is lower
    structure = Structure(np.array([1, 1]), np.array([[0.0, 0.0, 0.0], [3.0, 0.0, 0.0]]))
    cold, hot = (
        Gfn2Xtb(electronic_temperature_k=kelvin).compute(structure, ("energy",)).energy
        for kelvin in (10.0, 5000.0)
    )
    # two half-filled orbitals of either spin have the entropy k 4 ln 2, and nothing has more
    assert 0.5 < (cold - hot) / (units.kB * 5000.0 * 4.0 * np.log(2.0)) < 1.0


@pytest.mark.parametrize(
    ("structure", "error", "words"),
    [
        (Structure(np.array([94]), np.zeros((1, 3))), UnknownElement, "Pu.*H to Rn"),
        (boxed_water(5.0), UnsuitableStructure, "Gamma point only.*10 Å"),
        (
            boxed_water().replace(periodic=np.array([True, True, False])),
            UnsuitableStructure,
            "three directions",
        ),
        (Structure(np.array([1]), np.zeros((1, 3)), charge=1), UnsuitableStructure, "0 electrons"),
        (boxed_water().replace(multiplicity=2), UnsuitableStructure, "multiplicity 2"),
    ],
)
def test_refuses(structure, error, words):
    with pytest.raises(error, match=words):
        Gfn2Xtb().check(structure, ("energy",))


def test_a_flat_cell_is_small_however_long_its_vectors_are():
    # rows of 20 Å and more, but lattice planes 20 sin(10°) = 3.5 Å apart
    angle = np.deg2rad(10.0)
    cell = 20.0 * np.array([[1, 0, 0], [np.cos(angle), np.sin(angle), 0], [0, 0, 1.0]])
    with pytest.raises(UnsuitableStructure, match="3.47 Å"):
        Gfn1Xtb().check(boxed_water().replace(cell=cell), ("energy",))


def test_the_limit_on_cells_can_be_lowered():
    small = boxed_water(6.0)
    assert Gfn1Xtb(shortest_spacing=5.0).compute(small, ("energy",)).energy < 0


def test_stress_needs_a_cell_and_the_dipole_none():
    with pytest.raises(UnsuitableStructure, match="three periodic directions"):
        Gfn2Xtb().check(rattled("H2O"), ("stress",))
    with pytest.raises(UnsuitableStructure, match="not defined"):
        Gfn2Xtb().check(boxed_water(), ("dipole",))
    with pytest.raises(BadInput, match="one or more of"):
        Gfn2Xtb().check(rattled("H2O"), ())


def test_not_converged_is_a_failure_with_that_kind():
    with pytest.raises(CalculationFailed, match="not converged") as caught:
        Gfn2Xtb(max_iterations=2).compute(rattled("CH3CH2OH"), ("energy",))
    assert caught.value.kind == "not-converged"


def test_other_failures_of_tblite():
    close = Structure(np.array([1, 1]), np.zeros((2, 3)))
    with pytest.raises(CalculationFailed, match="interatomic distances") as caught:
        Gfn2Xtb().compute(close, ("energy",))
    assert caught.value.kind == "error"


def test_nothing_is_printed(capfd):
    Gfn2Xtb().compute(rattled("H2O"), ("energy",))
    assert capfd.readouterr() == ("", "")


def test_parse_stored_output(tmp_path):
    folder = tmp_path / "water"
    shutil.copytree(STORED, folder)
    labels = Gfn2Xtb().parse(folder)
    raw = json.loads((folder / "output.json").read_text())
    # independent constants: those of ASE are of 2014 and differ by 1e-8
    assert labels.energy == pytest.approx(-5.070075199185733 * units.Hartree, rel=2e-8)
    gradient = np.array(raw["gradient"]) * units.Hartree / units.Bohr
    np.testing.assert_allclose(labels.forces, -gradient, rtol=2e-8, atol=1e-12)
    virial = np.array(raw["virial"]) * units.Hartree / (11.0 * 12.0 * 13.0)
    np.testing.assert_allclose(labels.stress, virial, rtol=2e-8, atol=1e-12)
    assert labels.quantities == ("energy", "forces", "stress", "charges")


@pytest.mark.parametrize("content", ["", '{"energy": -5.0', "[]", '{"energy": -5.0}', None])
def test_incomplete_output_is_a_failure(tmp_path, content):
    folder = tmp_path / "water"
    shutil.copytree(STORED, folder)
    output = folder / "output.json"
    output.unlink() if content is None else output.write_text(content)
    with pytest.raises(CalculationFailed) as caught:
        Gfn2Xtb().parse(folder)
    assert caught.value.kind == "no-output"


def test_run_in_a_folder_that_was_not_prepared(tmp_path):
    with pytest.raises(BadInput, match="prepare"):
        Gfn2Xtb().run(tmp_path)


def test_bits_do_not_depend_on_what_came_before():
    structures = [rattled("CH3CH2OH", seed) for seed in range(5)]
    engine, want = Gfn2Xtb(), ("energy", "forces")
    forward = [engine.compute(structure, want) for structure in structures]
    backward = [engine.compute(structure, want) for structure in structures[::-1]][::-1]
    assert all(equal_bits(a, b) for a, b in zip(forward, backward))


def test_settings_are_checked():
    for values in ({"accuracy": 0.0}, {"max_iterations": 0}, {"electronic_temperature_k": -1.0}):
        with pytest.raises(BadInput, match=next(iter(values))):
            parse(Gfn2Xtb, values, "engine")
    with pytest.raises(UnknownKey, match="did you mean 'accuracy'"):
        parse(Gfn2Xtb, {"acuracy": 0.1}, "engine")


def test_levels_differ_and_are_called_semi_empirical():
    two, one = Gfn2Xtb().level, Gfn1Xtb().level
    assert two.semiempirical
    assert one.semiempirical
    assert not two.same_as(one)
    assert Gfn2Xtb(accuracy=1.0).level.digest != two.digest


def test_every_name_of_the_catalogue_resolves():
    from karat.reference.protocol import AbstractEngine

    assert set(CATALOGUE.members) == {"gfn2_xtb", "gfn1_xtb", "pyscf", "ase"}
    for name in CATALOGUE.members:
        assert issubclass(CATALOGUE.resolve(name), AbstractEngine)
