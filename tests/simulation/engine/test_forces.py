"""Forces from rows against `predict`: whole and in blocks, one system and several."""

import dataclasses

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from ase.build import bulk

from karat.potentials.analytic.stillinger_weber import StillingerWeber
from karat.potentials.analytic.zbl import Zbl
from karat.potentials.linear.ace import Ace
from karat.potentials.linear.snap import Snap
from karat.potentials.native_protocol import NativePotential
from karat.simulation.engine import plan as engine_plan
from karat.simulation.engine.forces import evaluate_rows
from karat.simulation.engine.rows import build_rows
from karat.simulation.engine.run import NativeRun
from karat.simulation.loop import Dynamics
from karat.structures.structure import Structure

evaluate = eqx.filter_jit(evaluate_rows)
build = eqx.filter_jit(build_rows)


@pytest.fixture(autouse=True)
def uncompiled(monkeypatch):
    """Runs are made for their plans only."""
    monkeypatch.setattr(NativeRun, "_warm", lambda self: None)


def rattled(atoms, seed):
    atoms = atoms.copy()
    atoms.rattle(0.15, seed=seed)
    return Structure.from_ase(atoms)


SILICON = [bulk("Si", cubic=True) * (2, 3, 2), bulk("Si"), bulk("Si", cubic=True)]
SILICON[2].pbc = False


def forces_of(potential, structures):
    at_rest = [np.zeros((len(s), 3)) for s in structures]
    run = NativeRun(potential, structures, at_rest, Dynamics(), [0] * len(structures))
    systems, state = run.physics.systems, run.state
    rows = build(run._plan, run._grid, systems, state.high, state.cells)
    assert bool(rows.fits)
    found = evaluate(potential.module, run._plan, systems, rows, state.high, state.cells)
    return found, run._plan


@pytest.mark.parametrize("block_pairs", [300, 10**9])
@pytest.mark.parametrize("name", ["silicon", "repulsion", "bpnn"])
def test_predict_gives_the_same(name, block_pairs, monkeypatch, make_bpnn):
    monkeypatch.setattr(engine_plan, "BLOCK_PAIRS", block_pairs)
    potential = {
        "silicon": lambda: StillingerWeber(preset="Si").load(),
        "repulsion": lambda: Zbl(("Si", "H"), 2.0, 4.0).load(),
        "bpnn": make_bpnn,
    }[name]()
    structures = [rattled(atoms, i) for i, atoms in enumerate(SILICON)]
    found, plan = forces_of(potential, structures)
    assert (plan.blocks > 1) == (block_pairs == 300)
    expected = potential.predict(structures[:2], ("energy", "forces", "stress"))
    expected += potential.predict(structures[2:])
    ends = np.cumsum([len(s) for s in structures])
    for i, (structure, labels, end) in enumerate(zip(structures, expected, ends)):
        own = np.asarray(found.forces)[end - len(structure) : end]
        # the same numbers in another order of sums
        np.testing.assert_allclose(own, labels.forces, rtol=0, atol=1e-11)
        energy = float(found.energies[i]) + potential.offset(structure)
        assert energy == pytest.approx(labels.energy, abs=1e-10)
        if labels.stress is not None:
            virial = np.asarray(found.virials[i])
            symmetric = 0.5 * (virial + virial.T) / structure.volume
            np.testing.assert_allclose(symmetric, labels.stress, rtol=0, atol=1e-12)
    assert float(jnp.abs(found.forces[-1]).max()) == 0
    assert float(found.energies[-1]) == 0


def test_a_potential_that_is_not_local_is_not_cut_into_blocks(springs, monkeypatch):
    monkeypatch.setattr(engine_plan, "BLOCK_PAIRS", 50)
    random = np.random.default_rng(0)
    structure = Structure(np.full(30, 6), random.normal(scale=3, size=(30, 3)))
    potential = springs(1.3)
    found, plan = forces_of(potential, [structure])
    assert plan.blocks > 1
    labels = potential.predict([structure])[0]
    np.testing.assert_allclose(np.asarray(found.forces)[:-1], labels.forces, rtol=0, atol=1e-11)


@pytest.mark.parametrize("model", [Ace({"Si": 3.0}, 4.5, (4, 4, 4)), Snap(twojmax=3, rcutfac=4.5)])
def test_linear_potentials_in_blocks(model, monkeypatch):
    """An atom's row is longer here than in the list; the last block is padded."""
    monkeypatch.setattr(engine_plan, "BLOCK_PAIRS", 300)
    module = model.basis((14,), "float64")
    drawn = np.random.default_rng(1).normal(size=module.coefficients.shape)
    module = eqx.tree_at(lambda m: m.coefficients, module, jnp.asarray(drawn))
    potential = NativePotential(module)
    structure = rattled(SILICON[0], 3)
    found, plan = forces_of(potential, [structure])
    assert plan.blocks > 1
    labels = potential.predict([structure], ("energy", "forces", "stress"))[0]
    size = max(1.0, np.abs(labels.forces).max())
    np.testing.assert_allclose(
        np.asarray(found.forces)[:-1], labels.forces, rtol=0, atol=1e-11 * size
    )
    stress = np.asarray(found.virials)[0] / structure.volume
    np.testing.assert_allclose(0.5 * (stress + stress.T), labels.stress, rtol=0, atol=1e-11 * size)


def test_rows_hold_triplets(make_bpnn):
    potential = make_bpnn(angular="g4")
    assert potential.module.needs_triplets
    structure = rattled(SILICON[0], 3)
    found, _ = forces_of(potential, [structure])
    labels = potential.predict([structure])[0]
    np.testing.assert_allclose(np.asarray(found.forces)[:-1], labels.forces, rtol=0, atol=1e-11)


def test_plans_are_equal_when_their_sizes_are():
    plan = engine_plan.Plan((1, 1, 1), 10, 4, 20, 50, 1)
    assert plan == dataclasses.replace(plan)
    assert hash(plan) == hash(dataclasses.replace(plan))
