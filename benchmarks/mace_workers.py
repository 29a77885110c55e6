"""Workers for `mace_speed.py`: the same MACE network in karat, mace-torch and mlip, one task each.

    python mace_workers.py karat|torch|mlip md START.npz BLOCKS
    python mace_workers.py karat|torch|mlip train START.npz BLOCKS
    python mace_workers.py karat first POTENTIAL.karat CACHE

The start holds numbers (atoms,), positions (structures, atoms, 3), cell, periodic, energies and
forces. 32x0e + 32x1o, harmonics up to 2, correlation 3, two layers, 5 Å, float32; random weights,
for speed does not depend on them. A block of `md`: 100 steps of karat's compiled loop; 20 of ASE's
velocity Verlet with mace-torch's calculator; 100 of mlip's own jax-md engine. A block of `train`:
20 steps on batches of five structures, AMSGrad and averaging.
"""

import importlib.metadata
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from dynamics_worker import say, serve, timed

CUTOFF, CHANNELS = 5.0, 32
MD_STEPS, TRAIN_STEPS, BATCH = 100, 20, 5


def peak() -> float:
    """Largest memory of this process so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def neighbours(start: Any) -> float:
    """Mean number within the cut-off, of the first structure."""
    import ase
    from ase.neighborlist import neighbor_list

    atoms = ase.Atoms(
        start["numbers"], start["positions"][0], cell=start["cell"], pbc=start["periodic"]
    )
    return len(neighbor_list("i", atoms, CUTOFF)) / len(atoms)


def karat_dataset(start: Any) -> Any:
    from karat.data.dataset import Dataset, Record
    from karat.structures.labels import Labels, LevelOfTheory
    from karat.structures.structure import Structure

    return Dataset(
        tuple(
            Record(
                Structure(start["numbers"], x, start["cell"], start["periodic"]),
                Labels(energy=float(e), forces=f),
            )
            for x, e, f in zip(start["positions"], start["energies"], start["forces"])
        ),
        LevelOfTheory("benchmark"),
    )


def karat_potential(start: Any) -> Any:
    import jax

    from karat.potentials.native.mace import Mace
    from karat.potentials.native_protocol import NativePotential

    data = karat_dataset(start)
    module = Mace().completed(data).initialise(data, jax.random.key(0), "float32")
    return NativePotential(module, {}, dtype="float32")


def karat_md(start: Any, blocks: int) -> None:
    from karat.simulation.dynamics import Dynamics, all_stopped, make_run
    from karat.structures.structure import Structure

    every = MD_STEPS // 2
    steps = every * (2 * blocks + 2)
    settings = Dynamics(
        ensemble="nve", timestep_fs=0.5, temperature_k=30.0, steps=steps, every=every
    )
    structure = Structure(start["numbers"], start["positions"][0], start["cell"], start["periodic"])
    rest = np.zeros((len(start["numbers"]), 3))
    run = make_run(karat_potential(start), [structure], settings, [rest], [0], piece_frames=2)
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

    from karat.potentials.native.mace import Mace
    from karat.training.batches import build_graphs
    from karat.training.feeding import Feed
    from karat.training.packing import pack
    from karat.training.references import regress
    from karat.training.run_state import first_state
    from karat.training.settings import TrainingSettings
    from karat.training.step import Numbers, Recipe, make_step

    data = karat_dataset(start)
    settings = TrainingSettings(batch_size=BATCH, optimiser="amsgrad")
    architecture = Mace().completed(data)
    module = architecture.initialise(data, jax.random.key(0), "float32")
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
    leaves = jax.tree.leaves(parameters)
    serve(
        {
            "name": "karat",
            "version": importlib.metadata.version("jax"),
            "parameters": int(sum(leaf.size for leaf in leaves)),
            "waste": packing.waste,
        },
        lambda: timed(lambda: steps(TRAIN_STEPS), TRAIN_STEPS) | {"peak_mb": peak()},
    )


def karat_first(path: str, cache: str) -> None:
    """Seconds from the start of this process until the forces of the first structure are there."""
    from karat.campaign.jax_setup import prepare_jax

    prepare_jax(Path(cache))
    from karat.potentials.karat_file import load
    from karat.structures.structure import Structure

    start = np.load(Path(path).with_suffix(".npz"))
    structure = Structure(start["numbers"], start["positions"][0])
    load(path).predict([structure], ("energy", "forces"))
    began = float(os.environ["KARAT_BENCHMARK_BEGAN"])
    say({"first_s": time.time() - began})


def torch_model(start: Any) -> Any:
    import torch
    from e3nn import o3
    from mace import modules

    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float32)
    torch.manual_seed(0)
    species = sorted({int(z) for z in start["numbers"]})
    blocks = modules.interaction_classes
    return modules.ScaleShiftMACE(
        r_max=CUTOFF, num_bessel=8, num_polynomial_cutoff=5, max_ell=2, num_interactions=2,
        interaction_cls=blocks["RealAgnosticResidualInteractionBlock"],
        interaction_cls_first=blocks["RealAgnosticInteractionBlock"],
        num_elements=len(species), hidden_irreps=o3.Irreps(f"{CHANNELS}x0e + {CHANNELS}x1o"),
        MLP_irreps=o3.Irreps("16x0e"), atomic_energies=np.zeros(len(species)),
        avg_num_neighbors=neighbours(start), atomic_numbers=species, correlation=3,
        gate=torch.nn.functional.silu, radial_MLP=[64, 64, 64], radial_type="bessel",
        atomic_inter_scale=1.0, atomic_inter_shift=0.0,
    )  # fmt: skip


def torch_md(start: Any, blocks: int) -> None:
    import ase
    from ase import units
    from ase.md.verlet import VelocityVerlet
    from mace.calculators import MACECalculator

    atoms = ase.Atoms(
        start["numbers"], start["positions"][0], cell=start["cell"], pbc=start["periodic"]
    )
    atoms.calc = MACECalculator(models=[torch_model(start)], device="cpu", default_dtype="float32")
    run = VelocityVerlet(atoms, 0.5 * units.fs)
    run.run(5)
    steps = MD_STEPS // 5
    serve(
        {"name": "mace-torch", "version": importlib.metadata.version("mace-torch")},
        lambda: timed(lambda: run.run(steps), steps) | {"peak_mb": peak()},
    )


def torch_train(start: Any, blocks: int) -> None:
    import ase
    import torch
    from mace import data, modules, tools
    from mace.tools import torch_geometric
    from torch_ema import ExponentialMovingAverage

    model = torch_model(start)
    table = tools.AtomicNumberTable(sorted({int(z) for z in start["numbers"]}))
    keys = data.KeySpecification(info_keys={"energy": "E"}, arrays_keys={"forces": "F"})
    graphs = []
    for x, e, f in zip(start["positions"], start["energies"], start["forces"]):
        atoms = ase.Atoms(start["numbers"], x, cell=start["cell"], pbc=start["periodic"])
        atoms.info["E"], atoms.arrays["F"] = float(e), f
        config = data.config_from_atoms(atoms, key_specification=keys)
        graphs.append(data.AtomicData.from_config(config, z_table=table, cutoff=CUTOFF))
    batches = list(torch_geometric.dataloader.DataLoader(graphs, batch_size=BATCH, shuffle=False))
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-4, amsgrad=True)
    average = ExponentialMovingAverage(model.parameters(), decay=0.99)
    loss = modules.WeightedEnergyForcesLoss(1.0, 100.0)

    def steps(count: int) -> None:
        for i in range(count):
            batch = batches[i % len(batches)]
            optimiser.zero_grad(set_to_none=True)
            found = model(batch.to_dict(), training=True, compute_force=True)
            loss(pred=found, ref=batch).backward()
            optimiser.step()
            average.update()

    steps(4)
    serve(
        {
            "name": "mace-torch",
            "version": importlib.metadata.version("mace-torch"),
            "parameters": sum(p.numel() for p in model.parameters()),
        },
        lambda: timed(lambda: steps(TRAIN_STEPS), TRAIN_STEPS) | {"peak_mb": peak()},
    )


def mlip_field(start: Any) -> Any:
    from mlip.data import DatasetInfo
    from mlip.models import ForceField, Mace

    info = DatasetInfo(
        atomic_energies_map={int(z): 0.0 for z in set(start["numbers"])},
        graph_cutoff_angstrom=CUTOFF,
        avg_num_neighbors=neighbours(start),
        avg_r_min_angstrom=1.0,
        scaling_stdev=1.0,
    )
    config = Mace.Config(
        num_layers=2, num_channels=CHANNELS, l_max=2, node_symmetry=1, correlation=3, num_rbf=8,
        readout_irreps=("16x0e", "0e"), radial_mlp_hidden=[64, 64, 64],
    )  # fmt: skip
    return ForceField.from_mlip_network(Mace(config, info))


def mlip_md(start: Any, blocks: int) -> None:
    import ase
    from mlip.simulation.enums import MDIntegrator
    from mlip.simulation.jax_md import JaxMDSimulationEngine

    atoms = ase.Atoms(
        start["numbers"], start["positions"][0], cell=start["cell"], pbc=start["periodic"]
    )
    box = [float(x) for x in atoms.cell.lengths()] if atoms.pbc.all() else None
    warm = 2
    settings = JaxMDSimulationEngine.Config(
        num_steps=MD_STEPS * (blocks + warm), num_episodes=blocks + warm, timestep_fs=0.5,
        snapshot_interval=MD_STEPS, md_integrator=MDIntegrator.NVE_VELOCITY_VERLET, box=box,
        edge_capacity_multiplier=1.1,
    )  # fmt: skip
    engine = JaxMDSimulationEngine(atoms, mlip_field(start), settings)
    seen, began = [0], [0.0]

    def after_episode(_: Any) -> None:
        """Say how long it took, and wait until the next one is asked for."""
        wall = time.perf_counter() - began[0]
        seen[0] += 1
        if seen[0] == warm:
            say({"name": "mlip", "version": importlib.metadata.version("mlip")})
        elif seen[0] > warm:
            say({"wall": wall / MD_STEPS, "peak_mb": peak()})
        if seen[0] >= warm:
            sys.stdin.readline()
        began[0] = time.perf_counter()

    engine.attach_logger(after_episode)
    engine.run()


def mlip_train(start: Any, blocks: int) -> None:
    import jax
    import optax
    from mlip.data import ChemicalSystem
    from mlip.data.graph_dataset import GraphDataset
    from mlip.graph import Graph
    from mlip.models.loss import MSELoss
    from mlip.training.ema import exponentially_moving_average
    from mlip.training.training_state import init_training_state
    from mlip.training.training_step import make_train_step

    field = mlip_field(start)
    graphs = [
        Graph.from_chemical_system(
            ChemicalSystem(atomic_numbers=start["numbers"], positions=x, energy=float(e), forces=f),
            CUTOFF,
        )
        for x, e, f in zip(start["positions"], start["energies"], start["forces"])
    ]
    most = max(len(graph.senders) for graph in graphs) // 2 + 1
    batches = list(GraphDataset(graphs, BATCH, len(start["numbers"]), most, shuffle=False))
    optimiser, average = optax.amsgrad(1e-4), exponentially_moving_average(0.99)
    loss = MSELoss(lambda _: 1.0, lambda _: 100.0, lambda _: 0.0)
    one = make_train_step(field.predictor, loss, optimiser, average, BATCH)
    if init_training_state.__code__.co_argcount == 3:
        state = [init_training_state(field.params, optimiser, average)]
    else:
        state = [init_training_state(field.params, jax.random.PRNGKey(0), optimiser, average)]

    def steps(count: int) -> None:
        for i in range(count):
            state[0], _ = one(state[0], batches[i % len(batches)], 1)
        jax.block_until_ready(state[0].params)

    steps(4)
    serve(
        {
            "name": "mlip",
            "version": importlib.metadata.version("mlip"),
            "parameters": int(sum(x.size for x in jax.tree.leaves(field.params))),
        },
        lambda: timed(lambda: steps(TRAIN_STEPS), TRAIN_STEPS) | {"peak_mb": peak()},
    )


TASKS = {
    ("karat", "md"): karat_md,
    ("karat", "train"): karat_train,
    ("torch", "md"): torch_md,
    ("torch", "train"): torch_train,
    ("mlip", "md"): mlip_md,
    ("mlip", "train"): mlip_train,
}


if __name__ == "__main__":
    name, task, path, last = sys.argv[1:5]
    if task == "first":
        karat_first(path, last)
    else:
        TASKS[name, task](np.load(path), int(last))
