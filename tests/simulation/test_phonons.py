import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from karat.core.errors import BadInput, CalculationFailed, UnsuitableStructure
from karat.core.units import ACCELERATION, BOLTZMANN, HBAR, KJ_PER_MOL
from karat.potentials.analytic.lennard_jones import LennardJones
from karat.potentials.analytic.stillinger_weber import StillingerWeber
from karat.simulation.modes import hessian
from karat.simulation.phonons import frequencies_at, phonons, thermal_properties
from karat.simulation.strain import scaled_to_volume
from karat.simulation.velocities import masses
from karat.structures.structure import Structure

GAS_CONSTANT = BOLTZMANN / KJ_PER_MOL * 1000  # J/mol/K


@pytest.fixture(scope="module")
def silicon():
    return phonons(StillingerWeber("Si").load(), Structure.from_ase(bulk("Si", a=5.45)))


@pytest.fixture
def nearest_only():
    """Argon whose neighbours beyond the first are out of reach: springs at their rest length."""
    return LennardJones({"Ar": 0.0104}, {"Ar": 3.4}, 5.3, 5.0).load()


def test_silicon_at_gamma_and_300_kelvin(silicon):
    optical = frequencies_at(silicon, np.zeros((1, 3)))[0]
    # phonopy with matscipy and with LAMMPS: 17.832 THz and 37.28 J/K/mol; a to 1e-5 of its
    # length, with a Grüneisen parameter near one, moves 17.8 THz by 5e-4
    np.testing.assert_allclose(optical[3:], 17.832, atol=1.5e-3)
    np.testing.assert_allclose(optical[:3], 0, atol=1e-4)
    thermal = thermal_properties(silicon, [300.0])
    assert thermal.heat_capacity_j_per_mol_k[0] == pytest.approx(37.28, abs=0.01)
    assert silicon.imaginary_fraction == 0
    assert silicon.lowest_thz > -1e-3
    assert silicon.displacements == 1
    assert len(silicon.primitive) == 2


def test_whole_bands_against_phonopy_with_matscipy(silicon):
    from matscipy.calculators.manybody import Manybody
    from matscipy.calculators.manybody.explicit_forms import StillingerWeber as Form
    from matscipy.calculators.manybody.explicit_forms.stillinger_weber import (
        Stillinger_Weber_PRB_31_5262_Si,
    )
    from phonopy import Phonopy
    from phonopy.structure.atoms import PhonopyAtoms

    crystal = silicon.structure.to_ase()
    other = Phonopy(
        PhonopyAtoms(numbers=crystal.numbers, cell=crystal.cell.array, positions=crystal.positions),
        supercell_matrix=3 * np.eye(3, dtype=int),
        primitive_matrix=np.eye(3),
    )
    other.generate_displacements(distance=0.01)
    forces = []
    for cell in other.supercells_with_displacements:
        atoms = Atoms(numbers=cell.numbers, positions=cell.positions, cell=cell.cell, pbc=True)
        atoms.calc = Manybody(**Form(Stillinger_Weber_PRB_31_5262_Si))
        forces.append(atoms.get_forces())
    other.forces = np.array(forces)
    other.produce_force_constants(show_drift=False)
    expected = other.run_qpoints(silicon.bands.qpoints).frequencies
    # phonopy's own mass of silicon (28.0855) against ASE's (28.085): 1e-5 of a frequency
    np.testing.assert_allclose(silicon.bands.frequencies_thz, expected, atol=1e-3)


