"""Time per OpenMM step over the bare potential call; LAMMPS on one and two ranks.

    python benchmarks/export_overhead.py openmm
    python benchmarks/export_overhead.py lammps

`openmm`: Lennard-Jones argon, 64 and 500 atoms, platforms Reference and CPU; steps of the
exported potential and calls of its compiled function with the same list alternate in blocks, and
the median block of each is printed. Bar: 0.3 ms a step over the bare call.

`lammps`: 4096 atoms of Lennard-Jones argon, 100 steps of NVE with list updates, wall time of
LAMMPS' loop, one and two ranks alternating, one thread a rank. Bar: two at least 1.7 times one.
"""

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from karat.core.threads import single_thread

single_thread()

import numpy as np  # noqa: E402

ARGON = {
    "epsilon_ev": {"Ar": 0.0104},
    "sigma_angstrom": {"Ar": 3.4},
    "cutoff_angstrom": 7.5,
    "onset_angstrom": 6.5,
}
BLOCKS, STEPS = 15, 40
INPUT = """\
units metal
atom_modify map yes
lattice fcc 5.4
region box block 0 8 0 8 0 16
create_box 1 box
create_atoms 1 box
mass 1 39.95
velocity all create 120 4 loop geom
# karat Ar
neighbor 1.0 bin
neigh_modify delay 0 every 1 check yes
fix move all nve
timestep 0.002
thermo 100
run 20
run 100
"""


def argon(cells):
    from ase.build import bulk

    from karat.structures.structure import Structure

    atoms = bulk("Ar", "fcc", a=5.4, cubic=True).repeat(cells)
    atoms.rattle(0.05, seed=1)
    return Structure.from_ase(atoms)


def overhead(structure, platform):
    """Median milliseconds of a step, of the same step without any force, of a bare call."""
    import openmm

    from karat.potentials.analytic.lennard_jones import LennardJones
    from karat.simulation.export.compiled import CompiledNative
    from karat.simulation.export.openmm_engine import topology_of
    from karat.simulation.export.openmm_force import potential_system

    potential = LennardJones(**ARGON).load()
    topology, rotation = topology_of(structure)
    system = potential_system(potential, topology)
    chosen = openmm.Platform.getPlatformByName(platform)
    settings = {"Threads": "1"} if platform == "CPU" else {}
    context = openmm.Context(system, openmm.VerletIntegrator(0.002), chosen, settings)
    context.setPositions(structure.positions @ rotation / 10)
    context.setVelocitiesToTemperature(60, 1)
    bare = CompiledNative(potential, structure)
    bare(structure.positions, structure.cell)
    kernel = bare._kernel
    steps, calls = [], []
    for block in range(BLOCKS + 2):
        began = time.perf_counter()
        context.getIntegrator().step(STEPS)
        middle = time.perf_counter()
        for _ in range(STEPS):
            kernel(structure.positions)
        ended = time.perf_counter()
        if block >= 2:
            steps.append((middle - began) / STEPS)
            calls.append((ended - middle) / STEPS)
    return 1000 * np.median(steps), 1000 * np.median(calls)


def run_openmm():
    from karat.potentials.precision import enable_float64

    enable_float64()
    print("atoms  platform   step ms  bare call ms  over ms")
    for cells in ((2, 2, 4), (5, 5, 5)):
        structure = argon(cells)
        for platform in ("Reference", "CPU"):
            step, call = overhead(structure, platform)
            over = step - call
            print(f"{len(structure):5d}  {platform:9s} {step:8.3f} {call:13.3f} {over:8.3f}")


def run_lammps():
    from karat.potentials.precision import enable_float64
    from karat.simulation.export.write import export

    enable_float64()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        folder = export("lennard_jones", "lammps", work / "out", [argon((3, 3, 3))], ARGON).folder
        (work / "in.lmp").write_text(INPUT)
        mpirun = Path(sys.executable).parent / "mpirun"
        times = {1: [], 2: []}
        for _ in range(3):
            for ranks in (1, 2):
                words = [str(mpirun), "-n", str(ranks), sys.executable, str(folder / "run.py")]
                done = subprocess.run([*words, "in.lmp"], cwd=work, capture_output=True, text=True)
                if done.returncode:
                    sys.exit(done.stderr)
                found = re.findall(r"Loop time of (\S+) on", done.stdout)
                times[ranks].append(float(found[-1]))
                print(f"{ranks} rank(s): {times[ranks][-1]:.3f} s for 100 steps", flush=True)
    one, two = (float(np.median(times[ranks])) for ranks in (1, 2))
    print(f"median: {one:.3f} s and {two:.3f} s: {one / two:.2f} times")


if __name__ == "__main__":
    modes = {"openmm": run_openmm, "lammps": run_lammps}
    if len(sys.argv) != 2 or sys.argv[1] not in modes:
        sys.exit(__doc__)
    modes[sys.argv[1]]()
