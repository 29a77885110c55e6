"""`dynamics.py replicas` and `relax`: many systems at once against one by one, in one process."""

import functools
import os
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from dynamics_worker import machine, ratios, spread, timed, verdict

from karat.core.threads import single_thread

single_thread()
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import numpy as np  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("KARAT_DATA", ROOT.parent / "shared" / "data"))
TRAINING, EPOCHS = 100, 100
REPLICAS = 64
CRYSTALS = 200
TOLERANCE = 0.01  # eV/Å


def trained(path: Path, quick: bool):
    """The potential of that file, trained first where it is missing; and a structure."""
    from karat.data.files import read_dataset
    from karat.potentials import karat_file
    from karat.potentials.native.bpnn import Bpnn
    from karat.structures.labels import LevelOfTheory
    from karat.training.fit import fit
    from karat.training.settings import TrainingSettings

    level = LevelOfTheory("PBE", "def2-SVP", "D3")
    frames = read_dataset(DATA / "acac" / "train_300K.xyz.gz", level)
    if not path.exists():
        print(f"training {path.name}", flush=True)
        count, epochs = (20, 5) if quick else (TRAINING, EPOCHS)
        order = np.random.default_rng(1).permutation(len(frames.structures)).tolist()
        model = Bpnn()
        found = fit(
            model,
            frames.subset(order[30 : 30 + count]),
            frames.subset(order[:30]),
            TrainingSettings(epochs=epochs),
            path.with_suffix(".training"),
        )
        print(f"{found.note}, {found.seconds:.0f} s")
        karat_file.save(path, model, found.potential, frames.digest, found.summary)
    return karat_file.load(path), frames.structures[0]


def replicas(asked, scratch: Path) -> None:
    """64 in one run against one: steps of all per second."""
    import jax

    from karat.simulation.dynamics import Dynamics, run_batch

    name = "quick.karat" if asked.quick else "acac.karat"
    potential, structure = trained(scratch / name, asked.quick)
    count = 4 if asked.quick else REPLICAS
    steps = asked.steps or (40 if asked.quick else 1000)
    settings = Dynamics("langevin", 300.0, 0.5, steps, steps)

    def run(systems: int, repeats: int) -> dict[str, float]:
        wall = 0.0
        for _ in range(repeats):
            found = run_batch(potential, [structure] * systems, settings)
            if any(one.stopped is not None for one in found):
                sys.exit(f"a replica stopped: {next(o.stopped for o in found if o.stopped)}")
            wall += found[0].seconds
        return {"wall": wall / (steps * systems * repeats)}

    for systems in (count, 1):
        run(systems, 1)
    many, one = [], []
    for _ in range(asked.rounds):
        many.append(run(count, 1))
        one.append(run(1, 5))
    print(machine())
    print(
        f"karat on JAX {jax.__version__}; acetylacetone, bpnn, {potential.dtype}, Langevin; "
        f"{steps} steps, {asked.rounds} rounds; rates are steps of all replicas per second"
    )
    for title, blocks in ((f"{count} replicas", many), ("one (five runs)", one)):
        print(f"{title}: {spread([1 / block['wall'] for block in blocks])} steps/s")
    gain = ratios(one, many, "wall")
    print(f"aggregate gain: {spread(gain)}; {verdict(statistics.median(gain), 4.0, most=False)}")


def crystals(count: int):
    """Cubic silicon, atoms and (symmetrically) cell disturbed."""
    from ase.build import bulk

    from karat.simulation.strain import strained
    from karat.structures.structure import Structure

    random = np.random.default_rng(3)
    ideal = Structure.from_ase(bulk("Si", a=5.5, cubic=True))
    found = []
    for _ in range(count):
        noise = random.uniform(-0.02, 0.02, (3, 3))
        crystal = strained(ideal, 0.5 * (noise + noise.T))
        moved = crystal.positions + random.normal(0, 0.05, crystal.positions.shape)
        found.append(crystal.replace(positions=moved))
    return found


