import numpy as np
import pytest
from ase.build import bulk
from ase.optimize import BFGS
from ase.units import J, m

from karat.core.errors import BadInput, CalculationFailed, UnsuitableStructure
from karat.potentials.analytic.stillinger_weber import StillingerWeber
from karat.simulation.batched_relax import RelaxSettings
from karat.simulation.defects import (
    interstitial,
    surface,
    vacancy,
)
from karat.structures.structure import Structure

LATTICE = 5.430949777  # Å, where this potential has no stress (relaxed with matscipy)
EPSILON = 2.1683
TETRAHEDRAL = np.array([0.5, 0.5, 0.5])


@pytest.fixture(scope="module")
def silicon():
    return StillingerWeber("Si").load()


@pytest.fixture(scope="module")
def crystal():
    return Structure.from_ase(bulk("Si", a=LATTICE, cubic=True))


def test_unrelaxed_vacancy_costs_two_bonds(silicon, crystal):
    # four bonds of ε are lost, two regained by the atom in the crystal; angles stay tetrahedral
    found = vacancy(silicon, crystal, (2, 2, 2))
    # ε is the depth of a bond up to the 10 digits of A and B
    assert found.formation_energy == pytest.approx(2 * EPSILON, abs=1e-5)
    assert found.chemical_potential == pytest.approx(-2 * EPSILON, abs=1e-5)
    assert len(found.defective) == 63
    assert found.max_force is None


@pytest.mark.slow
def test_relaxed_interstitial_against_ase_with_matscipy(silicon, crystal):
    from matscipy.calculators.manybody import Manybody
    from matscipy.calculators.manybody.explicit_forms import StillingerWeber as Form
    from matscipy.calculators.manybody.explicit_forms.stillinger_weber import (
        Stillinger_Weber_PRB_31_5262_Si,
    )

    settings = RelaxSettings(1e-3, 600)
    found = interstitial(silicon, crystal, (2, 2, 2), 14, TETRAHEDRAL, settings=settings)
    raw = interstitial(silicon, crystal, (2, 2, 2), 14, TETRAHEDRAL)
    atoms = raw.defective.to_ase()
    atoms.calc = Manybody(**Form(Stillinger_Weber_PRB_31_5262_Si))
    assert BFGS(atoms, logfile=None).run(fmax=1e-3, steps=200)
    expected = atoms.get_potential_energy() - len(atoms) * raw.chemical_potential
    # two ways to forces of 1e-3 eV/Å in one valley: F²/2k on a dozen atoms
    assert found.formation_energy == pytest.approx(expected, abs=1e-4)
    assert found.formation_energy < raw.formation_energy
    assert found.max_force <= 1e-3


def test_a_relaxed_vacancy_of_argon_costs_less(argon):
    gas = Structure.from_ase(bulk("Ar", a=5.3))
    raw = vacancy(argon(), gas, (3, 3, 3))
    found = vacancy(argon(), gas, (3, 3, 3), settings=RelaxSettings(1e-4, 300))
    # pair forces: the energy of cohesion, less the few per cent that relaxing gives
    assert raw.formation_energy == pytest.approx(-raw.chemical_potential, abs=1e-9)
    assert 0.9 * raw.formation_energy < found.formation_energy < raw.formation_energy
    assert len(found.defective) == 26


@pytest.mark.parametrize(
    ("miller", "layers", "energy"),
    [
        # one bond of ε is cut per a²√3/4, two per a²/2; half of each belongs to either face
        ((1, 1, 1), 3, EPSILON / 2 / (LATTICE**2 * 3**0.5 / 4)),
        ((1, 0, 0), 2, 2 * EPSILON / 2 / (LATTICE**2 / 2)),
    ],
)
def test_unrelaxed_surfaces_cost_their_cut_bonds(silicon, crystal, miller, layers, energy):
    found = surface(silicon, crystal, miller, layers)
    if miller == (1, 1, 1):
        # the builder may cut within the double layers too: three bonds instead of one
        cut = found.energy / energy
        assert cut == pytest.approx(round(cut), abs=1e-5)
        assert round(cut) in (1, 3)
    else:
        assert found.energy == pytest.approx(energy, abs=1e-7)
    assert found.energy_j_per_m2 == pytest.approx(found.energy / (J / m**2), rel=1e-7)


def test_a_compound_needs_a_chemical_potential(argon):
    salt = Structure.from_ase(bulk("NaCl", "rocksalt", a=5.6))
    with pytest.raises(BadInput, match="chemical_potentials"):
        vacancy(argon(), salt, (2, 2, 2))
    gas = Structure.from_ase(bulk("Ar", a=5.3))
    own = vacancy(argon(), gas, (3, 3, 3))
    given = vacancy(argon(), gas, (3, 3, 3), chemical_potentials={18: own.chemical_potential + 1})
    assert given.formation_energy == pytest.approx(own.formation_energy + 1, abs=1e-10)
    assert own.formation_energy > 0


def test_bad_input_is_refused(argon, foreign):
    gas = Structure.from_ase(bulk("Ar", a=5.3))
    with pytest.raises(BadInput, match="atom 1"):
        vacancy(argon(), gas, (2, 2, 2), atom=1)
    with pytest.raises(BadInput, match="one atom"):
        vacancy(argon(), gas, (1, 1, 1))
    with pytest.raises(BadInput, match="supercell"):
        vacancy(argon(), gas, (0, 1, 1))
    with pytest.raises(BadInput, match="lies an atom"):
        interstitial(argon(), gas, (2, 2, 2), 18, np.array([1.0, 0.0, 0.01]))
    with pytest.raises(BadInput, match="indices"):
        surface(argon(), gas, (0, 0, 0), 3)
    with pytest.raises(BadInput, match="'fixed'"):
        vacancy(argon(), gas, (2, 2, 2), settings=RelaxSettings(cell="free"))
    with pytest.raises(UnsuitableStructure, match="crystal"):
        vacancy(argon(), Structure(np.array([18]), np.zeros((1, 3))), (2, 2, 2))
    failing = foreign(argon(), fail_at=1)
    with pytest.raises(CalculationFailed, match="SCF"):
        vacancy(failing, gas, (2, 2, 2), settings=RelaxSettings(1e-6))
