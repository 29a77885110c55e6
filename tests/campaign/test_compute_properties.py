"""Every property of `karat compute` gives what the Python function gives, with units."""

import dataclasses
import inspect

import numpy as np
import pytest
from ase.build import molecule

from karat.campaign.compute.catalogue import CATALOGUE
from karat.campaign.compute.defects import wide_supercell
from karat.campaign.compute.describe import describe
from karat.campaign.compute.points import at_rest
from karat.campaign.compute.protocol import Case, Source, Value
from karat.campaign.compute.run import compute, property_of
from karat.core.errors import BadInput, UnknownElement, UnknownKey, UnsuitableStructure
from karat.potentials.catalogue import potential_component
from karat.potentials.protocol import AbstractPotential, Traits
from karat.simulation import defects
from karat.simulation.batched_relax import RelaxSettings, relax_batch
from karat.simulation.diatomic import diatomic_curve
from karat.simulation.elastic import elastic_tensor
from karat.simulation.equation_of_state import equation_of_state
from karat.simulation.modes import normal_modes
from karat.simulation.phonons import phonons, thermal_properties
from karat.simulation.torsions import find_torsions, torsion_scan
from karat.structures.builders import crystal, from_smiles
from karat.structures.structure import Structure

SI = {"preset": "Si"}
SILICON = crystal("Si", "diamond", a=5.431)
ATOM = Structure(np.array([14]), np.zeros((1, 3)))
MORSE = {
    "depth_ev": {"H": 4.5},
    "width_per_angstrom": {"H": 1.9},
    "distance_angstrom": {"H": 0.74},
    "cutoff_angstrom": 8.0,
    "onset_angstrom": 7.0,
}


@pytest.fixture
def silicon():
    return potential_component("stillinger_weber", SI, "test").load()


def found_in(
    property, tmp_path, structure=SILICON, potential="stillinger_weber", given=None, **set_
):
    sources = [] if structure is None else [Source("case", (structure,))]
    computed = compute(property, potential, sources, tmp_path, set_, SI if given is None else given)
    assert computed.failures == ()
    return computed.cases[0].found


def agree(found, expected):
    """Values by name: the same calls on the same structure, so the same numbers but for the last
    bits (1e-9 of the largest), and the units that are named here."""
    for name, (unit, number) in expected.items():
        value = found.value(name)
        assert value.unit == unit, name
        scale = max(float(np.abs(number).max()), 1e-6)
        np.testing.assert_allclose(value.data, number, rtol=0, atol=1e-9 * scale, err_msg=name)


def rattled(seed=3):
    atoms = SILICON.to_ase().repeat((2, 2, 2))
    atoms.rattle(0.05, seed=seed)
    return Structure.from_ase(atoms).replace(multiplicity=None)


def test_energy(tmp_path, silicon):
    labels = silicon.predict([rattled()], ("energy", "forces", "stress"))[0]
    found = found_in("energy", tmp_path, rattled())
    agree(
        found,
        {
            "energy": ("eV", np.array(labels.energy)),
            "energy_per_atom": ("eV", np.array(labels.energy / 16)),
            "forces": ("eV/Å", labels.forces),
            "stress": ("eV/Å³", labels.stress),
            "max_force": ("eV/Å", np.linalg.norm(labels.forces, axis=1).max()),
        },
    )
    assert found.value("forces").axes == ("atoms", "xyz")
    assert found.value("forces").shape == (16, 3)


def test_energy_of_molecules_and_crystals_in_one_batch(tmp_path):
    """Stress only where there is a volume."""
    dimer = Structure(np.array([14, 14]), np.array([[0.0, 0, 0], [0, 0, 2.3]]))
    sources = [Source("both", (dimer, SILICON, dimer.replace(positions=dimer.positions * 1.1)))]
    computed = compute("energy", "stillinger_weber", sources, tmp_path, {}, SI)
    names = [{value.name for value in one.found.values} for one in computed.cases]
    assert ["stress" in one for one in names] == [False, True, False]
    assert [one.case.name for one in computed.cases] == ["both:0", "both:1", "both:2"]


