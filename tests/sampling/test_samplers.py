import numpy as np
import pytest
from ase.build import bulk

from karat.core.components import dump, parse
from karat.core.errors import BadInput, UnsuitableStructure
from karat.potentials.analytic.lennard_jones import LennardJones
from karat.potentials.classical.rdkit_ff import Mmff94
from karat.sampling.catalogue import CATALOGUE
from karat.sampling.conformers import Conformers
from karat.sampling.dynamics import DynamicsSampler
from karat.sampling.protocol import AbstractSampler
from karat.sampling.rattle import Rattle
from karat.sampling.seeds import spawn_seeds
from karat.simulation.dynamics import Dynamics, run_dynamics
from karat.structures.builders import from_smiles
from karat.structures.structure import Structure


def argon():
    return LennardJones({"Ar": 0.0104}, {"Ar": 3.4}, 6.0, 5.0).load()


def cluster(stretch=1.0):
    corners = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1.0]])
    return Structure(np.full(4, 18), 1.35 * stretch * corners)


@pytest.mark.parametrize("name", CATALOGUE.members)
def test_every_sampler_is_a_component(name):
    sampler = CATALOGUE.resolve(name)()
    assert isinstance(sampler, AbstractSampler)
    assert parse(type(sampler), dump(sampler), name) == sampler


def test_seeds_are_distinct_and_do_not_depend_on_their_number():
    many = spawn_seeds(7, 50)
    assert len(set(many)) == 50
    assert spawn_seeds(7, 3) == many[:3]
    assert spawn_seeds(8, 3) != many[:3]


def test_dynamics_keeps_frames_after_equilibration():
    sampler = DynamicsSampler(
        temperature_k=30.0, steps=60, timestep_fs=4.0, every=20, equilibration_steps=40
    )
    starts = [cluster(), cluster(1.02)]
    selection = sampler.select(starts, argon(), seed=5)
    assert selection.failures == ()
    assert [c.frame for c in selection.candidates] == [0, 1, 2, 0, 1, 2]
    assert {c.kind for c in selection.candidates} == {"30K"}
    assert [c.group for c in selection.candidates] == ["30K-Ar4-0"] * 3 + ["30K-Ar4-1"] * 3
    assert len({c.name for c in selection.candidates}) == 6
    # the very frames of the verb: steps 60, 80, 100 of one run with this start's seed
    settings = Dynamics("langevin", 30.0, 4.0, 100, 20, 10.0, spawn_seeds(5, 2)[1])
    run = run_dynamics(argon(), starts[1], settings)
    for candidate, frame in zip(selection.candidates[3:], (3, 4, 5)):
        assert np.array_equal(candidate.structure.positions, run.positions[frame])


def test_dynamics_repeats_and_depends_on_the_seed():
    sampler = DynamicsSampler(temperature_k=30.0, steps=20, every=20, equilibration_steps=0)
    ends = [
        sampler.select([cluster()], argon(), seed).candidates[-1].structure.positions
        for seed in (1, 1, 2)
    ]
    assert np.array_equal(ends[0], ends[1])
    assert not np.array_equal(ends[0], ends[2])


def test_dynamics_lists_explosions_and_keeps_what_came_before():
    sampler = DynamicsSampler(
        temperature_k=300.0, steps=200, every=1, timestep_fs=60.0, equilibration_steps=0
    )
    selection = sampler.select([cluster(0.9), cluster()], argon(), seed=0)
    assert {failure.case for failure in selection.failures} <= {"300K-Ar4-0", "300K-Ar4-1"}
    assert selection.failures
    assert all(failure.kind in ("jump", "too-hot") for failure in selection.failures)
    assert len(selection.candidates) < 400
    for candidate in selection.candidates:
        assert np.isfinite(candidate.structure.positions).all()


def test_dynamics_lists_a_start_that_cannot_be_computed():
    broken = cluster(0.0)  # all atoms in one place: infinite energy
    sampler = DynamicsSampler(temperature_k=30.0, steps=20, every=20, equilibration_steps=0)
    selection = sampler.select([broken, cluster()], argon(), seed=0)
    assert [failure.kind for failure in selection.failures] == ["not-finite"]
    assert [candidate.group for candidate in selection.candidates] == ["30K-Ar4-1"]


def test_conformers_are_those_of_the_builder():
    start = from_smiles("CCCO", conformers=1, seed=3)[0]
    selection = Conformers(count=4).select([start, start], None, seed=9)
    expected = from_smiles("CCCO", conformers=4, seed=spawn_seeds(9, 1)[0])
    assert len(selection.candidates) == len(expected) >= 3
    for candidate, structure in zip(selection.candidates, expected):
        assert np.array_equal(candidate.structure.positions, structure.positions)
        assert (candidate.kind, candidate.group) == ("conformer", "conformer-CCCO")
        assert candidate.frame == -1


def test_conformers_can_be_relaxed_and_failures_are_listed():
    start = from_smiles("CCO", conformers=1, seed=3)[0]
    potential = Mmff94().load()
    relaxed = Conformers(count=2, relax=True, force_tolerance=0.005)
    for candidate in relaxed.select([start], potential, seed=1).candidates:
        forces = potential.predict([candidate.structure])[0].forces
        assert np.linalg.norm(forces, axis=1).max() <= 0.005
    hasty = Conformers(count=2, relax=True, force_tolerance=1e-9, max_steps=1)
    selection = hasty.select([start], potential, seed=1)
    assert selection.candidates == ()
    assert {failure.kind for failure in selection.failures} == {"not-converged"}


def test_rattle_moves_atoms_and_strains_the_cell_as_asked():
    start = Structure.from_ase(bulk("Si", cubic=True) * (2, 2, 2))
    selection = Rattle(amplitude_angstrom=0.05, strain=0.02, copies=40).select([start], None, 4)
    assert len(selection.candidates) == 40
    moves, strains = [], []
    for candidate in selection.candidates:
        deformation = np.linalg.solve(start.cell, candidate.structure.cell)
        np.testing.assert_allclose(deformation, deformation.T, atol=1e-12)
        strains.append(deformation - np.eye(3))
        moves.append(candidate.structure.positions - start.positions @ deformation)
    assert np.abs(strains).max() <= 0.02
    assert np.abs(strains).max() > 0.018
    # 7680 normal numbers: relative error of the deviation 0.8 %; 5 of them: false alarm 6e-7
    assert np.std(moves) == pytest.approx(0.05, rel=0.04)
    again = Rattle(amplitude_angstrom=0.05, strain=0.02, copies=40).select([start], None, 4)
    assert np.array_equal(
        again.candidates[-1].structure.positions, selection.candidates[-1].structure.positions
    )


def test_settings_that_do_not_fit_are_refused():
    with pytest.raises(BadInput, match="needs a potential"):
        DynamicsSampler().select([cluster()], None, 0)
    with pytest.raises(BadInput, match="every"):
        DynamicsSampler(steps=10, every=20)
    with pytest.raises(BadInput, match="no potential to relax"):
        Conformers(relax=True).select([cluster()], None, 0)
    with pytest.raises(UnsuitableStructure, match="SMILES"):
        Conformers().select([cluster()], None, 0)
    with pytest.raises(UnsuitableStructure, match="strain"):
        Rattle(strain=0.1).select([cluster()], None, 0)
    with pytest.raises(BadInput, match="copies"):
        Rattle(copies=0)
