"""What dynamics is told and how it ends: settings, bounds, reasons to stop.

Checked: tests/simulation/test_dynamics.py.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

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
POSITIVE = (
    "timestep_fs",
    "friction_per_ps",
    "thermostat_ps",
    "barostat_ps",
    "compressibility_per_gpa",
)
LEAST = {
    "temperature_k": 0,
    "seed": 0,
    "steps": 1,
    "every": 1,
    "chain_length": 1,
    "inner_steps": 1,
}


Ensemble = Literal["nve", "langevin", "nose-hoover", "velocity-rescaling"]


@dataclass(frozen=True)
class Dynamics:
    """How to move atoms.

    Attributes:
        ensemble: ``nve`` (velocity Verlet), ``langevin`` (BAOAB), ``nose-hoover`` (chains),
            ``velocity-rescaling`` (stochastic).
        temperature_k: of the initial velocities and of the thermostat.
        timestep_fs: time step.
        steps: how many; the run ends with the last frame that they reach.
        every: steps from one kept frame to the next.
        friction_per_ps: of Langevin dynamics.
        seed: of initial velocities and random forces.
        thermostat_ps: relaxation time of nose-hoover and velocity-rescaling.
        chain_length: thermostats in a Nosé–Hoover chain.
        barostat: stochastic cell rescaling of the volume (``isotropic``) or of the whole cell
            (``full``); ``none`` keeps the cell.
        pressure_gpa: of the barostat.
        barostat_ps: its relaxation time.
        compressibility_per_gpa: a guess of the isothermal compressibility; only the barostat's
            speed depends on it.
        end_temperature_k, end_pressure_gpa: reached at the last step in equal steps (a ramp);
            by default they stay.
        inner_steps: r-RESPA: steps of the inner potential in one step of the whole one.
        stress: whether frames hold the potential's stress.

    Source: Swope et al., J. Chem. Phys. 76, 637 (1982); Leimkuhler & Matthews, J. Chem. Phys.
    138, 174102 (2013); Martyna, Tuckerman, Tobias & Klein, Mol. Phys. 87, 1117 (1996); Bussi,
    Donadio & Parrinello, J. Chem. Phys. 126, 014101 (2007); Bernetti & Bussi, J. Chem. Phys.
    153, 114107 (2020); Del Tatto et al., Appl. Sci. 12, 1139 (2022); Tuckerman, Berne &
    Martyna, J. Chem. Phys. 97, 1990 (1992).
    """

    ensemble: Ensemble = "nve"
    temperature_k: float = 300.0
    timestep_fs: float = 0.5
    steps: int = 1000
    every: int = 10
    friction_per_ps: float = 10.0
    seed: int = 0
    thermostat_ps: float = 0.1
    chain_length: int = 3
    barostat: Literal["none", "isotropic", "full"] = "none"
    pressure_gpa: float = 0.0
    barostat_ps: float = 1.0
    compressibility_per_gpa: float = 0.05
    end_temperature_k: float | None = None
    end_pressure_gpa: float | None = None
    inner_steps: int = 1
    stress: bool = False

    def __post_init__(self) -> None:
        for name in POSITIVE:
            if not 0 < getattr(self, name) < float("inf"):
                raise BadInput(f"dynamics.{name} is {getattr(self, name)}; it must be positive.")
        for name, low in LEAST.items():
            if getattr(self, name) < low:
                raise BadInput(f"dynamics.{name} is {getattr(self, name)}; at least {low}.")
        if self.seed >= 2**32:
            raise BadInput(f"dynamics.seed is {self.seed}; it must be below 2³² = {2**32}.")
        if self.every > self.steps:
            raise BadInput(
                f"dynamics.every is {self.every}, but only {self.steps} steps are made: "
                "no frame after the start would be kept. Lower it, or raise steps."
            )
        self._check_bath()

    def _check_bath(self) -> None:
        if self.ensemble != "nve" and not min(self.temperature_k, self.last_temperature_k) > 0:
            raise BadInput(
                f"dynamics.temperature_k is {self.temperature_k} and end_temperature_k "
                f"{self.end_temperature_k}; a thermostat needs temperatures above 0."
            )
        if self.ensemble == "nve" and (self.barostat != "none" or self.end_temperature_k):
            raise BadInput(
                "dynamics.ensemble is nve: a barostat or a ramp of the temperature needs a "
                "thermostat. Allowed with them: langevin, nose-hoover, velocity-rescaling."
            )
        if self.barostat == "none" and self.end_pressure_gpa is not None:
            raise BadInput("dynamics.end_pressure_gpa needs a barostat: isotropic or full.")
        if self.barostat != "none" and self.inner_steps > 1:
            raise BadInput(
                f"dynamics.inner_steps is {self.inner_steps} and barostat {self.barostat}: "
                "multiple time steps keep the cell. Leave one of them out."
            )

    @property
    def last_temperature_k(self) -> float:
        """Temperature of the bath at the end."""
        return self.temperature_k if self.end_temperature_k is None else self.end_temperature_k

    @property
    def last_pressure_gpa(self) -> float:
        """Pressure of the bath at the end."""
        return self.pressure_gpa if self.end_pressure_gpa is None else self.end_pressure_gpa

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


def hottest(settings: Dynamics, start_energy: float, atoms: int) -> float:
    """Kinetic energy in eV above which a run counts as exploded; see `HOT_FACTOR`."""
    start_k = 2 * start_energy / (3 * atoms * BOLTZMANN)
    warmest = max(settings.temperature_k, settings.last_temperature_k, start_k)
    temperature = HOT_FACTOR * max(warmest, HOT_LEAST_K)
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
