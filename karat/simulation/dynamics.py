"""Molecular dynamics at constant energy (NVE) or temperature (Langevin).

One verb for all potentials: native (JAX) ones run in one compiled loop (`native_loop.py`),
others through ASE (`ase_loop.py`). Both start from the same velocities, stop at the same bounds
and give the same bits again for the same seed. The random forces of the two loops are different
numbers of the same distribution.

Checked: tests/simulation/test_dynamics.py, test_native_loop.py.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from karat.core.errors import BadInput, CalculationFailed
from karat.potentials.protocol import AbstractPotential, check_suitable
from karat.results.metric import Failure
from karat.simulation.loop import Dynamics, Frames, Progress, Stop
from karat.simulation.velocities import kinetic_energy, masses, thermal_velocities
from karat.structures.structure import Structure

__all__ = ["Dynamics", "Trajectory", "run_dynamics", "thermal_velocities"]


@dataclass(frozen=True, eq=False)
class Trajectory:
    """What a run left; frame 0 is the start. Positions are not wrapped into the cell.

    Attributes:
        start: the structure it began with.
        times_fs: since the start.
        positions: Å.
        velocities: Å/fs, at the same times as the positions.
        potential_energies, kinetic_energies: eV.
        stopped: why it ended early, or `None`; all kept frames are valid.
        seconds: wall time of the loop; its compilation excluded, unless a neighbour list
            outgrew the room made for it.
        stopped_step: the step that could not be made, or `None`.
    """

    start: Structure
    times_fs: Float[np.ndarray, "frames"]
    positions: Float[np.ndarray, "frames atoms 3"]
    velocities: Float[np.ndarray, "frames atoms 3"]
    potential_energies: Float[np.ndarray, "frames"]
    kinetic_energies: Float[np.ndarray, "frames"]
    stopped: Failure | None
    seconds: float
    stopped_step: int | None = None

    def __len__(self) -> int:
        return len(self.times_fs)

    @property
    def total_energies(self) -> Float[np.ndarray, "frames"]:
        """Potential plus kinetic energy, eV."""
        return self.potential_energies + self.kinetic_energies

    def structure(self, frame: int) -> Structure:
        """The structure of one frame."""
        return self.start.replace(positions=self.positions[frame])


def run_dynamics(
    potential: AbstractPotential,
    structure: Structure,
    settings: Dynamics,
    velocities: Float[np.ndarray, "atoms 3"] | None = None,
    progress: Progress | None = None,
) -> Trajectory:
    """Move the atoms of `structure` by `potential`; cell fixed, no constraints.

    A run that explodes (a number that is not finite, a step longer than `MAX_STEP_ANGSTROM`, a
    kinetic temperature beyond `HOT_FACTOR`) or whose potential fails stops there; the frames
    before are kept, and `stopped` says at which step and why.

    Args:
        velocities: Å/fs; by default `thermal_velocities` at the set temperature.

    Raises:
        UnknownElement, UnsuitableStructure: see `check_suitable`.
        BadInput: velocities of another shape or not finite.
        CalculationFailed: already the start has no finite energy and forces.
    """
    check_suitable(potential, structure, ("energy", "forces"))
    if velocities is None:
        velocities = thermal_velocities(structure, settings.temperature_k, settings.seed)
    if velocities.shape != (len(structure), 3) or not np.isfinite(velocities).all():
        raise BadInput(f"velocities need {len(structure)} rows of 3 finite numbers, in Å/fs.")
    frames = _loop(potential)(potential, structure, settings, velocities, progress)
    if frames.stop is not None and frames.stop.step == 0:
        raise CalculationFailed(
            f"Dynamics of {structure.formula} cannot start: {frames.stop.reason}",
            kind=frames.stop.kind,
        )
    return Trajectory(
        start=structure,
        times_fs=np.arange(len(frames.energies)) * (settings.every * settings.timestep_fs),
        positions=frames.positions,
        velocities=frames.velocities,
        potential_energies=frames.energies,
        kinetic_energies=kinetic_energy(masses(structure), frames.velocities),
        stopped=_failure(frames.stop, structure, settings),
        seconds=frames.seconds,
        stopped_step=None if frames.stop is None else frames.stop.step,
    )


def _loop(potential: AbstractPotential) -> Callable[..., Frames]:
    """The loop for this potential; JAX is imported for native ones only."""
    if potential.traits.native:
        from karat.potentials.native_protocol import NativePotential
        from karat.simulation.native_loop import run_native

        if isinstance(potential, NativePotential):
            return run_native
    from karat.simulation.ase_loop import run_ase

    return run_ase


def _failure(stop: Stop | None, structure: Structure, settings: Dynamics) -> Failure | None:
    if stop is None:
        return None
    return Failure(
        what=f"{settings.ensemble} dynamics",
        case=structure.formula,
        kind=stop.kind,
        reason=f"step {stop.step} ({stop.step * settings.timestep_fs:g} fs): {stop.reason}",
    )
