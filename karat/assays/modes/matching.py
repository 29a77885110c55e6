"""Superposing two minima, and pairing their modes by motion.

Checked: tests/assays/test_modes_assay.py.
"""

import numpy as np
from jaxtyping import Float, Int

from karat.structures.structure import Structure


def align(
    structure: Structure,
    mass: Float[np.ndarray, "atoms"],
    moving: Float[np.ndarray, "atoms 3"],
    fixed: Float[np.ndarray, "atoms 3"],
) -> tuple[Float[np.ndarray, "3 3"], float]:
    """The rotation that lays `moving` on `fixed` (use as `vectors @ rotation`), and the RMSD (Å).

    Rotations are proper and mass-weighted; crystals are only translated, their atoms taken at
    the nearest image. The RMSD is over atoms, not mass-weighted.

    Source: Kabsch, Acta Cryst. A 32, 922 (1976).
    """
    if structure.periodic.any():
        delta = moving - fixed
        box = np.where(structure.periodic[:, None], structure.cell, 0.0)
        delta = delta - np.round(delta @ np.linalg.pinv(box)) @ box
        delta = delta - mass @ delta / mass.sum()
        return np.eye(3), float(np.sqrt((delta**2).sum(axis=1).mean()))
    here = moving - mass @ moving / mass.sum()
    there = fixed - mass @ fixed / mass.sum()
    left, _, right = np.linalg.svd((mass[:, None] * here).T @ there)
    proper = np.diag([1.0, 1.0, np.sign(np.linalg.det(left @ right))])
    rotation = left @ proper @ right
    return rotation, float(np.sqrt(((here @ rotation - there) ** 2).sum(axis=1).mean()))


def matched_overlaps(
    reference: Float[np.ndarray, "modes atoms 3"], own: Float[np.ndarray, "modes atoms 3"]
) -> tuple[Int[np.ndarray, "modes"], Float[np.ndarray, "modes"]]:
    """For each reference mode the own mode that belongs to it, and their squared overlap.

    Each mode is used once; the sum of squared overlaps is the largest possible.

    Source: Kuhn, Nav. Res. Logist. Q. 2, 83 (1955), as in `scipy.optimize`.
    """
    from scipy.optimize import linear_sum_assignment

    size = len(reference)
    squared = (reference.reshape(size, -1) @ own.reshape(size, -1).T) ** 2
    rows, columns = linear_sum_assignment(-squared)
    return columns[np.argsort(rows)], squared[rows, columns]