def test_relax(tmp_path, silicon):
    expected = relax_batch(silicon, [rattled()], RelaxSettings(cell="free", pressure_gpa=1.0))[0]
    found = found_in("relax", tmp_path, rattled(), cell="free", pressure_gpa=1.0)
    agree(
        found,
        {
            "energy": ("eV", np.array(expected.energy)),
            "max_stress": ("GPa", np.array(expected.max_stress_gpa)),
            "volume": ("Å³", np.array(expected.structure.volume)),
            "steps": ("", np.array(expected.steps)),
        },
    )
    np.testing.assert_array_equal(
        found.structures["relaxed"].positions, expected.structure.positions
    )


def test_eos(tmp_path, silicon):
    start = at_rest(silicon, SILICON, 1e-3, 1000, 1e-4)
    expected = equation_of_state(silicon, start)
    found = found_in("eos", tmp_path)
    agree(
        found,
        {
            "volumes": ("Å³", expected.volumes),
            "energies": ("eV", expected.energies),
            "bulk_modulus": ("GPa", np.array(expected.birch_murnaghan.bulk_modulus_gpa)),
            "vinet_bulk_modulus": ("GPa", np.array(expected.vinet.bulk_modulus_gpa)),
            "volume_per_atom": ("Å³", np.array(expected.birch_murnaghan.volume / 2)),
        },
    )
    assert len(found.structures) == 11
    assert [series.name for series in found.figures[0].series] == ["Birch–Murnaghan", "computed"]


def test_elastic(tmp_path, silicon):
    expected = elastic_tensor(silicon, SILICON)
    found = found_in("elastic", tmp_path)
    agree(
        found,
        {
            "stiffness": ("GPa", expected.stiffness_gpa),
            "bulk_hill": ("GPa", np.array(expected.moduli.bulk_hill_gpa)),
            "poisson": ("", np.array(expected.moduli.poisson)),
            "stable": ("", np.array(True)),
            "space_group": ("", np.array(227)),
        },
    )
    assert found.notes["space_group"] == "Fd-3m"
    assert found.value("stiffness").axes == ("voigt", "voigt")


def test_phonons(tmp_path, silicon):
    expected = phonons(silicon, SILICON, (2, 2, 2), mesh=(6, 6, 6))
    thermal = thermal_properties(expected, [0.0, 300.0])
    settings = {"supercell": [2, 2, 2], "mesh": [6, 6, 6], "temperatures_k": [0, 300]}
    found = found_in("phonons", tmp_path, **settings)
    agree(
        found,
        {
            "frequencies": ("THz", expected.frequencies_thz),
            "path_frequencies": ("THz", expected.bands.frequencies_thz),
            "dos": ("1/THz", expected.dos_per_thz),
            "force_constants": ("eV/Å²", expected.force_constants),
            "free_energy": ("eV", thermal.free_energy),
            "heat_capacity": ("J/mol/K", thermal.heat_capacity_j_per_mol_k),
            "zero_point_energy": ("eV", np.array(thermal.zero_point_energy)),
        },
    )
    assert found.notes["path_labels"].split() == list(expected.bands.labels)
    assert len(found.figures[0].series) == 6


@pytest.mark.slow
def test_an_unstable_crystal_has_no_thermal_properties_and_says_so(tmp_path):
    cubic = crystal("Si", "fcc", a=3.9)
    settings = {"supercell": [2, 2, 2], "mesh": [2, 2, 2], "path_points": 5}
    found = found_in("phonons", tmp_path, cubic, **settings)
    assert found.value("imaginary_fraction").number > 0
    assert "imaginary" in found.notes["thermal"]
    assert "free_energy" not in [value.name for value in found.values]


@pytest.mark.parametrize("relax_first", [True, False])
def test_point_defects(tmp_path, silicon, relax_first):
    start = at_rest(silicon, SILICON, 0.01, 500, 1e-4) if relax_first else SILICON
    supercell, place = (2, 2, 2), [0.5, 0.5, 0.5]
    missing = defects.vacancy(silicon, start, supercell, settings=RelaxSettings())
    settings = {"supercell": list(supercell), "relax_first": relax_first}
    found = found_in("vacancy", tmp_path, **settings)
    agree(
        found,
        {
            "formation_energy": ("eV", np.array(missing.formation_energy)),
            "chemical_potential": ("eV", np.array(missing.chemical_potential)),
            "max_force": ("eV/Å", np.array(missing.max_force)),
        },
    )
    assert [len(one) for one in found.structures.values()] == [15, 16]
    more = defects.interstitial(silicon, start, supercell, 14, np.array(place), {14: -4.0}, None)
    settings |= {"element": "Si", "position": place, "relax_ions": False}
    found = found_in("interstitial", tmp_path, chemical_potentials_ev={"Si": -4.0}, **settings)
    agree(
        found,
        {
            "formation_energy": ("eV", np.array(more.formation_energy)),
            "chemical_potential": ("eV", np.array(-4.0)),
        },
    )


