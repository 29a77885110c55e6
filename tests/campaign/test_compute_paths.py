"""`compute neb`: what `neb` gives, with units; files that hold no path are refused before work."""

import dataclasses
import json

import numpy as np
import pytest
from ase.build import bulk
from ase.io import write
from scipy.spatial.transform import Rotation

from karat.campaign.compute.describe import describe
from karat.campaign.compute.document import write_documents
from karat.campaign.compute.protocol import Silent, Source
from karat.campaign.compute.run import compute, property_of, read_sources
from karat.core.errors import BadInput, UnknownElement
from karat.data.files import read_structures
from karat.potentials.catalogue import potential_component
from karat.simulation.batched_relax import RelaxSettings
from karat.simulation.neb import NebSettings, neb
from karat.structures.structure import Structure

EPSILON, SIGMA = 0.0104, 3.4
ARGON = {
    "epsilon_ev": {"Ar": EPSILON},
    "sigma_angstrom": {"Ar": SIGMA},
    "cutoff_angstrom": 6.0,
    "onset_angstrom": 5.4,
}
FAR = ARGON | {"cutoff_angstrom": 30.0, "onset_angstrom": 29.0}


def hop():
    """A vacancy of fcc argon beside either of two neighbouring sites, not relaxed."""
    crystal = bulk("Ar", a=5.3, cubic=True) * (2, 2, 2)
    neighbour = int(np.argsort(crystal.get_all_distances(mic=True)[0])[1])
    ends = [crystal.copy(), crystal.copy()]
    ends[1].positions[neighbour] = crystal.positions[0]
    for atoms in ends:
        del atoms[0]
    return tuple(Structure.from_ase(atoms).replace(multiplicity=None) for atoms in ends)


def tetrahedron(degrees):
    """Two atoms on an axis, two that stand `degrees` apart around it, all touching the first."""
    bond = SIGMA * 2 ** (1 / 6)
    half, height = np.radians(degrees) / 2, bond * 3**0.5 / 2
    ends = [[height * np.cos(half), sign * height * np.sin(half), 0] for sign in (-1, 1)]
    return Structure(np.full(4, 18), np.array([[0, 0, -bond / 2], [0, 0, bond / 2], *ends]))


def path_of(source, folder, potential=ARGON, progress=None, **settings):
    return compute("neb", "lennard_jones", [source], folder, settings, potential, progress)


class Words(Silent):
    def __init__(self):
        self.said = []

    def inside(self, words):
        self.said.append(words)


def test_values_are_those_of_the_function(tmp_path):
    start, end = hop()
    relax = {"force_tolerance": 2e-3, "max_steps": 300}
    watch = Words()
    source = Source("some/hop.xyz", (start, end))
    settings = {"images": 5, "force_tolerance": 5e-3, "check_saddle": True, "relax_ends": relax}
    computed = path_of(source, tmp_path, progress=watch, **settings)
    assert computed.failures == ()
    (case,) = computed.cases
    assert case.case.name == "hop"
    potential = potential_component("lennard_jones", ARGON, "test").load()
    expected = neb(
        potential,
        start,
        end,
        NebSettings(5, 5e-3, check_saddle=True, relax_ends=RelaxSettings(2e-3, 300)),
    )
    found = case.found
    for name, unit, number in (
        ("energies", "eV", expected.energies),
        ("arc_length", "Å", expected.arc_length),
        ("length", "Å", expected.arc_length[-1]),
        ("barrier_forward", "eV", expected.barrier_forward),
        ("barrier_backward", "eV", expected.barrier_backward),
        ("energy_change", "eV", expected.energies[-1] - expected.energies[0]),
        ("max_perpendicular_force", "eV/Å", expected.max_perpendicular_force),
        ("max_end_force", "eV/Å", expected.max_end_force),
        ("energy_misfit", "eV", expected.energy_misfit),
        ("saddle", "", expected.saddle),
        ("steps", "", expected.steps),
        ("curvatures", "eV/Å²", expected.saddle_check.curvatures),
        ("negative_curvatures", "", expected.saddle_check.negative),
        ("first_order", "", expected.saddle_check.first_order),
        ("moving_atoms", "", expected.saddle_check.atoms),
    ):
        value = found.value(name)
        assert value.unit == unit, name
        # the same calls on the same structures
        np.testing.assert_allclose(value.data, number, rtol=0, atol=1e-9, err_msg=name)
    assert found.value("energies").axes == ("images",)
    assert list(found.structures) == [*(f"image {k}" for k in range(5)), "saddle"]
    for k, image in enumerate(expected.images):
        np.testing.assert_allclose(found.structures[f"image {k}"].positions, image.positions)
    saddle = found.structures["saddle"]
    np.testing.assert_array_equal(
        saddle.positions, found.structures[f"image {expected.saddle}"].positions
    )
    assert any("hop: step 3, longest force" in words for words in watch.said)
    assert found.notes == {}
    (curve,) = found.figures[0].series
    np.testing.assert_allclose(curve.x, expected.arc_length, atol=1e-9)
    np.testing.assert_allclose(curve.y, expected.energies - expected.energies[0], atol=1e-9)


