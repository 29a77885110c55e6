"""The suite catches what it is for: each planted fault fails the check that should see it."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from karat.core.errors import BadInput, UnknownKey
from karat.potentials.batch import Batch
from karat.potentials.conformance import CHECKS, make_subject, run_check, run_conformance
from karat.potentials.native_protocol import AbstractNativePotential, NativePotential, Outputs
from karat.potentials.protocol import AbstractPotential, Traits, check_suitable
from karat.structures.labels import Labels, Quantity
from karat.structures.neighbours import neighbour_pairs
from karat.structures.structure import Structure

CUTOFF = 5.0
NATIVE_ONLY = {"padding", "longer_neighbour_list", "rows_as_in_dynamics"}


@dataclass
class Springs(AbstractPotential):
    """E = Σ over pairs of w (r - 2.4)² (1 - r/5)⁴ in NumPy, with one fault at will."""

    fault: str = ""
    calls: int = 0

    @property
    def traits(self) -> Traits:
        return Traits(
            species=(6, 14),
            periodic=True,
            molecules=True,
            quantities=("energy", "forces", "stress"),
            cutoff=CUTOFF,
            continuity=99 if self.fault == "overstated continuity" else 3,
        )

    def predict(
        self, structures: Sequence[Structure], want: Sequence[Quantity] = ("energy", "forces")
    ) -> list[Labels]:
        self.calls += 1
        if self.fault != "accepts anything":
            for structure in structures:
                check_suitable(self, structure, want)
        if self.fault == "mutates its input":
            array = structures[0].positions
            array.setflags(write=True)
            array[0, 0] += 0.01
            array.setflags(write=False)
        labels = [self.one(structure) for structure in structures]
        return labels[::-1] if self.fault == "mixes up a batch" else labels

    def one(self, structure: Structure) -> Labels:
        pairs = neighbour_pairs(structure, CUTOFF)
        vectors, centers, others = pairs.vectors, pairs.centers, pairs.neighbours
        if self.fault == "nearest image only":
            # of each ordered pair of atoms only the closest image
            lengths = np.linalg.norm(vectors, axis=1)
            order = np.lexsort((lengths, others, centers))
            keys = np.stack([centers, others], axis=1)[order]
            first = np.r_[True, (np.diff(keys, axis=0) != 0).any(axis=1)] if len(keys) else []
            chosen = order[first] if len(keys) else order
            vectors, centers, others = vectors[chosen], centers[chosen], others[chosen]
        r = np.linalg.norm(vectors, axis=1)
        weight = np.sqrt(structure.numbers[centers] * structure.numbers[others]) / 10
        if self.fault == "order of atoms":
            weight = weight * (1 + 0.01 * np.minimum(centers, others))
        x = 1 - r / CUTOFF
        jump = 1e-3 if self.fault == "energy jump" else 0.0
        kink = 1e-3 if self.fault == "force jump" else 0.0
        bend = 1e-2 if self.fault == "curvature jump" else 0.0
        energy = weight * ((r - 2.4) ** 2 * x**4 + kink * x + jump + bend * x**2)
        slope = weight * (2 * (r - 2.4) * x**4 - 4 / CUTOFF * (r - 2.4) ** 2 * x**3)
        slope -= weight / CUTOFF * (kink + 2 * bend * x)
        gradient = 0.5 * slope[:, None] * vectors / np.where(r == 0, 1, r)[:, None]
        forces = np.zeros((len(structure), 3))
        np.add.at(forces, centers, gradient)
        np.add.at(forces, others, -gradient)
        total = 0.5 * float(energy.sum())
        virial = vectors.T @ gradient
        return self._spoil(structure, total, forces, virial)

    def _spoil(self, structure: Structure, total: float, forces, virial) -> Labels:
        stress = None
        if structure.periodic.all():
            volume = structure.volume
            if self.fault == "signed volume":
                volume = float(np.linalg.det(structure.cell))
            stress = virial / volume
        match self.fault:
            case "force sign":
                forces = -forces
            case "force factor":
                forces = 1.001 * forces
            case "stress factor" if stress is not None:
                stress = 2 * stress
            case "stress sign" if stress is not None:
                stress = -stress
            case "absolute position":
                total += 1e-4 * float(np.sum(structure.positions[:, 0] ** 2))
                forces = forces - 2e-4 * structure.positions * np.array([1, 0, 0])
            case "fixed axis":
                spread = structure.positions - structure.positions.mean(axis=0)
                total += 1e-3 * float(np.sum(spread[:, 2] ** 2))
                forces = forces - 2e-3 * spread * np.array([0, 0, 1])
            case "handedness":
                a, b, c, d = np.resize(structure.positions, (4, 3))
                total += 1e-3 * float(np.dot(np.cross(b - a, c - a), d - a))
            case "remembers":
                total += 1e-3 * self.calls
            case "not a number" if len(structure) == 1:
                total = float("nan")
            case "not extensive":
                total += 0.01
        return Labels(energy=total, forces=forces, stress=stress)


def failed(outcomes):
    return {outcome.check for outcome in outcomes if outcome.status == "failed"}


def test_nothing_fails_without_a_fault():
    outcomes = run_conformance(Springs())
    assert failed(outcomes) == set()
    skipped = {outcome.check for outcome in outcomes if outcome.status == "skipped"}
    assert skipped == NATIVE_ONLY
    assert [outcome.check for outcome in outcomes] == list(CHECKS)


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        ("force sign", "forces_are_gradient"),
        ("force sign", "nve_keeps_energy"),
        ("force factor", "forces_are_gradient"),
        ("force factor", "nve_keeps_energy"),
        ("stress factor", "stress_is_strain_derivative"),
        ("stress sign", "stress_is_strain_derivative"),
        ("signed volume", "left_handed_cell"),
        ("signed volume", "stress_is_strain_derivative"),
        ("absolute position", "translation"),
        ("fixed axis", "rotation"),
        ("handedness", "reflection"),
        ("order of atoms", "permutation"),
        ("nearest image only", "small_cells"),
        ("not extensive", "supercell"),
        ("not a number", "one_atom"),
        ("mixes up a batch", "batch_equals_single"),
        ("mutates its input", "input_unchanged"),
        ("remembers", "input_unchanged"),
        ("accepts anything", "refusals"),
        ("energy jump", "cutoff_continuity"),
        ("force jump", "cutoff_continuity"),
        ("curvature jump", "cutoff_continuity"),
    ],
)
def test_fault_fails_its_check(fault, check):
    potential = Springs(fault)
    if fault == "signed volume" and check == "stress_is_strain_derivative":
        subject = make_subject(potential)
        crystal = subject.crystals[0]
        left = crystal.replace(cell=crystal.cell[[1, 0, 2]])
        outcome = run_check(check, dataclasses.replace(subject, crystals=(left,)))
    else:
        outcome = run_check(check, make_subject(potential))
    assert outcome.status == "failed", outcome


@pytest.mark.parametrize("fault", ["force factor", "stress factor"])
def test_fault_fails_nothing_unrelated(fault):
    unrelated = {"translation", "permutation", "left_handed_cell", "small_cells", "refusals"}
    assert failed(run_conformance(Springs(fault), checks=sorted(unrelated))) == set()


class LeakyModule(AbstractNativePotential):
    """Σ over pairs of (1 - r/4)², without masks (`padding`), without an end (`range`), or twice
    where pairs are in rows (`rows`)."""

    fault: str = eqx.field(static=True)
    cutoff: float = eqx.field(static=True, default=4.0)
    species: tuple[int, ...] = eqx.field(static=True, default=(14,))
    continuity: int = eqx.field(static=True, default=1)
    needs_triplets: bool = eqx.field(static=True, default=False)

    def evaluate(self, batch: Batch) -> Outputs:
        r = jnp.sqrt(jnp.sum(batch.vectors**2, axis=-1))
        energy = (1 - r / self.cutoff) ** 2
        if self.fault != "range":
            energy = jnp.where(r < self.cutoff, energy, 0)
        energy = jnp.where(batch.pair_mask, energy, 0)
        own = jax.ops.segment_sum(energy, batch.centers, num_segments=batch.atoms)
        if self.fault == "rows" and batch.width is not None:
            own = 2 * own
        alone = jnp.ones_like(own)
        if self.fault != "padding":
            alone = jnp.where(batch.atom_mask, alone, 0)
        return Outputs(own + alone)


@pytest.mark.parametrize(
    ("fault", "check"),
    [("padding", "padding"), ("range", "longer_neighbour_list"), ("rows", "rows_as_in_dynamics")],
)
def test_native_fault_fails_its_check(fault, check):
    subject = make_subject(NativePotential(LeakyModule(fault)))
    assert run_check(check, subject).status == "failed"
    for other in NATIVE_ONLY - {check}:
        assert run_check(other, subject).status == "passed"


def test_asks_for_structures_where_none_can_be_made():
    class Anything(Springs):
        @property
        def traits(self) -> Traits:
            return dataclasses.replace(Springs().traits, species=None)

    with pytest.raises(BadInput, match="give structures"):
        make_subject(Anything())


def test_unknown_check_is_named():
    with pytest.raises(UnknownKey, match="did you mean 'rotation'"):
        run_check("rotations", make_subject(Springs()))


def test_outcomes_repeat():
    assert run_conformance(Springs(), seed=5) == run_conformance(Springs(), seed=5)
