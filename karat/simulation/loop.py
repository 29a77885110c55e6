"""What the compiled and the ASE loop of dynamics share: settings, bounds, what they return.

Checked: tests/simulation/test_dynamics.py, test_native_loop.py.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from karat.core.errors import BadInput
from karat.core.units import BOLTZMANN

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
