"""Time and peak memory of `karat check` on 100,000 structures of 20 atoms, reading included.

    .venv/bin/python benchmarks/doctor.py [--structures 100000] [--periodic]

Makes an extended XYZ file (energies, forces; with --periodic cells and stress) from a seed in a
temporary folder, runs the command on it as a user would, and prints one JSON line. The bar of the
project: 120 s and 4 GB on two cores.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ATOMS = 20
SYSTEMS = 50
"""Different compositions, as in a set of many molecules."""


def write(path: Path, structures: int, periodic: bool, seed: int) -> None:
    """Frames of springs between all pairs about `SYSTEMS` resting structures."""
    generator = np.random.default_rng(seed)
    symbols = np.array(["Cu", "Ni", "Al", "Au"] if periodic else ["H", "C", "N", "O"])
    edge = 3 * (2.6 if periodic else 1.5)
    systems = []
    for _ in range(SYSTEMS):
        grid = np.stack(np.meshgrid(*[np.arange(3)] * 3), -1).reshape(-1, 3)
        place = edge / 3 * generator.permutation(grid)[:ATOMS]
        systems.append((place, symbols[generator.integers(0, 4, ATOMS)]))
    words = f'Lattice="{edge} 0 0 0 {edge} 0 0 0 {edge}" pbc="T T T"' if periodic else 'pbc="F F F"'
    with path.open("w") as stream:
        for number in range(structures):
            place, names = systems[number * SYSTEMS // structures]
            moved = place + generator.normal(0, 0.05, (ATOMS, 3))
            energy, forces, stress = _springs(place, moved, edge if periodic else None)
            label = f'REF_stress="{" ".join(f"{x:.8f}" for x in stress.ravel())}" ' * periodic
            stream.write(
                f"{ATOMS}\nProperties=species:S:1:pos:R:3:REF_forces:R:3 "
                f"REF_energy={energy:.8f} {label}{words}\n"
            )
            table = np.concatenate([moved, forces], axis=1).tolist()
            stream.write(
                "".join(
                    "{} {:.8f} {:.8f} {:.8f} {:.8f} {:.8f} {:.8f}\n".format(name, *row)
                    for name, row in zip(names, table)
                )
            )


def _springs(
    place: np.ndarray, moved: np.ndarray, edge: float | None
) -> tuple[float, np.ndarray, np.ndarray]:
    """Energy, forces and stress; stiff between neighbours, by the nearest image."""
    first, second = np.triu_indices(ATOMS, 1)
    rest, vector = (x[second] - x[first] for x in (place, moved))
    if edge is not None:
        images = edge * np.round(rest / edge)
        rest, vector = rest - images, vector - images
    length, usual = np.linalg.norm(vector, axis=1), np.linalg.norm(rest, axis=1)
    stiff = np.where(usual < 1.6, 30.0, 0.5)
    off = length - usual
    pull = (stiff * off / length)[:, None] * vector
    forces = np.zeros((ATOMS, 3))
    np.add.at(forces, first, pull)
    np.add.at(forces, second, -pull)
    stress = np.einsum("px,py->xy", pull, vector) / (edge or 1.0) ** 3
    return float((stiff * off**2).sum() / 2 - 5.0 * ATOMS), forces, (stress + stress.T) / 2


def main() -> None:
    """Make the file, run the command, print what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--structures", type=int, default=100_000)
    parser.add_argument("--periodic", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.xyz"
        write(path, asked.structures, asked.periodic, asked.seed)
        command = [str(Path(sys.executable).with_name("karat")), "check", str(path), "--json"]
        begun = time.monotonic()
        done = subprocess.run(
            [*command, "--level", "none"], capture_output=True, text=True, check=False
        )
        seconds = time.monotonic() - begun
        size = path.stat().st_size
    if done.returncode not in (0, 1):
        sys.exit(done.stderr)
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    findings = json.loads(done.stdout)["findings"]
    print(
        json.dumps(
            {
                "structures": asked.structures,
                "atoms": ATOMS,
                "periodic": asked.periodic,
                "file_mb": round(size / 1e6),
                "seconds": round(seconds, 1),
                "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
                "peak_gb": round(usage.ru_maxrss / 1e6, 2),
                "cores": os.cpu_count(),
                "findings": sorted({f"{f['severity']} {f['code']}" for f in findings}),
            }
        )
    )


if __name__ == "__main__":
    main()
