"""Molecular dynamics at constant energy, temperature or pressure, of one or many systems.

One verb for all potentials: the loop of native (JAX) ones is compiled as a whole
(`engine/run.py`), others give forces to the same compiled half steps (`engine/hosted.py`). The
same seed gives the same random forces and the same bits again.

Checked: tests/simulation/test_dynamics.py, engine/test_run.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from karat.core.errors import BadInput, CalculationFailed
from karat.potentials.protocol import AbstractPotential, check_suitable
from karat.results.metric import Failure
from karat.simulation.loop import Dynamics, Progress, Stop, stop_at
from karat.simulation.velocities import kinetic_energy, masses, thermal_velocities, without_drift
from karat.structures.labels import Quantity
from karat.structures.structure import Structure

if TYPE_CHECKING:
    from karat.simulation.engine.hosted import HostedRun
    from karat.simulation.engine.run import NativeRun, Piece
    from karat.simulation.engine.saved import Saved

__all__ = ["Dynamics", "Trajectory", "run_batch", "run_dynamics", "thermal_velocities"]


@dataclass(frozen=True, eq=False)
class Trajectory:
    """What a run left; frame 0 is the start. Positions are not wrapped into the cell.

    Attributes:
        start: the structure it began with.
        times_fs: since the start.
        positions: Å.
        velocities: Å/fs, at the same times as the positions.
        potential_energies, kinetic_energies: eV.
        bath_energies: eV; added to the total energy they give what the integrator conserves.
            With a barostat or a ramp nothing is conserved.
        cells: Å, of each frame; `None` where the cell is kept.
        stress: eV/Å³, of the potential (tension positive, without the kinetic part); `None` if
            not asked for.
        stopped: why it ended early, or `None`; all kept frames are valid.
        seconds: wall time of the loop, for all systems that ran together; compilation excluded.
        stopped_step: the step that could not be made, or `None`.
    """

    start: Structure
    times_fs: Float[np.ndarray, "frames"]
    positions: Float[np.ndarray, "frames atoms 3"]
    velocities: Float[np.ndarray, "frames atoms 3"]
    potential_energies: Float[np.ndarray, "frames"]
    kinetic_energies: Float[np.ndarray, "frames"]
    bath_energies: Float[np.ndarray, "frames"]
    cells: Float[np.ndarray, "frames 3 3"] | None
    stress: Float[np.ndarray, "frames 3 3"] | None
    stopped: Failure | None
    seconds: float
    stopped_step: int | None = None

    def __len__(self) -> int:
        return len(self.times_fs)

    @property
    def total_energies(self) -> Float[np.ndarray, "frames"]:
        """Potential plus kinetic energy, eV."""
        return self.potential_energies + self.kinetic_energies

    @property
    def volumes(self) -> Float[np.ndarray, "frames"]:
        """Å³ of each frame."""
        if self.cells is None:
            return np.full(len(self), self.start.volume)
        return np.asarray(np.abs(np.linalg.det(self.cells)))

    def structure(self, frame: int) -> Structure:
        """The structure of one frame."""
        if self.cells is None:
            return self.start.replace(positions=self.positions[frame])
        return self.start.replace(positions=self.positions[frame], cell=self.cells[frame])


def run_dynamics(
    potential: AbstractPotential,
    structure: Structure,
    settings: Dynamics,
    velocities: Float[np.ndarray, "atoms 3"] | None = None,
    progress: Progress | None = None,
    inner: AbstractPotential | None = None,
) -> Trajectory:
    """Move the atoms of `structure` by `potential`.

    A run that explodes (a number that is not finite, a step longer than `MAX_STEP_ANGSTROM`, a
    kinetic temperature beyond `HOT_FACTOR`) or whose potential fails stops there; the frames
    before are kept, and `stopped` says at which step and why.

    Args:
        velocities: Å/fs; by default `thermal_velocities` at the set temperature. Nosé–Hoover and
            velocity rescaling take out the overall motion, which they would heat otherwise.
        inner: the cheap potential of r-RESPA; the slow forces are what `potential` adds to it.

    Raises:
        UnknownElement, UnsuitableStructure: see `check_suitable`.
        BadInput: velocities of another shape or not finite, or settings that do not fit the
            potential.
        CalculationFailed: already the start has no finite energy and forces.
    """
    given = None if velocities is None else [velocities]
    seeds = [settings.seed]
    run = run_batch(potential, [structure], settings, given, seeds, progress, inner)[0]
    if run.stopped is not None and run.stopped_step == 0:
        reason = run.stopped.reason.partition(": ")[2]
        raise CalculationFailed(
            f"Dynamics of {structure.formula} cannot start: {reason}", kind=run.stopped.kind
        )
    return run


def run_batch(
    potential: AbstractPotential,
    structures: Sequence[Structure],
    settings: Dynamics,
    velocities: Sequence[Float[np.ndarray, "_ 3"]] | None = None,
    seeds: Sequence[int] | None = None,
    progress: Progress | None = None,
    inner: AbstractPotential | None = None,
) -> list[Trajectory]:
    """`run_dynamics` of several systems (or of replicas of one) side by side, in one loop.

    What explodes stands still while the others go on. A system's random numbers depend on its
    seed only, not on the others.

    Args:
        velocities: Å/fs of each; by default thermal ones.
        seeds: of each one's velocities and noise; by default settings.seed, and so on upwards.

    Raises:
        As `run_dynamics`, except that a start without finite forces counts as stopped at step 0.
    """
    seeds = seeds_of(structures, settings, seeds)
    start = start_velocities(structures, settings, velocities, seeds)
    run = make_run(potential, structures, settings, start, seeds, inner)
    pieces: list[Piece] = []
    total = settings.intervals * settings.every
    while not run.finished and not all_stopped(run):
        pieces.append(run.next_piece())
        if progress is not None and not all_stopped(run):
            progress(int(run.state.step), total)
    return [
        _trajectory(potential, structure, settings, i, structures, pieces, run)
        for i, structure in enumerate(structures)
    ]


def seeds_of(
    structures: Sequence[Structure], settings: Dynamics, seeds: Sequence[int] | None
) -> Sequence[int]:
    """A seed for each system.

    Raises:
        BadInput: another number of seeds than of structures, or no structure.
    """
    if not structures:
        raise BadInput("dynamics: no structure is given.")
    chosen = seeds or [(settings.seed + i) % 2**32 for i in range(len(structures))]
    if len(chosen) != len(structures):
        raise BadInput(f"dynamics: {len(chosen)} seeds for {len(structures)} structures.")
    return chosen


def start_velocities(
    structures: Sequence[Structure],
    settings: Dynamics,
    velocities: Sequence[Float[np.ndarray, "_ 3"]] | None,
    seeds: Sequence[int],
) -> list[Float[np.ndarray, "_ 3"]]:
    """Velocities (Å/fs) to start with; see `run_dynamics`.

    Raises:
        BadInput: of another shape, or not finite.
    """
    if velocities is None:
        velocities = [
            thermal_velocities(s, settings.temperature_k, seed)
            for s, seed in zip(structures, seeds)
        ]
    for structure, own in zip(structures, velocities, strict=True):
        if own.shape != (len(structure), 3) or not np.isfinite(own).all():
            raise BadInput(f"velocities need {len(structure)} rows of 3 finite numbers, in Å/fs.")
    if settings.ensemble in ("nose-hoover", "velocity-rescaling"):
        return [without_drift(s, own) for s, own in zip(structures, velocities)]
    return list(velocities)


def make_run(
    potential: AbstractPotential,
    structures: Sequence[Structure],
    settings: Dynamics,
    velocities: Sequence[Float[np.ndarray, "_ 3"]],
    seeds: Sequence[int],
    inner: AbstractPotential | None = None,
    saved: "Saved | None" = None,
    piece_frames: int | None = None,
) -> "NativeRun | HostedRun":
    """A run that is ready to go, or to go on from `saved`.

    Raises:
        As `run_dynamics`.
    """
    from karat.potentials.native_protocol import NativePotential
    from karat.simulation.engine.hosted import HostedRun
    from karat.simulation.engine.run import NativeRun

    want: tuple[Quantity, ...] = ("energy", "forces")
    if settings.barostat != "none" or settings.stress:
        want += ("stress",)
    for structure in structures:
        check_suitable(potential, structure, want)
    _check_inner(potential, inner, settings)
    native = potential.traits.native and isinstance(potential, NativePotential)
    if not native:
        return HostedRun(potential, structures, velocities, settings, seeds, saved, piece_frames)
    assert isinstance(potential, NativePotential)
    if inner is not None:
        for structure in structures:
            check_suitable(inner, structure, ("energy", "forces"))
        assert isinstance(inner, NativePotential)
    return NativeRun(potential, structures, velocities, settings, seeds, inner, saved, piece_frames)


def _check_inner(
    potential: AbstractPotential, inner: AbstractPotential | None, settings: Dynamics
) -> None:
    if (inner is None) != (settings.inner_steps == 1):
        raise BadInput(
            f"dynamics.inner_steps is {settings.inner_steps}: multiple time steps need more than "
            "1 and an inner potential, single ones 1 and none."
        )
    if inner is not None and not (potential.traits.native and inner.traits.native):
        raise BadInput(
            "dynamics: multiple time steps need two native potentials; `karat list` names them."
        )


def all_stopped(run: "NativeRun | HostedRun") -> bool:
    """Whether nothing moves any more."""
    return bool((np.asarray(run.state.status)[:-1] != 0).all())


def stop_of(run: "NativeRun | HostedRun", system: int, settings: Dynamics) -> Stop | None:
    """Why a system stopped, or `None`."""
    from karat.simulation.engine.step import KINDS, MOVING

    status = int(run.state.status[system])
    if status == MOVING:
        return None
    step = int(run.state.stopped[system])
    if status in KINDS:
        return stop_at(step, KINDS[status], settings)
    error = run.failures[system]
    return Stop(step, getattr(error, "kind", "error"), str(error))


def frames_of(settings: Dynamics, stop: Stop | None) -> int:
    """How many frames of a system are valid."""
    if stop is None:
        return settings.intervals + 1
    return 0 if stop.step == 0 else (stop.step - 1) // settings.every + 1


def _trajectory(
    potential: AbstractPotential,
    structure: Structure,
    settings: Dynamics,
    system: int,
    structures: Sequence[Structure],
    pieces: "Sequence[Piece]",
    run: "NativeRun | HostedRun",
) -> Trajectory:
    stop = stop_of(run, system, settings)
    frames = frames_of(settings, stop)
    first = sum(len(s) for s in structures[:system])
    atoms = slice(first, first + len(structure))

    def column(name: str, place: slice | int) -> np.ndarray | None:
        parts = [getattr(piece, name) for piece in pieces]
        if any(part is None for part in parts):
            return None
        return np.concatenate([part[:, place] for part in parts])[:frames]

    positions, velocities = column("positions", atoms), column("velocities", atoms)
    energies, bath = column("energies", system), column("conserved", system)
    assert positions is not None and velocities is not None  # noqa: PT018
    assert energies is not None and bath is not None  # noqa: PT018
    return Trajectory(
        start=structure,
        times_fs=np.arange(len(energies)) * (settings.every * settings.timestep_fs),
        positions=positions,
        velocities=velocities,
        potential_energies=energies + offset(potential, structure),
        kinetic_energies=kinetic_energy(masses(structure), velocities),
        bath_energies=bath,
        cells=column("cells", system),
        stress=column("stress", system),
        stopped=failure_of(stop, structure, settings),
        seconds=run.seconds,
        stopped_step=None if stop is None else stop.step,
    )


def offset(potential: AbstractPotential, structure: Structure) -> float:
    """eV that the compiled loop leaves out: reference energies."""
    from karat.potentials.native_protocol import NativePotential

    if potential.traits.native and isinstance(potential, NativePotential):
        return potential.offset(structure)
    return 0.0


def failure_of(stop: Stop | None, structure: Structure, settings: Dynamics) -> Failure | None:
    """The stop as a failure that a report counts."""
    if stop is None:
        return None
    return Failure(
        what=f"{settings.ensemble} dynamics",
        case=structure.formula,
        kind=stop.kind,
        reason=f"step {stop.step} ({stop.step * settings.timestep_fs:g} fs): {stop.reason}",
    )
