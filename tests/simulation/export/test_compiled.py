"""Calls with a kept list equal fresh predictions, whatever moves, wraps or strains."""

import numpy as np
import pytest

from karat.core.errors import CalculationFailed
from karat.potentials.analytic.lennard_jones import LennardJones
from karat.potentials.karat_file import load
from karat.simulation.export.compiled import CompiledNative, Predicting, make_evaluator


def check(evaluator, potential, structure):
    """Same sums in another order: 1e-10 of energies near -1e3 eV."""
    periodic = structure.periodic.all()
    want = ("energy", "forces", "stress") if periodic else ("energy", "forces")
    expected = potential.predict([structure], want)[0]
    found = evaluator(structure.positions, structure.cell)
    assert found.energy == pytest.approx(expected.energy, abs=1e-9)
    np.testing.assert_allclose(found.forces, expected.forces, atol=1e-10)
    if periodic:
        np.testing.assert_allclose(found.virial, expected.stress * structure.volume, atol=1e-9)


def test_walk_with_wrapping_and_strain(argon_options, mixture):
    """100 random steps through several rebuilds; cell strained, atoms wrapped at random."""
    potential = LennardJones(**argon_options).load()
    evaluator = make_evaluator(potential, mixture)
    assert isinstance(evaluator, CompiledNative)
    rng = np.random.default_rng(0)
    positions, cell = np.array(mixture.positions), np.array(mixture.cell)
    for step in range(100):
        positions = positions + rng.normal(0, 0.02, positions.shape)
        if step % 3 == 0:
            strain = np.eye(3) + rng.normal(0, 0.003, (3, 3))
            positions, cell = positions @ strain, cell @ strain
        wrapped = positions + rng.integers(-2, 3, positions.shape) @ cell
        check(evaluator, potential, mixture.replace(positions=wrapped, cell=cell))
    assert 3 < evaluator.builds < 60


def test_list_is_kept_while_it_holds(argon_options, mixture):
    potential = LennardJones(**argon_options).load()
    evaluator = CompiledNative(potential, mixture)
    evaluator(mixture.positions, mixture.cell)
    shifted = mixture.positions + np.array([0.14, 0.14, 0.14])  # 0.2425 Å < 0.25 Å
    evaluator(shifted + mixture.cell[1], mixture.cell)
    assert evaluator.builds == 1
    evaluator(mixture.positions + np.array([0.15, 0.15, 0.15]), mixture.cell)
    assert evaluator.builds == 2


def test_small_cell_and_slab(argon_options, mixture):
    """Atoms that see several images of themselves; two periodic directions."""
    potential = LennardJones(**argon_options).load()
    few = mixture.replace(
        numbers=np.array([10, 18]),
        positions=np.array([[0.0, 0, 0], [2.4, 2.3, 2.35]]),
        cell=np.array([[0.0, 3.7, 3.7], [3.7, 0, 3.7], [3.7, 3.7, 0]]),
    )
    slab = mixture.replace(
        cell=mixture.cell * np.array([[1.0], [1], [0]]), periodic=np.array([True, True, False])
    )
    for structure in (few, slab):
        evaluator = CompiledNative(potential, structure)
        for shift in (0.0, 0.1, 0.4):
            moved = np.array(structure.positions)
            moved[0] += shift
            check(evaluator, potential, structure.replace(positions=moved))


def test_molecule_lists_every_pair_once(network_file, molecule):
    potential = load(network_file((1, 6, 8)))
    evaluator = CompiledNative(potential, molecule)
    rng = np.random.default_rng(2)
    for scale in (0.0, 0.1, 2.0):
        moved = molecule.positions + rng.normal(0, scale, molecule.positions.shape)
        check(evaluator, potential, molecule.replace(positions=moved))
    assert evaluator.builds == 1


def test_other_potentials_are_asked(argon_options, mixture):
    from karat.potentials.external.ase_potential import Ase

    springs = Ase(
        calculator="ase.calculators.lj:LennardJones",
        arguments={"sigma": 3.4, "epsilon": 0.01, "rc": 6.0, "smooth": True},
    ).load()
    evaluator = make_evaluator(springs, mixture, virial=True)
    assert isinstance(evaluator, Predicting)
    check(evaluator, springs, mixture)


def test_explosions_are_said(argon_options, mixture):
    potential = LennardJones(**argon_options).load()
    evaluator = CompiledNative(potential, mixture)
    broken = np.array(mixture.positions)
    broken[5] = np.nan
    with pytest.raises(CalculationFailed, match="exploded"):
        evaluator(broken, mixture.cell)
