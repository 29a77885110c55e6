"""The stored models and what mace-torch computed for them (see tests/data/mace_torch/README.md)."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from karat.structures.labels import Labels
from karat.structures.structure import Structure

FOLDER = Path(__file__).parents[3] / "data" / "mace_torch"
NAMES = sorted(path.name for path in FOLDER.iterdir() if path.is_dir())


@dataclass(frozen=True, eq=False)
class Sample:
    """A structure and the source's numbers for it."""

    structure: Structure
    head: str
    labels: Labels
    atom_energies: np.ndarray


def structure_of(values: dict) -> Structure:
    return Structure(
        numbers=np.array(values["numbers"]),
        positions=np.array(values["positions"], dtype=float),
        cell=np.array(values["cell"], dtype=float),
        periodic=np.array(values["periodic"]),
    )


def samples(name: str) -> list[Sample]:
    """All structures of a model."""
    reference = load_file(FOLDER / name / "reference.safetensors")
    found, start = [], 0
    for index, values in enumerate(json.loads((FOLDER / name / "structures.json").read_text())):
        structure = structure_of(values)
        own = slice(start, start + len(structure))
        start += len(structure)
        labels = Labels(
            energy=float(reference["energy"][index]),
            forces=reference["forces"][own],
            stress=reference["stress"][index] if structure.periodic.all() else None,
        )
        found.append(Sample(structure, values["head"], labels, reference["atom_energies"][own]))
    return found