def test_four_argon_atoms_turn_inside_out_through_the_rhombus(tmp_path):
    """The barrier from the file to the document: the tetrahedron has -6 ε, the rhombus -5.073421 ε
    (Wales' database; tests/simulation/test_neb.py finds it by minimisation too)."""
    regular = float(np.degrees(2 * np.arcsin(3**-0.5)))
    turn = Rotation.from_rotvec([0.05, -0.05, 0.26])  # off the mirror plane
    ends = [tetrahedron(regular).to_ase(), tetrahedron(360 - regular).to_ase()]
    ends[1].positions = turn.apply(ends[1].positions.copy())
    write(tmp_path / "turn.xyz", ends, format="extxyz")
    settings = {"force_tolerance": 1e-3, "max_steps": 1500, "align": False, "check_saddle": True}
    (source,) = read_sources([tmp_path / "turn.xyz"])
    computed = path_of(source, tmp_path / "out", FAR, **settings)
    found = computed.cases[0].found
    # F²/2k of the climbing image: 1e-6/(2·0.05) eV; positions in the file have eight digits
    expected = (6 - 5.073421) * EPSILON
    assert found.value("barrier_forward").number == pytest.approx(expected, abs=2e-5)
    assert found.value("barrier_backward").number == pytest.approx(expected, abs=2e-5)
    assert found.value("first_order").number is True
    names = [path.name for path in write_documents(computed)]
    assert names == ["neb.json", "neb.xyz", "neb.html"]
    items = read_structures(tmp_path / "out" / "neb.xyz")
    assert [item.name for item in items] == [*(f"turn image {k}" for k in range(7)), "turn saddle"]
    values = json.loads((tmp_path / "out" / "neb.json").read_text())["cases"][0]["values"]
    named = {value["name"]: value for value in values}
    assert named["energies"]["axes"] == ["images"]
    assert named["barrier_forward"]["unit"] == "eV"
    again = path_of(source, tmp_path / "out", FAR, **settings)
    assert again.cases[0].before


def test_notes_say_what_the_barriers_are_not(tmp_path):
    start, end = hop()
    shaken = start.replace(
        positions=start.positions + np.random.default_rng(2).normal(0, 0.06, (31, 3))
    )
    source = Source("rough", (shaken, end))
    found = path_of(source, tmp_path, images=4, climb=False, force_tolerance=0.05).cases[0].found
    energies = found.value("energies").data
    for name, place in (("barrier_forward", 0), ("barrier_backward", -1)):
        expected = energies.max() - energies[place]
        assert found.value(name).number == pytest.approx(expected, abs=1e-12)
    assert found.value("energy_change").number == pytest.approx(energies[-1] - energies[0])
    assert abs(found.value("energy_change").number) > 0.02  # or they could be taken for each other
    assert "lower bounds" in found.notes["saddle"]
    assert "relax_ends" in found.notes["ends"]
    assert "saddle" not in found.structures
    with pytest.raises(KeyError):
        found.value("saddle")


def test_what_is_no_path_is_refused_before_work(tmp_path):
    start, end = hop()
    with pytest.raises(BadInput, match="alone.cif: holds one structure"):
        path_of(Source("alone.cif", (start,)), tmp_path / "o")
    with pytest.raises(BadInput, match="holds 3 structures"):
        path_of(Source("many", (start, start, end)), tmp_path / "o")
    with pytest.raises(BadInput, match="one structure: no atom"):
        path_of(Source("same", (start, start)), tmp_path / "o")
    silicon = (one.replace(numbers=np.full(31, 14)) for one in (start, end))
    with pytest.raises(UnknownElement, match="Si"):
        path_of(Source("other", tuple(silicon)), tmp_path / "o")
    sources = [Source(name, pair) for name, pair in (("good", hop()), ("bad", (start, start)))]
    with pytest.raises(BadInput, match="1 of 2 cannot be computed"):
        compute("neb", "lennard_jones", sources, tmp_path / "o", {}, ARGON)
    assert not (tmp_path / "o").exists()


def test_a_path_that_fails_is_listed_and_costs_no_other(tmp_path):
    """Both ends of the first fall back into one minimum."""
    start, end = hop()
    aside = start.replace(positions=start.positions + 0.1 * np.eye(31, 3))
    sources = [Source("hard", (start, aside)), Source("easy", (start, end))]
    settings = {"images": 3, "force_tolerance": 0.05, "relax_ends": {"force_tolerance": 1e-3}}
    computed = compute("neb", "lennard_jones", sources, tmp_path, settings, ARGON)
    assert [(one.case, one.kind) for one in computed.failures] == [("hard", "bad-ends")]
    assert [one.case.name for one in computed.cases] == ["easy"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"images": 2}, "at least 3"),
        ({"first_path": "straight"}, "neb.first_path"),
        ({"relax_ends": {"cell": "free"}}, "cell is fixed along a path"),
        ({"relax_ends": {"force_tolerence": 0.1}}, "relax_ends.force_tolerence"),
        ({"climb": False, "check_saddle": True}, "needs climb"),
        ({"image": 5}, "did you mean 'images'"),
    ],
)
def test_settings_are_read_strictly(settings, words):
    with pytest.raises(BadInput, match=words):
        property_of("neb", settings)


def test_neb_has_every_setting_of_the_function():
    """With the same defaults: what is added there must be settable here."""
    assert dataclasses.asdict(property_of("neb", {})) == dataclasses.asdict(NebSettings())
    assert all(setting.words for setting in describe("neb").settings)