def by_ase(potential, starts, cell: str, optimiser: str):
    """Energies and steps of each, one by one, through karat's calculator."""
    from ase.filters import FrechetCellFilter
    from ase.optimize import BFGS, FIRE

    from karat.potentials.external.ase_export import PotentialCalculator

    method = {"fire": FIRE, "bfgs": BFGS}[optimiser]
    calculator, energies, steps = PotentialCalculator(potential), [], []
    for start in starts:
        atoms = start.to_ase()
        atoms.calc = calculator
        run = method(FrechetCellFilter(atoms) if cell == "free" else atoms, logfile=None)
        if not run.run(fmax=TOLERANCE, steps=500):
            sys.exit("ASE did not converge.")
        energies.append(float(atoms.get_potential_energy()))
        steps.append(run.get_number_of_steps())
    return np.array(energies), np.array(steps)


def at_once(potential, starts, cell: Literal["fixed", "free"], optimiser: Literal["fire", "lbfgs"]):
    """Energies and steps of each, by `relax_batch`."""
    from karat.simulation.batched_relax import RelaxedStructure, RelaxSettings, relax_batch

    settings = RelaxSettings(force_tolerance=TOLERANCE, cell=cell, optimiser=optimiser)
    energies, steps = [], []
    for one in relax_batch(potential, starts, settings):
        if not isinstance(one, RelaxedStructure):
            sys.exit(f"relax_batch: {one}")
        energies.append(one.energy)
        steps.append(one.steps)
    return np.array(energies), np.array(steps)


def relax(asked, scratch: Path) -> None:
    """200 crystals in one call against one by one."""
    import ase
    import jax
    from dynamics_loops import potential_of

    from karat.potentials.precision import enable_float64

    enable_float64()
    potential = potential_of(14, "float64")
    starts = crystals(6 if asked.quick else CRYSTALS)
    print(f"karat on JAX {jax.__version__}, ASE {ase.__version__}; {len(starts)} crystals, float64")
    routes: dict[str, tuple[Callable[..., Any], str]] = {
        "relax_batch fire": (at_once, "fire"),
        "relax_batch lbfgs": (at_once, "lbfgs"),
        "ASE FIRE": (by_ase, "fire"),
        "ASE BFGS": (by_ase, "bfgs"),
    }
    for cell in asked.cells:
        times: dict[str, list[dict[str, float]]] = {name: [] for name in routes}
        first = {name: how(potential, starts, cell, by) for name, (how, by) in routes.items()}
        for _ in range(asked.rounds):
            for name, (how, by) in routes.items():
                work = functools.partial(how, potential, starts, cell, by)
                times[name].append(timed(work, len(starts)))
        print(f"cell {cell}, {asked.rounds} rounds, {machine()}")
        lowest = np.min([energies for energies, _ in first.values()], axis=0)
        for name, (energies, steps) in first.items():
            print(
                f"{name}: {spread([1e3 * one['wall'] for one in times[name]])} ms a crystal, "
                f"{steps.mean():.1f} steps, up to {1e3 * (energies - lowest).max():.2g} meV "
                "above the lowest",
                flush=True,
            )
        print_gains(times)


def print_gains(times: dict[str, list[dict[str, float]]]) -> None:
    """The same kind of optimiser against each other, and the fastest against the fastest."""
    taken = {name: statistics.median([one["wall"] for one in times[name]]) for name in times}
    mine, theirs = (
        min((name for name in times if name.startswith(start)), key=lambda name: taken[name])
        for start in ("relax_batch", "ASE")
    )
    pairs = [("relax_batch fire", "ASE FIRE"), ("relax_batch lbfgs", "ASE BFGS"), (mine, theirs)]
    for mine, theirs in dict.fromkeys(pairs):
        gain = ratios(times[theirs], times[mine], "wall")
        judged = verdict(statistics.median(gain), 5.0, most=False)
        print(f"{theirs} / {mine}: {spread(gain)}; {judged}", flush=True)
