"""The elastic tensor from stresses of strained crystals, ions relaxed in each.

Checked: tests/simulation/test_elastic.py, against analytic second derivatives of matscipy.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from karat.core.errors import BadInput, CalculationFailed, KaratError
from karat.core.units import GPA
from karat.potentials.protocol import AbstractPotential
from karat.simulation.batched_relax import RelaxedStructure, RelaxSettings, relax_batch
from karat.simulation.strain import (
    VOIGT,
    crystal_symmetry,
    require_crystal,
    strained,
    to_voigt,
    voigt_strain,
)
from karat.structures.structure import Structure

STEPS = (1.0, -1.0, 0.5, -0.5)
"""Strains in units of the largest: two central differences, extrapolated to none."""
REST_GPA = 0.1
"""A crystal under more stress than this has no elastic tensor in the sense used here."""


@dataclass(frozen=True)
class Moduli:
    """Elastic moduli of a polycrystal, GPa: Voigt's upper bound, Reuss' lower, Hill's mean.

    Attributes:
        young_gpa, poisson: of Hill's moduli.
        universal_anisotropy: 5 G_V/G_R + K_V/K_R - 6; zero where the crystal is isotropic.
    """

    bulk_voigt_gpa: float
    bulk_reuss_gpa: float
    bulk_hill_gpa: float
    shear_voigt_gpa: float
    shear_reuss_gpa: float
    shear_hill_gpa: float
    young_gpa: float
    poisson: float
    universal_anisotropy: float


@dataclass(frozen=True, eq=False)
class ElasticTensor:
    """Stiffness of a crystal at rest.

    Attributes:
        structure: where it was taken.
        stiffness_gpa: C in Voigt's notation (xx, yy, zz, yz, xz, xy), symmetric, with the
            symmetry of the crystal's point group.
        space_group: number and symbol of the group that was used.
        strains: Voigt components that had to be applied, ascending.
        error_gpa: largest change of a component between the strain and half of it, after
            extrapolation a generous bound of the error of the differences.
        symmetry_misfit_gpa: largest component of measured stresses (per strain) that the
            symmetric tensor does not reproduce: noise, or a symmetry that the potential breaks.
        stable: whether all eigenvalues are positive (Born).
        lowest_eigenvalue_gpa: of the tensor in an orthonormal basis of strains.
        moduli: of a polycrystal; `None` where the crystal is not stable.
    """

    structure: Structure
    stiffness_gpa: Float[np.ndarray, "6 6"]
    space_group: tuple[int, str]
    strains: tuple[int, ...]
    error_gpa: float
    symmetry_misfit_gpa: float
    stable: bool
    lowest_eigenvalue_gpa: float
    moduli: Moduli | None


def elastic_tensor(
    potential: AbstractPotential,
    structure: Structure,
    strain: float = 0.005,
    relax_first: bool = True,
    relax_ions: bool = True,
    force_tolerance: float = 1e-5,
    max_steps: int = 1000,
    symmetry_tolerance: float = 1e-3,
) -> ElasticTensor:
    """Stiffness by central differences of stress, Richardson-extrapolated: error O(strain⁴).

    Only as many of the six strains are applied as the crystal's symmetry leaves independent; all
    strained crystals are relaxed in one batch.

    Args:
        strain: largest applied.
        relax_first: relax atoms and cell before, symmetry kept; else the given crystal must be
            at rest to within `REST_GPA`.
        relax_ions: let the ions follow the strain; else their positions are strained only
            ("clamped" constants).
        force_tolerance: eV/Å; 1e-4 left 0.1 GPa in C44 of silicon, 1e-5 leaves 0.01.
        symmetry_tolerance: Å, for finding the group.

    Raises:
        UnsuitableStructure, UnknownElement: see `check_suitable`; or not a crystal.
        BadInput: a strain outside 0 to 0.05, or a crystal that is not at rest.
        CalculationFailed: a relaxation failed.

    Source: Born stability: Mouhat & Coudert, Phys. Rev. B 90, 224104 (2014).
    """
    require_crystal(structure, "an elastic tensor")
    if not 0 < strain <= 0.05:
        raise BadInput(f"elastic_tensor: strain {strain} must lie between 0 and 0.05.")
    if relax_first:
        whole = RelaxSettings(
            force_tolerance, max_steps, "free", 1e-3, 0.0, True, symmetry_tolerance
        )
        structure = _relaxed(potential, [structure], whole, "before straining")[0].structure
    symmetry = crystal_symmetry(structure, symmetry_tolerance)
    basis = invariant_basis(symmetry.rotations)
    applied = independent_strains(basis)
    starts = [structure] + [
        strained(structure, voigt_strain(component, step * strain))
        for component in applied
        for step in STEPS
    ]
    ions = RelaxSettings(force_tolerance, max_steps) if relax_ions else None
    stresses = _stresses(potential, starts, ions)
    _require_rest(structure, stresses[0])
    columns, error = _derivatives(stresses[1:].reshape(len(applied), len(STEPS), 6), strain)
    stiffness, misfit = _fitted(basis, applied, columns)
    lowest = float(np.linalg.eigvalsh(_mandel(stiffness))[0])
    group, stable = (symmetry.number, symmetry.symbol), lowest > 0
    moduli = polycrystal_moduli(stiffness) if stable else None
    return ElasticTensor(
        structure, stiffness, group, applied, error, misfit, stable, lowest, moduli
    )


def polycrystal_moduli(stiffness_gpa: Float[np.ndarray, "6 6"]) -> Moduli:
    """Voigt, Reuss and Hill moduli of a stable crystal.

    Raises:
        BadInput: not positive definite.

    Source: Hill, Proc. Phys. Soc. A 65, 349 (1952); Ranganathan & Ostoja-Starzewski, Phys. Rev.
    Lett. 101, 055504 (2008).
    """
    c = stiffness_gpa
    if np.linalg.eigvalsh(c)[0] <= 0:
        raise BadInput("Moduli of a polycrystal need a stable (positive definite) stiffness.")
    s = np.linalg.inv(c)
    normal, mixed, shear = _traces(c)
    bulk_voigt = (normal + 2 * mixed) / 9
    shear_voigt = (normal - mixed + 3 * shear) / 15
    normal, mixed, shear = _traces(s)
    bulk_reuss = 1 / (normal + 2 * mixed)
    shear_reuss = 15 / (4 * normal - 4 * mixed + 3 * shear)
    bulk, rigidity = 0.5 * (bulk_voigt + bulk_reuss), 0.5 * (shear_voigt + shear_reuss)
    return Moduli(
        bulk_voigt_gpa=bulk_voigt,
        bulk_reuss_gpa=bulk_reuss,
        bulk_hill_gpa=bulk,
        shear_voigt_gpa=shear_voigt,
        shear_reuss_gpa=shear_reuss,
        shear_hill_gpa=rigidity,
        young_gpa=9 * bulk * rigidity / (3 * bulk + rigidity),
        poisson=(3 * bulk - 2 * rigidity) / (6 * bulk + 2 * rigidity),
        universal_anisotropy=5 * shear_voigt / shear_reuss + bulk_voigt / bulk_reuss - 6,
    )


def _traces(matrix: Float[np.ndarray, "6 6"]) -> tuple[float, float, float]:
    """Sums over 11+22+33, 12+13+23 and 44+55+66."""
    diagonal = np.diag(matrix)
    mixed = matrix[0, 1] + matrix[0, 2] + matrix[1, 2]
    return float(diagonal[:3].sum()), float(mixed), float(diagonal[3:].sum())


def invariant_basis(
    rotations: Float[np.ndarray, "operations 3 3"],
) -> Float[np.ndarray, "constants 6 6"]:
    """Independent tensors (Voigt, symmetric) that the rotations leave as they are.

    Three for a cubic crystal, 21 for a triclinic one.
    """
    bonds = _bonds(rotations)
    mean = np.einsum("gij,gkl->ikjl", bonds, bonds).reshape(36, 36) / len(bonds)
    units = []
    for i in range(6):
        for j in range(i, 6):
            unit = np.zeros((6, 6))
            unit[i, j] = unit[j, i] = 1.0
            units.append(mean @ unit.ravel())
    _, sizes, rows = np.linalg.svd(np.array(units))
    # means over a group are a projection: rounding is all that lies between zero and the next
    return np.asarray(rows[: int(np.sum(sizes > 1e-3))].reshape(-1, 6, 6))


def _bonds(rotations: Float[np.ndarray, "operations 3 3"]) -> Float[np.ndarray, "operations 6 6"]:
    """Bond's matrices M: a stiffness in Voigt's notation is rotated by M C Mᵀ.

    Source: Auld, Acoustic Fields and Waves in Solids, vol. 1, ch. 3.
    """
    bonds = np.empty((len(rotations), 6, 6))
    for row, (i, j) in enumerate(VOIGT):
        for column, (k, m) in enumerate(VOIGT):
            bonds[:, row, column] = rotations[:, i, k] * rotations[:, j, m]
            if k != m:
                bonds[:, row, column] += rotations[:, i, m] * rotations[:, j, k]
    return bonds


def independent_strains(basis: Float[np.ndarray, "constants 6 6"]) -> tuple[int, ...]:
    """The fewest Voigt components, taken greedily, whose stresses fix every constant."""
    chosen: list[int] = []
    known = 0
    while known < len(basis):
        ranks = [_rank(basis, [*chosen, extra]) for extra in range(6)]
        known = max(ranks)
        chosen.append(ranks.index(known))
    return tuple(sorted(chosen))


def _rank(basis: np.ndarray, components: list[int]) -> int:
    """Constants that these columns fix, noise growing at most fivefold (all six: not at all)."""
    return int(np.linalg.matrix_rank(basis[:, :, components].reshape(len(basis), -1), tol=0.2))


def _relaxed(
    potential: AbstractPotential, starts: list[Structure], settings: RelaxSettings, when: str
) -> list[RelaxedStructure]:
    relaxed = []
    for found in relax_batch(potential, starts, settings):
        if isinstance(found, CalculationFailed):
            raise CalculationFailed(f"elastic_tensor, {when}: {found}", found.kind) from found
        if isinstance(found, KaratError):
            raise found
        relaxed.append(found)
    return relaxed


def _stresses(
    potential: AbstractPotential, starts: list[Structure], ions: RelaxSettings | None
) -> Float[np.ndarray, "structures 6"]:
    """GPa, of each, its ions relaxed where settings say how."""
    if ions is not None:
        starts = [found.structure for found in _relaxed(potential, starts, ions, "strained")]
    labels = potential.predict(starts, ("energy", "forces", "stress"))
    return np.array([to_voigt(one.stress) for one in labels if one.stress is not None]) / GPA


def _require_rest(structure: Structure, stress: Float[np.ndarray, "6"]) -> None:
    if np.abs(stress).max() > REST_GPA:
        raise BadInput(
            f"elastic_tensor: {structure.formula} is under a stress of "
            f"{np.abs(stress).max():.3g} GPa; the tensor is defined here for a crystal at rest "
            f"(below {REST_GPA} GPa). Relax its cell, or leave relax_first on."
        )


def _derivatives(
    stresses: Float[np.ndarray, "strains steps 6"], strain: float
) -> tuple[Float[np.ndarray, "strains 6"], float]:
    """∂σ/∂ε extrapolated from two central differences, and by how much that moved it, GPa."""
    wide = (stresses[:, 0] - stresses[:, 1]) / (2 * strain)
    narrow = (stresses[:, 2] - stresses[:, 3]) / strain
    return (4 * narrow - wide) / 3, float(np.abs(narrow - wide).max())


def _fitted(
    basis: Float[np.ndarray, "constants 6 6"],
    applied: tuple[int, ...],
    columns: Float[np.ndarray, "strains 6"],
) -> tuple[Float[np.ndarray, "6 6"], float]:
    """The tensor of the crystal's symmetry nearest to the measured columns, and the misfit."""
    design = np.concatenate([basis[:, :, component] for component in applied], axis=1).T
    weights = np.linalg.lstsq(design, columns.ravel(), rcond=None)[0]
    misfit = float(np.abs(design @ weights - columns.ravel()).max())
    stiffness = np.einsum("k,kij->ij", weights, basis)
    return 0.5 * (stiffness + stiffness.T), misfit


def _mandel(stiffness: Float[np.ndarray, "6 6"]) -> Float[np.ndarray, "6 6"]:
    """In an orthonormal basis of symmetric tensors, where eigenvalues mean the same everywhere."""
    weights = np.array([1, 1, 1, 2**0.5, 2**0.5, 2**0.5])
    return np.asarray(stiffness * np.outer(weights, weights))
