"""Every member of the catalogue passes what its declarations make applicable."""

import numpy as np
import pytest

from karat.potentials.catalogue import CATALOGUE, potential_component
from karat.potentials.conformance import CHECKS, make_subject, run_check
from karat.structures.builders import crystal, from_smiles
from karat.structures.structure import Structure

ARGON = {
    "epsilon_ev": {"Ar": 0.0104, "Kr": 0.014},
    "sigma_angstrom": {"Ar": 3.4, "Kr": 3.65},
    "cutoff_angstrom": 8.0,
    "onset_angstrom": 6.0,
}
ZBL = {"elements": ["C", "Si"], "inner_angstrom": 1.2, "outer_angstrom": 2.2}
NATIVE = {
    "lennard_jones": ARGON,
    "morse": {
        "depth_ev": {"Cu": 0.3429, "Cu-Ni": 0.38, "Ni": 0.4205},
        "width_per_angstrom": {"Cu": 1.3588, "Cu-Ni": 1.39, "Ni": 1.4199},
        "distance_angstrom": {"Cu": 2.866, "Cu-Ni": 2.82, "Ni": 2.78},
        "cutoff_angstrom": 6.0,
        "onset_angstrom": 4.5,
    },
    "buckingham": {
        "a_ev": {"O": 22764.3, "Mg-O": 1428.5, "Mg": 0.0},
        "rho_angstrom": {"O": 0.149, "Mg-O": 0.2945, "Mg": 1.0},
        "c_ev_angstrom6": {"O": 27.88, "Mg-O": 0.0, "Mg": 0.0},
        "cutoff_angstrom": 6.0,
        "onset_angstrom": 5.0,
    },
    "stillinger_weber": {"preset": "Si"},
    "zbl": ZBL,
    "sum": {
        "terms": [
            {"potential": "stillinger_weber", "options": {"preset": "Si"}},
            {"potential": "zbl", "options": ZBL | {"elements": ["Si"]}},
        ]
    },
}
FAST = {
    "lennard_jones": tuple(CHECKS),
    "stillinger_weber": ("forces_are_gradient", "stress_is_strain_derivative", "small_cells"),
    "sum": ("padding", "longer_neighbour_list"),
}
FEW = ("forces_are_gradient", "cutoff_continuity")
ELSEWHERE = {"committee", "d3", "gap_variance", "karat_file", "linear", "sgdml", "snap_files"}
"""Fitted potentials, and dispersion, have tests of their own."""


def rattled(structure, seed, amount=0.06):
    moved = np.random.default_rng(seed).normal(0, amount, structure.positions.shape)
    return structure.replace(positions=structure.positions + moved)


def molecules():
    return [rattled(from_smiles(smiles)[0], 3) for smiles in ("CO", "OC=O")]


def copper():
    perfect = crystal("Cu", "fcc", a=3.6, cubic=True)
    strain = np.array([[0.01, 0.02, 0.0], [0.0, -0.01, 0.03], [0.02, 0.0, 0.02]])
    cell = perfect.cell @ (np.eye(3) + strain)
    positions = perfect.positions @ (np.eye(3) + strain)
    return rattled(perfect.replace(cell=cell, positions=positions), 5)


def native_cases():
    for name in NATIVE:
        for check in CHECKS:
            slow = check not in FAST.get(name, FEW)
            yield pytest.param(name, check, marks=[pytest.mark.slow] if slow else [])


@pytest.fixture(scope="module")
def native_subjects():
    made = {}

    def get(name):
        if name not in made:
            made[name] = make_subject(potential_component(name, NATIVE[name], name).load())
        return made[name]

    return get


@pytest.mark.parametrize(("name", "check"), list(native_cases()))
def test_native(native_subjects, name, check):
    """In float64 every check applies and passes, forces to 1e-6 eV/Å."""
    subject = native_subjects(name)
    assert subject.potential.traits.force_tolerance == 1e-6
    outcome = run_check(check, subject)
    assert outcome.status == "passed", outcome


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lennard_jones", "stillinger_weber"])
def test_native_in_single_precision(name):
    component = potential_component(name, NATIVE[name] | {"dtype": "float32"}, name)
    subject = make_subject(component.load())
    assert subject.potential.traits.force_tolerance == 1e-2
    outcomes = [run_check(check, subject) for check in CHECKS]
    assert [o for o in outcomes if o.status == "failed"] == []


CRYSTALS = {"left_handed_cell", "supercell", "small_cells", "stress_is_strain_derivative"}
NATIVE_ONLY = {"padding", "longer_neighbour_list", "rows_as_in_dynamics"}
NO_CUTOFF = {"cutoff_continuity"}
MOLECULES_ONLY = CRYSTALS | NATIVE_ONLY | NO_CUTOFF


