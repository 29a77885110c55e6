import dataclasses

import numpy as np
import pytest
from ase.build import bulk
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS, FIRE
from ase.units import GPa

from karat.core.errors import BadInput, CalculationFailed, UnknownElement, UnsuitableStructure
from karat.potentials.analytic.stillinger_weber import StillingerWeber
from karat.simulation import batched_relax
from karat.simulation.batched_call import BatchedCall
from karat.simulation.batched_relax import (
    RelaxedStructure,
    RelaxSettings,
    _pull,
    _Task,
    relax_batch,
)
from karat.simulation.fire import fire_start, fire_step
from karat.simulation.strain import crystal_symmetry, strained
from karat.structures.structure import Structure


@pytest.fixture(scope="module")
def silicon():
    return StillingerWeber("Si").load()


def matscipy_calculator():
    from matscipy.calculators.manybody import Manybody
    from matscipy.calculators.manybody.explicit_forms import StillingerWeber as Form
    from matscipy.calculators.manybody.explicit_forms.stillinger_weber import (
        Stillinger_Weber_PRB_31_5262_Si,
    )

    return Manybody(**Form(Stillinger_Weber_PRB_31_5262_Si))


def rattled(seed, size=0.05, strain=0.02, lattice=5.5):
    """Cubic silicon of eight atoms, its atoms and (symmetrically) its cell disturbed."""
    random = np.random.default_rng(seed)
    crystal = Structure.from_ase(bulk("Si", a=lattice, cubic=True))
    noise = random.uniform(-strain, strain, (3, 3))
    crystal = strained(crystal, 0.5 * (noise + noise.T))
    return crystal.replace(positions=crystal.positions + random.normal(0, size, (8, 3)))


def relaxed_by_ase(structure, force, pressure_gpa=None, constant_volume=False):
    atoms = structure.to_ase()
    atoms.calc = matscipy_calculator()
    target = atoms
    if pressure_gpa is not None:
        target = FrechetCellFilter(
            atoms, scalar_pressure=pressure_gpa * GPa, constant_volume=constant_volume
        )
    assert BFGS(target, logfile=None).run(fmax=force, steps=500)
    return atoms


def test_fire_makes_the_steps_of_ase(argon):
    potential = argon()
    starts = [
        Structure(np.full(3, 18), np.array([[0, 0, 0], [3.9, 0, 0], [1.9, 3.5, 0.1]])),
        Structure(np.full(2, 18), np.array([[0, 0, 0], [3.7, 0.2, 0]])),
    ]
    expected = []
    for start in starts:
        atoms = start.to_ase()
        atoms.calc = potential.calculator()
        FIRE(atoms, logfile=None).run(fmax=0.0, steps=60)
        expected.append(atoms.positions)
    state, here = fire_start(np.array([3, 2])), [start.positions for start in starts]
    for _ in range(60):
        moved = [start.replace(positions=rows) for start, rows in zip(starts, here)]
        forces = np.concatenate([labels.forces for labels in potential.predict(moved)])
        state, moves = fire_step(state, forces)
        here = [here[0] + moves[:3], here[1] + moves[3:]]
    # moves stay below the longest one, where the two programs shorten them differently
    np.testing.assert_allclose(np.concatenate(here), np.concatenate(expected), atol=1e-10)
    assert (state.downhill < 59).all()  # both went uphill at least once


def test_positions_only_against_ase_with_matscipy(silicon):
    starts = [rattled(seed) for seed in (1, 2)]
    found = relax_batch(silicon, starts, RelaxSettings(1e-4, 300, optimiser="fire"))
    for start, mine in zip(starts, found):
        atoms = relaxed_by_ase(start, 1e-5)
        # F²/2k with k near 10 eV/Å² on 8 atoms: below 1e-8 eV
        assert mine.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-7)
        np.testing.assert_array_equal(mine.structure.cell, start.cell)
        assert mine.max_force <= 1e-4
        assert mine.max_stress_gpa is None
        difference = mine.structure.positions - atoms.positions
        # the whole crystal is free to shift in neither program: forces add up to zero
        np.testing.assert_allclose(difference, 0, atol=1e-4)


@pytest.mark.slow  # the fast tests of elastic constants relax a cell too
@pytest.mark.parametrize(("cell", "pressure"), [("free", 0.0), ("free", 5.0), ("shape", 0.0)])
def test_cell_and_positions_against_ase_with_matscipy(silicon, cell, pressure):
    starts = [rattled(4)]
    settings = RelaxSettings(1e-4, 400, cell, 1e-3, pressure, optimiser="fire")
    for start, mine in zip(starts, relax_batch(silicon, starts, settings)):
        atoms = relaxed_by_ase(start, 1e-4, pressure, constant_volume=cell == "shape")
        # 1e-3 GPa over a bulk modulus of 100 GPa: 1e-5 of the volume, 1e-8 eV at zero pressure
        # and 5 GPa · 160 Å³ · 1e-5 = 5e-5 eV at 5 GPa
        assert mine.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-4)
        assert mine.structure.volume == pytest.approx(atoms.get_volume(), rel=3e-5)
        np.testing.assert_allclose(mine.structure.cell, atoms.cell, atol=5e-3)
        assert mine.max_stress_gpa <= 1e-3
        if cell == "shape":
            assert mine.structure.volume == pytest.approx(start.volume, rel=1e-12)