def test_surface(tmp_path, silicon):
    cubic = crystal("Si", "diamond", a=5.431, cubic=True)
    start = at_rest(silicon, cubic, 0.01, 500, 1e-4)
    expected = defects.surface(silicon, start, (1, 0, 0), 3, settings=RelaxSettings())
    found = found_in("surface", tmp_path, cubic, miller=[1, 0, 0], layers=3)
    agree(
        found,
        {
            "energy": ("eV/Å²", np.array(expected.energy)),
            "energy_si": ("J/m²", np.array(expected.energy_j_per_m2)),
            "area": ("Å²", np.array(expected.area)),
        },
    )


def test_supercells_are_wide_enough():
    """Heights of the cell, not lengths of its vectors: the primitive cell is flat."""
    for cell in (SILICON, crystal("Si", "diamond", a=5.431, cubic=True), crystal("Mg")):
        repeats = wide_supercell(cell, 10.0)
        heights = cell.volume / np.array(
            [np.linalg.norm(np.cross(cell.cell[i - 2], cell.cell[i - 1])) for i in range(3)]
        )
        assert (heights * repeats >= 10.0 - 1e-6).all()
        assert (heights * (np.array(repeats) - 1) < 10.0).all()


def test_modes(tmp_path):
    hydrogen = Structure.from_ase(molecule("H2"))
    potential = potential_component("morse", MORSE, "test").load()
    expected = normal_modes(potential, hydrogen)
    found = found_in("modes", tmp_path, hydrogen, "morse", MORSE)
    agree(
        found,
        {
            "frequencies": ("cm⁻¹", expected.frequencies_cm),
            "hessian": ("eV/Å²", expected.hessian),
            "imaginary": ("", np.array(0)),
        },
    )
    assert found.value("vectors").shape == (1, 2, 3)


def test_torsion(tmp_path):
    ethane = from_smiles("CC")[0]
    potential = potential_component("mmff94", {}, "test").load()
    torsion = find_torsions(ethane)[0]
    expected = torsion_scan(potential, ethane, torsion, points=4)
    found = found_in("torsion", tmp_path, ethane, "mmff94", {}, points=4)
    agree(
        found,
        {
            "angles": ("°", expected.angles_degree),
            "energies": ("eV", expected.energies),
            "barrier": ("eV", np.ptp(expected.energies)),
        },
    )
    assert len(found.structures) == 4
    again = compute(
        "torsion",
        "mmff94",
        [Source("case", (ethane,))],
        tmp_path,
        {"points": 4, "only": [torsion.name]},
    )
    assert again.cases[0].case.name == f"case {torsion.name}"
    with pytest.raises(UnknownKey, match="did you mean"):
        property_of("torsion", {"only": [torsion.name + "0"]}).cases([Source("x", (ethane,))])
    bare = ethane.replace(topology=None)
    with pytest.raises(UnsuitableStructure, match="guess_bonds=true"):
        compute("torsion", "mmff94", [Source("bare", (bare,))], tmp_path)
    cases = property_of("torsion", {"guess_bonds": True}).cases([Source("bare", (bare,))])
    assert [case.variant for case in cases] == [torsion.name]


def test_each_torsion_of_a_molecule_is_a_case(tmp_path):
    ethanol = from_smiles("CCO")[0]
    torsions = find_torsions(ethanol)
    computed = compute("torsion", "mmff94", [Source("x", (ethanol,))], tmp_path, {"points": 3})
    assert [one.case.variant for one in computed.cases] == [t.name for t in torsions]
    atoms = [one.found.value("atoms").data.tolist() for one in computed.cases]
    assert atoms == [list(t.atoms) for t in torsions]
    assert len(atoms) == 2


