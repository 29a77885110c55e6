"""Drift of the total energy in NVE dynamics: five runs of 200 ps, float64 and float32.

    taskset -c 1 .venv/bin/python benchmarks/drift.py --model acac.karat --start acac.xyz
        [--folder RUNS]

Stillinger–Weber silicon (64 atoms, 1 fs) and, with --model, a trained potential on a molecule
(0.5 fs), both from 300 K velocities after 5 ps of Langevin dynamics at 300 K. The five runs come
one after the other, with seeds of their own; finished ones are kept in RUNS and not run again.
Prints the slope of each run by least squares, and their mean with Student's interval, in
meV/atom/ns.
"""

import argparse
import json
import platform
import tempfile
from pathlib import Path

from karat.core.threads import single_thread

single_thread()

import jax  # noqa: E402
import numpy as np  # noqa: E402

from karat.core.files import write_json  # noqa: E402
from karat.potentials.karat_file import load  # noqa: E402
from karat.potentials.native_protocol import NativePotential  # noqa: E402
from karat.potentials.precision import enable_float64  # noqa: E402

enable_float64()

from karat.potentials.analytic.stillinger_weber import StillingerWeber  # noqa: E402
from karat.results.statistics import without_interval  # noqa: E402
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


def one_run(potential: NativePotential, start: Structure, timestep: float, ps: float, seed: int):
    """Slope in meV/atom/ns, standard deviation of the energy in meV/atom, seconds a step."""
    steps, every = round(1000 * WARM_PS / timestep), round(EVERY_FS / timestep)
    warm = Dynamics("langevin", 300.0, timestep, steps, every, seed=seed)
    before = run_batch(potential, [start], warm)[0]
    settings = Dynamics("nve", 300.0, timestep, round(1000 * ps / timestep), every)
    last = before.structure(len(before) - 1)
    run = run_batch(potential, [last], settings, [before.velocities[-1]])[0]
    assert run.stopped is None, run.stopped
    slope = energy_drift_mev_per_atom_per_ns(run.times_fs, run.total_energies, len(start))
    return {
        "slope": slope.value,
        "fluctuation": float(np.std(run.total_energies)) / len(start) * 1e3,
        "seconds_per_step": run.seconds / settings.steps,
    }


def drift(
    name: str,
    potential: NativePotential,
    start: Structure,
    timestep: float,
    ps: float,
    folder: Path,
) -> None:
    """All runs of one case, those found in `folder` read; prints a line for each and the mean."""
    runs = []
    for seed in range(RUNS):
        file = folder / f"{name.replace(' ', '-')}-{potential.dtype}-{ps:g}ps-{seed}.json"
        if not file.exists():
            write_json(file, one_run(potential, start, timestep, ps, seed))
        runs.append(json.loads(file.read_text()))
        print(file.stem, runs[-1], flush=True)
    mean = drift_of_runs([without_interval(run["slope"], 1, "one run") for run in runs])
    result = {
        "case": name,
        "dtype": str(potential.dtype),
        "atoms": len(start),
        "timestep_fs": timestep,
        "ps": ps,
        "mean_mev_per_atom_ns": mean.value,
        "interval_95": [mean.low, mean.high],
    }
    print(json.dumps(result), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help="a trained .karat file")
    parser.add_argument("--start", type=Path, help="a structure of it")
    parser.add_argument("--no-silicon", action="store_true", help="the model only")
    parser.add_argument("--ps", type=float, default=PICOSECONDS)
    parser.add_argument("--dtype", choices=["float64", "float32"], nargs="*")
    parser.add_argument("--folder", type=Path, help="where finished runs are kept")
    options = parser.parse_args()
    print(platform.platform(), platform.machine(), "jax", jax.__version__, jax.devices()[0])
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for dtype in options.dtype or ["float64", "float32"]:
            if not options.no_silicon:
                silicon = StillingerWeber(preset="Si", dtype=dtype).load()
                start = crystal("Si", "diamond", a=5.431, cubic=True, supercell=(2, 2, 2))
                drift("Stillinger-Weber Si", silicon, start, 1.0, options.ps, folder)
            if options.model:
                again = load(options.model, dtype)
                start = from_file(options.start)[0]
                drift(options.model.stem, again, start, 0.5, options.ps, folder)


if __name__ == "__main__":
    main()
