import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT

from karat.core.components import parse
from karat.core.errors import BadInput, MissingDependency, UnknownElement, UnsuitableStructure
from karat.potentials.external.ase_potential import Ase
from karat.structures.structure import Structure

COPPER = Ase(calculator="ase.calculators.emt:EMT", species=("Cu",), cutoff_angstrom=6.0)


def crystal():
    atoms = bulk("Cu", "fcc", a=3.7, cubic=True)
    atoms.rattle(0.1, seed=2)
    atoms.set_cell(atoms.cell @ (np.eye(3) + [[0, 0.02, 0], [0, 0.01, 0.03], [0, 0, 0]]), True)
    return atoms


def test_labels_are_the_calculators_own():
    atoms = crystal()
    labels = COPPER.load().predict([Structure.from_ase(atoms)], ("forces", "stress"))[0]
    atoms.calc = EMT()
    assert labels.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-12)
    np.testing.assert_allclose(labels.forces, atoms.get_forces(), atol=1e-12)
    np.testing.assert_allclose(labels.stress, atoms.get_stress(voigt=False), atol=1e-14)


def test_declarations():
    traits = COPPER.load().traits
    assert traits.species == (29,)
    assert traits.cutoff == 6.0
    assert traits.level is None
    assert set(traits.quantities) == {"energy", "forces", "stress"}
    named = Ase(calculator="ase.calculators.emt:EMT", method="PBE", molecules=False).load()
    assert named.traits.level.method == "PBE"
    with pytest.raises(UnsuitableStructure, match="crystals only"):
        named.predict([Structure(numbers=np.array([29]), positions=np.zeros((1, 3)))])
    with pytest.raises(UnknownElement, match="Au"):
        COPPER.load().predict([Structure.from_ase(bulk("Au"))])


@pytest.mark.parametrize(
    ("values", "error", "words"),
    [
        ({"calculator": "ase.calculators.emt:EMTT"}, BadInput, "EMTT"),
        ({"calculator": "no_such_module:X"}, MissingDependency, "no_such_module"),
        ({"calculator": "ase.calculators.emt:EMT", "species": ["Xx"]}, UnknownElement, "'Xx'"),
        (
            {"calculator": "ase.calculators.emt:EMT", "periodic": False, "molecules": False},
            BadInput,
            "both false",
        ),
    ],
)
def test_bad_input_is_named(values, error, words):
    with pytest.raises(error, match=words):
        parse(Ase, values, "contestant").load()
