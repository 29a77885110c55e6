"""Randomly displaced and strained copies, for crystals.

Checked: tests/sampling/test_samplers.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from karat.core.errors import BadInput, UnsuitableStructure
from karat.potentials.protocol import AbstractPotential
from karat.sampling.protocol import AbstractSampler, Candidate, Selection
from karat.sampling.seeds import spawn_seeds
from karat.structures.structure import Structure


@dataclass(frozen=True)
class Rattle(AbstractSampler):
    """Copies of each start, every atom displaced at random and the cell strained at random.

    Attributes:
        amplitude_angstrom: standard deviation of each displacement component.
        strain: each of the six strain components is uniform in ± this; 0 keeps the cell.
        copies: of each start.
        kind: of the candidates.
    """

    amplitude_angstrom: float = 0.1
    strain: float = 0.0
    copies: int = 10
    kind: str = "rattle"

    def __post_init__(self) -> None:
        if self.amplitude_angstrom < 0 or not 0 <= self.strain < 0.3 or self.copies < 1:
            raise BadInput(
                f"rattle: amplitude_angstrom {self.amplitude_angstrom} must not be negative, "
                f"strain {self.strain} lie in 0…0.3, copies {self.copies} be at least 1."
            )

    def select(
        self, starts: Sequence[Structure], potential: AbstractPotential | None, seed: int
    ) -> Selection:
        """The copies; no potential is needed. All copies of one start share a group.

        Raises:
            UnsuitableStructure: a strain for a structure that is not periodic in 3 directions.
        """
        candidates = []
        for i, (start, own) in enumerate(zip(starts, spawn_seeds(seed, len(starts)))):
            if self.strain and not start.periodic.all():
                raise UnsuitableStructure(
                    f"rattle.strain is {self.strain}, but {start.formula} is not periodic in 3 "
                    "directions. Set it to 0."
                )
            random = np.random.default_rng(own)
            group = f"{self.kind}-{start.formula}-{i}"
            for copy in range(self.copies):
                structure = self._shaken(start, random)
                candidates.append(Candidate(structure, f"{group}-{copy}", self.kind, group))
        return Selection(tuple(candidates))

    def _shaken(self, start: Structure, random: np.random.Generator) -> Structure:
        components = random.uniform(-self.strain, self.strain, size=(3, 3))
        deformation = np.eye(3) + np.triu(components) + np.triu(components, 1).T
        moves = random.normal(scale=self.amplitude_angstrom, size=start.positions.shape)
        return start.replace(
            cell=start.cell @ deformation, positions=start.positions @ deformation + moves
        )
