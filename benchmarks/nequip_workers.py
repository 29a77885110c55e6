"""Workers for `nequip_speed.py`: the same NequIP network in karat and nequip, one task each.

    python nequip_workers.py karat|nequip md START.npz BLOCKS
    python nequip_workers.py karat|nequip train START.npz BLOCKS

The start is that of `mace_workers.py`. Three layers of 32 features of each parity up to degree 1,
8 Bessel functions, radial networks 64-64, 5 Å, float32; random weights, for speed does not depend
on them. A block of `md`: 100 steps of karat's compiled loop; 20 of ASE's velocity Verlet with
nequip's calculator, not compiled. A block of `train`: 20 steps on batches of five structures, Adam
and, in karat, averaging.
"""

import importlib.metadata
import sys
from typing import Any

import numpy as np
from dynamics_worker import serve, timed
from mace_workers import BATCH, CUTOFF, MD_STEPS, TRAIN_STEPS, karat_dataset, neighbours, peak

LAYERS, FEATURES, DEGREE = 3, 32, 1


def karat_module(start: Any) -> tuple[Any, Any]:
    """The architecture and its module with random weights."""
    import jax

    from karat.potentials.native.nequip import Nequip

    data = karat_dataset(start)
    architecture = Nequip(
        cutoff_angstrom=CUTOFF, layers=LAYERS, features=FEATURES, degree=DEGREE
    ).completed(data)
    return architecture, architecture.initialise(data, jax.random.key(0), "float32")


def karat_md(start: Any, blocks: int) -> None:
    from karat.potentials.native_protocol import NativePotential
    from karat.simulation.dynamics import Dynamics, all_stopped, make_run
    from karat.structures.structure import Structure

    every = MD_STEPS // 2
    steps = every * (2 * blocks + 2)
    settings = Dynamics(
        ensemble="nve", timestep_fs=0.5, temperature_k=30.0, steps=steps, every=every
    )
    structure = Structure(start["numbers"], start["positions"][0], start["cell"], start["periodic"])
    rest = np.zeros((len(start["numbers"]), 3))
    potential = NativePotential(karat_module(start)[1], {}, dtype="float32")
    run = make_run(potential, [structure], settings, [rest], [0], piece_frames=2)
    run.next_piece()

    def block() -> dict:
        before = run.seconds
        timed(run.next_piece, MD_STEPS)
        if all_stopped(run):
            sys.exit("karat: the run stopped.")
        return {"wall": (run.seconds - before) / MD_STEPS, "peak_mb": peak()}

    serve({"name": "karat", "version": importlib.metadata.version("jax")}, block)


def karat_train(start: Any, blocks: int) -> None:
    import equinox as eqx
    import jax

    from karat.training.batches import build_graphs
    from karat.training.feeding import Feed
    from karat.training.packing import pack
    from karat.training.references import regress
    from karat.training.run_state import first_state
    from karat.training.settings import TrainingSettings
    from karat.training.step import Numbers, Recipe, make_step

    data = karat_dataset(start)
    settings = TrainingSettings(batch_size=BATCH, optimiser="adam")
    architecture, module = karat_module(start)
    parameters, fixed = eqx.partition(module, architecture.trainable(module))
    graphs = build_graphs(data, regress(data), module.cutoff, False, "float32")
    packing = pack(np.array([graph.counts for graph in graphs]), BATCH, 0)
    feed = Feed(graphs, packing, 1, Recipe.of(settings), "float32")
    step, state = make_step(fixed, settings), first_state(parameters, settings)
    moving = [(state.parameters, state.average, state.optimiser)]
    groups = feed.epoch(0)

    def steps(count: int) -> None:
        for i in range(count):
            group = groups[i % len(groups)]
            single = lambda *values: np.asarray(values, np.float32)  # noqa: E731
            numbers = Numbers(
                weights=single(1, 100, 0),
                counts=np.asarray(feed.counts(group), np.float32),
                deltas=single(1, 1, 1),
                rate=np.asarray(1e-4, np.float32),
                decay=np.asarray(0.99, np.float32),
            )
            moving[0], _ = step(moving[0], list(feed.micros(group)), numbers)
        jax.block_until_ready(moving[0])

    steps(4)
    facts = {
        "name": "karat",
        "version": importlib.metadata.version("jax"),
        "parameters": int(sum(leaf.size for leaf in jax.tree.leaves(parameters))),
        "waste": packing.waste,
    }
    serve(facts, lambda: timed(lambda: steps(TRAIN_STEPS), TRAIN_STEPS) | {"peak_mb": peak()})


