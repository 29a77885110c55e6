"""Import of a mace-torch model file: convert, rebuild, and compare with mace-torch itself.

Checked: tests/potentials/external/mace_torch/test_importing.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from karat.core.environments import Report
from karat.core.errors import CalculationFailed
from karat.potentials.external.mace_torch import conversion, environment
from karat.potentials.external.mace_torch.rebuild import Rebuilt, rebuild
from karat.potentials.native_protocol import NativePotential, derive_compiled
from karat.structures.labels import Labels, LevelOfTheory
from karat.structures.structure import Structure

TOLERANCE: Final = 1e-6
"""Largest relative difference between an import and its source."""


@dataclass(frozen=True)
class Differences:
    """Largest relative differences between an import and its source, both in float64.

    Attributes:
        energy: |ΔE| over |E - Σ reference energies| (at least 1 meV per atom).
        forces: largest |ΔF| over the largest |F| of the structure (at least 1 meV/Å).
        stress: the same of the stress (at least 1e-6 eV/Å³); 0 where no structure has one.
    """

    energy: float
    forces: float
    stress: float

    @property
    def largest(self) -> float:
        """Of the three."""
        return max(self.energy, self.forces, self.stress)


@dataclass(frozen=True, eq=False)
class Imported:
    """An import that agrees with its source.

    Attributes:
        rebuilt: the potential.
        differences: on the structures of `probes`.
    """

    rebuilt: Rebuilt
    differences: Differences


def import_model(
    path: Path,
    trust: bool,
    head: str | None = None,
    level: LevelOfTheory | None = None,
    report: Report | None = None,
    python: Path | None = None,
) -> Imported:
    """karat's own potential from a mace-torch model file, verified against mace-torch.

    Args:
        path: of the `.model` file.
        trust: code in the file may run, in another process (see `conversion.py`).
        head: of a model with several; by default the first.
        level: of theory that it was trained to, where the user knows it.
        report: is told what happens.
        python: interpreter with mace-torch, instead of the environment that karat makes.

    Raises:
        BadInput: not trusted, or the file or the model cannot be read.
        CalculationFailed: no environment, or kind ``not-equal``: the import differs from its
            source.
    """
    tell = report or (lambda line: None)
    conversion.inspect_file(path)
    conversion.require_trust(path, trust)
    program = python or environment.interpreter(report=tell)
    tell(f"reading {path} with mace-torch, in another process …")
    model = conversion.convert(path, trust, tell, program)
    rebuilt = rebuild(model, head, level)
    structures = probes(rebuilt.potential.module.species)
    tell(f"comparing with mace-torch on {len(structures)} structures …")
    source = conversion.evaluate(path, structures, trust, rebuilt.head, tell, program)
    found = compare(rebuilt.potential, structures, source)
    if not found.largest <= TOLERANCE:
        raise CalculationFailed(
            f"{path}: the import differs from mace-torch by {found.largest:.1e} (relative; "
            f"energy {found.energy:.1e}, forces {found.forces:.1e}, stress {found.stress:.1e}), "
            f"more than {TOLERANCE:g}. Nothing was written; please report this with the file.",
            kind="not-equal",
        )
    return Imported(rebuilt, found)


def probes(species: Sequence[int], seed: int = 0) -> list[Structure]:
    """A cluster and a skewed crystal of 8 to 20 atoms for every 20 elements of the model."""
    random = np.random.default_rng(seed)
    found: list[Structure] = []
    for first in range(0, len(species), 20):
        some = list(species[first : first + 20])
        numbers = np.array((some * 8)[: max(8, len(some))])
        grid = np.stack(np.meshgrid(*[np.arange(3)] * 3), axis=-1).reshape(-1, 3)
        places = grid[np.argsort(grid.sum(axis=1), kind="stable")][: len(numbers)]
        positions = places * 2.2 + random.uniform(-0.35, 0.35, (len(numbers), 3))
        found.append(Structure(numbers=numbers, positions=positions))
        cell = np.diag([6.6, 6.9, 7.2]) + random.uniform(-0.5, 0.5, (3, 3))
        found.append(
            Structure(
                numbers=numbers, positions=positions, cell=cell, periodic=np.ones(3, dtype=bool)
            )
        )
    return found


def compare(
    potential: NativePotential, structures: Sequence[Structure], source: Sequence[Labels]
) -> Differences:
    """How far `potential` is from energies, forces and stress that its source computed for the
    same structures."""
    derived = derive_compiled(potential.module, potential.batch(structures))
    worst = {"energy": 0.0, "forces": 0.0, "stress": 0.0}
    start = 0
    for index, (structure, theirs) in enumerate(zip(structures, source)):
        own = slice(start, start + len(structure))
        start = own.stop
        assert theirs.energy is not None
        pairs = {
            "energy": (derived.energies[index], theirs.energy - potential.offset(structure)),
            "forces": (derived.forces[own], theirs.forces),
            "stress": (derived.stress[index], theirs.stress),
        }
        floors = {"energy": 1e-3 * len(structure), "forces": 1e-3, "stress": 1e-6}
        for name, (mine, want) in pairs.items():
            if want is not None:
                scale = max(float(np.max(np.abs(want))), floors[name])
                difference = float(np.max(np.abs(np.asarray(mine) - want))) / scale
                worst[name] = max(worst[name], difference)
    return Differences(**worst)
