"""Forces that are predicted and are not the gradient of the energy: taken wherever forces are
used, and labelled wherever potentials say what they are."""

import ase.build
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from karat.core.errors import BadInput, UnsuitableStructure
from karat.core.units import ACCELERATION
from karat.data.dataset import Dataset, Record
from karat.potentials.committee_module import stack
from karat.potentials.conformance import CHECKS, make_subject, run_check
from karat.potentials.conformance.architecture import (
    ARCHITECTURE_CHECKS,
    random_potential,
    run_architecture_check,
)
from karat.potentials.native.painn import Painn, PainnDirect
from karat.potentials.native_protocol import (
    AbstractNativePotential,
    NativePotential,
    Outputs,
    derive_compiled,
)
from karat.potentials.sum_potential import SummedPotential, add_potentials
from karat.simulation.batched_relax import RelaxSettings, relax_batch
from karat.simulation.dynamics import run_dynamics
from karat.simulation.export.compiled import make_evaluator
from karat.simulation.loop import Dynamics
from karat.simulation.relax import relax
from karat.simulation.velocities import masses
from karat.structures.labels import Labels, LevelOfTheory
from karat.structures.structure import Structure
from karat.training.settings import TrainingSettings
from karat.training.trainer import check_forces, train

SIZE = {"cutoff_angstrom": 3.0, "channels": 6, "interactions": 2, "radial_functions": 5}
DIRECT, TWIN = PainnDirect(**SIZE), Painn(**SIZE)


def rattled(atoms: ase.Atoms, seed: int) -> Structure:
    atoms = atoms.copy()
    atoms.positions += np.random.default_rng(seed).normal(scale=0.1, size=(len(atoms), 3))
    return Structure.from_ase(atoms)


WATERS = [rattled(ase.build.molecule("H2O"), seed) for seed in range(14)]
CRYSTAL = rattled(ase.build.bulk("NaCl", "rocksalt", a=5.0), 1)


@pytest.fixture(scope="module")
def direct():
    return random_potential(DIRECT, WATERS)


def test_traits_say_so(direct):
    assert not direct.traits.conservative
    assert direct.traits.quantities == ("energy", "forces")
    assert not DIRECT.card.conservative
    twin = random_potential(TWIN, WATERS)
    assert twin.traits.conservative
    assert twin.traits.quantities == ("energy", "forces", "stress")
    assert TWIN.card.conservative


@pytest.mark.parametrize("check", ARCHITECTURE_CHECKS)
def test_architecture(check, tmp_path):
    run_architecture_check(check, DIRECT, WATERS, tmp_path)


GRADIENT = {
    "forces_are_gradient",
    "stress_is_strain_derivative",
    "nve_keeps_energy",
    "cutoff_continuity",
}
FAST = GRADIENT | {"rotation", "padding", "refusals"}


@pytest.mark.parametrize(
    "check", [c if c in FAST else pytest.param(c, marks=pytest.mark.slow) for c in CHECKS]
)
def test_conformance(check, direct):
    """Everything but what needs a gradient, which does not apply."""
    outcome = run_check(check, make_subject(direct))
    assert outcome.status == ("skipped" if check in GRADIENT else "passed"), outcome


def test_forces_turn_with_the_molecule_and_come_from_the_head(direct):
    module, batch = direct.module, direct.batch(WATERS[:1])
    forces = direct.predict(WATERS[:1])[0].forces
    head = jax.tree.map(lambda x: 2 * x, module.force_head[1].context[-1])
    louder = eqx.tree_at(lambda m: m.force_head[1].context[-1], module, head)
    found = derive_compiled(louder, batch)
    np.testing.assert_allclose(found.forces[:3], 2 * forces, rtol=1e-12)
    # the last layer is linear, and no energy depends on it
    np.testing.assert_array_equal(found.energies, derive_compiled(module, batch).energies)
    # nothing makes them add up to zero
    assert np.abs(forces.sum(axis=0)).max() > 0.01 * np.abs(forces).max()


