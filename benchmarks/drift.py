"""Drift of the total energy in NVE dynamics: five runs of 200 ps, float64 and float32.

    taskset -c 1 .venv/bin/python benchmarks/drift.py --model acac.karat --start acac.xyz

Stillinger–Weber silicon (64 atoms, 1 fs) and, with --model, a trained potential on a molecule
(0.5 fs), both from 300 K velocities after 5 ps of Langevin dynamics at 300 K. The five runs go
side by side, with seeds of their own. Prints the slope of each run by least squares, and their mean
with Student's interval, in meV/atom/ns.
"""

import argparse
import json
import platform
from pathlib import Path

from karat.core.threads import single_thread

single_thread()

import jax  # noqa: E402
import numpy as np  # noqa: E402

from karat.potentials.karat_file import load  # noqa: E402
from karat.potentials.native_protocol import NativePotential  # noqa: E402
from karat.potentials.precision import enable_float64  # noqa: E402

enable_float64()

from karat.potentials.analytic.stillinger_weber import StillingerWeber  # noqa: E402
from karat.simulation.analysis.thermodynamics import (  # noqa: E402
    drift_of_runs,
    energy_drift_mev_per_atom_per_ns,
)
from karat.simulation.dynamics import Dynamics, run_batch  # noqa: E402
from karat.structures.builders import crystal  # noqa: E402
from karat.structures.geometry_files import from_file  # noqa: E402
from karat.structures.structure import Structure  # noqa: E402

RUNS = 5
PICOSECONDS = 200.0
WARM_PS = 5.0
EVERY_FS = 50.0


def drift(name: str, potential: NativePotential, start: Structure, timestep: float, ps: float):
    warm = Dynamics(
        "langevin", 300.0, timestep, round(1000 * WARM_PS / timestep), round(EVERY_FS / timestep)
    )
    starts = run_batch(potential, [start] * RUNS, warm)
    settings = Dynamics("nve", 300.0, timestep, round(1000 * ps / timestep), warm.every, seed=7)
    runs = run_batch(
        potential,
        [run.structure(len(run) - 1) for run in starts],
        settings,
        [run.velocities[-1] for run in starts],
    )
    assert all(run.stopped is None for run in runs), [run.stopped for run in runs]
    slopes = [
        energy_drift_mev_per_atom_per_ns(run.times_fs, run.total_energies, len(start))
        for run in runs
    ]
    mean = drift_of_runs(slopes)
    print(
        json.dumps(
            {
                "case": name,
                "dtype": str(potential.dtype),
                "atoms": len(start),
                "timestep_fs": timestep,
                "ps": ps,
                "slopes_mev_per_atom_ns": [round(slope.value, 6) for slope in slopes],
                "mean": round(mean.value, 6),
                "interval_95": [mean.low, mean.high],
                "fluctuation_mev_per_atom": float(
                    np.mean([np.std(run.total_energies) for run in runs]) / len(start) * 1e3
                ),
                "seconds_per_step_of_all_runs": runs[0].seconds / settings.steps,
            },
        ),
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help="a trained .karat file")
    parser.add_argument("--start", type=Path, help="a structure of it")
    parser.add_argument("--no-silicon", action="store_true", help="the model only")
    parser.add_argument("--ps", type=float, default=PICOSECONDS)
    parser.add_argument("--dtype", choices=["float64", "float32"], nargs="*")
    options = parser.parse_args()
    print(platform.platform(), platform.machine(), "jax", jax.__version__, jax.devices()[0])
    for dtype in options.dtype or ["float64", "float32"]:
        if not options.no_silicon:
            silicon = StillingerWeber(preset="Si", dtype=dtype).load()
            start = crystal("Si", "diamond", a=5.431, cubic=True, supercell=(2, 2, 2))
            drift("Stillinger-Weber Si", silicon, start, 1.0, options.ps)
        if options.model:
            again = load(options.model, dtype)
            drift(options.model.stem, again, from_file(options.start)[0], 0.5, options.ps)


if __name__ == "__main__":
    main()
