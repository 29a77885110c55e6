"""A made-up run, frame by frame a function of the frame's number; also a program that is killed.

`python made_run.py '{"path": …}'` writes a trajectory with checkpoints, going on where an earlier
call ended; see `main`.
"""

import json
import resource
import signal
import sys
from pathlib import Path

import numpy as np

from karat.core.errors import CalculationFailed
from karat.simulation.trajectory.checkpoints import Checkpoints
from karat.simulation.trajectory.frames import FrameBlock, Storage
from karat.simulation.trajectory.writer import open_writer
from karat.simulation.velocities import kinetic_energy, masses
from karat.structures.structure import Structure


def made_structure(atoms=5, periodic=True):
    rng = np.random.default_rng(atoms)
    cell = (
        np.array([[6.0, 0, 0], [1.1, 7.3, 0], [0.7, -0.9, 8.1]]) if periodic else np.zeros((3, 3))
    )
    return Structure(
        numbers=rng.choice([1, 6, 8], size=atoms),
        positions=rng.normal(size=(atoms, 3)) * 5,
        cell=cell,
        periodic=np.full(3, periodic),
    )


def made_block(start, first, count, optional=("stress", "forces", "conserved")):
    atoms = len(start)
    values = np.zeros((count, 9 * atoms + 11))
    for k in range(count):
        values[k] = np.random.default_rng([7, first + k]).normal(size=values.shape[1])
    columns = values[:, : 9 * atoms].reshape(count, 3, atoms, 3)
    tensor = values[:, 9 * atoms : 9 * atoms + 9].reshape(count, 3, 3)
    velocities = 0.01 * columns[:, 1]
    cells = np.broadcast_to(start.cell, (count, 3, 3)) * (1 + 0.01 * np.tanh(tensor[:, :1, :1]))
    return FrameBlock(
        first=first,
        times_fs=0.7 * np.arange(first, first + count),
        positions=start.positions + columns[:, 0],
        velocities=velocities,
        cells=np.ascontiguousarray(cells),
        potential_energies=values[:, -1] / 3,
        kinetic_energies=kinetic_energy(masses(start), velocities),
        stress=(tensor + tensor.transpose(0, 2, 1)) / 7 if "stress" in optional else None,
        forces=np.ascontiguousarray(columns[:, 2]) if "forces" in optional else None,
        conserved=values[:, -2] if "conserved" in optional else None,
    )


def main(path, folder, atoms, frames, block, every, storage, limit=None, limit_end=None):
    """Blocks of `block` frames, a checkpoint after every `every` blocks; then finish.

    `limit`, `limit_end`: bytes that a file may have, from the start and for the end.
    """
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    start = made_structure(atoms)
    checkpoints = Checkpoints(folder)
    found = checkpoints.load()
    mark = None if found is None else found.marks["trajectory"]
    header = {"potential": "made up", "text": 'a "quoted" \\ name, Å = {b}'}
    with open_writer(path, start, header, Storage(**storage), mark) as writer:
        if found is None:
            checkpoints.save({"at": np.array(0)}, header, {"trajectory": writer.mark()})
        print("ready", flush=True)
        restrict(limit)
        since = 0
        while writer.frames < frames:
            count = min(block, frames - writer.frames)
            writer.append(made_block(start, writer.frames, count))
            since += 1
            if since % every == 0:
                at = {"at": np.array(writer.frames)}
                checkpoints.save(at, header, {"trajectory": writer.mark()})
        checkpoints.save({"at": np.array(frames)}, header, {"trajectory": writer.mark()})
        print("finishing", flush=True)
        restrict(limit_end)
        writer.finish()
    print("done", flush=True)


def restrict(limit):
    """No file may grow beyond so many bytes: what a write then meets is as from a full disk."""
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))


if __name__ == "__main__":
    arguments = json.loads(sys.argv[1])
    try:
        main(**{**arguments, "path": Path(arguments["path"])})
    except CalculationFailed as error:
        print(f"{error.kind}: {error}", flush=True)
        sys.exit(1)
