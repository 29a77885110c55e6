import numpy as np
import pytest

from karat.core.errors import BadInput, UnknownKey
from karat.potentials.catalogue import potential_component
from karat.potentials.native_protocol import NativePotential
from karat.potentials.sum_potential import SummedPotential, SumPotential, Term, add_potentials
from karat.structures.builders import crystal, from_smiles
from karat.structures.labels import LevelOfTheory

SW = Term("stillinger_weber", {"preset": "Si"})
ZBL = Term("zbl", {"elements": ["Si", "C"], "inner_angstrom": 2.0, "outer_angstrom": 4.2})
MORSE = Term(
    "morse",
    {
        "depth_ev": {"Si": 0.1},
        "width_per_angstrom": {"Si": 1.0},
        "distance_angstrom": {"Si": 3.0},
        "cutoff_angstrom": 5.0,
        "onset_angstrom": 4.0,
    },
)
WANT = ("energy", "forces", "stress")


def silicon():
    perfect = crystal("Si", "diamond", a=5.3, cubic=True)
    moved = np.random.default_rng(1).normal(0, 0.1, perfect.positions.shape)
    return perfect.replace(positions=perfect.positions + moved)


def assert_equal_to_sum(labels, parts):
    # same arithmetic in another order of summation
    assert labels.energy == pytest.approx(sum(p.energy for p in parts), abs=1e-11)
    np.testing.assert_allclose(labels.forces, sum(p.forces for p in parts), atol=1e-11)
    np.testing.assert_allclose(labels.stress, sum(p.stress for p in parts), atol=1e-12)


def test_native_terms_are_fused():
    """Terms with triplets and with different cut-offs on one neighbour list."""
    terms = (SW, ZBL)
    fused = SumPotential(terms).load()
    assert isinstance(fused, NativePotential)
    assert fused.traits.native
    assert fused.traits.species == (14,)
    assert fused.traits.cutoff == 4.2
    assert fused.traits.continuity == 2
    alone = [potential_component(t.potential, t.options, "t").load() for t in terms]
    structure = silicon()
    parts = [p.predict([structure], WANT)[0] for p in alone]
    assert all(abs(part.energy) > 0.1 for part in parts)
    assert_equal_to_sum(fused.predict([structure], WANT)[0], parts)


def test_other_terms_are_added():
    """The same sum with one term behind a non-native interface."""
    structure = silicon()
    native = [potential_component(t.potential, t.options, "t").load() for t in (SW, MORSE)]
    inner = SummedPotential((native[1],))
    mixed = add_potentials([native[0], inner])
    assert isinstance(mixed, SummedPotential)
    assert not mixed.traits.native
    assert mixed.traits.force_tolerance == 2e-6
    parts = [p.predict([structure], WANT)[0] for p in native]
    assert_equal_to_sum(mixed.predict([structure], WANT)[0], parts)


def test_reference_energies_and_levels():
    module = potential_component(MORSE.potential, MORSE.options, "t").load().module
    pbe, other = LevelOfTheory(method="PBE"), LevelOfTheory(method="SCAN")
    one = NativePotential(module, {14: -100.0}, level=pbe)
    two = NativePotential(module, {14: -1.0})
    structure = silicon()
    total = add_potentials([one, two])
    bare = NativePotential(module).predict([structure])[0].energy
    expected = 2 * bare - 101.0 * len(structure)
    assert total.predict([structure])[0].energy == pytest.approx(expected, abs=1e-10)
    assert total.traits.level == pbe
    assert add_potentials([one, NativePotential(module, level=other)]).traits.level is None


def test_traits_of_a_mixed_sum():
    components = [Term("mmff94"), Term("uff")]
    traits = SumPotential(tuple(components)).load().traits
    assert traits.needs_topology
    assert not traits.periodic
    assert traits.cutoff is None
    structure = from_smiles("CO")[0]
    potential = SumPotential(tuple(components)).load()
    parts = [potential_component(c.potential, {}, "t").load() for c in components]
    expected = sum(p.predict([structure])[0].energy for p in parts)
    assert potential.predict([structure])[0].energy == pytest.approx(expected, abs=1e-12)


def test_bad_input():
    with pytest.raises(BadInput, match="is empty"):
        SumPotential(())
    with pytest.raises(UnknownKey, match=r"sum\.terms\.1 has no 'presett'"):
        SumPotential((SW, Term("stillinger_weber", {"presett": "Si"}))).load()
    argon = {"epsilon_ev": {"Ar": 1.0}, "sigma_angstrom": {"Ar": 1.0}}
    argon |= {"cutoff_angstrom": 5.0, "onset_angstrom": 4.0}
    with pytest.raises(BadInput, match="no element that all terms know"):
        SumPotential((SW, Term("lennard_jones", argon))).load()
    single = Term("stillinger_weber", {"preset": "Si", "dtype": "float32"})
    with pytest.raises(BadInput, match="float32 and float64"):
        SumPotential((SW, single)).load()