def work(potential, path):
    """Σ F · dr around a closed path by the trapezoidal rule, eV."""
    labels = potential.predict(path)
    steps = [b.positions - a.positions for a, b in zip(path, [*path[1:], path[0]])]
    means = [0.5 * (a.forces + b.forces) for a, b in zip(labels, [*labels[1:], labels[0]])]
    return sum(float(np.sum(force * step)) for force, step in zip(means, steps))


def test_work_along_a_closed_path(direct):
    """Of the gradient it is zero (periodic smooth functions: the rule converges exponentially);
    of direct forces it is what dynamics would gain in each turn."""
    start = WATERS[0].positions
    first, second = np.random.default_rng(7).normal(scale=0.1, size=(2, 3, 3))
    turns = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    path = [
        WATERS[0].replace(positions=start + np.cos(t) * first + np.sin(t) * second) for t in turns
    ]
    twin = random_potential(TWIN, WATERS)
    size = np.abs(twin.predict(path[:1])[0].forces).max()
    assert abs(work(twin, path)) < 1e-7 * size
    assert abs(work(direct, path)) > 1e-3 * np.abs(direct.predict(path[:1])[0].forces).max()


def labelled(structures):
    """Oxygen pulls at hydrogens, and they do not at it: no energy has such forces."""
    records = []
    for structure in structures:
        bonds = structure.positions[1:] - structure.positions[0]
        stretch = np.linalg.norm(bonds, axis=1, keepdims=True) - 0.8
        forces = np.concatenate([np.zeros((1, 3)), -5 * stretch * bonds])
        records.append(Record(structure, Labels(energy=-3.0, forces=forces)))
    return Dataset(tuple(records), LevelOfTheory("test"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    settings = TrainingSettings(epochs=60, batch_size=4, learning_rate=0.02, dtype="float64")
    folder = tmp_path_factory.mktemp("direct")
    return train(DIRECT, labelled(WATERS[:-2]), labelled(WATERS[-2:]), settings, folder)


def test_the_trainer_fits_the_forces_of_the_head(trained):
    errors = trained.curve.force_rmse
    assert errors[-1] < 0.5 * errors[0]
    found = trained.potential.predict(WATERS[-2:])
    wanted = labelled(WATERS[-2:]).labels
    difference = np.concatenate([a.forces - b.forces for a, b in zip(found, wanted)])
    assert 1e3 * np.sqrt(np.mean(difference**2)) == pytest.approx(
        errors[trained.best_epoch - 1], rel=1e-6
    )


def pressed(seed):
    """One structure with stress."""
    labels = Labels(energy=-1.0, forces=np.ones((2, 3)), stress=np.eye(3))
    crystal = rattled(ase.build.bulk("NaCl", "rocksalt", a=5.0), seed)
    return Dataset((Record(crystal, labels),), LevelOfTheory("test"))


def test_the_trainer_refuses_what_such_a_model_cannot_learn(tmp_path, direct):
    with pytest.raises(BadInput, match="not the gradient"):
        train(DIRECT, pressed(1), pressed(2), TrainingSettings(stress_weight=1.0), tmp_path)
    with pytest.raises(BadInput, match="force_weight is 0"):
        check_forces(direct.module, TrainingSettings(force_weight=0.0))


@pytest.mark.slow
def test_stress_labels_without_weight_do_no_harm(tmp_path):
    first, second = pressed(1), pressed(2)
    done = train(DIRECT, first, second, TrainingSettings(epochs=2), tmp_path)
    assert np.isfinite(done.curve.force_rmse).all()


def test_stress_is_refused():
    potential = random_potential(DIRECT, [CRYSTAL])
    with pytest.raises(UnsuitableStructure, match="does not predict stress"):
        potential.predict([CRYSTAL], ("stress",))
    assert np.isnan(derive_compiled(potential.module, potential.batch([CRYSTAL])).stress).all()
    pressed = Dynamics("langevin", barostat="isotropic", steps=2, every=1)
    with pytest.raises(UnsuitableStructure, match="does not predict stress"):
        run_dynamics(potential, CRYSTAL, pressed)


@pytest.mark.parametrize("structure", [WATERS[0], pytest.param(CRYSTAL, marks=pytest.mark.slow)])
def test_dynamics_moves_atoms_by_them(structure):
    """The first step of velocity Verlet from rest, ½ a Δt²."""
    potential = random_potential(DIRECT, [structure])
    settings = Dynamics(timestep_fs=0.2, steps=1, every=1)
    rest = np.zeros((len(structure), 3))
    found = run_dynamics(potential, structure, settings, velocities=rest)
    labels = potential.predict([structure])[0]
    assert found.potential_energies[0] == pytest.approx(labels.energy, abs=1e-9)
    expected = 0.5 * ACCELERATION * labels.forces / masses(structure)[:, None] * 0.2**2
    moved = found.positions[1] - found.positions[0]
    np.testing.assert_allclose(moved, expected, rtol=1e-9, atol=1e-14)


class Springs(AbstractNativePotential):
    """Energy zero everywhere, and forces that draw pairs to a distance of 1 Å."""

    cutoff: float = eqx.field(static=True, default=4.0)
    species: tuple[int, ...] = eqx.field(static=True, default=(1,))
    continuity: int = eqx.field(static=True, default=0)
    needs_triplets: bool = eqx.field(static=True, default=False)

    def evaluate(self, batch):
        distances = jnp.linalg.norm(batch.vectors, axis=1)
        pull = jnp.where(batch.pair_mask, (distances - 1) / distances, 0)
        forces = batch.sum_pairs(pull[:, None] * batch.vectors)
        return Outputs(jnp.zeros(batch.atoms, forces.dtype), forces=forces)

    @property
    def conservative(self):
        return False


def test_relaxation_ends_where_they_vanish():
    """By the gradient of this energy nothing would move."""
    start = Structure(np.array([1, 1]), np.array([[0.0, 0, 0], [1.4, 0.2, 0]]))
    potential = NativePotential(Springs())
    batched = [
        relax_batch(potential, [start], RelaxSettings(force_tolerance=1e-6, optimiser=name))[0]
        for name in ("lbfgs", "fire")
    ]
    for found in (relax(potential, start, force_tolerance=1e-6), *batched):
        apart = np.linalg.norm(np.diff(found.structure.positions, axis=0))
        assert apart == pytest.approx(1, abs=1e-5)


def test_exported_kernels_give_them(direct):
    labels = direct.predict(WATERS[:1])[0]
    answer = make_evaluator(direct, WATERS[0])(WATERS[0].positions, WATERS[0].cell)
    np.testing.assert_allclose(answer.forces, labels.forces, atol=1e-12)
    assert answer.virial is None


def test_committees_and_sums_keep_them(direct):
    other = random_potential(DIRECT, WATERS, seed=2)
    structure = WATERS[0]
    first, second = (p.predict([structure])[0].forces for p in (direct, other))
    names = {"embedding", *(f"output.0.{kind}" for kind in ("weight", "bias"))}
    modules = [direct.module, eqx.tree_at(lambda m: m.embedding, direct.module, replace_fn=_twice)]
    committee = NativePotential(stack(modules, names))
    assert not committee.traits.conservative
    members = [NativePotential(module).predict([structure])[0].forces for module in modules]
    found = committee.predict([structure])[0].forces
    np.testing.assert_allclose(found, np.mean(members, axis=0), atol=1e-12)
    both = add_potentials([direct, other])
    assert isinstance(both, SummedPotential)
    assert not both.traits.conservative
    np.testing.assert_allclose(both.predict([structure])[0].forces, first + second, atol=1e-12)


def _twice(array):
    return 2 * array