@pytest.mark.slow
def test_silicon_finds_its_lattice_constant(silicon):
    found = relax_batch(silicon, [rattled(6)], RelaxSettings(1e-5, 500, "free", 1e-4))[0]
    # ε and σ fix both: -2 ε per atom up to what A and B were rounded to; a = 5.431 Å
    assert found.energy / 8 == pytest.approx(-2 * 2.1683, abs=1e-4)
    assert found.structure.volume ** (1 / 3) == pytest.approx(5.431, abs=1e-3)


def test_gradient_with_respect_to_the_cell_is_exact(silicon):
    start = rattled(7)
    task = _Task(0, start, 0, 2.3, None)
    random = np.random.default_rng(8)
    twist = random.normal(0, 0.1, (3, 3))
    rows = np.concatenate([start.positions, twist + twist.T])
    settings = RelaxSettings(cell="free", pressure_gpa=3.0)

    def enthalpy(rows):
        here = task.at(rows)
        energy = silicon.predict([here])[0].energy
        return energy + 3.0 * GPa * here.volume

    labels = silicon.predict([task.at(rows)], ("energy", "forces", "stress"))[0]
    pull = _pull(task, rows, task.at(rows), labels, settings).rows
    for _ in range(4):
        way = random.normal(0, 1, rows.shape)
        way[-3:] = way[-3:] + way[-3:].T
        slope = (enthalpy(rows + 1e-4 * way) - enthalpy(rows - 1e-4 * way)) / 2e-4
        # truncation h² and rounding 1e-12/h of slopes near 10 eV/Å
        assert slope == pytest.approx(-np.sum(pull * way), abs=1e-4)


def test_symmetry_is_kept_where_it_is_asked_for(argon):
    # simple cubic argon is a saddle: left alone, noise grows and it falls into another crystal
    cubic = Structure.from_ase(bulk("Ar", "sc", a=3.8).repeat((2, 2, 2)))
    noise = np.random.default_rng(9).normal(0, 0.02, (8, 3))
    start = cubic.replace(positions=cubic.positions + noise)
    free = RelaxSettings(1e-4, 800, "free", 1e-3, optimiser="fire")
    held = dataclasses.replace(free, keep_symmetry=True, symmetry_tolerance=0.2)
    kept = relax_batch(argon(), [start], held)[0]
    gone = relax_batch(argon(), [start], free)[0]
    assert crystal_symmetry(kept.structure, 1e-6).number == 221
    assert gone.energy < kept.energy - 0.05  # six neighbours against twelve, ε/2 each


def test_symmetry_operations_carry_the_crystal_onto_itself():
    quartz = bulk("Si", "diamond", a=5.43).repeat((2, 1, 1))
    crystal = Structure.from_ase(quartz)
    symmetry = crystal_symmetry(crystal)
    assert symmetry.number == 227
    assert len(symmetry.rotations) == 2 * 48 // 4  # what the longer cell leaves
    turned = np.einsum("gij,aj->gai", symmetry.rotations, crystal.positions) + symmetry.shifts
    np.testing.assert_allclose(turned, crystal.positions[symmetry.images], atol=1e-10)
    squares = np.einsum("gij,gkj->gik", symmetry.rotations, symmetry.rotations)
    np.testing.assert_allclose(squares, np.broadcast_to(np.eye(3), squares.shape), atol=1e-12)
    np.testing.assert_allclose(symmetry.symmetric_tensor(np.diag([1.0, 2, 6])), 3 * np.eye(3))


def test_batched_equals_alone(argon):
    crystal = Structure.from_ase(bulk("Ar", a=5.3, cubic=True))
    random = np.random.default_rng(10)
    starts = [
        crystal.replace(positions=crystal.positions + random.normal(0, size, (4, 3)))
        for size in (0.01, 0.3, 0.1)
    ]
    settings = RelaxSettings(1e-4, 400, "free", 1e-3, optimiser="fire")
    together = relax_batch(argon(), starts, settings)
    assert len({mine.steps for mine in together}) > 1
    for start, mine in zip(starts, together):
        alone = relax_batch(argon(), [start], settings)[0]
        assert alone.steps == mine.steps
        # rounding in sums of another order, carried through some hundred steps
        np.testing.assert_allclose(alone.structure.positions, mine.structure.positions, atol=1e-9)


