"""Numbers that LAMMPS computed, stored with the structures and commands that gave them."""

import json
from pathlib import Path

import numpy as np
import pytest

from karat.structures.labels import Labels
from karat.structures.structure import Structure


@pytest.fixture(scope="session")
def lammps_case():
    """Name of a case → structure and LAMMPS' labels."""
    cases = json.loads((Path(__file__).parent / "lammps.json").read_text())["cases"]

    def get(name):
        case = cases[name]
        structure = Structure(
            numbers=np.array(case["numbers"]),
            positions=np.array(case["positions"]),
            cell=np.array(case["cell"]),
            periodic=np.ones(3, bool),
        )
        labels = Labels(
            energy=case["energy"],
            forces=np.array(case["forces"]),
            stress=np.array(case["stress"]),
        )
        return structure, labels

    return get
