"""Where the runs of `dynamics.py` begin: liquid argon, warm silicon. Kept as .npz in a folder.

    python dynamics_starts.py argon FILE.npz CELLS COPIES STEPS
    python dynamics_starts.py silicon FILE.npz CELLS

`argon`: CELLS³ cubic cells of four atoms at 0.8442 σ⁻³, melted at T* = 1.44 for half of STEPS
(Langevin, 5 fs) and held at T* = 0.72 for the other half, then repeated COPIES times along each
direction with thermal velocities of their own. `silicon`: CELLS³ cubic cells of eight atoms,
rattled by 0.05 Å, 300 K.
"""

import sys

from karat.core.threads import single_thread

single_thread()

import numpy as np  # noqa: E402
from dynamics_loops import ARGON, potential_of  # noqa: E402

from karat.core.units import ACCELERATION, BOLTZMANN  # noqa: E402

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


def argon(path: str, cells: int, copies: int, steps: int) -> None:
    from ase.build import bulk

    from karat.simulation.dynamics import Dynamics, run_dynamics
    from karat.simulation.velocities import thermal_velocities
    from karat.structures.structure import Structure

    units = reduced()
    lattice = (4 / DENSITY) ** (1 / 3) * units["sigma"]
    structure = Structure.from_ase(bulk("Ar", "fcc", a=lattice, cubic=True).repeat(cells))
    potential = potential_of(18, "float32")
    for factor in (MELT, 1.0):
        settings = Dynamics(
            "langevin", factor * units["temperature_k"], 5.0, steps // 2, steps // 2, 2.0
        )
        run = run_dynamics(potential, structure, settings)
        if run.stopped is not None:
            sys.exit(f"argon did not melt: {run.stopped.reason}")
        structure = run.structure(-1)
    atoms = structure.to_ase()
    atoms.wrap()
    structure = Structure.from_ase(atoms.repeat(copies))
    velocities = thermal_velocities(structure, units["temperature_k"], 1)
    write(path, structure, velocities, units)


def silicon(path: str, cells: int) -> None:
    from ase.build import bulk

    from karat.simulation.velocities import thermal_velocities
    from karat.structures.structure import Structure

    atoms = bulk("Si", "diamond", a=5.431, cubic=True).repeat(cells)
    atoms.rattle(0.05, seed=1)
    structure = Structure.from_ase(atoms)
    unit = float(np.sqrt(BOLTZMANN * ACCELERATION / 28.085))  # temperatures in K
    units = {"temperature_k": 300.0, "thermostat_ps": 0.1, "velocity_unit": unit}
    write(path, structure, thermal_velocities(structure, 300.0, 1), units)


def write(path, structure, velocities, units) -> None:
    """One file for karat's and the peers' processes."""
    from karat.simulation.velocities import without_drift

    np.savez(
        path,
        numbers=structure.numbers,
        positions=structure.positions,
        cell=structure.cell,
        box=np.diag(structure.cell),
        velocities=without_drift(structure, velocities),
        **units,
    )


if __name__ == "__main__":
    kinds = {"argon": (argon, 6), "silicon": (silicon, 4)}
    if len(sys.argv) < 2 or sys.argv[1] not in kinds or len(sys.argv) != kinds[sys.argv[1]][1]:
        sys.exit(__doc__)
    kinds[sys.argv[1]][0](sys.argv[2], *map(int, sys.argv[3:]))
