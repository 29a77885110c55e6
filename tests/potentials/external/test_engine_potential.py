import numpy as np
import pytest

from karat.core.components import parse
from karat.core.errors import BadInput, UnknownElement, UnknownKey, UnsuitableStructure
from karat.potentials.external.engine_potential import Engine, Gfn1, Gfn2, engine_of
from karat.reference.xtb import Gfn1Xtb, Gfn2Xtb
from karat.structures.structure import Structure

pytest.importorskip("tblite")

WATER = Structure(
    numbers=np.array([8, 1, 1]),
    positions=np.array([[0.0, 0, 0], [0.97, 0.05, 0], [-0.25, 0.93, 0.03]]),
)


@pytest.mark.parametrize(("component", "engine"), [(Gfn2(), Gfn2Xtb()), (Gfn1(), Gfn1Xtb())])
def test_labels_are_the_engines_own(component, engine):
    potential = component.load()
    want = ("energy", "forces", "charges", "dipole")
    labels, expected = potential.predict([WATER], want)[0], engine.compute(WATER, want)
    assert labels.energy == expected.energy
    for name in ("forces", "charges", "dipole"):
        np.testing.assert_array_equal(getattr(labels, name), getattr(expected, name))
    assert potential.traits.level == engine.level
    assert potential.traits.level.semiempirical
    assert potential.traits.species == tuple(range(1, 87))


def test_agrees_with_tblites_own_calculator():
    from tblite.ase import TBLite

    atoms = WATER.to_ase()
    atoms.calc = TBLite(method="GFN2-xTB", accuracy=0.1, verbosity=0)
    expected = atoms.get_potential_energy()
    # ASE's hartree (CODATA 2014) is 8e-9 smaller than CODATA 2018's
    assert Gfn2().load().predict([WATER])[0].energy == pytest.approx(expected, rel=1.5e-8)


def test_any_engine_by_name():
    component = parse(Engine, {"engine": "gfn1_xtb", "options": {"accuracy": 1.0}}, "contestant")
    potential = component.load()
    assert potential.traits.level.method == "GFN1-xTB"
    assert potential.engine == Gfn1Xtb(accuracy=1.0)
    assert potential.traits.force_tolerance == 1e-3
    assert potential.traits.tolerance_reason


def test_engine_of_a_component():
    assert engine_of(Gfn2(accuracy=0.5)) == Gfn2Xtb(accuracy=0.5)
    assert engine_of(Engine("gfn2_xtb")) == Gfn2Xtb()
    assert engine_of(WATER) is None


@pytest.mark.parametrize(
    ("values", "error", "words"),
    [
        ({"engine": "gfn2"}, UnknownKey, "did you mean 'gfn2_xtb'"),
        ({"engine": "gfn2_xtb", "options": {"acuracy": 1}}, UnknownKey, "'accuracy'"),
        ({"engine": "karat.core.catalogue:Catalogue"}, BadInput, "engine"),
    ],
)
def test_bad_engines_are_named(values, error, words):
    with pytest.raises(error, match=words):
        parse(Engine, values, "contestant").load()


def test_what_the_engine_refuses_is_refused():
    potential = Gfn2().load()
    heavy = WATER.replace(numbers=np.array([92, 1, 1]))
    with pytest.raises(UnknownElement, match="U"):
        potential.predict([heavy])
    small = WATER.replace(cell=4 * np.eye(3), periodic=np.ones(3, bool))
    with pytest.raises(UnsuitableStructure, match="Gamma"):
        potential.predict([WATER, small])
