"""Dynamics of any potential through ASE's integrators.

Checked: tests/simulation/test_dynamics.py, against the compiled loop.
"""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from karat.core.errors import KaratError
from karat.core.units import ACCELERATION, BOLTZMANN
from karat.potentials.protocol import AbstractPotential
from karat.simulation.loop import (
    MAX_STEP_ANGSTROM,
    Dynamics,
    Frames,
    Progress,
    Stop,
    clock,
    hottest,
    stop_at,
)
from karat.simulation.velocities import kinetic_energy, masses
from karat.structures.structure import Structure

if TYPE_CHECKING:
    import ase
    from ase.md.langevinbaoab import LangevinBAOAB
    from ase.md.verlet import VelocityVerlet

TIME = float(np.sqrt(ACCELERATION))
"""ASE's time units (Å √(amu/eV)) per fs, by karat's constants (`ase.units.fs` is CODATA 2014)."""
PROGRESS_EVERY = 50
"""Steps between two calls of `progress`."""


def run_ase(
    potential: AbstractPotential,
    structure: Structure,
    settings: Dynamics,
    velocities: Float[np.ndarray, "atoms 3"],
    progress: Progress | None = None,
) -> Frames:
    """ASE's `VelocityVerlet` or `LangevinBAOAB`, with karat's constants, checks and frames."""
    from karat.potentials.external.ase_export import PotentialCalculator

    atoms = structure.to_ase()
    atoms.set_masses(masses(structure))
    atoms.calc = PotentialCalculator(potential, structure.topology)
    atoms.set_velocities(velocities / TIME)
    limit = hottest(settings, _kinetic(atoms), len(structure))
    kept: list[tuple[np.ndarray, np.ndarray, float]] = []
    stop: Stop | None = None
    total = settings.intervals * settings.every
    began = clock()
    for step in range(total + 1):
        before = atoms.positions.copy()
        try:
            if step == 0:
                integrator = _integrator(atoms, settings)
            else:
                integrator.step()
            stop = _trouble(atoms, before, step, limit, settings)
        except KaratError as error:
            if _jumped(atoms, before):
                stop = stop_at(step, "jump", settings)
            else:
                stop = Stop(step, getattr(error, "kind", "error"), str(error))
        if stop is not None:
            break
        if step % settings.every == 0:
            kept.append(_frame(atoms))
        if progress is not None and (step % PROGRESS_EVERY == 0 or step == total):
            progress(step, total)
    seconds = clock() - began
    return Frames(
        positions=np.array([k[0] for k in kept]).reshape(-1, len(structure), 3),
        velocities=np.array([k[1] for k in kept]).reshape(-1, len(structure), 3),
        energies=np.array([k[2] for k in kept], dtype=np.float64),
        stop=stop,
        seconds=seconds,
    )


def _frame(atoms: "ase.Atoms") -> tuple[np.ndarray, np.ndarray, float]:
    """Positions (Å), velocities (Å/fs), potential energy (eV)."""
    return atoms.positions.copy(), atoms.get_velocities() * TIME, atoms.get_potential_energy()


def _integrator(atoms: "ase.Atoms", settings: Dynamics) -> "VelocityVerlet | LangevinBAOAB":
    timestep = settings.timestep_fs * TIME
    if settings.ensemble == "nve":
        from ase.md.verlet import VelocityVerlet

        return VelocityVerlet(atoms, timestep)
    import ase.units
    from ase.md.langevinbaoab import LangevinBAOAB

    return LangevinBAOAB(
        atoms,
        timestep,
        temperature_K=settings.temperature_k * BOLTZMANN / ase.units.kB,
        T_tau=1000.0 / settings.friction_per_ps * TIME,
        rng=np.random.default_rng(settings.seed),
    )


def _kinetic(atoms: "ase.Atoms") -> float:
    return float(kinetic_energy(atoms.get_masses(), atoms.get_velocities() * TIME))


def _jumped(atoms: "ase.Atoms", before: np.ndarray) -> bool:
    moved = np.sum((atoms.positions - before) ** 2, axis=1)
    return not (moved <= MAX_STEP_ANGSTROM**2).all()


def _trouble(
    atoms: "ase.Atoms", before: np.ndarray, step: int, limit: float, settings: Dynamics
) -> Stop | None:
    """One of the three explosions, or `None`; in the order of the compiled loop."""
    if _jumped(atoms, before):
        return stop_at(step, "jump", settings)
    forces = atoms.get_forces()
    if not (np.isfinite(forces).all() and np.isfinite(atoms.get_potential_energy())):
        return stop_at(step, "not-finite", settings)
    if not _kinetic(atoms) <= limit:
        return stop_at(step, "too-hot", settings)
    return None
