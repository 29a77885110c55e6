"""Energies do not depend on frame, order of atoms or choice of cell; forces turn along."""

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from karat.core.errors import UnknownElement, UnsuitableStructure
from karat.potentials.conformance.outcome import Deviations, NotApplicable, name_of
from karat.potentials.conformance.subject import (
    Subject,
    lone_atom,
    permuted,
    repeat,
    small_cell,
)
from karat.structures.labels import Labels
from karat.structures.structure import Structure


def _compare(
    subject: Subject,
    worst: Deviations,
    structure: Structure,
    got: Labels,
    want: Labels,
    what: str,
) -> None:
    """Energy, forces and stress, as far as both have them."""
    place = f"{what}, {name_of(structure)}"
    assert want.energy is not None
    assert got.energy is not None
    tolerance = subject.energy_tolerance(structure, want.energy)
    worst.compare(f"energy under {place}, eV", got.energy, want.energy, tolerance)
    if want.forces is not None and got.forces is not None:
        declared = subject.potential.traits.force_tolerance
        worst.compare(f"forces under {place}, eV/Å", got.forces, want.forces, declared)
    if want.stress is not None and got.stress is not None:
        worst.compare(
            f"stress under {place}, eV/Å³", got.stress, want.stress, subject.stress_tolerance
        )


def _turned(subject: Subject, matrices: list[Float[np.ndarray, "3 3"]], what: str) -> str:
    """Positions x → x Rᵀ: forces likewise, stress R σ Rᵀ."""
    worst = Deviations()
    for structure in subject.structures:
        plain = subject.predict(structure)
        for matrix in matrices:
            turned = structure.replace(
                positions=structure.positions @ matrix.T, cell=structure.cell @ matrix.T
            )
            want = Labels(
                energy=plain.energy,
                forces=None if plain.forces is None else plain.forces @ matrix.T,
                stress=None if plain.stress is None else matrix @ plain.stress @ matrix.T,
            )
            _compare(subject, worst, structure, subject.predict(turned), want, what)
    return worst.text


def rotation(subject: Subject) -> str:
    """Energy is invariant under rotation, forces and stress turn along."""
    rng = subject.random("rotation")
    return _turned(subject, [Rotation.random(rng=rng).as_matrix()], "rotation")


def reflection(subject: Subject) -> str:
    """Energy is invariant under reflection at a plane and at the origin."""
    normal = subject.random("reflection").standard_normal(3)
    normal /= np.linalg.norm(normal)
    mirror = np.eye(3) - 2 * np.outer(normal, normal)
    return _turned(subject, [mirror, -np.eye(3)], "reflection")


def permutation(subject: Subject) -> str:
    """The order of atoms means nothing."""
    if subject.potential.traits.fixed_atoms:
        raise NotApplicable("declares that it knows its atoms in one order only")
    worst = Deviations()
    rng = subject.random("permutation")
    for structure in subject.structures:
        order = rng.permutation(len(structure))
        plain = subject.predict(structure)
        want = Labels(
            energy=plain.energy,
            forces=None if plain.forces is None else plain.forces[order],
            stress=plain.stress,
        )
        got = subject.predict(permuted(structure, order))
        _compare(subject, worst, structure, got, want, "permutation")
    return worst.text


def translation(subject: Subject) -> str:
    """A common shift, and lattice vectors added to single atoms, change nothing."""
    worst = Deviations()
    rng = subject.random("translation")
    for structure in subject.structures:
        plain = subject.predict(structure)
        shifted = structure.replace(positions=structure.positions + rng.uniform(-7, 7, 3))
        _compare(subject, worst, structure, subject.predict(shifted), plain, "translation")
        if structure.periodic.any():
            images = rng.integers(-2, 3, (len(structure), 3)) * structure.periodic
            moved = structure.replace(positions=structure.positions + images @ structure.cell)
            _compare(
                subject, worst, structure, subject.predict(moved), plain, "lattice translation"
            )
    return worst.text


def left_handed_cell(subject: Subject) -> str:
    """Two lattice vectors exchanged, or one turned round: the same crystal."""
    worst = Deviations()
    for structure in subject.need_crystals():
        if not structure.periodic.all():
            continue
        plain = subject.predict(structure)
        cell = structure.cell
        for other in (cell[[1, 0, 2]], cell * np.array([[1.0], [1.0], [-1.0]])):
            got = subject.predict(structure.replace(cell=other))
            _compare(subject, worst, structure, got, plain, "change of handedness")
    if not worst.text:
        raise NotApplicable("no structure repeats in three directions")
    return worst.text


def _compare_supercell(
    subject: Subject, worst: Deviations, cell: Structure, times: tuple[int, int, int]
) -> None:
    """Energy n-fold, forces and stress those of the cell."""
    large = repeat(cell, times)
    copies = int(np.prod(times))
    plain, got = subject.predict(cell), subject.predict(large)
    assert plain.energy is not None
    want = Labels(
        energy=copies * plain.energy,
        forces=None if plain.forces is None else np.tile(plain.forces, (copies, 1)),
        stress=plain.stress,
    )
    _compare(subject, worst, large, got, want, f"{'×'.join(map(str, times))} supercell")


def supercell(subject: Subject) -> str:
    """A supercell has n times the energy, the same forces and the same stress."""
    if subject.potential.traits.fixed_atoms:
        raise NotApplicable("declares that it knows one number of atoms only")
    worst = Deviations()
    for structure in subject.need_crystals():
        times = [2 if repeats else 1 for repeats in structure.periodic]
        times[2] = 1 if sum(times) > 4 else times[2]
        _compare_supercell(subject, worst, structure, (times[0], times[1], times[2]))
    return worst.text


def small_cells(subject: Subject) -> str:
    """A cell so small that atoms see several images of each other equals a large supercell."""
    traits = subject.potential.traits
    subject.need_crystals()
    if traits.fixed_atoms:
        raise NotApplicable("declares that it knows one number of atoms only")
    if traits.cutoff is None:
        raise NotApplicable("declares no cut-off, so no cell is large")
    cell = small_cell(tuple(sorted({int(z) for z in subject.crystals[0].numbers})), subject.spacing)
    heights = 1 / np.linalg.norm(np.linalg.inv(cell.cell), axis=0)
    times = [int(n) for n in np.ceil(1.01 * traits.cutoff / heights)]
    worst = Deviations()
    try:
        _compare_supercell(subject, worst, cell, (times[0], times[1], times[2]))
    except UnsuitableStructure as error:
        raise NotApplicable(f"refuses the cell: {error}") from error
    return worst.text


def one_atom(subject: Subject) -> str:
    """A lone atom has a finite energy and no force, also in a batch with others."""
    if subject.potential.traits.fixed_atoms:
        raise NotApplicable("declares that it knows one number of atoms only")
    atom = lone_atom(subject)
    try:
        labels = subject.predict(atom)
    except (UnsuitableStructure, UnknownElement) as error:
        raise NotApplicable(f"refuses a lone atom: {error}") from error
    worst = Deviations()
    assert labels.energy is not None
    tolerance = subject.energy_tolerance(atom, labels.energy)
    if labels.forces is not None:
        declared = subject.potential.traits.force_tolerance
        worst.compare("forces of a lone atom, eV/Å", labels.forces, 0.0, declared)
    mixed = subject.energies([subject.structures[0], atom])[1]
    worst.compare("energy of a lone atom in a batch, eV", mixed, labels.energy, tolerance)
    return worst.text
