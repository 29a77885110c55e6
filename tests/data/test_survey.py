"""The survey's columns against plain loops over one structure at a time."""

import dataclasses
import itertools
import tracemalloc

import numpy as np
import pytest
from ase.data import covalent_radii
from doctor_example import atoms, crystal_labels, crystals, every, molecules

from karat.data.contacts import HYDROGENS
from karat.data.sample import FRAMES
from karat.data.survey import survey

TURN = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))[0]


def mixed():
    """Molecules, crystals, atoms and faults, interleaved."""
    entries = molecules(8) + crystals(8) + atoms()
    entries[3] = dataclasses.replace(entries[3], energy=None)
    entries[9] = dataclasses.replace(entries[9], forces=entries[9].forces * np.nan)
    entries[11] = dataclasses.replace(entries[11], cell=np.zeros((3, 3)))
    order = np.random.default_rng(0).permutation(len(entries))
    return [entries[i] for i in order]


def nearest_ratio(entry):
    """Closest contact and the lower median of nearest neighbours, image by image."""
    shifts = [(0, 0, 0)]
    if entry.periodic.all():
        shifts = list(itertools.product((-1, 0, 1), repeat=3))
    best, each = np.inf, np.full(len(entry), np.inf)
    for i, j in itertools.product(range(len(entry)), repeat=2):
        radii = covalent_radii[entry.numbers[i]] + covalent_radii[entry.numbers[j]]
        for shift in shifts:
            if i == j and shift == (0, 0, 0):
                continue
            away = entry.positions[j] + np.array(shift) @ entry.cell - entry.positions[i]
            length = float(np.linalg.norm(away))
            each[i] = min(each[i], length / radii)
            hydrogens = entry.numbers[i] == entry.numbers[j] == 1
            best = min(best, length / (HYDROGENS if hydrogens else radii))
    return best, np.sort(each)[(len(entry) - 1) // 2]


def test_columns_against_plain_loops():
    entries = mixed()
    found = survey(entries)
    columns = found.columns
    assert found.names == [entry.name for entry in entries]
    for row, entry in enumerate(entries):
        assert columns.atoms[row] == len(entry)
        assert columns.composition[row].sum() == len(entry)
        assert columns.has_energy[row] == (entry.energy is not None)
        fine = not (entry.periodic.any() and not entry.cell.any())
        assert columns.fine_geometry[row] == fine
        if entry.forces is not None and np.isfinite(entry.forces).all():
            lengths = np.linalg.norm(entry.forces, axis=1)
            assert columns.force_max[row] == pytest.approx(lengths.max())
            assert columns.force_rms[row] == pytest.approx(np.sqrt((lengths**2).mean()))
            assert columns.net_force[row] < 1e-9
        assert columns.finite[row] == (
            entry.forces is None or bool(np.isfinite(entry.forces).all())
        )
        if fine and len(entry) > 1:
            best, middle = nearest_ratio(entry)
            assert columns.closest[row] == pytest.approx(best)
            assert columns.bond[row] == pytest.approx(middle)


def test_order_and_chunks_do_not_matter(monkeypatch):
    entries = mixed()
    whole = survey(entries)
    monkeypatch.setattr("karat.data.survey.CHUNK_ENTRIES", 3)
    pieces = survey(entries)
    for field in dataclasses.fields(whole.columns):
        one, two = (getattr(s.columns, field.name) for s in (whole, pieces))
        if field.name not in ("group", "kind", "level"):
            np.testing.assert_array_equal(one, two, err_msg=field.name)
    assert [whole.groups[i] for i in whole.columns.group] == [
        pieces.groups[i] for i in pieces.columns.group
    ]


def test_traces_differ_by_the_displacement():
    """To the 14 % that so few projections allow, on the average."""
    for base in (molecules(1)[0], crystals(1)[0]):
        ratios = []
        for seed in range(40):
            moved = np.random.default_rng(seed).normal(0, 0.01, base.positions.shape)
            moved -= moved.mean(axis=0)
            if not base.periodic.any():
                # without the turn of the whole
                arms = base.positions - base.positions.mean(axis=0)
                spin = np.linalg.lstsq(_spins(arms), moved.ravel(), rcond=None)[0]
                moved -= (_spins(arms) @ spin).reshape(-1, 3)
            other = dataclasses.replace(base, positions=base.positions + moved, name="moved")
            trace = survey([base, other]).columns.trace.astype(float)
            size = np.sqrt(np.square(moved).sum(axis=1).mean())
            ratios.append(np.linalg.norm(trace[1] - trace[0]) / size)
        assert 0.7 < np.mean(ratios) < 1.3
        assert np.min(ratios) > 0.4


def _spins(arms):
    return np.stack([np.cross(axis, arms).ravel() for axis in np.eye(3)], axis=1)


def test_traces_ignore_turns_shifts_and_wrapping():
    molecule, crystal = molecules(1)[0], crystals(2)[1]
    turned = every([molecule], lambda e: {"positions": e.positions @ TURN + 5.0})[0]
    wrapped = every(
        [crystal],
        lambda e: {
            "positions": (e.positions + 1.0 + np.arange(32)[:, None] * e.cell[0]) @ TURN,
            "cell": e.cell @ TURN,
        },
    )[0]
    for one, two in ((molecule, turned), (crystal, wrapped)):
        trace = survey([one, two]).columns.trace
        np.testing.assert_allclose(trace[0], trace[1], atol=2e-5)


def test_steps_of_harmonic_neighbours_are_exact():
    """Energy differences are the work of forces and stress, with an error of higher order."""
    base = crystals(2)[1]
    generator = np.random.default_rng(2)
    for size, allowed in ((2e-2, 4e-3), (1e-2, 1e-3), (5e-3, 2.5e-4)):
        strain = generator.normal(0, size / 7, (3, 3))
        cell = base.cell @ (np.eye(3) + strain)
        positions = base.positions @ (np.eye(3) + strain) + generator.normal(0, size, (32, 3))
        positions, cell = positions @ TURN, cell @ TURN
        energy, forces, stress = crystal_labels(positions, cell)
        changed = {"positions": positions, "cell": cell, "energy": energy, "forces": forces}
        other = dataclasses.replace(base, **changed, stress=stress, name="other")
        steps = survey([base, other]).steps
        assert steps.consecutive.tolist() == [True]
        wanted = steps.work + steps.strain_work
        assert steps.energy[0] == pytest.approx(wanted[0], abs=allowed)
        assert abs(steps.energy[0]) > 3 * allowed


def test_steps_of_turned_molecules():
    frames = molecules(3, every=1)
    turned = [
        frames[0],
        *every(frames[1:2], lambda e: {"positions": e.positions @ TURN, "forces": e.forces @ TURN}),
    ]
    if np.linalg.det(TURN) < 0:
        turned[1] = dataclasses.replace(
            turned[1], positions=-turned[1].positions, forces=-turned[1].forces
        )
    plain, after = survey(frames[:2]).steps, survey(turned).steps
    np.testing.assert_allclose(after.work, plain.work, rtol=1e-6)
    np.testing.assert_allclose(after.rmsd, plain.rmsd, rtol=1e-6)
    assert plain.energy[0] == pytest.approx(plain.work[0], abs=0.02 * plain.bend_size[0])


def test_only_frames_of_one_group_follow_each_other():
    frames = molecules(4)
    frames[2] = dataclasses.replace(frames[2], group="another")
    steps = survey(frames).steps
    assert [(i, j) for i, j, c in zip(steps.first, steps.second, steps.consecutive) if c] == [
        (0, 1)
    ]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_structures():
    """A few kB for each frame beyond those of the sample."""
    frame = molecules(1)[0]

    def frames(count):
        for number in range(count):
            shift = 1e-3 * np.sin(number + np.arange(27)).reshape(9, 3)
            yield dataclasses.replace(frame, positions=frame.positions + shift, name=str(number))

    survey(frames(10))
    peaks = []
    for count in (20 * FRAMES, 40 * FRAMES):
        tracemalloc.start()
        survey(frames(count))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert (peaks[1] - peaks[0]) / (20 * FRAMES) < 4000