def test_nearest_neighbour_springs_have_their_dispersion(nearest_only):
    crystal = Structure.from_ase(bulk("Ar", a=3.4 * 2 ** (1 / 6) * 2**0.5))
    found = phonons(nearest_only, crystal, (2, 2, 2), 1e-3, (6, 6, 6), relax_first=None)
    spring = 36 * 2 ** (2 / 3) * 0.0104 / 3.4**2  # V''(2^(1/6) σ)
    unit = np.sqrt(spring * ACCELERATION / 39.948) / (2 * np.pi) * 1e3
    # face-centred cubic, [100] at the zone's edge: m ω² = 4 k, 4 k, 8 k; L: 2 k, 2 k, 8 k
    at_x, at_l = frequencies_at(found, np.array([[0.5, 0.5, 0.0], [0.5, 0.5, 0.5]]))
    # the fourth derivative adds (1e-3 Å)² · V''''/V'' = 1e-4 / 3.4² of a spring at most
    np.testing.assert_allclose(at_x, unit * np.sqrt([4.0, 4, 8]), rtol=1e-4)
    np.testing.assert_allclose(at_l, unit * np.sqrt([2.0, 2, 8]), rtol=1e-4)
    assert found.max_force < 1e-10


@pytest.mark.slow
def test_a_crystal_that_is_not_at_rest_has_the_frequencies_of_its_hessian():
    potential = StillingerWeber("Si").load()
    crystal = Structure.from_ase(bulk("Si", a=5.45))
    pushed = crystal.positions + np.array([[0.0, 0, 0], [0.03, 0.03, 0.03]])
    crystal = crystal.replace(positions=pushed)
    found = phonons(potential, crystal, (2, 2, 2), 1e-3, (2, 2, 2), relax_first=None)
    assert found.max_force > 0.1
    # at Γ the primitive cell is enough: its Hessian by central differences
    matrix = hessian(potential, crystal, 1e-3) * ACCELERATION / masses(crystal)[0]
    values = np.linalg.eigvalsh(matrix)
    expected = np.sign(values) * np.sqrt(np.abs(values)) / (2 * np.pi) * 1e3
    at_gamma = frequencies_at(found, np.zeros((1, 3)))[0]
    # one-sided differences where symmetry allows them: 1e-3 Å of third derivatives, 1e-3 of k
    np.testing.assert_allclose(at_gamma[3:], np.sort(expected)[3:], rtol=2e-3)


def test_density_of_states_counts_all_modes(silicon):
    area = np.trapezoid(silicon.dos_per_thz, silicon.dos_frequencies_thz)
    # the grid of frequencies has 200 points, and edges fall between them
    assert area == pytest.approx(6, rel=5e-3)
    mean = np.average(silicon.frequencies_thz.mean(axis=1), weights=silicon.weights)
    first = np.trapezoid(
        silicon.dos_per_thz * silicon.dos_frequencies_thz, silicon.dos_frequencies_thz
    )
    assert first / area == pytest.approx(mean, rel=5e-3)


def test_thermal_properties_are_those_of_the_modes(silicon):
    temperatures = np.array([50.0, 300.0, 1000.0])
    found = thermal_properties(silicon, temperatures.tolist())
    modes = silicon.frequencies_thz.copy()
    gamma = int(np.argmin(np.abs(silicon.qpoints).sum(axis=1)))
    share = np.repeat(silicon.weights[:, None], 6, axis=1) / silicon.weights.sum()
    share[gamma, :3] = 0
    modes[gamma, :3] = 1.0
    energy = 2 * np.pi * HBAR * modes * 1e-3  # eV
    assert found.zero_point_energy == pytest.approx(np.sum(share * energy / 2), rel=1e-6)
    for place, temperature in enumerate(temperatures):
        ratio = energy / (BOLTZMANN * temperature)
        free = energy / 2 + BOLTZMANN * temperature * np.log1p(-np.exp(-ratio))
        capacity = ratio**2 * np.exp(ratio) / np.expm1(ratio) ** 2
        assert found.free_energy[place] == pytest.approx(np.sum(share * free), rel=1e-5)
        expected = GAS_CONSTANT * np.sum(share * capacity)
        assert found.heat_capacity_j_per_mol_k[place] == pytest.approx(expected, rel=1e-5)