def test_places_that_become_free_are_taken(argon, monkeypatch):
    monkeypatch.setattr(batched_relax, "ATOMS_PER_BATCH", 5)
    distances = np.linspace(3.5, 4.5, 9)
    pairs = [Structure(np.full(2, 18), np.array([[0, 0, 0], [0, 0, d]])) for d in distances]
    found = relax_batch(argon(), pairs, RelaxSettings(1e-6, 400))
    for mine in found:
        length = np.linalg.norm(mine.structure.positions[1] - mine.structure.positions[0])
        # 1e-6 eV/Å over 57 ε/σ² = 0.05 eV/Å²; r = 2^(1/6) σ, where no switch acts yet
        assert length == pytest.approx(3.4 * 2 ** (1 / 6), abs=3e-5)
        assert mine.energy == pytest.approx(-0.0104, abs=1e-9)


def test_remembered_pairs_are_never_missed(argon):
    potential = argon(cutoff=5.0)
    call = BatchedCall(potential, ("energy", "forces", "stress"))
    random = np.random.default_rng(19)
    first = second = Structure.from_ase(bulk("Ar", a=6.0, cubic=True))
    for step in range(8):
        # atoms wander past the skin, and the cell shrinks by a fifth under them
        first = first.replace(positions=first.positions + random.normal(0, 0.15, (4, 3)))
        second = strained(second, np.diag([-0.03, -0.02, -0.03]))
        keys, here = ([7, 3], [first, second]) if step % 3 else ([3], [second])
        expected = potential.predict(here, ("energy", "forces", "stress"))
        for mine, other in zip(call.labels(keys, here), expected):
            # the same pairs, summed in the same order; rounding of shifted vectors
            assert mine.energy == pytest.approx(other.energy, abs=1e-9)
            np.testing.assert_allclose(mine.forces, other.forces, atol=1e-8)
            np.testing.assert_allclose(mine.stress, other.stress, atol=1e-9)


def test_a_failure_costs_no_other(argon):
    crystal = Structure.from_ase(bulk("Ar", a=5.3, cubic=True))
    random = np.random.default_rng(16)
    good = crystal.replace(positions=crystal.positions + random.normal(0, 0.05, (4, 3)))
    slow = crystal.replace(positions=crystal.positions + random.normal(0, 0.5, (4, 3)))
    on_top = crystal.replace(positions=crystal.positions * 0)
    molecule, silicon = Structure(np.full(2, 18), np.eye(3)[:2] * 3), Structure.from_ase(bulk("Si"))
    settings = RelaxSettings(1e-3, 10, "free", 0.01)  # two of them need 3, one 17
    found = relax_batch(argon(), [silicon, good, molecule, slow, on_top, good], settings)
    assert isinstance(found[0], UnknownElement)
    assert isinstance(found[2], UnsuitableStructure)
    assert isinstance(found[3], CalculationFailed)
    assert found[3].kind == "not-converged"
    assert "after 10 steps" in str(found[3])
    assert isinstance(found[4], CalculationFailed)
    assert found[4].kind == "not-finite"
    assert isinstance(found[1], RelaxedStructure)
    assert found[1].energy == pytest.approx(found[5].energy, abs=1e-10)


def test_what_the_potential_raises_is_listed(argon, foreign):
    pair = Structure(np.full(2, 18), np.array([[0, 0, 0], [3.9, 0, 0]]))
    found = relax_batch(foreign(argon(), fail_at=3), [pair, pair], RelaxSettings(1e-6))
    assert [error.kind for error in found] == ["not-converged", "not-converged"]
    fine = relax_batch(foreign(argon()), [pair, pair], RelaxSettings(1e-5, 300))
    native = relax_batch(argon(), [pair, pair], RelaxSettings(1e-5, 300))
    np.testing.assert_allclose(
        fine[1].structure.positions, native[1].structure.positions, atol=1e-9
    )


def test_a_crystal_that_falls_apart_is_given_up(argon):
    settings = RelaxSettings(1e-3, 300, "free", pressure_gpa=-3.0)
    found = relax_batch(argon(), [Structure.from_ase(bulk("Ar"))], settings)[0]
    assert isinstance(found, CalculationFailed)
    assert found.kind == "ran-away"


@pytest.mark.parametrize(
    "wrong",
    [
        {"force_tolerance": 0.0},
        {"max_steps": 0},
        {"stress_tolerance_gpa": float("nan")},
        {"pressure_gpa": 1.0},
    ],
)
def test_bad_settings_are_refused(wrong):
    with pytest.raises(BadInput, match="relax_batch"):
        RelaxSettings(**wrong)


def test_nothing_to_relax_is_refused(silicon):
    with pytest.raises(BadInput, match="no structures"):
        relax_batch(silicon, [])
