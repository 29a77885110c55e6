import dataclasses

import numpy as np
import pytest

from karat.core.components import parse
from karat.core.errors import BadInput, UnknownElement, UnsuitableStructure
from karat.core.units import COULOMB, KCAL_PER_MOL, KJ_PER_MOL
from karat.potentials.analytic.lennard_jones import LennardJones
from karat.potentials.classical.openmm_system import OpenMM, reduced_box
from karat.structures.structure import Structure

openmm = pytest.importorskip("openmm")
from openmm import app, unit  # noqa: E402


def direct(system, positions, box=None):
    """Energy (eV) and forces (eV/Å) from OpenMM alone, Reference platform."""
    context = openmm.Context(
        system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference")
    )
    if box is not None:
        context.setPeriodicBoxVectors(*(box / 10))
    context.setPositions(positions / 10)
    if any(system.isVirtualSite(i) for i in range(system.getNumParticles())):
        context.computeVirtualSites()
    state = context.getState(energy=True, forces=True)
    energy = state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole)
    forces = state.getForces(asNumpy=True).value_in_unit(unit.kilojoule_per_mole / unit.angstrom)
    return energy * KJ_PER_MOL, np.asarray(forces) * KJ_PER_MOL


def test_dipeptide_equals_openmm(dipeptide, write_xml, tmp_path):
    system, structure = dipeptide
    potential = OpenMM(system_xml=write_xml(system, tmp_path / "system.xml")).load()
    energy, forces = direct(system, structure.positions)
    labels = potential.predict([structure])[0]
    # same double-precision code; only the conversion of units rounds
    assert labels.energy == pytest.approx(energy, rel=1e-13)
    np.testing.assert_allclose(labels.forces, forces, atol=1e-11)
    assert np.abs(forces).max() > 1


def test_argon_equals_own_lennard_jones(argon, write_xml, tmp_path):
    """Two independent codes: same switch (GROMACS' quintic), triclinic cell, stress."""
    system, structure = argon
    potential = OpenMM(system_xml=write_xml(system, tmp_path / "argon.xml")).load()
    own = LennardJones({"Ar": KJ_PER_MOL}, {"Ar": 3.4}, 6.0, 5.0).load()
    assert potential.traits.quantities == ("energy", "forces", "stress")
    want = ("energy", "forces", "stress")
    for cell in (structure.cell, structure.cell[[1, 0, 2]], structure.cell[[2, 0, 1]]):
        turned = structure.replace(cell=cell)
        got, expected = potential.predict([turned], want)[0], own.predict([turned], want)[0]
        assert got.energy == pytest.approx(expected.energy, abs=1e-11)
        np.testing.assert_allclose(got.forces, expected.forces, atol=1e-11)
        # central differences with strain 1e-4: truncation ~1e-8 of the elastic constants
        np.testing.assert_allclose(got.stress, expected.stress, atol=1e-9)
    assert np.abs(expected.stress).max() > 1e-4


@pytest.mark.parametrize("seed", range(5))
def test_reduced_box_is_the_same_lattice(seed):
    rng = np.random.default_rng(seed)
    cell = rng.normal(0, 10, (3, 3))
    box, rotation = reduced_box(cell)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-14)
    assert np.linalg.det(rotation) == pytest.approx(1)
    integers = box @ np.linalg.inv(cell @ rotation)
    np.testing.assert_allclose(integers, np.round(integers), atol=1e-9)
    assert abs(np.linalg.det(np.round(integers))) == pytest.approx(1)
    assert np.all(np.triu(box, 1) == 0)
    assert np.all(box.diagonal() > 0)
    for i, j in ((1, 0), (2, 0), (2, 1)):
        assert 2 * abs(box[i, j]) <= box[j, j]


