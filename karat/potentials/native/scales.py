"""Sizes of a dataset's labels and surroundings, for architectures that scale by them.

All are computed in float64. Energies of 10⁴ eV lose no digits where architectures see them
relative to reference energies only, as in the trainer.

Checked: tests/potentials/test_scales.py.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from karat.core.errors import BadInput
from karat.data.dataset import Dataset
from karat.structures.neighbours import neighbour_pairs
from karat.structures.structure import Structure

STRUCTURES_COUNTED = 500
"""Structures from which the mean number of neighbours is taken."""
LEAST_SCALE = 1e-3
"""eV; where labels are all alike."""


def output_scale(dataset: Dataset) -> float:
    """What a network's output of about 1 is multiplied by, eV: the root mean square force component
    (as an energy per Å), or the standard deviation of energies per atom where nothing has forces;
    not below 1 meV.

    Raises:
        BadInput: the labels have neither forces nor energies.
    """
    forces = [label.forces.ravel() for label in dataset.labels if label.forces is not None]
    if forces:
        return max(float(np.sqrt(np.mean(np.concatenate(forces) ** 2))), LEAST_SCALE)
    energies = [
        record.labels.energy / len(record.structure)
        for record in dataset
        if record.labels.energy is not None
    ]
    if not energies:
        raise BadInput("No structure of the training data has an energy or forces.")
    return max(float(np.std(energies)), LEAST_SCALE)


def mean_neighbours(dataset: Dataset, cutoff: float) -> float:
    """Mean number of neighbours of an atom within `cutoff` (Å), to four digits.

    Raises:
        BadInput: no atom has one.
    """
    count = min(len(dataset), STRUCTURES_COUNTED)
    chosen = np.unique(np.linspace(0, len(dataset) - 1, count).round().astype(int))
    structures = [dataset.records[i].structure for i in chosen]
    pairs = sum(len(neighbour_pairs(s, cutoff)) for s in structures)
    if not pairs:
        raise BadInput(
            f"No atom of the training data has a neighbour within {cutoff} Å. "
            "Raise cutoff_angstrom."
        )
    return float(f"{pairs / sum(len(s) for s in structures):.4g}")


def force_rms(dataset: Dataset) -> float:
    """Root mean square of all force components, eV/Å.

    Raises:
        BadInput: no structure has forces, or all are zero.
    """
    squares, components = _force_squares(dataset)
    return float(np.sqrt(squares.sum() / components.sum()))


def force_rms_by_species(dataset: Dataset) -> Float[np.ndarray, "species"]:
    """Root mean square force component on the atoms of each of `dataset.species`, eV/Å; that of
    all atoms for an element that has no force labels or zero ones only.

    Raises:
        BadInput: no structure has forces, or all are zero.
    """
    squares, components = _force_squares(dataset)
    every = squares.sum() / components.sum()
    mean = np.where(squares > 0, squares / np.maximum(components, 1), every)
    return np.sqrt(mean)


def _force_squares(
    dataset: Dataset,
) -> tuple[Float[np.ndarray, "species"], Float[np.ndarray, "species"]]:
    """Sum of squares and number of force components of each element."""
    squares, components = np.zeros(len(dataset.species)), np.zeros(len(dataset.species))
    for record in dataset:
        if record.labels.forces is None:
            continue
        index = np.searchsorted(dataset.species, record.structure.numbers)
        np.add.at(squares, index, np.sum(record.labels.forces**2, axis=1))
        np.add.at(components, index, 3.0)
    if not squares.any():
        raise BadInput(
            f"None of the {len(dataset)} training structures has forces that differ from zero; "
            "they set the scale of the potential. Label some with forces."
        )
    return squares, components


def regressed_energies(
    structures: Sequence[Structure],
    energies: Float[np.ndarray, "structures"],
    species: tuple[int, ...],
) -> tuple[Float[np.ndarray, "species"], int]:
    """Energy of an atom of each element by least squares on the composition, eV, and the rank.

    Where the compositions do not determine all elements (rank below their number), the energies
    nearest to the mean energy per atom are taken; no prediction on such compositions depends on
    that. `energies` may be totals or already relative to others (binding energies).
    """
    counts = np.array([[np.sum(s.numbers == z) for z in species] for s in structures], float)
    start = float(energies.sum() / counts.sum())
    # x = start + least-norm solution of counts · y = energies - start · N
    residual = energies - start * counts.sum(axis=1)
    solution, _, rank, _ = np.linalg.lstsq(counts, residual, rcond=1e-10)
    return start + solution, int(rank)
