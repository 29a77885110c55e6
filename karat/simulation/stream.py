"""Dynamics into files: frames as they come, checkpoints, resumed after whatever interrupted them.

Checked: tests/simulation/test_stream.py.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from karat.core.errors import BadInput, CalculationFailed
from karat.potentials.protocol import AbstractPotential
from karat.results.metric import Failure
from karat.simulation.dynamics import (
    all_stopped,
    failure_of,
    frames_of,
    make_run,
    offset,
    seeds_of,
    start_velocities,
    stop_of,
)
from karat.simulation.loop import Dynamics
from karat.simulation.start_checks import check_overlap, check_timestep
from karat.simulation.trajectory.checkpoints import Checkpoint, Checkpoints
from karat.simulation.trajectory.frames import FrameBlock, Storage
from karat.simulation.trajectory.rate import ns_per_day
from karat.simulation.trajectory.writer import TrajectoryWriter, open_writer
from karat.simulation.velocities import degrees_of_freedom, kinetic_energy, masses
from karat.structures.structure import Structure

if TYPE_CHECKING:
    from karat.simulation.dynamics import HostedRun, NativeRun
    from karat.simulation.engine.run import Piece
    from karat.simulation.engine.saved import Saved

PIECE_FRAMES = 100
"""Frames between two checkpoints, at most."""
MOST_FILES = 500
"""Trajectories that are open at once."""
StreamProgress = Callable[[int, int, float, int], None]
"""Called with (steps done, steps in all, seconds of this session's loop, steps done before it)."""


@dataclass(frozen=True, eq=False)
class Streamed:
    """A trajectory on disk.

    Attributes:
        path: its file.
        frames: how many it holds, the start included.
        stopped: why it ended early, or `None`.
        ns_per_day: of this one system, in this session; 0 where nothing was left to do.
        seconds: wall time of this session's loop, for all systems together.
        warnings: what the user should know about the checkpoint.
    """

    path: Path
    frames: int
    stopped: Failure | None
    ns_per_day: float
    seconds: float
    warnings: tuple[str, ...]


def stream_dynamics(
    potential: AbstractPotential,
    structures: Sequence[Structure],
    settings: Dynamics,
    paths: Sequence[Path],
    checkpoints: Path,
    velocities: Sequence[Float[np.ndarray, "_ 3"]] | None = None,
    seeds: Sequence[int] | None = None,
    inner: AbstractPotential | None = None,
    identity: Mapping[str, Any] | None = None,
    piece_frames: int = PIECE_FRAMES,
    progress: StreamProgress | None = None,
) -> list[Streamed]:
    """`run_batch` with bounded memory: frames go to `paths` (``.xyz``, ``.h5``), one for each
    structure, and the state to the folder `checkpoints`.

    Called again after an interruption it goes on from the last checkpoint; the files are then
    those of an undisturbed run, byte for byte. More `steps` than before make a run longer.

    Args:
        identity: what names the potential; a run is not taken up with another one.
        piece_frames: at most so many frames between two checkpoints.

    Raises:
        As `run_batch`; BadInput also for atoms on top of each other, a time step that is unstable,
        and a checkpoint of another run; CalculationFailed (kinds ``disk-full``,
        ``write-failed``) where a file cannot be written: what was written stays.
    """
    if len(paths) != len(structures) or len(paths) > MOST_FILES:
        raise BadInput(
            f"dynamics: {len(paths)} files for {len(structures)} structures; one for each is "
            f"needed, at most {MOST_FILES} at once."
        )
    seeds = seeds_of(structures, settings, seeds)
    start = start_velocities(structures, settings, velocities, seeds)
    store = Checkpoints(checkpoints)
    found = store.load()
    header = _header(structures, settings, seeds, identity or {})
    if found is None:
        for structure in {one.digest: one for one in structures}.values():
            check_overlap(structure)
            check_timestep(potential, structure, settings)
    else:
        _check_same(found, header, checkpoints)
    run = make_run(
        potential, structures, settings, start, seeds, inner, _saved(found), max(2, piece_frames)
    )
    if found is not None:
        for name, (kind, reason) in found.header["failures"].items():
            run.failures[int(name)] = CalculationFailed(reason, kind)
    with ExitStack() as stack:
        writers = []
        for i, (path, structure) in enumerate(zip(paths, structures)):
            mark = found.marks[str(i)] if found is not None else None
            storage = _storage(structure, settings)
            writers.append(
                stack.enter_context(open_writer(path, structure, header, storage, mark=mark))
            )
        job = _Job(potential, structures, settings, run, writers, store, header)
        return job.finish(progress, () if found is None else found.warnings)


def _saved(found: Checkpoint | None) -> "Saved | None":
    from karat.simulation.engine.saved import Saved

    return None if found is None else Saved.from_arrays(found.arrays)


@dataclass(frozen=True, eq=False)
class _Job:
    """A run and its files."""

    potential: AbstractPotential
    structures: Sequence[Structure]
    settings: Dynamics
    run: "NativeRun | HostedRun"
    writers: Sequence[TrajectoryWriter]
    store: Checkpoints
    header: Mapping[str, Any]

    def finish(self, progress: StreamProgress | None, warnings: tuple[str, ...]) -> list[Streamed]:
        run, total = self.run, self.settings.intervals * self.settings.every
        before = max(int(run.state.step), 0)
        if int(run.state.step) < 0:
            self._save()
        while not run.finished and not all_stopped(run):
            self._append(run.next_piece())
            self._save()
            if progress is not None:
                progress(int(run.state.step), total, run.seconds, before)
        made = int(run.state.step) - before
        speed = ns_per_day(made / run.seconds, self.settings.timestep_fs) if made > 0 else 0.0
        streamed = []
        for i, (writer, structure) in enumerate(zip(self.writers, self.structures)):
            stop = stop_of(run, i, self.settings)
            streamed.append(
                Streamed(
                    path=writer.finish(),
                    frames=writer.frames,
                    stopped=failure_of(stop, structure, self.settings),
                    ns_per_day=speed,
                    seconds=run.seconds,
                    warnings=warnings,
                )
            )
        return streamed

    def _save(self) -> None:
        failures = {
            str(i): [getattr(error, "kind", "error"), str(error)]
            for i, error in self.run.failures.items()
        }
        marks = {str(i): writer.mark() for i, writer in enumerate(self.writers)}
        self.store.save(self.run.saved.to_arrays(), {**self.header, "failures": failures}, marks)

    def _append(self, piece: "Piece") -> None:
        first = 0
        for i, (structure, writer) in enumerate(zip(self.structures, self.writers)):
            atoms = slice(first, first + len(structure))
            first += len(structure)
            valid = frames_of(self.settings, stop_of(self.run, i, self.settings))
            count = min(len(piece.energies), valid - piece.first)
            if count > 0:
                writer.append(self._block(piece, i, atoms, count))

    def _block(self, piece: "Piece", i: int, atoms: slice, count: int) -> FrameBlock:
        structure, settings = self.structures[i], self.settings
        velocities = piece.velocities[:count, atoms]
        potential = piece.energies[:count, i] + offset(self.potential, structure)
        kinetic = kinetic_energy(masses(structure), velocities)
        kept = np.broadcast_to(structure.cell, (count, 3, 3))
        steady = settings.barostat == "none" and settings.end_temperature_k is None
        number = np.arange(piece.first, piece.first + count)
        return FrameBlock(
            first=piece.first,
            times_fs=number * (settings.every * settings.timestep_fs),
            positions=piece.positions[:count, atoms],
            velocities=velocities,
            cells=np.array(kept if piece.cells is None else piece.cells[:count, i]),
            potential_energies=potential,
            kinetic_energies=kinetic,
            stress=None if piece.stress is None else piece.stress[:count, i],
            conserved=potential + kinetic + piece.conserved[:count, i] if steady else None,
        )


def _storage(structure: Structure, settings: Dynamics) -> Storage:
    momentum = settings.ensemble == "langevin"  # its noise moves and turns the whole
    freedom = 3 * len(structure) if momentum else degrees_of_freedom(structure)
    return Storage(every=settings.every, degrees_of_freedom=freedom)


def _header(
    structures: Sequence[Structure],
    settings: Dynamics,
    seeds: Sequence[int],
    identity: Mapping[str, Any],
) -> dict[str, Any]:
    return {
        "dynamics": dataclasses.asdict(settings),
        "structures": [structure.digest for structure in structures],
        "seeds": [int(seed) for seed in seeds],
        "potential": dict(identity),
    }


def _check_same(found: Checkpoint, header: Mapping[str, Any], folder: Path) -> None:
    """Refuse a checkpoint of another run; a run without ramp may become longer."""
    had, has = dict(found.header["dynamics"]), dict(header["dynamics"])
    ramp = had["end_temperature_k"] is not None or had["end_pressure_gpa"] is not None
    if not ramp and has["steps"] >= had["steps"]:
        had.pop("steps"), has.pop("steps")
    differ = [f"dynamics.{key} (was {had[key]})" for key in had if had[key] != has.get(key)]
    differ += [
        key for key in ("structures", "seeds", "potential") if found.header[key] != header[key]
    ]
    if differ:
        raise BadInput(
            f"{folder}: holds a run with another {', another '.join(differ)}. Take it up with "
            "what it was begun with, or name another output folder."
        )