def nequip_model(start: Any) -> tuple[Any, list[Any]]:
    """The peer's model and what prepares its data."""
    import torch
    from ase.data import chemical_symbols
    from nequip.data.transforms import ChemicalSpeciesToAtomTypeMapper, NeighborListTransform
    from nequip.model import NequIPGNNModel
    from nequip.utils.global_state import set_global_state

    torch.set_num_threads(1)
    set_global_state()
    names = [chemical_symbols[z] for z in sorted({int(z) for z in start["numbers"]})]
    model = NequIPGNNModel(
        seed=0, model_dtype="float32", r_max=CUTOFF, type_names=names, num_layers=LAYERS,
        l_max=DEGREE, parity=True, num_features=FEATURES, radial_mlp_depth=2, radial_mlp_width=64,
        num_bessels=8, avg_num_neighbors=neighbours(start), per_type_energy_scales=1.0,
        per_type_energy_shifts=0.0,
    )  # fmt: skip
    transforms = [ChemicalSpeciesToAtomTypeMapper(names), NeighborListTransform(r_max=CUTOFF)]
    return model, transforms


def nequip_md(start: Any, blocks: int) -> None:
    import ase
    from ase import units
    from ase.md.verlet import VelocityVerlet
    from nequip.integrations.ase import NequIPCalculator

    atoms = ase.Atoms(
        start["numbers"], start["positions"][0], cell=start["cell"], pbc=start["periodic"]
    )
    model, transforms = nequip_model(start)
    atoms.calc = NequIPCalculator(model.eval(), "cpu", transforms=transforms)
    run = VelocityVerlet(atoms, 0.5 * units.fs)
    run.run(5)
    steps = MD_STEPS // 5
    serve(
        {"name": "nequip", "version": importlib.metadata.version("nequip")},
        lambda: timed(lambda: run.run(steps), steps) | {"peak_mb": peak()},
    )


def nequip_train(start: Any, blocks: int) -> None:
    import ase
    import torch
    from nequip.data import AtomicDataDict, from_ase

    model, transforms = nequip_model(start)
    graphs = []
    for x, e, f in zip(start["positions"], start["energies"], start["forces"]):
        graph = from_ase(ase.Atoms(start["numbers"], x, cell=start["cell"], pbc=start["periodic"]))
        graph["total_energy"], graph["forces"] = torch.tensor([[float(e)]]), torch.tensor(f)
        for transform in transforms:
            graph = transform(graph)
        graphs.append(graph)
    batches = [
        AtomicDataDict.batched_from_list(graphs[i : i + BATCH])
        for i in range(0, len(graphs), BATCH)
    ]
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-4)
    model.train()

    def steps(count: int) -> None:
        for i in range(count):
            batch = batches[i % len(batches)]
            optimiser.zero_grad(set_to_none=True)
            found = model(dict(batch))
            energy = torch.mean((found["total_energy"] - batch["total_energy"]) ** 2)
            force = torch.mean((found["forces"] - batch["forces"]) ** 2)
            (energy + 100 * force).backward()
            optimiser.step()

    steps(4)
    facts = {
        "name": "nequip",
        "version": importlib.metadata.version("nequip"),
        "parameters": sum(p.numel() for p in model.parameters()),
    }
    serve(facts, lambda: timed(lambda: steps(TRAIN_STEPS), TRAIN_STEPS) | {"peak_mb": peak()})


TASKS = {
    ("karat", "md"): karat_md,
    ("karat", "train"): karat_train,
    ("nequip", "md"): nequip_md,
    ("nequip", "train"): nequip_train,
}


if __name__ == "__main__":
    name, task, path, last = sys.argv[1:5]
    TASKS[name, task](np.load(path), int(last))
