"""D3(BJ): published energies, the formula in plain NumPy, derivatives, refusals."""

import ase.build
import numpy as np
import pytest

from karat.core.components import dump, parse
from karat.core.errors import BadInput, UnknownElement, UnknownKey
from karat.core.units import BOHR, HARTREE
from karat.potentials.catalogue import potential_component
from karat.potentials.conformance import CHECKS, make_subject, run_check
from karat.potentials.external.dispersion import D3, functionals
from karat.potentials.sum_potential import SummedPotential
from karat.structures.structure import Structure

pytest.importorskip("dftd3")

# water and N-methylacetamide of S66x8 (Brauer et al., PCCP 18, 20905 (2016)), Å
SYMBOLS = "OHH" + "CHHHCONHCHHH"
POSITIONS = np.array(
    [
        [-3.2939688, 0.4402024, 0.1621802],
        [-3.8134112, 1.2387332, 0.2637577],
        [-2.3770466, 0.7564365, 0.1766203],
        [-0.6611637, -1.4159110, -0.1449409],
        [-0.0112009, -2.2770229, -0.2778563],
        [-1.3421397, -1.3384389, -0.9888061],
        [-1.2741806, -1.5547070, 0.7420675],
        [0.0935684, -0.1178981, -0.0123474],
        [-0.4831471, 0.9573968, 0.1442414],
        [1.4442015, -0.2154008, -0.0769653],
        [1.8451531, -1.1259348, -0.2064804],
        [2.3124436, 0.9365697, 0.0324778],
        [1.6759495, 1.8048701, 0.1672624],
        [2.9780331, 0.8451145, 0.8885706],
        [2.9069093, 1.0659902, -0.8697814],
    ]
)
DIMER = Structure.from_ase(ase.Atoms(list(SYMBOLS), POSITIONS))
WATER = Structure.from_ase(ase.Atoms("OH2", POSITIONS[:3]))
# hartree, PBE0: s-dftd3's own tutorial "Computing interaction energies" (version 1.0.0)
TUTORIAL = {
    (False, 15): -8.2944752821052e-03,
    (False, 3): -2.7688584084890e-04,
    (True, 15): -8.2920550838084e-03,
    (True, 3): -2.7688559086715e-04,
}
# of argon in D3: C6 (bohr⁶ hartree), and √Q with C8 = 3 C6 √Q √Q (J. Chem. Phys. 132, 154104)
ARGON_C6, ARGON_ROOT_Q = 64.6462, 3.44677275


def silicon():
    atoms = ase.build.bulk("Si", "diamond", a=5.43)
    atoms.rattle(0.1, seed=1)
    return Structure.from_ase(atoms)


def argon(positions):
    return Structure(numbers=np.full(len(positions), 18), positions=np.array(positions))


@pytest.mark.parametrize("three_body", [False, True])
@pytest.mark.parametrize("structure", [DIMER, WATER], ids=["dimer", "water"])
def test_published_energies(structure, three_body):
    energy = D3(functional="pbe0", three_body=three_body).load().predict([structure])[0].energy
    expected = TUTORIAL[three_body, len(structure)] * HARTREE
    # another value of the bohr in the program that read the tutorial's file
    assert energy == pytest.approx(expected, rel=1e-8)


def test_published_energy_of_ases_water():
    """-0.0114416 eV with TPSS in the library's documentation of its ASE calculator."""
    water = Structure.from_ase(ase.build.molecule("H2O"))
    energy = D3(functional="tpss").load().predict([water])[0].energy
    assert energy == pytest.approx(-0.011441640787279111, rel=1e-7)


@pytest.mark.parametrize("distance", [3.0, 3.8, 10.0])
def test_two_argon_atoms_by_hand(distance):
    """The formula of the paper; PBE's parameters as they were published."""
    s8, a1, a2 = 0.7875, 0.4289, 4.4407
    r, c8 = distance / BOHR, 3 * ARGON_C6 * ARGON_ROOT_Q**2
    radius = a1 * np.sqrt(c8 / ARGON_C6) + a2
    expected = -ARGON_C6 / (r**6 + radius**6) - s8 * c8 / (r**8 + radius**8)
    found = D3().load().predict([argon([[0, 0, 0], [0, 0, distance]])])[0]
    # coefficients have six digits
    assert found.energy == pytest.approx(expected * HARTREE, rel=1e-5)
    own = {"parameters": {"s8": s8, "a1": a1, "a2_bohr": a2}}
    labels = (
        parse(D3, dump(D3()) | own, "d3").load().predict([argon([[0, 0, 0], [0, 0, distance]])])[0]
    )
    assert labels.energy == pytest.approx(found.energy, rel=1e-12)


def test_three_argon_atoms_by_hand():
    """Axilrod-Teller-Muto: +(11/8) C9/r⁹ in an equilateral triangle, C9 = C6^(3/2); at 12 Å the
    damping has gone (1e-6)."""
    corners = 12.0 * np.array([[0, 0, 0], [1, 0, 0], [0.5, 0.75**0.5, 0]])
    pairs, all_three = (
        D3(three_body=on).load().predict([argon(corners)])[0].energy for on in (False, True)
    )
    expected = 11 / 8 * ARGON_C6**1.5 / (12.0 / BOHR) ** 9 * HARTREE
    assert all_three - pairs == pytest.approx(expected, rel=1e-4)