def test_hexagonal_box_is_accepted(argon, write_xml, tmp_path):
    """b_x = -a_x/2 exactly: one rounding error more and OpenMM refuses it."""
    system, structure = argon
    potential = OpenMM(system_xml=write_xml(system, tmp_path / "argon.xml")).load()
    hexagonal = np.array([[17.0, 0, 0], [-8.5, 17 * 0.75**0.5, 0], [0, 0, 17.0]])
    scaled = structure.positions @ np.linalg.inv(structure.cell) @ hexagonal
    moved = structure.replace(cell=hexagonal, positions=scaled)
    own = LennardJones({"Ar": KJ_PER_MOL}, {"Ar": 3.4}, 6.0, 5.0).load()
    expected = own.predict([moved])[0].energy
    assert potential.predict([moved])[0].energy == pytest.approx(expected, rel=1e-12)


def salt(method):
    """Eight ions of rock salt with Ewald sums; (System, positions, box)."""
    cell = 22.56 * np.eye(3)
    grid = np.array(list(np.ndindex(8, 8, 8)))
    positions = 2.82 * grid.astype(float)
    system, force = openmm.System(), openmm.NonbondedForce()
    numbers = []
    for index in grid:
        odd = bool(index.sum() % 2)
        numbers.append(17 if odd else 11)
        system.addParticle(35.45 if odd else 22.98976928)
        force.addParticle(-1.0 if odd else 1.0, 0.2, 0.0)
    force.setNonbondedMethod(method)
    force.setCutoffDistance(1.0)
    force.setEwaldErrorTolerance(1e-5)
    system.addForce(force)
    system.setDefaultPeriodicBoxVectors(*(cell / 10))
    return system, Structure(
        numbers=np.array(numbers), positions=positions, cell=cell, periodic=np.ones(3, bool)
    )


def test_ewald_sum_gives_madelungs_constant(write_xml, tmp_path):
    system, structure = salt(openmm.NonbondedForce.PME)
    potential = OpenMM(system_xml=write_xml(system, tmp_path / "salt.xml")).load()
    energy = potential.predict([structure])[0].energy / 256
    # Ewald tolerance 1e-5 of an energy of -8.9 eV
    assert energy == pytest.approx(-1.7475645946 * COULOMB / 2.82, rel=1e-4)
    traits = potential.traits
    assert (traits.continuity, traits.quantities) == (-1, ("energy", "forces"))
    assert traits.force_tolerance == 1e-3
    assert "cut-off" in traits.tolerance_reason


def test_result_does_not_depend_on_the_box_seen_before(write_xml, tmp_path):
    system, structure = salt(openmm.NonbondedForce.PME)
    larger = structure.replace(cell=structure.cell * 1.2, positions=structure.positions * 1.2)
    path = write_xml(system, tmp_path / "salt.xml")
    one, other = OpenMM(system_xml=path).load(), OpenMM(system_xml=path).load()
    other.predict([larger])
    assert one.predict([structure])[0].energy == other.predict([structure])[0].energy


def test_virtual_sites_are_not_atoms(write_xml, tmp_path):
    """TIP4P-Ew: four particles, three atoms."""
    topology = app.Topology()
    residue = topology.addResidue("HOH", topology.addChain())
    o, *hydrogens = (
        topology.addAtom(name, app.Element.getBySymbol(name[0]), residue)
        for name in ("O", "H1", "H2")
    )
    for hydrogen in hydrogens:
        topology.addBond(o, hydrogen)
    positions = np.array([[0.0, 0, 0], [0.98, 0.02, 0], [-0.25, 0.93, 0.05]])
    field = app.ForceField("amber14/tip4pew.xml")
    modeller = app.Modeller(topology, positions / 10 * unit.nanometer)
    modeller.addExtraParticles(field)
    two = app.Modeller(modeller.topology, modeller.positions)
    shifted = modeller.positions + np.array([0.0, 0.0, 0.29]) * unit.nanometer
    two.add(modeller.topology, shifted)
    system = field.createSystem(two.topology, constraints=None, rigidWater=False)
    all_positions = np.array(two.positions.value_in_unit(unit.angstrom))
    energy, forces = direct(system, all_positions)
    real = [i for i in range(8) if not system.isVirtualSite(i)]
    structure = Structure(numbers=np.array([8, 1, 1, 8, 1, 1]), positions=all_positions[real])
    potential = OpenMM(system_xml=write_xml(system, tmp_path / "water.xml")).load()
    labels = potential.predict([structure])[0]
    assert labels.energy == pytest.approx(energy, rel=1e-12)
    np.testing.assert_allclose(labels.forces, forces[real], atol=1e-11)
    np.testing.assert_allclose(labels.forces.sum(axis=0), 0, atol=1e-11)  # sites' share included


