"""Relaxation to a minimum, with dihedral angles held where asked; cell fixed.

Checked: tests/simulation/test_relax.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from karat.core.errors import BadInput, CalculationFailed
from karat.potentials.protocol import AbstractPotential, check_suitable
from karat.structures.structure import Structure

Quadruple = tuple[int, int, int, int]
"""Four atom indices; the dihedral angle is that between planes 0-1-2 and 1-2-3."""

MANY_ATOMS = 300
"""Above this size the optimiser keeps no full Hessian (LBFGS instead of BFGS)."""


@dataclass(frozen=True, eq=False)
class Relaxation:
    """A relaxed structure.

    Attributes:
        structure: at the minimum.
        energy: eV.
        max_force: length of the longest force, eV/Å; without what held dihedrals take up.
        steps: how many were made.
        converged: always true of what `relax` returns (it raises otherwise).
    """

    structure: Structure
    energy: float
    max_force: float
    steps: int
    converged: bool


def relax(
    potential: AbstractPotential,
    structure: Structure,
    force_tolerance: float = 0.01,
    max_steps: int = 500,
    fixed_dihedrals: Sequence[Quadruple] | None = None,
) -> Relaxation:
    """Relax positions until no force is longer than `force_tolerance` (eV/Å).

    Dihedrals named in `fixed_dihedrals` keep the angle that they start with, to rounding.

    Raises:
        UnknownElement, UnsuitableStructure: see `check_suitable`.
        BadInput: a tolerance or number of steps that is not positive.
        CalculationFailed: kind ``not-converged`` when the steps do not suffice or atoms run
            away, or what the potential raised.

    Source: BFGS and LBFGS of ASE (Larsen et al., J. Phys.: Condens. Matter 29, 273002 (2017))
    and its `FixInternals`.
    """
    from ase.constraints import FixInternals
    from ase.optimize import BFGS, LBFGS
    from ase.optimize.optimize import Optimizer

    from karat.potentials.external.ase_export import PotentialCalculator

    if not force_tolerance > 0 or max_steps < 1:
        raise BadInput(
            f"relax: force_tolerance {force_tolerance} eV/Å and max_steps {max_steps} "
            "must be positive."
        )
    check_suitable(potential, structure, ("energy", "forces"))
    atoms = structure.to_ase()
    atoms.calc = PotentialCalculator(potential, structure.topology)
    if fixed_dihedrals:
        held = [[atoms.get_dihedral(*quad), list(quad)] for quad in fixed_dihedrals]
        atoms.set_constraint(FixInternals(dihedrals_deg=held))
    method = LBFGS if len(structure) > MANY_ATOMS else BFGS
    optimiser: Optimizer = method(atoms, logfile=None)  # type: ignore[arg-type]
    try:
        converged = bool(optimiser.run(fmax=force_tolerance, steps=max_steps))
        max_force = float(np.linalg.norm(atoms.get_forces(), axis=1).max())
        energy = float(atoms.get_potential_energy())
    except (ValueError, ArithmeticError, np.linalg.LinAlgError, BadInput) as error:
        raise CalculationFailed(
            f"Relaxation of {structure.formula} broke off after "
            f"{optimiser.get_number_of_steps()} steps: {error}",
            kind="not-converged",
        ) from error
    if not converged:
        raise CalculationFailed(
            f"Relaxation of {structure.formula} has a force of {max_force:.3g} eV/Å after "
            f"{max_steps} steps; {force_tolerance:g} was asked for. Raise max_steps, or start "
            "from a better structure.",
            kind="not-converged",
        )
    steps = int(optimiser.get_number_of_steps())
    found = structure.replace(positions=atoms.positions)
    return Relaxation(found, energy, max_force, steps, converged=True)


def bond_lengths(structure: Structure) -> Float[np.ndarray, "bonds"]:
    """Å, of each bond of the topology; empty where there is none."""
    if structure.topology is None or not len(structure.topology.bonds):
        return np.zeros(0)
    first, second = structure.topology.bonds.T
    return np.linalg.norm(structure.positions[first] - structure.positions[second], axis=1)