def test_harmonic_limits(silicon):
    found = thermal_properties(silicon, [0.0, 1e5, 1.001e5])
    assert found.heat_capacity_j_per_mol_k[0] == 0
    assert found.entropy_j_per_mol_k[0] == 0
    assert found.free_energy[0] == pytest.approx(found.zero_point_energy, rel=1e-9)
    # Dulong and Petit, less the three modes of 6 · 20³ that are shifts; (hν/kT)²/12 = 6e-6
    modes = 6 - 3 / 20**3
    assert found.heat_capacity_j_per_mol_k[1] == pytest.approx(modes * GAS_CONSTANT, rel=1e-5)
    # S = -∂F/∂T
    slope = (found.free_energy[2] - found.free_energy[1]) / 100
    middle = 0.5 * (found.entropy_j_per_mol_k[1] + found.entropy_j_per_mol_k[2])
    assert -slope == pytest.approx(middle / 1000 * KJ_PER_MOL, rel=1e-5)


@pytest.mark.slow
def test_a_conventional_cell_gives_the_same_modes(nearest_only):
    primitive = Structure.from_ase(bulk("Ar", a=5.39))
    cubic = Structure.from_ase(bulk("Ar", a=5.39, cubic=True))
    small = phonons(nearest_only, primitive, (4, 4, 4), mesh=(4, 4, 4))
    large = phonons(nearest_only, cubic, (2, 2, 2), mesh=(4, 4, 4))
    assert len(large.primitive) == 1
    # exact in both: only first neighbours act
    for place in range(2):
        q = np.array([[0.5, 0.5, 0.0], [0.5, 0.5, 0.5]])[place : place + 1]
        expected = frequencies_at(small, q)
        np.testing.assert_allclose(frequencies_at(large, q), expected, rtol=1e-4)


def test_imaginary_modes_are_reported_and_have_no_free_energy(argon):
    cubic = Structure.from_ase(bulk("Ar", "sc", a=3.7))
    found = phonons(argon(), cubic, (3, 3, 3), mesh=(6, 6, 6))
    assert found.imaginary_fraction > 0.05
    assert found.lowest_thz < -0.1
    with pytest.raises(CalculationFailed, match="imaginary") as caught:
        thermal_properties(found, [300.0])
    assert caught.value.kind == "imaginary-modes"


@pytest.mark.slow
def test_a_crystal_as_it_is_or_relaxed(nearest_only):
    start = scaled_to_volume(Structure.from_ase(bulk("Ar", a=5.39)), 36.0)
    kept = phonons(nearest_only, start, (2, 2, 2), mesh=(2, 2, 2), relax_first=None)
    moved = phonons(nearest_only, start, (2, 2, 2), mesh=(2, 2, 2))
    assert kept.structure.volume == pytest.approx(36.0)
    # 1e-3 GPa over a bulk modulus of 2 GPa
    assert moved.structure.volume == pytest.approx((3.4 * 2 ** (1 / 6)) ** 3 / 2**0.5, rel=1e-3)
    assert kept.bands.frequencies_thz.max() > 1.2 * moved.bands.frequencies_thz.max()


def test_bad_input_is_refused(silicon, nearest_only, foreign):
    crystal = Structure.from_ase(bulk("Ar"))
    with pytest.raises(BadInput, match="displacement"):
        phonons(nearest_only, crystal, displacement=0.0)
    with pytest.raises(BadInput, match="mesh"):
        phonons(nearest_only, crystal, mesh=(0, 2, 2))
    with pytest.raises(UnsuitableStructure, match="crystal"):
        phonons(nearest_only, Structure(np.array([18]), np.zeros((1, 3))))
    with pytest.raises(BadInput, match="temperatures"):
        thermal_properties(silicon, [-1.0])
    with pytest.raises(CalculationFailed, match="before displacing.*SCF"):
        phonons(foreign(nearest_only, fail_at=1), crystal)
    with pytest.raises(CalculationFailed, match="SCF"):
        phonons(foreign(nearest_only, fail_at=1), crystal, relax_first=None)