PRMTOP = """\
%VERSION  VERSION_STAMP = V0001.000  DATE = 01/01/26  00:00:00
{sections}"""


def prmtop(tmp_path):
    """One flexible water molecule in AMBER's format; k and r₀ as the test below has them."""

    def section(flag, fmt, values):
        width = {"20a4": 4, "10I8": 8, "5E16.8": 16}[fmt]
        count = 80 // width
        form = {"20a4": "{:<4s}", "10I8": "{:8d}", "5E16.8": "{:16.8E}"}[fmt]
        text = [form.format(value) for value in values]
        assert all(len(item) == width for item in text)
        lines = ["".join(text[i : i + count]) for i in range(0, len(text), count)] or [""]
        return f"%FLAG {flag}\n%FORMAT({fmt})\n" + "\n".join(lines) + "\n"

    pointers = [3, 2, 2, 0, 1, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 1, 1, 0, 2, 0]
    pointers += [0] * 10 + [0]
    text, number, real = "20a4", "10I8", "5E16.8"
    sections = [
        section("TITLE", text, ["wat"]),
        section("POINTERS", number, pointers),
        section("ATOM_NAME", text, ["O", "H1", "H2"]),
        section("CHARGE", real, [-0.8 * 18.2223, 0.4 * 18.2223, 0.4 * 18.2223]),
        section("ATOMIC_NUMBER", number, [8, 1, 1]),
        section("MASS", real, [16.0, 1.008, 1.008]),
        section("ATOM_TYPE_INDEX", number, [1, 2, 2]),
        section("NUMBER_EXCLUDED_ATOMS", number, [2, 1, 1]),
        section("NONBONDED_PARM_INDEX", number, [1, 2, 2, 3]),
        section("RESIDUE_LABEL", text, ["LIG"]),
        section("RESIDUE_POINTER", number, [1]),
        section("BOND_FORCE_CONSTANT", real, [553.0]),
        section("BOND_EQUIL_VALUE", real, [0.9572]),
        section("ANGLE_FORCE_CONSTANT", real, [100.0]),
        section("ANGLE_EQUIL_VALUE", real, [1.82421813]),
        section("DIHEDRAL_FORCE_CONSTANT", real, []),
        section("DIHEDRAL_PERIODICITY", real, []),
        section("DIHEDRAL_PHASE", real, []),
        section("SCEE_SCALE_FACTOR", real, []),
        section("SCNB_SCALE_FACTOR", real, []),
        section("SOLTY", real, [0.0, 0.0]),
        section("LENNARD_JONES_ACOEF", real, [581935.564, 0.0, 0.0]),
        section("LENNARD_JONES_BCOEF", real, [594.825035, 0.0, 0.0]),
        section("BONDS_INC_HYDROGEN", number, [0, 3, 1, 0, 6, 1]),
        section("BONDS_WITHOUT_HYDROGEN", number, []),
        section("ANGLES_INC_HYDROGEN", number, [3, 0, 6, 1]),
        section("ANGLES_WITHOUT_HYDROGEN", number, []),
        section("DIHEDRALS_INC_HYDROGEN", number, []),
        section("DIHEDRALS_WITHOUT_HYDROGEN", number, []),
        section("EXCLUDED_ATOMS_LIST", number, [2, 3, 3, 0]),
        section("HBOND_ACOEF", real, []),
        section("HBOND_BCOEF", real, []),
        section("HBCUT", real, []),
        section("AMBER_ATOM_TYPE", text, ["OW", "HW", "HW"]),
        section("TREE_CHAIN_CLASSIFICATION", text, ["M", "E", "E"]),
        section("JOIN_ARRAY", number, [0, 0, 0]),
        section("IROTAT", number, [0, 0, 0]),
        section("RADII", real, [1.5, 1.2, 1.2]),
        section("SCREEN", real, [0.8, 0.8, 0.8]),
    ]
    path = tmp_path / "water.prmtop"
    path.write_text(PRMTOP.format(sections="".join(sections)))
    return str(path)