def check_all(potential, structures, skipped):
    """All pass but exactly those that are named; they say why they are skipped."""
    subject = make_subject(potential, structures)
    outcomes = [run_check(check, subject) for check in CHECKS]
    assert [o for o in outcomes if o.status == "failed"] == []
    assert {o.check for o in outcomes if o.status == "skipped"} == skipped
    assert all(o.detail for o in outcomes)
    if potential.traits.force_tolerance > 1e-6:
        assert potential.traits.tolerance_reason


@pytest.mark.parametrize(
    ("name", "skipped"), [("mmff94", MOLECULES_ONLY | {"one_atom"}), ("uff", MOLECULES_ONLY)]
)
def test_rdkit(name, skipped):
    check_all(potential_component(name, {}, name).load(), molecules(), skipped)


@pytest.mark.parametrize("name", ["gfn2_xtb", "gfn1_xtb"])
def test_xtb(name):
    """Forces to the declared 1e-3 eV/Å; hydrogen alone has one electron."""
    pytest.importorskip("tblite")
    check_all(potential_component(name, {}, name).load(), molecules()[:1], MOLECULES_ONLY)


@pytest.mark.slow
def test_xtb_stress():
    """A box wide enough for the Gamma point: stress of molecules in it."""
    pytest.importorskip("tblite")
    methanol = molecules()[0]
    cell = np.array([[10.5, 0.3, 0.0], [0.5, 10.6, 0.2], [-0.4, 0.1, 11.0]])
    boxed = methanol.replace(cell=cell, periodic=np.ones(3, bool))
    subject = make_subject(potential_component("gfn1_xtb", {}, "gfn1_xtb").load(), [boxed])
    for check in ("stress_is_strain_derivative", "forces_are_gradient", "left_handed_cell"):
        outcome = run_check(check, subject)
        assert outcome.status == "passed", outcome


def test_engine():
    """Hartree-Fock through the general door."""
    pytest.importorskip("pyscf")
    options = {"engine": "pyscf", "options": {"method": "hf", "basis": "sto-3g"}}
    hydrogen = Structure(
        numbers=np.array([1, 1]), positions=np.array([[0.0, 0, 0], [0.5, 0.5, 0.3]])
    )
    subject = make_subject(potential_component("engine", options, "engine").load(), [hydrogen])
    for check in ("forces_are_gradient", "rotation", "input_unchanged"):
        outcome = run_check(check, subject)
        assert outcome.status == "passed", outcome


def test_ase():
    options = {
        "calculator": "ase.calculators.emt:EMT",
        "species": ["Cu"],
        "cutoff_angstrom": 6.0,
        "continuity": 0,
    }
    # EMT's smooth step leaves a small jump of the force, hence no dynamics check
    skipped = NATIVE_ONLY | {"nve_keeps_energy"}
    check_all(potential_component("ase", options, "ase").load(), [copper()], skipped)


ONE_LIST = {"permutation", "supercell", "small_cells", "one_atom", "cutoff_continuity"}


def test_openmm_molecule(dipeptide, write_xml, tmp_path):
    system, structure = dipeptide
    options = {"system_xml": write_xml(system, tmp_path / "system.xml")}
    potential = potential_component("openmm", options, "openmm").load()
    assert potential.traits.force_tolerance == 1e-6
    check_all(potential, [structure], MOLECULES_ONLY | ONE_LIST)


def test_openmm_crystal(argon, write_xml, tmp_path):
    system, structure = argon
    options = {"system_xml": write_xml(system, tmp_path / "system.xml")}
    potential = potential_component("openmm", options, "openmm").load()
    check_all(potential, [structure], NATIVE_ONLY | ONE_LIST)


def test_sum_of_a_force_field_and_a_core():
    """Not all terms native: predictions are added."""
    terms = [
        {"potential": "mmff94"},
        {"potential": "zbl", "options": ZBL | {"elements": ["H", "C", "O"]}},
    ]
    potential = potential_component("sum", {"terms": terms}, "sum").load()
    assert potential.traits.tolerance_reason
    subject = make_subject(potential, molecules()[:1])
    for check in ("forces_are_gradient", "permutation", "input_unchanged", "refusals"):
        outcome = run_check(check, subject)
        assert outcome.status == "passed", outcome


def test_every_member_is_tested_here_or_elsewhere():
    other = {"mmff94", "uff", "gfn2_xtb", "gfn1_xtb", "engine", "ase", "openmm"}
    assert set(CATALOGUE.members) == set(NATIVE) | other | ELSEWHERE