def test_stress_of_a_crystal_is_the_strain_derivative():
    potential, crystal = D3().load(), silicon()
    stress = potential.predict([crystal], ("energy", "stress"))[0].stress
    step = 1e-3
    for i, j in ((0, 0), (0, 1), (2, 1)):
        energies = []
        for sign in (1, -1):
            change = np.eye(3)
            change[i, j] += sign * step
            moved = crystal.replace(
                positions=crystal.positions @ change, cell=crystal.cell @ change
            )
            energies.append(potential.predict([moved])[0].energy)
        slope = (energies[0] - energies[1]) / (2 * step * crystal.volume)
        # jumps of coordination numbers (1e-7 eV) over 2e-3 and 40 Å³
        assert stress[i, j] == pytest.approx(slope, abs=1e-5)
    assert np.abs(np.diag(stress)).min() > 1e-3


@pytest.mark.parametrize("structure", [DIMER, silicon()], ids=["molecule", "crystal"])
def test_conformance(structure):
    subject = make_subject(D3().load(), [structure])
    left_out = {"small_cells"}  # thousands of atoms for a cut-off of 32 Å: below, with a short one
    outcomes = [run_check(check, subject) for check in CHECKS if check not in left_out]
    assert [o for o in outcomes if o.status == "failed"] == []
    passed = {o.check for o in outcomes if o.status == "passed"}
    assert {"forces_are_gradient", "cutoff_continuity", "permutation", "one_atom"} <= passed
    assert ("stress_is_strain_derivative" in passed) == structure.periodic.any()


def test_conformance_of_three_bodies_with_short_cutoffs():
    potential = D3(
        three_body=True,
        pair_cutoff_angstrom=9.0,
        three_body_cutoff_angstrom=7.0,
        coordination_cutoff_angstrom=9.0,
    ).load()
    subject = make_subject(potential, [silicon()])
    for check in ("forces_are_gradient", "stress_is_strain_derivative", "small_cells", "supercell"):
        outcome = run_check(check, subject)
        assert outcome.status == "passed", outcome


def test_a_layer_without_a_third_vector():
    """The same with vacuum of any size."""
    layer = Structure.from_ase(ase.build.graphene(vacuum=None))
    assert not layer.cell[2].any()
    cell = layer.cell + np.diag([0, 0, 30.0])
    potential = D3().load()
    found, expected = (
        p[0].energy
        for p in (potential.predict([layer]), potential.predict([layer.replace(cell=cell)]))
    )
    assert found == pytest.approx(expected, rel=1e-12)
    assert found < -0.1


def test_the_end_of_pairs():
    """Switched off smoothly, or cut off as the library does of itself."""
    near, far = argon([[0, 0, 0], [0, 0, 30.9]]), argon([[0, 0, 0], [0, 0, 31.8]])
    smooth, abrupt = D3().load(), D3(switch_angstrom=0.0).load()
    assert smooth.traits.continuity == 2
    assert abrupt.traits.continuity == -1
    assert abrupt.predict([far])[0].energy == smooth.predict([far])[0].energy == 0
    energies = [p.predict([near])[0].energy for p in (smooth, abrupt)]
    assert 0.2 < energies[0] / energies[1] < 0.8


def test_a_term_of_a_sum():
    """As under a functional without dispersion."""
    lennard_jones = {
        "epsilon_ev": {"Ar": 0.01},
        "sigma_angstrom": {"Ar": 3.4},
        "cutoff_angstrom": 8.0,
        "onset_angstrom": 7.0,
    }
    terms = [
        {"potential": "lennard_jones", "options": lennard_jones},
        {"potential": "d3", "options": {"functional": "b3lyp"}},
    ]
    whole = potential_component("sum", {"terms": terms}, "sum").load()
    assert isinstance(whole, SummedPotential)
    assert whole.traits.level is None
    assert whole.traits.force_tolerance == pytest.approx(1e-4, rel=0.02)
    crystal = Structure.from_ase(ase.build.bulk("Ar", "fcc", a=5.0, cubic=True))
    want = ("energy", "forces", "stress")
    parts = [
        potential_component(t["potential"], t["options"], "t").load().predict([crystal], want)[0]
        for t in terms
    ]
    labels = whole.predict([crystal], want)[0]
    assert labels.energy == pytest.approx(sum(p.energy for p in parts), abs=1e-12)
    np.testing.assert_allclose(labels.stress, sum(p.stress for p in parts), atol=1e-12)
    assert parts[1].energy < -0.1


def test_functionals():
    known = functionals()
    assert {"pbe", "pbe0", "b3lyp", "tpss", "r2scan"} <= set(known)
    for name in known:
        assert D3(functional=name).load().predict([WATER])[0].energy < 0


@pytest.mark.parametrize(
    ("values", "error", "words"),
    [
        ({"functional": "pbbe"}, UnknownKey, "did you mean 'pbe'"),
        ({"functionl": "pbe"}, UnknownKey, "'functional'"),
        (
            {"functional": "pbe0", "parameters": {"s8": 1.0, "a1": 0.4, "a2_bohr": 4.0}},
            BadInput,
            "both given",
        ),
        ({"parameters": {"s8": 1.0, "a1": 0.4}}, BadInput, "a2_bohr"),
        ({"parameters": {"s8": -1.0, "a1": 0.4, "a2_bohr": 4.0}}, BadInput, "s8 -1.0"),
        ({"pair_cutoff_angstrom": 1.0}, BadInput, "pair_cutoff_angstrom"),
        ({"switch_angstrom": 30.0}, BadInput, "switch_angstrom"),
    ],
)
def test_bad_input_is_named(values, error, words):
    with pytest.raises(error, match=words):
        parse(D3, values, "d3").load()


def test_elements_beyond_the_table_are_refused():
    """Of which the library says zero, or ends the process."""
    heavy = Structure(numbers=np.array([104, 1]), positions=np.array([[0, 0, 0], [0, 0, 2.0]]))
    with pytest.raises(UnknownElement, match="Rf"):
        D3().load().predict([heavy])
