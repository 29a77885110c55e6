"""Molecular dynamics at constant energy (NVE) or temperature (Langevin).

One verb for all potentials: native (JAX) ones run in one compiled loop (`native_loop.py`),
others through ASE (`ase_loop.py`). Both start from the same velocities, stop at the same bounds
and give the same bits again for the same seed. The random forces of the two loops are different
numbers of the same distribution.

Checked: tests/simulation/test_dynamics.py, test_native_loop.py.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from karat.core.errors import BadInput, CalculationFailed
from karat.core.units import BOLTZMANN
from karat.potentials.protocol import AbstractPotential, check_suitable
from karat.results.metric import Failure
from karat.simulation.velocities import kinetic_energy, masses, thermal_velocities
from karat.structures.structure import Structure

__all__ = ["Dynamics", "Trajectory", "run_dynamics", "thermal_velocities"]

Progress = Callable[[int, int], None]
"""Called with (steps done, steps in all) now and then."""

MAX_STEP_ANGSTROM = 0.5
"""A step that moves an atom further than this is an explosion."""
HOT_FACTOR = 20.0
"""A kinetic temperature above this many times the highest of the set temperature, that of the
start and `HOT_LEAST_K` is an explosion (over 3·atoms degrees of freedom: for one atom at
equilibrium a chance of 1e-12 a step, less for more)."""
HOT_LEAST_K = 500.0


@dataclass(frozen=True)
class Dynamics:
    """How to move atoms.

    Attributes:
        ensemble: ``nve`` (velocity Verlet) or ``langevin`` (BAOAB).
        temperature_k: of the initial velocities and of the thermostat.
        timestep_fs: time step.
        steps: how many; the run ends with the last frame that they reach.
        every: steps from one kept frame to the next.
        friction_per_ps: of Langevin dynamics.
        seed: of initial velocities and random forces.

    Source: Swope et al., J. Chem. Phys. 76, 637 (1982); Leimkuhler & Matthews, J. Chem. Phys.
    138, 174102 (2013).
    """

    ensemble: Literal["nve", "langevin"] = "nve"
    temperature_k: float = 300.0
    timestep_fs: float = 0.5
    steps: int = 1000
    every: int = 10
    friction_per_ps: float = 10.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("timestep_fs", 0.0), ("friction_per_ps", 0.0)):
            if not getattr(self, name) > least:
                raise BadInput(f"dynamics.{name} is {getattr(self, name)}; it must be positive.")
        for name, low in (("temperature_k", 0), ("seed", 0), ("steps", 1), ("every", 1)):
            if getattr(self, name) < low:
                raise BadInput(f"dynamics.{name} is {getattr(self, name)}; at least {low}.")
        if self.seed >= 2**32:
            raise BadInput(f"dynamics.seed is {self.seed}; it must be below 2³² = {2**32}.")
        if self.every > self.steps:
            raise BadInput(
                f"dynamics.every is {self.every}, but only {self.steps} steps are made: "
                "no frame after the start would be kept. Lower it, or raise steps."
            )

    @property
    def intervals(self) -> int:
        """Kept frames after the start."""
        return self.steps // self.every


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


@dataclass(frozen=True, eq=False)
class Stop:
    """Why a loop ended early: the step that could not be made, a short word, a sentence."""

    step: int
    kind: str
    reason: str


@dataclass(frozen=True, eq=False)
class Frames:
    """What a loop returns: frame k is after k·every steps."""

    positions: Float[np.ndarray, "frames atoms 3"]
    velocities: Float[np.ndarray, "frames atoms 3"]
    energies: Float[np.ndarray, "frames"]
    stop: Stop | None
    seconds: float


def hottest(settings: Dynamics, start_energy: float, atoms: int) -> float:
    """Kinetic energy in eV above which a run counts as exploded; see `HOT_FACTOR`."""
    start_k = 2 * start_energy / (3 * atoms * BOLTZMANN)
    temperature = HOT_FACTOR * max(settings.temperature_k, start_k, HOT_LEAST_K)
    return 1.5 * atoms * BOLTZMANN * temperature


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


def stop_at(step: int, kind: str, settings: Dynamics) -> Stop:
    """The `Stop` of one of the three explosions both loops look for."""
    reasons = {
        "not-finite": "energy or forces are not finite.",
        "jump": f"an atom moved more than {MAX_STEP_ANGSTROM} Å in one step of "
        f"{settings.timestep_fs:g} fs.",
        "too-hot": f"the kinetic temperature passed {HOT_FACTOR:g} times that of the start "
        f"(or {HOT_FACTOR * HOT_LEAST_K:g} K).",
    }
    return Stop(step, kind, reasons[kind])


def clock() -> float:
    """Seconds of a clock that only runs forward."""
    return time.perf_counter()