WATER = Structure(
    numbers=np.array([8, 1, 1]),
    positions=np.array([[0.0, 0, 0], [1.0, 0, 0], [0.0, 0.9, 0.0]]),
)


def test_amber_prmtop_is_exact(tmp_path):
    """Two bonds and an angle of 90 degrees, AMBER's k (r - r₀)² without the half."""
    potential = OpenMM(prmtop=prmtop(tmp_path)).load()
    expected = 553.0 * ((1 - 0.9572) ** 2 + (0.9 - 0.9572) ** 2)
    expected += 100.0 * (np.pi / 2 - 1.82421813) ** 2
    labels = potential.predict([WATER])[0]
    assert labels.energy == pytest.approx(expected * KCAL_PER_MOL, rel=1e-9)
    with pytest.raises(BadInput, match="needs a box"):
        OpenMM(prmtop=prmtop(tmp_path), nonbonded_method="PME").load()


GROMACS = """\
[ defaults ]
1 2 yes 0.5 0.8333
[ atomtypes ]
Na 11 22.990 0.0 A 0.25 0.40
Cl 17 35.450 0.0 A 0.40 0.10
[ moleculetype ]
ION 3
[ atoms ]
1 Na 1 ION NA 1 1.0 22.990
2 Cl 1 ION CL 1 -1.0 35.450
[ system ]
pair
[ molecules ]
ION 1
"""


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # OpenMM's own reader
def test_gromacs_top_is_exact(tmp_path):
    """One ion pair: Lorentz-Berthelot Lennard-Jones and Coulomb."""
    path = tmp_path / "pair.top"
    path.write_text(GROMACS)
    potential = OpenMM(gromacs_top=str(path)).load()
    positions = np.array([[0.0, 0, 0], [0, 0, 2.7]])
    pair = Structure(numbers=np.array([11, 17]), positions=positions)
    sixth = (3.25 / 2.7) ** 6
    expected = 4 * 0.2 * KJ_PER_MOL * (sixth**2 - sixth) - COULOMB / 2.7
    # OpenMM's Coulomb constant has 8 digits
    assert potential.predict([pair])[0].energy == pytest.approx(expected, rel=1e-7)


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # OpenMM's own reader
def test_gromacs_box_from_gro(tmp_path):
    (tmp_path / "pair.top").write_text(GROMACS)
    lines = ["pair", "    2", "    1ION     NA    1   0.000   0.000   0.000"]
    lines += ["    1ION     CL    2   0.000   0.000   0.270", "   3.00000   3.00000   3.00000", ""]
    (tmp_path / "pair.gro").write_text("\n".join(lines))
    potential = OpenMM(
        gromacs_top=str(tmp_path / "pair.top"),
        gromacs_gro=str(tmp_path / "pair.gro"),
        nonbonded_method="PME",
    ).load()
    assert potential.traits.periodic
    positions = np.array([[0.0, 0, 0], [0, 0, 2.7]])
    pair = Structure(
        numbers=np.array([11, 17]),
        positions=positions,
        cell=30 * np.eye(3),
        periodic=np.ones(3, bool),
    )
    moved = pair.replace(positions=np.array([[29.0, 0, 0], [-1, 0, 2.7]]))
    energies = [labels.energy for labels in potential.predict([pair, moved])]
    # the mesh of the Ewald sum breaks translation by its error tolerance, 5e-4
    assert energies[0] == pytest.approx(energies[1], rel=1e-3)
    with pytest.raises(UnsuitableStructure, match="less than twice the cut-off"):
        potential.predict([pair.replace(cell=15 * np.eye(3))])


