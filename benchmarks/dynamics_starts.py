"""Where the runs of `dynamics.py` begin: liquid argon, warm silicon. Kept as .npz in a folder.

    python dynamics_starts.py argon FILE.npz CELLS STEPS
    python dynamics_starts.py repeat FILE.npz ARGON.npz COPIES
    python dynamics_starts.py silicon FILE.npz CELLS

`argon`: CELLS³ cubic cells of four atoms at 0.8442 σ⁻³, melted at T* = 1.44 for half of STEPS
(Langevin, 5 fs) and held at T* = 0.72 for the other half. `repeat`: such a liquid repeated COPIES
times along each direction, with new thermal velocities. `silicon`: CELLS³ cubic cells of eight
atoms, rattled by 0.05 Å, 300 K.
"""

import sys
from typing import TYPE_CHECKING

from karat.core.threads import single_thread

single_thread()

import numpy as np  # noqa: E402
from dynamics_loops import ARGON, potential_of  # noqa: E402

from karat.core.units import ACCELERATION, BOLTZMANN  # noqa: E402

if TYPE_CHECKING:
    from karat.structures.structure import Structure

DENSITY, TEMPERATURE = 0.8442, 0.72  # near the triple point
MELT = 2.0
"""The crystal is heated to this many times the temperature first."""


def reduced() -> dict[str, float]:
    """σ (Å), ε (eV), unit of time (fs) and the temperature (K) that is meant by `TEMPERATURE`."""
    from ase.data import atomic_masses

    sigma, epsilon = ARGON["sigma_angstrom"]["Ar"], ARGON["epsilon_ev"]["Ar"]
    unit = sigma * np.sqrt(atomic_masses[18] / (epsilon * ACCELERATION))
    return {
        "sigma": sigma,
        "epsilon": epsilon,
        "time_unit": float(unit),
        "temperature": TEMPERATURE,
        "temperature_k": TEMPERATURE * epsilon / BOLTZMANN,
        "velocity_unit": float(sigma / unit),
        "thermostat": 0.5,
        "thermostat_ps": float(0.5 * unit / 1000),
    }


def argon(path: str, cells: str, steps: str) -> None:
    from ase.build import bulk

    from karat.simulation.dynamics import Dynamics, run_dynamics
    from karat.structures.structure import Structure

    units = reduced()
    lattice = (4 / DENSITY) ** (1 / 3) * units["sigma"]
    structure = Structure.from_ase(bulk("Ar", "fcc", a=lattice, cubic=True).repeat(int(cells)))
    potential = potential_of(18, "float32")
    half = int(steps) // 2
    for factor in (MELT, 1.0):
        settings = Dynamics("langevin", factor * units["temperature_k"], 5.0, half, half, 2.0)
        run = run_dynamics(potential, structure, settings)
        if run.stopped is not None:
            sys.exit(f"argon did not melt: {run.stopped.reason}")
        structure = run.structure(-1)
    atoms = structure.to_ase()
    atoms.wrap()
    write(path, Structure.from_ase(atoms), units)


def repeat(path: str, base: str, copies: str) -> None:
    from karat.structures.structure import Structure

    known = np.load(base)
    structure = Structure(known["numbers"], known["positions"], known["cell"], np.ones(3, bool))
    write(path, Structure.from_ase(structure.to_ase().repeat(int(copies))), reduced())


def silicon(path: str, cells: str) -> None:
    from ase.build import bulk

    from karat.structures.structure import Structure

    atoms = bulk("Si", "diamond", a=5.431, cubic=True).repeat(int(cells))
    atoms.rattle(0.05, seed=1)
    structure = Structure.from_ase(atoms)
    unit = float(np.sqrt(BOLTZMANN * ACCELERATION / 28.085))  # temperatures in K
    units = {"temperature_k": 300.0, "thermostat_ps": 0.1, "velocity_unit": unit}
    write(path, structure, units)


def write(path: str, structure: "Structure", units: dict[str, float]) -> None:
    """One file for karat's and the peers' processes, with thermal velocities."""
    from karat.simulation.velocities import thermal_velocities, without_drift

    velocities = thermal_velocities(structure, units["temperature_k"], 1)
    np.savez(
        path,
        numbers=structure.numbers,
        positions=structure.positions,
        cell=structure.cell,
        box=np.diag(structure.cell),
        velocities=without_drift(structure, velocities),
        **units,  # type: ignore[arg-type]
    )


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["argon", path, cells, steps]:
            argon(path, cells, steps)
        case ["repeat", path, base, copies]:
            repeat(path, base, copies)
        case ["silicon", path, cells]:
            silicon(path, cells)
        case _:
            sys.exit(__doc__)
