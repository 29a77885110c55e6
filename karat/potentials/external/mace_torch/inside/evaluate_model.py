"""Energies, forces and stress of a mace-torch model file; runs inside the environment only.

Usage: evaluate_model.py FILE.model STRUCTURES.json RESULTS.safetensors. STRUCTURES.json is a list
of objects with numbers, positions (Å), cell (Å, rows), periodic and, optionally, head (a name).
The results hold energy and stress of each structure (zero where it is not periodic in three
directions), forces and atom_energies of all atoms one after the other; eV and Å.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from mace_file import load, refuse


def evaluate(model: Any, structure: dict[str, Any], place: str) -> dict[str, np.ndarray]:
    """One structure in double precision."""
    from mace import data
    from mace.tools import AtomicNumberTable, torch_geometric

    table = AtomicNumberTable([int(number) for number in model.atomic_numbers])
    missing = sorted(set(structure["numbers"]) - set(table.zs))
    if missing:
        refuse(f"{place}: the model does not know atomic numbers {missing}; it knows {table.zs}")
    heads = [str(head) for head in getattr(model, "heads", None) or ["Default"]]
    head = structure.get("head", heads[0])
    if head not in heads:
        refuse(f"{place}: the model has no head '{head}'; it has {', '.join(heads)}")
    configuration = data.Configuration(
        atomic_numbers=np.array(structure["numbers"]),
        positions=np.array(structure["positions"], dtype=np.float64).reshape(-1, 3),
        properties={},
        property_weights={},
        cell=np.array(structure["cell"], dtype=np.float64),
        pbc=tuple(bool(flag) for flag in structure["periodic"]),
        head=head,
    )
    graph = data.AtomicData.from_config(
        configuration, z_table=table, cutoff=float(model.r_max), heads=heads
    )
    batch = next(iter(torch_geometric.dataloader.DataLoader([graph], batch_size=1)))
    periodic = all(structure["periodic"])
    found = model(batch.to_dict(), compute_force=True, compute_stress=periodic)
    stress = found["stress"][0].detach().numpy() if periodic else np.zeros((3, 3))
    return {
        "energy": found["energy"].detach().numpy().reshape(1),
        "atom_energies": found["node_energy"].detach().numpy().reshape(-1),
        "forces": found["forces"].detach().numpy(),
        "stress": stress.reshape(1, 3, 3),
    }


def main() -> None:
    """Read the model and the structures, write the results."""
    from safetensors.numpy import save_file

    model, _ = load(sys.argv[1])
    structures = json.loads(Path(sys.argv[2]).read_text())
    found = [
        evaluate(model, structure, f"structure {index}")
        for index, structure in enumerate(structures)
    ]
    results = {
        name: np.ascontiguousarray(np.concatenate([one[name] for one in found]))
        for name in found[0]
    }
    save_file(results, sys.argv[3])


if __name__ == "__main__":
    main()