def test_wrong_atoms_are_refused(dipeptide, write_xml, tmp_path):
    system, structure = dipeptide
    potential = OpenMM(system_xml=write_xml(system, tmp_path / "system.xml")).load()
    with pytest.raises(UnsuitableStructure, match="22 atoms"):
        potential.predict(
            [structure.replace(numbers=structure.numbers[1:], positions=structure.positions[1:])]
        )
    exchanged, other = np.array(structure.numbers), np.array(structure.numbers)
    exchanged[:2], other[0] = exchanged[[1, 0]], 14
    with pytest.raises(UnsuitableStructure, match="atom 0 of .* is C, but H"):
        potential.predict([structure.replace(numbers=exchanged)])
    with pytest.raises(UnknownElement, match="Si"):
        potential.predict([structure.replace(numbers=other)])
    with pytest.raises(UnsuitableStructure, match=r"add up to \+0"):
        potential.predict([structure.replace(charge=1)])
    with pytest.raises(UnsuitableStructure, match="molecules only"):
        potential.predict([structure.replace(cell=50 * np.eye(3), periodic=np.ones(3, bool))])


def test_constraints_are_refused(dipeptide, write_xml, tmp_path):
    system, _ = dipeptide
    constrained = openmm.XmlSerializer.clone(system)
    constrained.addConstraint(0, 1, 0.109)
    with pytest.raises(BadInput, match="1 constraints"):
        OpenMM(system_xml=write_xml(constrained, tmp_path / "system.xml")).load()


def test_repartitioned_masses_need_elements(dipeptide, write_xml, tmp_path):
    system, structure = dipeptide
    heavy = openmm.XmlSerializer.clone(system)
    heavy.setParticleMass(0, 3.024)
    path = write_xml(heavy, tmp_path / "system.xml")
    with pytest.raises(BadInput, match="particle 0 has mass 3.024"):
        OpenMM(system_xml=path).load()
    named = OpenMM(system_xml=path, elements=structure.symbols).load()
    assert np.isfinite(named.predict([structure])[0].energy)
    with pytest.raises(BadInput, match="22 element symbols are needed, 1 were"):
        OpenMM(system_xml=path, elements=("H",)).load()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<!DOCTYPE x [<!ENTITY a 'b'>]><System/>", "entities"),
        (
            '<System><Forces><Force type="PythonForce" function="gASV"/></Forces></System>',
            "pickled",
        ),
        ("hello", "not a serialized"),
        ("<System openmmVersion='8' type='System' version='99'></System>", "cannot read"),
        ("", "empty"),
    ],
)
def test_bad_xml_is_refused(tmp_path, text, words):
    path = tmp_path / "bad.xml"
    path.write_text(text)
    with pytest.raises(BadInput, match=words):
        OpenMM(system_xml=str(path)).load()


def test_pickled_python_is_never_loaded(tmp_path):
    """A PythonForce serialises as a pickle: its XML is refused before it is read."""
    system = openmm.System()
    system.addParticle(1.0)
    system.addForce(openmm.PythonForce(_nothing))
    path = tmp_path / "python.xml"
    path.write_text(openmm.XmlSerializer.serialize(system))
    with pytest.raises(BadInput, match="pickled Python"):
        OpenMM(system_xml=str(path)).load()


def _nothing(state):
    return 0.0, np.zeros((1, 3))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "given: none"),
        ({"system_xml": "a", "prmtop": "b"}, "system_xml, prmtop"),
        ({"system_xml": "a", "inpcrd": "b"}, "inpcrd goes with prmtop"),
        ({"system_xml": "a", "nonbonded_method": "PME"}, "stands in that file"),
        ({"prmtop": "a", "cutoff_angstrom": 0.0}, "must be > 0"),
        ({"prmtop": "missing.prmtop"}, "no such AMBER prmtop"),
        ({"gromacs_top": "missing.top"}, "no such GROMACS top"),
        ({"prmtop": "a", "nonbonded_method": "pme"}, "nonbonded_method"),
        ({"prmtp": "a"}, "did you mean 'prmtop'"),
    ],
)
def test_bad_options(options, words):
    with pytest.raises(BadInput, match=words):
        parse(OpenMM, options, "openmm").load()


def test_component_is_plain_data():
    assert dataclasses.asdict(OpenMM(system_xml="a"))["platform"] == "Reference"