def test_diatomic(tmp_path):
    potential = potential_component("morse", MORSE, "test").load()
    expected = diatomic_curve(potential, (1, 1), np.linspace(0.5, 5, 40).tolist())
    settings = {"shortest_angstrom": 0.5, "longest_angstrom": 5, "distances": 40}
    found = found_in("diatomic", tmp_path, None, "morse", MORSE, pairs=["H-H"], **settings)
    agree(
        found,
        {
            "energies": ("eV", expected.energies),
            "forces": ("eV/Å", expected.forces),
            "minimum": ("Å", np.array(expected.minimum)),
            "tortuosity": ("", np.array(expected.tortuosity)),
        },
    )
    water = Structure.from_ase(molecule("H2O"))
    cases = property_of("diatomic", {}).cases([Source("water", (water,))])
    assert [case.name for case in cases] == ["H-H", "H-O", "O-O"]


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("elastic", {"stain": 1}, "did you mean 'strain'"),
        ("elastc", {}, "did you mean 'elastic'"),
        ("elastic", {"strain": "0.01"}, "valid number"),
        ("elastic", {"strain": 0.1}, "at most 0.05"),
        ("eos", {"volumes": 3}, "6 or more"),
        ("relax", {"pressure_gpa": 1}, "moves nothing"),
        ("surface", {"layers": 3}, r"surface.miller: Field required[\s\S]*compute list surface"),
        ("surface", {"miller": [0, 0, 0], "layers": 3}, "all be zero"),
        ("vacancy", {"supercell": [0, 1, 1]}, "positive"),
        ("interstitial", {"element": "Sj", "position": [0, 0, 0]}, "no element"),
        ("phonons", {"temperatures_k": [-1]}, "0 K or more"),
        ("torsion", {"points": 2}, "at least 3"),
        ("diatomic", {"pairs": ["Si"]}, "two elements"),
        ("diatomic", {"shortest_angstrom": 7}, "larger"),
        ("karat.core.units:GPA", {}, "no property"),
    ],
)
def test_settings_are_read_strictly(name, settings, words):
    with pytest.raises(BadInput, match=words):
        property_of(name, settings)


@pytest.mark.parametrize(
    ("name", "structure", "settings", "error", "words"),
    [
        ("elastic", crystal("Mg"), {}, UnknownElement, "no parameters for Mg"),
        ("elastic", ATOM, {}, UnsuitableStructure, "crystal"),
        ("energy", SILICON, {"quantities": ["charges"]}, UnsuitableStructure, "does not predict"),
        ("vacancy", SILICON, {"atom": 2}, BadInput, "has 0 to 1"),
        ("interstitial", SILICON, {"element": "Ge", "position": [0, 0, 0]}, BadInput, "give it"),
        ("modes", ATOM, {}, BadInput, "not vibrate"),
    ],
)  # fmt: skip
def test_unsuitable_structures_are_refused_before_work(
    tmp_path, name, structure, settings, error, words
):
    with pytest.raises(error, match=words):
        compute(name, "stillinger_weber", [Source("x", (structure,))], tmp_path / "o", settings, SI)
    assert not (tmp_path / "o").exists()


def test_without_stress_the_way_out_is_named():
    for name in ("eos", "vacancy"):
        with pytest.raises(BadInput, match="relax_first=false"):
            property_of(name, {}).check(WithoutStress(), Case("x", (SILICON,)))


class WithoutStress(AbstractPotential):
    """Declares no stress."""

    traits = Traits(species=None, periodic=True, molecules=True, quantities=("energy", "forces"))

    def predict(self, structures, want=("energy", "forces")):
        raise AssertionError("asked before it was checked")


def test_every_property_is_described():
    """Every setting says what it is; every column is a name of a value."""
    for name in CATALOGUE.members:
        described = describe(name)
        assert described.title.endswith(".")
        cls = CATALOGUE.resolve(name)
        assert len(described.settings) == len(dataclasses.fields(cls))
        for setting in described.settings:
            assert setting.words, f"{name}.{setting.name}"
        assert cls.columns
        assert not inspect.isabstract(cls)


def test_relax_has_every_setting_of_relax_batch():
    """With the same defaults: what is added there must be settable here."""
    assert dataclasses.asdict(property_of("relax", {})) == dataclasses.asdict(RelaxSettings())


def test_values_are_checked():
    with pytest.raises(BadInput, match="NaN"):
        Value("x", np.array([1.0, np.nan]), "eV", ("a",))
    with pytest.raises(BadInput, match="axes"):
        Value("x", np.zeros(3), "eV")
    with pytest.raises(BadInput, match="str|<U"):
        Value("x", np.array("word"))
    assert Value("x", np.array(2.5), "eV").shape == ()
    with pytest.raises(ValueError, match="read-only"):
        Value("x", np.zeros(3), "eV", ("a",)).data[0] = 1
