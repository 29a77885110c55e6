import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.lj import LennardJones as AseLennardJones

from karat.core.errors import BadInput
from karat.potentials.analytic.lennard_jones import LennardJones
from karat.structures.structure import Structure

ARGON = LennardJones(
    epsilon_ev={"Ar": 0.0104},
    sigma_angstrom={"Ar": 3.4},
    cutoff_angstrom=7.0,
    onset_angstrom=6.9999999,
)


def dimer(distance):
    return Structure(
        numbers=np.array([18, 18]), positions=np.array([[0.0, 0, 0], [distance, 0, 0]])
    )


def test_dimer_is_exact():
    potential = ARGON.load()
    lowest = 2 ** (1 / 6) * 3.4
    at_well, at_zero = potential.predict([dimer(lowest), dimer(3.4)])
    # rounding of (σ/r)¹² is 1e-15 of ε
    assert at_well.energy == pytest.approx(-0.0104, abs=1e-15)
    np.testing.assert_allclose(at_well.forces, 0, atol=1e-15)
    assert at_zero.energy == pytest.approx(0, abs=1e-15)
    # F = 24 ε/σ at r = σ
    assert at_zero.forces[1, 0] == pytest.approx(24 * 0.0104 / 3.4, rel=1e-13)


def test_agrees_with_ase():
    atoms = bulk("Ar", "fcc", a=5.3, cubic=True)
    atoms.rattle(0.2, seed=4)
    atoms.set_cell(atoms.cell @ (np.eye(3) + [[0, 0.02, 0], [0, 0.01, 0.03], [0.01, 0, 0]]), True)
    structure = Structure.from_ase(atoms)
    batch = ARGON.load().batch([structure])
    distances = np.linalg.norm(batch.vectors, axis=1)[np.asarray(batch.pair_mask)]
    assert distances.max() < 6.9999999  # none within karat's narrow switch
    # ASE shifts each pair by its energy at the cut-off: count them to undo it
    atoms.calc = AseLennardJones(epsilon=0.0104, sigma=3.4, rc=7.0)
    labels = ARGON.load().predict([structure], ("energy", "forces", "stress"))[0]
    shift = len(distances) / 2 * 4 * 0.0104 * ((3.4 / 7) ** 12 - (3.4 / 7) ** 6)
    assert labels.energy == pytest.approx(atoms.get_potential_energy() + shift, abs=1e-12)
    np.testing.assert_allclose(labels.forces, atoms.get_forces(), atol=1e-12)
    np.testing.assert_allclose(labels.stress, atoms.get_stress(voigt=False), atol=1e-13)


def test_species_must_agree():
    with pytest.raises(BadInput, match="other elements"):
        LennardJones({"Ar": 1.0}, {"Kr": 1.0}, 5.0, 4.0).load()
    with pytest.raises(BadInput, match=r"onset_angstrom 5\.0 must lie between"):
        LennardJones({"Ar": 1.0}, {"Ar": 1.0}, 4.0, 5.0)
