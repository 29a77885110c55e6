"""Frames of Langevin dynamics.

Checked: tests/sampling/test_samplers.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from karat.core.errors import BadInput, CalculationFailed
from karat.potentials.protocol import AbstractPotential
from karat.results.metric import Failure
from karat.sampling.protocol import AbstractSampler, Candidate, Selection
from karat.sampling.seeds import spawn_seeds
from karat.simulation.dynamics import Dynamics, run_dynamics
from karat.structures.structure import Structure


@dataclass(frozen=True)
class DynamicsSampler(AbstractSampler):
    """Every so many frames of Langevin dynamics, one trajectory from each start.

    Attributes:
        temperature_k: of the thermostat and of the initial velocities.
        steps: after the equilibration.
        timestep_fs: time step.
        every: steps from one candidate to the next.
        equilibration_steps: made first; nothing is kept of them.
        friction_per_ps: of the thermostat.
        kind: of the candidates; "" for the temperature, e.g. ``300K``.
    """

    temperature_k: float = 300.0
    steps: int = 1000
    timestep_fs: float = 0.5
    every: int = 20
    equilibration_steps: int = 500
    friction_per_ps: float = 10.0
    kind: str = ""

    def __post_init__(self) -> None:
        if self.equilibration_steps < 0:
            raise BadInput(f"dynamics.equilibration_steps is {self.equilibration_steps}, below 0.")
        if self.every > self.steps:
            raise BadInput(
                f"dynamics.every is {self.every}, more than the {self.steps} steps: nothing would "
                "be kept. Lower it, or raise steps."
            )
        self._settings(0)

    def select(
        self, starts: Sequence[Structure], potential: AbstractPotential | None, seed: int
    ) -> Selection:
        """Frames in order of time, a group for each start; `frame` counts kept frames.

        Frames before an explosion are kept, and the explosion is listed among the failures.

        Raises:
            BadInput: no potential.
            UnknownElement, UnsuitableStructure: the potential cannot treat a start.
        """
        if potential is None:
            raise BadInput("The sampler 'dynamics' needs a potential that moves the atoms.")
        kind = self.kind or f"{self.temperature_k:g}K"
        candidates: list[Candidate] = []
        failures: list[Failure] = []
        for i, (start, own) in enumerate(zip(starts, spawn_seeds(seed, len(starts)))):
            group = f"{kind}-{start.formula}-{i}"
            try:
                run = run_dynamics(potential, start, self._settings(own))
            except CalculationFailed as error:
                failures.append(Failure("sampling dynamics", group, error.kind, str(error)))
                continue
            if run.stopped is not None:
                stopped = run.stopped
                failures.append(Failure("sampling dynamics", group, stopped.kind, stopped.reason))
            first = self.equilibration_steps // self.every + 1
            for number, frame in enumerate(range(first, len(run))):
                candidates.append(
                    Candidate(run.structure(frame), f"{group}-{number}", kind, group, number)
                )
        return Selection(tuple(candidates), tuple(failures))

    def _settings(self, seed: int) -> Dynamics:
        return Dynamics(
            ensemble="langevin",
            temperature_k=self.temperature_k,
            timestep_fs=self.timestep_fs,
            steps=self.equilibration_steps + self.steps,
            every=self.every,
            friction_per_ps=self.friction_per_ps,
            seed=seed,
        )
